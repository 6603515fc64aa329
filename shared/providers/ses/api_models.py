"""The documents of the APIs of SES (JSON) and SNS (XML), and their translation. Unreadable ones raise ValueError."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple
from xml.etree import ElementTree as ET

import msgspec

from shared.providers.api.base import ListedSuppression, NewSuppression, Webhook
from shared.providers.api.fields import Text, from_seconds, without_password
from shared.vocabulary import ALL_MAIL, SuppressionReason

REASONS: Mapping[str, SuppressionReason] = {
    "BOUNCE": SuppressionReason.HARD_BOUNCE,
    "COMPLAINT": SuppressionReason.COMPLAINT,
}
"""Our reasons by those of SES; any other word is `manual`."""

_PENDING = "PendingConfirmation"
_NAMESPACE = "{http://sns.amazonaws.com/doc/2010-03-31/}"


class _Suppression(msgspec.Struct, rename="pascal"):
    email_address: Text
    reason: Text = ""
    last_update_time: float | None = None


class _Suppressions(msgspec.Struct, rename="pascal"):
    suppressed_destination_summaries: list[_Suppression]
    next_token: Text | None = None


class Suppressions(NamedTuple):
    """A page of the suppression list; `token` asks for the next one."""

    entries: Sequence[ListedSuppression]
    token: str | None


class Subscriptions(NamedTuple):
    """A page of a topic's subscriptions by HTTP; `token` asks for the next one."""

    webhooks: Sequence[Webhook]
    token: str | None


_suppressions = msgspec.json.Decoder(_Suppressions).decode


def read_suppressions(body: bytes) -> Suppressions:
    """Parse a page of the account's suppression list."""
    found = _suppressions(body)
    entries = [
        ListedSuppression(
            address=entry.email_address,
            types=ALL_MAIL,
            reason=REASONS.get(entry.reason, SuppressionReason.MANUAL),
            word=entry.reason,
            note=None,
            created_at=from_seconds(entry.last_update_time),
        )
        for entry in found.suppressed_destination_summaries
    ]
    return Suppressions(entries, found.next_token or None)


def suppression(entry: NewSuppression) -> Mapping[str, str]:
    """Return an entry as SES takes it."""
    is_complaint = entry.reason is SuppressionReason.COMPLAINT
    return {"EmailAddress": entry.address, "Reason": "COMPLAINT" if is_complaint else "BOUNCE"}


def read_subscriptions(body: bytes) -> Subscriptions:
    """Parse a page of a topic's subscriptions. Those by other protocols than HTTP are left out."""
    if b"<!DOCTYPE" in body:  # SNS sends none; it could make the parser expand entities
        raise ValueError("the answer has a document type")
    try:
        result = ET.fromstring(body).find(f"{_NAMESPACE}ListSubscriptionsByTopicResult")  # noqa: S314
    except ET.ParseError as error:
        raise ValueError(str(error)) from None
    if result is None:
        raise ValueError("the answer is not a ListSubscriptionsByTopicResponse")
    webhooks = []
    for member in result.iterfind(f"{_NAMESPACE}Subscriptions/{_NAMESPACE}member"):
        protocol, endpoint, arn = (_text(member, name) for name in ("Protocol", "Endpoint", "SubscriptionArn"))
        if protocol in ("http", "https") and endpoint and arn:
            webhooks.append(Webhook(id=arn, url=without_password(endpoint), enabled=arn != _PENDING))
    return Subscriptions(webhooks, _text(result, "NextToken") or None)


def _text(parent: ET.Element, name: str) -> str:
    return parent.findtext(f"{_NAMESPACE}{name}", "").strip()
