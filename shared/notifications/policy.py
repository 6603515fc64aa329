"""How people are told of alerts: what is told together, and what follows when a channel fails. Decided, not done."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from typing import Any

from shared import backoff
from shared.alerts.policy import Step
from shared.vocabulary import Severity

MOST_ALONE = 3
"""So many alerts are told one by one; when more are due for a channel at once they are told as one digest."""

GIVEN_UP_AFTER = timedelta(hours=24)
"""What a channel could not be told for so long is told no more: a person has looked by then, or nobody is there."""

TOLD = frozenset({Step.FIRED, Step.ESCALATED, Step.RESOLVED})
"""The steps of an alert that people are told of; that somebody acknowledged it is to be looked up."""

_LONGEST_REST_SECONDS = 60.0
_REST_AFTER_ONE_SECONDS = 10.0


class TellingType(StrEnum):
    """What a message is about."""

    FIRING = "alert.firing"
    ESCALATED = "alert.escalated"
    RESOLVED = "alert.resolved"
    DIGEST = "alert.digest"
    TEST = "alert.test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """What is told of an alert. `source` is the name of its source, `numbers` what it was judged by."""

    id: str
    rule: str
    kind: str
    subject: str
    severity: Severity
    state: str
    source: str | None
    tenant: str | None
    summary: str
    numbers: Mapping[str, Any]
    evidence_event_id: str | None
    started_at: datetime
    resolved_at: datetime | None
    acknowledged_at: datetime | None
    acknowledged_by: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A step of an alert that one channel has yet to be told; the alert is as it was at that step.

    `telling` is the message it was put into by a worker of which nothing was heard since.
    """

    id: int
    step: Step
    at: datetime
    alert: Alert
    telling: str | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """All that one alert has to tell at once, in its order: at the end it may be over already."""

    notices: tuple[Notice, ...]

    @property
    def last(self) -> Notice:
        """How it stands."""
        return self.notices[-1]

    @property
    def type(self) -> TellingType:
        """An alert of which nothing was told is firing, or resolved, whatever happened between."""
        if self.last.step is Step.RESOLVED:
            return TellingType.RESOLVED
        if self.notices[0].step is Step.FIRED:
            return TellingType.FIRING
        return TellingType.ESCALATED

    @property
    def order(self) -> tuple[bool, int, datetime]:
        """What is most urgent comes first: what still fires, the severest of it, the oldest of that."""
        return self.type is TellingType.RESOLVED, -list(Severity).index(self.last.alert.severity), self.notices[0].at


@dataclass(frozen=True, slots=True)
class Group:
    """The items of a digest that are alike: of one rule and severity, and firing all or over all."""

    rule: str
    severity: Severity
    resolved: bool
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Telling:
    """One message to a channel."""

    items: tuple[Item, ...]

    @property
    def id(self) -> str:
        """32 hex digits that follow from what is told: the same notices, told again, are the same message."""
        text = ",".join(map(str, self.notice_ids))
        return sha256(f"notices {text}".encode()).hexdigest()[:32]

    @property
    def notice_ids(self) -> Sequence[int]:
        """The notices that are told by it."""
        return sorted(notice.id for item in self.items for notice in item.notices)

    @property
    def type(self) -> TellingType:
        """What it is about."""
        return self.items[0].type if len(self.items) == 1 else TellingType.DIGEST

    @property
    def at(self) -> datetime:
        """When the last of what it tells happened."""
        return max(notice.at for item in self.items for notice in item.notices)

    @property
    def groups(self) -> Sequence[Group]:
        """Its items, those that are alike together, the most urgent first."""
        alike: dict[tuple[bool, Severity, str], list[Item]] = defaultdict(list)
        for item in sorted(self.items, key=lambda item: item.order):
            alert = item.last.alert
            alike[item.type is TellingType.RESOLVED, alert.severity, alert.rule].append(item)
        return [Group(rule, severity, resolved, tuple(items)) for (resolved, severity, rule), items in alike.items()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """How long, in seconds, until what was tried is tried again, and until the channel is told anything new."""

    retry_seconds: float
    rest_seconds: float


def compose(notices: Sequence[Notice]) -> Sequence[Telling]:
    """What to tell a channel for which these notices wait, the most urgent first.

    What a worker had put together and perhaps told comes first, and alone, in the same messages: so whoever got one
    of them twice can tell that by its id.
    """
    begun: dict[str, list[Notice]] = defaultdict(list)
    for notice in notices:
        if notice.telling is not None:
            begun[notice.telling].append(notice)
    if begun:
        return [Telling(_items(told)) for told in begun.values()]
    items = _items(notices)
    if len(items) > MOST_ALONE:
        return [Telling(items)]
    return [Telling((item,)) for item in items]


def after_failure(failures: int, *, retry_after_seconds: float | None, jitter: float) -> Pause:
    """What follows the how manyeth failure of a channel in a row; `jitter` is from -1 to 1.

    A new alert tries a failing channel again sooner than what failed would, but at most once a minute, and not
    before the channel itself asked to be asked again (Retry-After, of which an hour is believed).
    """
    if retry_after_seconds is not None:
        seconds = min(max(retry_after_seconds, backoff.NOTIFICATIONS.delay_seconds(1)), backoff.MAX_RETRY_AFTER_SECONDS)
        return Pause(retry_seconds=seconds, rest_seconds=seconds)
    delay = backoff.NOTIFICATIONS.delay_seconds(failures, jitter=jitter)
    return Pause(retry_seconds=delay, rest_seconds=min(delay, _LONGEST_REST_SECONDS))


def after_success(tellings: Sequence[Telling]) -> float:
    """For how many seconds a channel that was told this is left in peace, so that what a storm brings next gathers."""
    if any(telling.type is TellingType.DIGEST for telling in tellings):
        return _LONGEST_REST_SECONDS
    return _REST_AFTER_ONE_SECONDS * len(tellings)


def _items(notices: Sequence[Notice]) -> tuple[Item, ...]:
    of_alert: dict[str, list[Notice]] = defaultdict(list)
    for notice in sorted(notices, key=lambda notice: notice.id):
        of_alert[notice.alert.id].append(notice)
    return tuple(sorted((Item(tuple(found)) for found in of_alert.values()), key=lambda item: item.order))
