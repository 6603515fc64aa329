"""The input of a diagnosis, which holds everything known about a message, and the findings that it leads to."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from shared.vocabulary import EventType, ReceiptState, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSummary:
    """One event of the message; `recipient` is None if it names none.

    `word` is the provider's own word for what happened. `automated` is the kind of program that opened or clicked
    instead of a person, and `by` the user agent. `problem` says why an event of type `unknown` changed nothing.
    """

    id: str
    type: EventType
    recipient: str | None
    occurred_at: datetime
    received_at: datetime
    classification: str | None = None
    codes: str = ""
    reason: str | None = None
    reconciled: bool = False
    word: str = ""
    automated: str | None = None
    by: str | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipientState:
    """The state of one recipient; the event is the one that set the status."""

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
class SetAsideEvent:
    """An authentic event with the ids of this message that changed nothing.

    `account` is the account or tenant that it names, if the source does not accept that one.
    """

    event_id: str
    receipt_id: str
    source: str
    received_at: datetime
    problem: str
    account: str | None = None


class Place(StrEnum):
    """Where a recipient can look for a message that the mail system accepted (MailChannels' list for support)."""

    SPAM = "spam"
    JUNK = "junk"
    QUARANTINE = "quarantine"
    FORWARDING = "forwarding"
    RULES = "rules"


class Answer(StrEnum):
    """What a recipient said after looking there."""

    FOUND = "found"
    NOT_FOUND = "not_found"
    NOT_CHECKED = "not_checked"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipientAnswer:
    """One recorded answer of a recipient."""

    recipient: str
    place: Place
    answer: Answer
    answered_at: datetime
    recorded_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundDelivery:
    """The delivery of received mail to one subscription; `status` is a DeliveryStatus."""

    id: str
    subscription: str
    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveSuppression:
    """An entry of the suppression list that applies to a recipient or to its domain."""

    recipient: str
    reason: str
    since: datetime
    until: datetime | None
    types: tuple[str, ...]
    origin: str
    of_domain: bool = False
    evidence_event_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedRequests:
    """Requests of the source around that time that the receiver refused."""

    at: datetime
    status_code: int
    reason: str
    detail: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UnprocessedReceipt:
    """A request of a source around that time that was stored and has led to no event."""

    id: str
    source: str
    state: ReceiptState
    received_at: datetime
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedDelivery:
    """A webhook that the provider failed to deliver around that time; `state` is the state of its recovery."""

    source: str
    reference: str
    failed_at: datetime
    outcome: str
    events: int
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookRegistration:
    """Whether our webhook is registered at the provider and its test request arrives; None if unknown.

    Each has its own time, because the test is made less often than the registration is checked.
    """

    checked_at: datetime | None
    registered: bool | None
    validated_at: datetime | None
    validated: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceStatus:
    """A source that the message's events came from, or may come from.

    `problem` says why the source cannot be used. `managed`: the provider has an API, and the source a key for it;
    `lists_failed` and `sends_tests` say what that API can do. `no_api` says what is missing, `accounts` which accounts
    or tenants it accepts, and `reconciled_at` when the provider was asked last for what it could not deliver.
    """

    slug: str
    provider: str
    problem: str | None = None
    managed: bool = False
    lists_failed: bool = True
    sends_tests: bool = True
    no_api: str | None = None
    accounts: tuple[str, ...] = ()
    last_event_at: datetime | None = None
    reconciled_at: datetime | None = None
    registration: WebhookRegistration | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Identifiers:
    """The ids and the recipient that identify the message, from the question or from the message itself."""

    message_id: str | None = None
    request_id: str | None = None
    smtp_id: str | None = None
    provider_message_id: str | None = None
    recipient: str | None = None

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids that are given; a person can only have one from the provider or from Tidings."""
        return tuple(filter(None, (self.message_id, self.request_id, self.smtp_id, self.provider_message_id)))


@dataclass(frozen=True, slots=True, kw_only=True)
class DiagnosisInput:
    """Everything known about a message. `known` says whether Tidings has the message; `now` is the current time.

    `sources` has the source of a known message, or every source that an unknown one may belong to. `operator_view`
    says whether the sources, refused requests, unprocessed receipts and failed deliveries were looked up.
    """

    now: datetime
    names: Identifiers
    known: bool
    operator_view: bool = False
    sources: tuple[SourceStatus, ...] = ()
    sender: str | None = None
    subject: str | None = None
    submitted_at: datetime | None = None
    states: tuple[RecipientState, ...] = ()
    events: tuple[EventSummary, ...] = ()
    suppressed: tuple[ActiveSuppression, ...] = ()
    refused: tuple[RefusedRequests, ...] = ()
    unprocessed: tuple[UnprocessedReceipt, ...] = ()
    failed: tuple[FailedDelivery, ...] = ()
    set_aside: Mapping[str, str] = field(default_factory=dict)
    """Why other authentic events of the source around that time changed nothing, each with the id of its receipt."""
    own_set_aside: tuple[SetAsideEvent, ...] = ()
    answers: tuple[RecipientAnswer, ...] = ()
    deliveries: tuple[InboundDelivery, ...] = ()
    spam_score: float | None = None

    @property
    def selector(self) -> str:
        """The options by which a command finds this message, as a shell reads them."""
        for option, value in (
            ("--request-id", self.names.request_id),
            ("--message-id", self.names.message_id),
            ("--smtp-id", self.names.smtp_id),
            ("--recipient", self.names.recipient),
        ):
            if value:
                return f"{option} {shlex.quote(value)}"
        return "--message-id ID"

    @property
    def source(self) -> str:
        """The source of the message; empty if it is not known."""
        return self.sources[0].slug if len(self.sources) == 1 else ""

    @property
    def provider(self) -> str:
        """The provider of the message; empty if it is not known."""
        return self.sources[0].provider if len(self.sources) == 1 else ""


class Mark(StrEnum):
    """The weight of a finding: in order, for information, or a fault."""

    GOOD = "good"
    NOTE = "note"
    FAULT = "fault"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of one check, and what to do about it. `evidence` has ids of events, receipts or deliveries.

    `commands` belong to the next step and run as they are. `about_source`: it concerns the source around that time,
    and perhaps other messages only.
    """

    code: str
    mark: Mark
    text: str
    next_step: str | None = None
    commands: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()
    about_source: bool = False

    @property
    def whole_step(self) -> str | None:
        """The next step in one line, with its commands."""
        if self.next_step is None:
            return None
        return " ".join([self.next_step, *(f"`{command}`" for command in self.commands)])


def format_time(at: datetime | None) -> str:
    """Return a time for use in a sentence."""
    return f"{at:%Y-%m-%d %H:%M:%S} UTC" if at else "an unknown time"
