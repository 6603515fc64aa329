"""The JSON of Postmark's API, and its translation. Unreadable JSON raises ValueError."""

from collections.abc import Iterable, Mapping

import msgspec

from shared.providers.api.base import ListedSuppression, Webhook
from shared.providers.api.fields import Text, read_instant_if_any, without_password
from shared.vocabulary import ALL_MAIL, MailType, SuppressionReason

_NOT_TO_ALL = frozenset({MailType.NON_TRANSACTIONAL})
_REASONS: Mapping[str, SuppressionReason] = {
    "HardBounce": SuppressionReason.HARD_BOUNCE,
    "SpamComplaint": SuppressionReason.COMPLAINT,
    # `ManualSuppression` is an unsubscription if the recipient caused it, and else was added by somebody.
}


class _Webhook(msgspec.Struct):
    id: Text | int = msgspec.field(name="ID")
    url: Text = msgspec.field(name="Url")


class _Webhooks(msgspec.Struct, rename="pascal"):
    webhooks: list[_Webhook]


class _Suppression(msgspec.Struct, rename="pascal"):
    email_address: Text
    suppression_reason: Text | None = None
    origin: Text | None = None
    created_at: str | None = None


class _Suppressions(msgspec.Struct, rename="pascal"):
    suppressions: list[_Suppression]


class _Result(msgspec.Struct, rename="pascal"):
    email_address: Text
    status: Text
    message: Text | None = None


class _Results(msgspec.Struct, rename="pascal"):
    suppressions: list[_Result]


_webhooks = msgspec.json.Decoder(_Webhooks).decode
_suppressions = msgspec.json.Decoder(_Suppressions).decode
_results = msgspec.json.Decoder(_Results).decode


def read_webhooks(body: bytes) -> list[Webhook]:
    """Parse the webhooks of a server."""
    return [Webhook(id=str(one.id), url=without_password(one.url)) for one in _webhooks(body).webhooks]


def read_suppressions(body: bytes) -> list[ListedSuppression]:
    """Parse the suppressions of a message stream."""
    listed = []
    for entry in _suppressions(body).suppressions:
        word = entry.suppression_reason or ""
        by_recipient = word == "ManualSuppression" and entry.origin == "Recipient"
        reason = SuppressionReason.UNSUBSCRIBE if by_recipient else _REASONS.get(word, SuppressionReason.MANUAL)
        suppressed = ListedSuppression(
            address=entry.email_address,
            types=_NOT_TO_ALL if by_recipient else ALL_MAIL,
            reason=reason,
            word=word,
            note=None,
            created_at=read_instant_if_any(entry.created_at),
        )
        listed.append(suppressed)
    return listed


def addresses(given: Iterable[str]) -> dict[str, object]:
    """Return the request body that adds or removes addresses."""
    return {"Suppressions": [{"EmailAddress": address} for address in given]}


def read_refused(body: bytes) -> list[str]:
    """Return what was not done, and why, each as a sentence."""
    return [
        f"{one.email_address}: {one.message or one.status}"
        for one in _results(body).suppressions
        if one.status == "Failed"
    ]
