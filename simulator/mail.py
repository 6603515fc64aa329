"""Messages and their events, independent of any provider's words."""

import base64
import random
import uuid
from dataclasses import dataclass
from datetime import datetime

from shared.vocabulary import Classification, EventType


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """An email, with every id that some provider gives it. `smtp_id` has no angle brackets."""

    number: int
    request_id: str
    smtp_id: str
    uuid: str
    sender: str
    recipients: tuple[str, ...]
    subject: str
    tag: str | None
    submitted_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The reply of a mail server, or the reason why there is none."""

    smtp_status: str
    enhanced_code: str
    text: str
    classification: Classification


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """One thing that happened, at whole seconds, because some providers tell no more than those.

    `recipients` is empty where the event names none. `message` is None where it concerns no message.
    `after_delivery` marks a bounce that came back as an email, after the server had accepted the message.
    """

    kind: EventType
    at: datetime
    message: Message | None = None
    recipients: tuple[str, ...] = ()
    reply: Reply | None = None
    remote_host: str | None = None
    url: str | None = None
    ip: str | None = None
    user_agent: str | None = None
    after_delivery: bool = False

    @property
    def subject_message(self) -> Message:
        """The message this is about; asking a happening that has none is a mistake of the caller."""
        if self.message is None:
            raise ValueError(f"{self.kind} concerns no message")
        return self.message


def make_message(
    rng: random.Random,
    number: int,
    *,
    sender: str,
    recipients: tuple[str, ...],
    subject: str,
    submitted_at: datetime,
    tag: str | None = None,
) -> Message:
    """Return a message whose ids come from the generator, so that the same seed makes the same message."""
    return Message(
        number=number,
        request_id=base64.urlsafe_b64encode(rng.randbytes(20)).decode("ascii"),
        smtp_id=f"{submitted_at:%Y%m%d%H%M%S}.{rng.getrandbits(48):012x}@{sender.rpartition('@')[2]}",
        uuid=str(uuid.UUID(bytes=rng.randbytes(16), version=4)),
        sender=sender,
        recipients=recipients,
        subject=subject,
        tag=tag,
        submitted_at=submitted_at,
    )
