"""The normalized event: one thing that happened to one recipient of one message."""

from collections.abc import Mapping
from datetime import datetime
from hashlib import blake2b
from typing import Any

import msgspec

from shared.events.bots import Automation
from shared.vocabulary import Classification, EventType


class Event(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One event in Tidings' vocabulary.

    `identity` identifies the event within its source: the provider's event id, or a fingerprint of its content. It is
    None if the provider gives neither id nor time, so that two genuine events look alike; then the receipt and the
    position in it identify the event. `identity_at` is the provider's time if every repetition carries the same one.

    `message_key` is the provider's most reliable id of the message. It is None if the event belongs to no message (a
    DNS error, a send limit) or must not change one (an event of a foreign account).
    `recipient` is a normalized address, or None if the event applies to all recipients of the message.
    `provider_object` is the provider's own object, as JSON text.
    `automation` is the provider's own word that a program, and no person, opened or clicked.
    `problem` says why the event is of type `unknown`.
    """

    type: EventType
    provider_object: bytes
    identity: str | None = None
    identity_at: datetime | None = None
    message_key: str | None = None
    recipient: str | None = None
    occurred_at: datetime | None = None
    sender: str | None = None
    subject: str | None = None
    request_id: str | None = None
    smtp_id: str | None = None
    provider_message_id: str | None = None
    tenant: str | None = None
    classification: Classification | None = None
    smtp_status: str | None = None
    enhanced_code: str | None = None
    reason: str | None = None
    remote_host: str | None = None
    url: str | None = None
    ip: str | None = None
    user_agent: str | None = None
    tag: str | None = None
    campaign: str | None = None
    metadata: Mapping[str, Any] | None = None
    details: Mapping[str, Any] = {}
    automation: Automation | None = None
    problem: str | None = None


def event_key(source_id: int, identity: str, recipient: str | None) -> str:
    """Return the 32 hex digits that identify an event across all receipts of its source."""
    return _digest(_EVENT, f"{source_id}\x1f{identity}\x1f{recipient or ''}")


def key_minute(at: datetime | None) -> int:
    """Return the minute under which an event's key is stored, since 1970; 0 without a time that repetitions share."""
    return 0 if at is None else int(at.timestamp()) // 60


def message_key(source_id: int, name: str) -> str:
    """Return the 32 hex digits that identify the message of this name (`Event.message_key`) across all sources."""
    return _digest(_MESSAGE, f"{source_id}\x1f{name}")


def receipt_key(source_id: int, idempotency: bytes, *, unverified: bool = False) -> str:
    """Return the 32 hex digits by which a repeated request is recognised.

    Unverified requests have separate keys. Otherwise a forger who guesses a key could make the genuine request look
    like a repetition.
    """
    purpose = b"unverified" if unverified else b"receipt"
    return blake2b(b"%d\x1f%b" % (source_id, idempotency), digest_size=16, person=purpose).hexdigest()


def spam_score(details: object) -> float | None:
    """Return the spam score in the details of received mail; None if they have none."""
    spam = details.get("spam") if isinstance(details, Mapping) else None
    score = spam.get("score") if isinstance(spam, Mapping) else None
    return score if isinstance(score, int | float) else None


# A copy takes less time than a new hash, whose parameters are read each time.
_EVENT = blake2b(digest_size=16, person=b"event")
_MESSAGE = blake2b(digest_size=16, person=b"message")


def _digest(purpose: blake2b, text: str) -> str:
    # The unit separators keep ("a", "bc") and ("ab", "c") apart; surrogates may occur in authentic JSON.
    digest = purpose.copy()
    digest.update(text.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
