"""The JSON of SparkPost's API, and its translation. Unreadable JSON raises ValueError."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

import msgspec

from shared.providers.api.base import ListedSuppression, NewSuppression, Validation, Webhook
from shared.providers.api.fields import StatusCode, Text, read_instant_if_any, without_password
from shared.vocabulary import MailType, SuppressionReason

SOURCES: Mapping[str, SuppressionReason] = {
    "Bounce Rule": SuppressionReason.HARD_BOUNCE,
    "Spam Complaint": SuppressionReason.COMPLAINT,
    "List Unsubscribe": SuppressionReason.UNSUBSCRIBE,
    "Unsubscribe Link": SuppressionReason.UNSUBSCRIBE,
    "Manually Added": SuppressionReason.MANUAL,
    "Compliance": SuppressionReason.MANUAL,
}
"""Our reasons by SparkPost's words; any other word is `manual`."""

_TYPES: Mapping[str, MailType] = {
    "transactional": MailType.TRANSACTIONAL,
    "non_transactional": MailType.NON_TRANSACTIONAL,
}


class _Webhook(msgspec.Struct):
    id: Text
    target: Text
    events: list[Text] = []
    active: bool = True


class _Webhooks(msgspec.Struct):
    results: list[_Webhook]


class _Response(msgspec.Struct):
    status: StatusCode | None = None


class _Test(msgspec.Struct):
    msg: Text = ""
    response: _Response | None = None


class _Tests(msgspec.Struct):
    results: _Test


class _Suppression(msgspec.Struct):
    recipient: Text
    type: Text
    source: Text = ""
    description: Text | None = None
    created: Text | None = None
    list_id: Text | None = None


class _Link(msgspec.Struct):
    href: Text = ""
    rel: Text = ""


class _Suppressions(msgspec.Struct):
    results: list[_Suppression]
    links: list[_Link] = []


class KnownWebhook(NamedTuple):
    """A webhook, and the words of its events."""

    webhook: Webhook
    events: Sequence[str]


class Page(NamedTuple):
    """A part of the suppression list; `cursor` is where the next one begins, None after the last."""

    entries: Sequence[ListedSuppression]
    cursor: str | None


_webhooks = msgspec.json.Decoder(_Webhooks).decode
_tests = msgspec.json.Decoder(_Tests).decode
_suppressions = msgspec.json.Decoder(_Suppressions).decode


def read_webhooks(body: bytes) -> Sequence[KnownWebhook]:
    """Parse the event webhooks of an account."""
    return [
        KnownWebhook(Webhook(id=one.id, url=without_password(one.target), enabled=one.active), one.events)
        for one in _webhooks(body).results
    ]


def read_validation(body: bytes, url: str) -> Validation:
    """Parse what came of an empty batch that was posted to a webhook."""
    test = _tests(body).results
    status = test.response.status if test.response else None
    passed = status is None or 200 <= status < 300
    return Validation(url=url, passed=passed, detail=test.msg or (f"HTTP {status}" if status else "accepted"))


def read_suppressions(body: bytes) -> Page:
    """Parse a part of the suppression list. Entries that hold for one mailing list only are left out."""
    found = _suppressions(body)
    following = next((link.href for link in found.links if link.rel == "next"), "")
    cursors = parse_qs(urlsplit(following).query).get("cursor", [])
    entries = [
        ListedSuppression(
            address=entry.recipient,
            types=frozenset({_TYPES[entry.type]}),
            reason=SOURCES.get(entry.source, SuppressionReason.MANUAL),
            word=entry.source,
            note=entry.description,
            created_at=read_instant_if_any(entry.created),
        )
        for entry in found.results
        if entry.type in _TYPES and not entry.list_id
    ]
    return Page(entries, cursors[0] if cursors else None)


def suppressions(entry: NewSuppression) -> list[Mapping[str, str]]:
    """Return an entry as SparkPost takes it, once for each type of mail."""
    return [
        {"recipient": entry.address, "type": word, "description": entry.note}
        for word, mail_type in _TYPES.items()
        if mail_type in entry.types
    ]
