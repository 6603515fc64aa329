"""What a diagnosis is made from: everything that is known about a message and around it."""

from dataclasses import dataclass
from datetime import datetime

from shared.vocabulary import EventType, ReceiptState, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One event of the message; `recipient` is None where it named none."""

    id: str
    type: EventType
    recipient: str | None
    occurred_at: datetime
    received_at: datetime
    classification: str | None = None
    codes: str = ""
    reason: str | None = None
    reconciled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where the message stands for one recipient; the event is the one that says so."""

    recipient: str
    status: Status | None
    status_at: datetime | None
    event_id: str | None = None
    classification: str | None = None
    codes: str = ""
    reason: str | None = None
    complained_at: datetime | None = None
    unsubscribed_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Suppressed:
    """An entry of the suppression list that holds for a recipient, or for its domain."""

    recipient: str
    reason: str
    since: datetime
    until: datetime | None
    types: tuple[str, ...]
    origin: str
    of_domain: bool = False
    evidence_event_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Requests of the source, at the time, that were not taken."""

    at: datetime
    status_code: int
    reason: str
    detail: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Undecided:
    """A request of the source, at the time, that was stored and has become no event."""

    id: str
    state: ReceiptState
    received_at: datetime
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedDelivery:
    """What a source's provider could not deliver to us at the time; `state` is how far its recovery has come."""

    source: str
    reference: str
    failed_at: datetime
    outcome: str
    events: int
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolment:
    """Whether the provider posts to us and its test arrives, as it was last found; None where it is not known.

    Each has its own time: the test is made less often than the webhooks are looked at.
    """

    checked_at: datetime | None
    enrolled: bool | None
    validated_at: datetime | None
    validated: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFacts:
    """Who should have told of the message, or may have.

    `problem` is why it cannot be used; `managed`: its API can be asked.
    """

    slug: str
    provider: str
    problem: str | None = None
    managed: bool = False
    last_event_at: datetime | None = None
    enrolment: Enrolment | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """What the message is called, as far as it was asked for or is known."""

    message_id: str | None = None
    request_id: str | None = None
    smtp_id: str | None = None
    provider_message_id: str | None = None
    recipient: str | None = None

    @property
    def ids(self) -> tuple[str, ...]:
        """Its ids: whoever knows one had it from the provider, or from us."""
        return tuple(filter(None, (self.message_id, self.request_id, self.smtp_id, self.provider_message_id)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything. `known`: whether there is such a message at all; `now` is when it is looked at.

    `sources` is the message's; or of one that is not known, all that may have it. `looked_around` says whether the
    sources, and what was refused, is undecided and has failed, were looked at.
    """

    now: datetime
    names: Names
    known: bool
    looked_around: bool = False
    sources: tuple[SourceFacts, ...] = ()
    sender: str | None = None
    subject: str | None = None
    submitted_at: datetime | None = None
    standings: tuple[Standing, ...] = ()
    events: tuple[Seen, ...] = ()
    suppressed: tuple[Suppressed, ...] = ()
    refused: tuple[Refused, ...] = ()
    undecided: tuple[Undecided, ...] = ()
    failed: tuple[FailedDelivery, ...] = ()
