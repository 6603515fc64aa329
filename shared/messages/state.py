"""The state of one recipient of one message, as a fold over events.

Each event makes a claim about the delivery status. The greatest claim holds, in the order (weight, timed, time, rank,
key): of two claims of one weight, one whose event has no usable time never holds against one whose event has.
Everything else is a count over distinct events, or an earliest or latest time. The fold is commutative, associative
and idempotent: events in any order, repeated and batched in any way, give the same state. `shared.messages.store`
holds the same rule in SQL; a test proves that both agree.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum

from shared.vocabulary import EventType, Status


class Weight(IntEnum):
    """How much an event's claim about the delivery status counts; it goes before the event's time."""

    SILENT = 0
    """The event does not concern the delivery status."""
    IMPLIED = 1
    """Holds only if nothing else is known: a message that was opened must have been sent."""
    STATED = 2
    TERMINAL = 3


RANKS: Mapping[Status, int] = {status: rank for rank, status in enumerate(Status)}
"""Of two claims with the same weight and time, the one later in this order wins."""

_STATED = {
    EventType.QUEUED: (Weight.STATED, Status.QUEUED),
    EventType.SENT: (Weight.STATED, Status.SENT),
    EventType.HELD: (Weight.STATED, Status.HELD),
    EventType.DEFERRED: (Weight.STATED, Status.DEFERRED),
    EventType.RATE_LIMITED: (Weight.STATED, Status.DEFERRED),  # the provider sends it when the limit allows
    EventType.DELIVERED: (Weight.TERMINAL, Status.DELIVERED),
    EventType.REJECTED: (Weight.TERMINAL, Status.REJECTED),
    EventType.FAILED: (Weight.TERMINAL, Status.FAILED),
    EventType.BOUNCED: (Weight.TERMINAL, Status.BOUNCED),
}
_IMPLYING_SENT = (
    EventType.OPENED,
    EventType.READ,
    EventType.CLICKED,
    EventType.COMPLAINED,
    EventType.UNSUBSCRIBED,
    EventType.AUTORESPONDED,
    EventType.REPLIED,
)

STATUS_EFFECTS: Mapping[EventType, tuple[Weight, Status | None]] = {
    **dict.fromkeys(EventType, (Weight.SILENT, None)),
    **_STATED,
    **dict.fromkeys(_IMPLYING_SENT, (Weight.IMPLIED, Status.SENT)),
}
"""The weight and status that each type of event claims."""

WITHOUT_MESSAGE = frozenset(
    {
        EventType.TEST,
        EventType.DOMAIN_DNS_ERROR,
        EventType.SEND_LIMIT_APPROACHING,
        EventType.SEND_LIMIT_EXCEEDED,
    }
)
"""Types that concern no message, even if the provider names one: they change no state."""


@dataclass(frozen=True, slots=True, order=True)
class StatusClaim:
    """One event's claim about the delivery status; the greatest claim holds."""

    weight: Weight
    timed: bool
    at: datetime
    rank: int
    key: str
    status: Status | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """The part of an event that the fold needs. `key` identifies the event (`shared.events.event.event_key`).

    `at` is the time of its arrival if it is not `timed`.
    """

    key: str
    type: EventType
    at: datetime
    timed: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The state of one recipient. Times are the provider's; None means never."""

    claim: StatusClaim | None = None
    keys: frozenset[str] = frozenset()
    opens: frozenset[str] = frozenset()
    clicks: frozenset[str] = frozenset()
    reads: frozenset[str] = frozenset()
    opened_at: datetime | None = None
    clicked_at: datetime | None = None
    read_at: datetime | None = None
    complained_at: datetime | None = None
    unsubscribed_at: datetime | None = None
    subscribed_at: datetime | None = None

    @property
    def status(self) -> Status | None:
        """The delivery status; None if no event has claimed one."""
        return self.claim.status if self.claim else None

    @property
    def unsubscribed(self) -> bool:
        """Whether the recipient unsubscribed after subscribing last; at the same instant, unsubscribing wins."""
        if self.unsubscribed_at is None:
            return False
        return self.subscribed_at is None or self.unsubscribed_at >= self.subscribed_at


def state_of(fact: Fact) -> State:
    """Return the state that one event alone gives."""
    weight, status = STATUS_EFFECTS[fact.type]
    rank = RANKS[status] if status else -1

    def time_if(*types: EventType) -> datetime | None:
        return fact.at if fact.type in types else None

    def key_if(event_type: EventType) -> frozenset[str]:
        return frozenset({fact.key}) if fact.type is event_type else frozenset()

    return State(
        claim=StatusClaim(weight, fact.timed, fact.at, rank, fact.key, status),
        keys=frozenset({fact.key}),
        opens=key_if(EventType.OPENED),
        clicks=key_if(EventType.CLICKED),
        reads=key_if(EventType.READ),
        opened_at=time_if(EventType.OPENED),
        clicked_at=time_if(EventType.CLICKED),
        read_at=time_if(EventType.READ),
        complained_at=time_if(EventType.COMPLAINED),
        unsubscribed_at=time_if(EventType.UNSUBSCRIBED),
        subscribed_at=time_if(EventType.SUBSCRIBED),
    )


def merge(one: State, other: State) -> State:
    """Return the state that the events of both give.

    Commutative, associative and idempotent; `State()` is the neutral element.
    """

    def earliest(*times: datetime | None) -> datetime | None:
        return min(filter(None, times), default=None)

    def latest(*times: datetime | None) -> datetime | None:
        return max(filter(None, times), default=None)

    return State(
        claim=max(filter(None, (one.claim, other.claim)), default=None),
        keys=one.keys | other.keys,
        opens=one.opens | other.opens,
        clicks=one.clicks | other.clicks,
        reads=one.reads | other.reads,
        opened_at=earliest(one.opened_at, other.opened_at),
        clicked_at=earliest(one.clicked_at, other.clicked_at),
        read_at=earliest(one.read_at, other.read_at),
        complained_at=earliest(one.complained_at, other.complained_at),
        unsubscribed_at=latest(one.unsubscribed_at, other.unsubscribed_at),
        subscribed_at=latest(one.subscribed_at, other.subscribed_at),
    )


def fold(facts: Iterable[Fact]) -> State:
    """Return the state that these events give, in any order and with any repetitions."""
    state = State()
    for fact in facts:
        state = merge(state, state_of(fact))
    return state
