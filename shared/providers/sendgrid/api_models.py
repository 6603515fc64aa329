"""The JSON of SendGrid's API, and its translation. Unreadable JSON raises ValueError."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from shared.providers.api.base import ListedSuppression, Webhook
from shared.providers.api.fields import Text, from_seconds, without_password
from shared.vocabulary import ALL_MAIL, MailType, SuppressionReason

UNSUBSCRIBES: Final = "unsubscribes"
LISTS: Mapping[str, SuppressionReason] = {
    "bounces": SuppressionReason.HARD_BOUNCE,
    "spam_reports": SuppressionReason.COMPLAINT,
    "invalid_emails": SuppressionReason.HARD_BOUNCE,
    # What a person unsubscribed from, and what was added by the API: SendGrid does not tell them apart.
    UNSUBSCRIBES: SuppressionReason.UNSUBSCRIBE,
}
"""The lists by SendGrid's words for them."""

Page = Sequence[ListedSuppression]
ReadPage = Callable[[bytes], Page]

_NOT_TO_ALL = frozenset({MailType.NON_TRANSACTIONAL})


class _Webhook(msgspec.Struct):
    id: Text = ""
    url: Text = ""
    enabled: bool = True
    public_key: Text | None = None


class _Webhooks(msgspec.Struct):
    webhooks: list[_Webhook] | None = None


class _Key(msgspec.Struct):
    public_key: Text


class _Suppression(msgspec.Struct):
    email: Text
    created: int | None = None
    reason: Text | None = None


class KnownWebhook(NamedTuple):
    """A webhook, and the key that it is signed with; none if it is not signed."""

    webhook: Webhook
    public_key: str | None


_webhooks = msgspec.json.Decoder(_Webhooks).decode
_webhook = msgspec.json.Decoder(_Webhook).decode
_key = msgspec.json.Decoder(_Key).decode
_suppressions = msgspec.json.Decoder(list[_Suppression]).decode


def read_webhooks(body: bytes) -> list[KnownWebhook]:
    """Parse the event webhooks of an account. Without any, SendGrid shows one empty object."""
    return [_known(one) for one in _webhooks(body).webhooks or () if one.id]


def read_webhook(body: bytes) -> KnownWebhook:
    """Parse the one webhook that was created."""
    return _known(_webhook(body))


def _known(one: _Webhook) -> KnownWebhook:
    return KnownWebhook(Webhook(id=one.id, url=without_password(one.url), enabled=one.enabled), one.public_key)


def read_key(body: bytes) -> str:
    """Parse the public key of a webhook whose signature was switched on."""
    return _key(body).public_key


def read_suppressions(body: bytes, word: str) -> Page:
    """Parse a page of the list with this name."""
    return [
        ListedSuppression(
            address=entry.email,
            types=_NOT_TO_ALL if word == UNSUBSCRIBES else ALL_MAIL,
            reason=LISTS[word],
            word=word,
            note=entry.reason,
            created_at=from_seconds(entry.created),
        )
        for entry in _suppressions(body)
    ]
