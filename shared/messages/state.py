"""The state of one recipient of one message, as a fold over events.

Where delivery stands is the greatest of the standings that the events give, in the order (weight, time, rank,
key); everything else is counted over distinct events or is an earliest or latest time. All of it is commutative,
associative and idempotent, so that any order, duplication and batching of the events give the same state.
`shared.messages.store` holds the same rule in SQL; a test proves that the two agree.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum

from shared.vocabulary import EventType, Status


class Weight(IntEnum):
    """How much an event's word on the delivery counts, whatever its time."""

    SILENT = 0
    """Says nothing of the delivery."""
    IMPLIED = 1
    """Only holds where nothing else is known: who opens a message must have been sent it."""
    STATED = 2
    TERMINAL = 3


RANKS: Mapping[Status, int] = {status: rank for rank, status in enumerate(Status)}
"""Of two events of the same weight at the same instant the one later in this order wins."""

_STATED = {
    EventType.QUEUED: (Weight.STATED, Status.QUEUED),
    EventType.SENT: (Weight.STATED, Status.SENT),
    EventType.HELD: (Weight.STATED, Status.HELD),
    EventType.DEFERRED: (Weight.STATED, Status.DEFERRED),
    EventType.RATE_LIMITED: (Weight.STATED, Status.DEFERRED),  # it will be sent when there is allowance again
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

STANDINGS: Mapping[EventType, tuple[Weight, Status | None]] = {
    **dict.fromkeys(EventType, (Weight.SILENT, None)),
    **_STATED,
    **dict.fromkeys(_IMPLYING_SENT, (Weight.IMPLIED, Status.SENT)),
}
"""What each type of event says of the delivery."""

WITHOUT_MESSAGE = frozenset(
    {
        EventType.TEST,
        EventType.DOMAIN_DNS_ERROR,
        EventType.SEND_LIMIT_APPROACHING,
        EventType.SEND_LIMIT_EXCEEDED,
    }
)
"""Types that concern no message, even where the provider names one: they leave every state alone."""


@dataclass(frozen=True, slots=True, order=True)
class Standing:
    """One event's word on the delivery; the greatest is what holds."""

    weight: Weight
    at: datetime
    rank: int
    key: str
    status: Status | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """What the fold needs of an event. `key` tells it from all others (`events.event_key`)."""

    key: str
    type: EventType
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What is known of one recipient. Times are those of the provider; None means never."""

    standing: Standing | None = None
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
        """Where the delivery stands; None where no event has said."""
        return self.standing.status if self.standing else None

    @property
    def unsubscribed(self) -> bool:
        """Whether the last word on the subscription was to end it; of two at one instant, ending it wins."""
        if self.unsubscribed_at is None:
            return False
        return self.subscribed_at is None or self.unsubscribed_at >= self.subscribed_at


def state_of(fact: Fact) -> State:
    """The state that one event alone gives."""
    weight, status = STANDINGS[fact.type]
    rank = RANKS[status] if status else -1

    def time_if(*types: EventType) -> datetime | None:
        return fact.at if fact.type in types else None

    def key_if(event_type: EventType) -> frozenset[str]:
        return frozenset({fact.key}) if fact.type is event_type else frozenset()

    return State(
        standing=Standing(weight, fact.at, rank, fact.key, status),
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
    """The state that the events of both give. Commutative, associative, idempotent; State() is neutral."""
    return State(
        standing=max(filter(None, (one.standing, other.standing)), default=None),
        keys=one.keys | other.keys,
        opens=one.opens | other.opens,
        clicks=one.clicks | other.clicks,
        reads=one.reads | other.reads,
        opened_at=_earliest(one.opened_at, other.opened_at),
        clicked_at=_earliest(one.clicked_at, other.clicked_at),
        read_at=_earliest(one.read_at, other.read_at),
        complained_at=_earliest(one.complained_at, other.complained_at),
        unsubscribed_at=_latest(one.unsubscribed_at, other.unsubscribed_at),
        subscribed_at=_latest(one.subscribed_at, other.subscribed_at),
    )


def fold(facts: Iterable[Fact]) -> State:
    """The state that these events give, in whatever order and however often each is repeated."""
    state = State()
    for fact in facts:
        state = merge(state, state_of(fact))
    return state


def _earliest(*times: datetime | None) -> datetime | None:
    return min(filter(None, times), default=None)


def _latest(*times: datetime | None) -> datetime | None:
    return max(filter(None, times), default=None)
