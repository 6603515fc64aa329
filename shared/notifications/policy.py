"""Which notices are sent together, and the delays after success and failure. Pure decisions."""

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

MAX_SEPARATE = 3
"""If more alerts than this are due for a channel at once, they are sent as one digest."""

GIVE_UP_AFTER = timedelta(hours=24)
"""A notice that a channel has not taken for this long is dead."""

NOTIFIED_STEPS = frozenset({Step.FIRED, Step.ESCALATED, Step.REMINDED, Step.RESOLVED})
"""The steps of an alert that people are notified of. Acknowledgements and mutes are only in the history."""

_MAX_REST_SECONDS = 60.0
_REST_AFTER_ONE_SECONDS = 10.0


class NotificationType(StrEnum):
    """What a notification is about."""

    FIRING = "alert.firing"
    ESCALATED = "alert.escalated"
    STILL_FIRING = "alert.still_firing"
    RESOLVED = "alert.resolved"
    DIGEST = "alert.digest"
    TEST = "alert.test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """An alert as notifications show it. `source` is the name of its source."""

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
    """A step of an alert that is pending for one channel; `alert` is the alert at that step.

    `notification` is the id of the notification that a worker began to send and did not finish.
    """

    id: int
    step: Step
    at: datetime
    alert: Alert
    notification: str | None = None


@dataclass(frozen=True, slots=True)
class AlertUpdate:
    """All pending notices of one alert, in order. The last may already be its end."""

    notices: tuple[Notice, ...]

    @property
    def last(self) -> Notice:
        """The latest step."""
        return self.notices[-1]

    @property
    def type(self) -> NotificationType:
        """The type. An alert about which nothing has been sent yet is firing or resolved, not escalated."""
        if self.last.step is Step.RESOLVED:
            return NotificationType.RESOLVED
        if self.notices[0].step is Step.FIRED:
            return NotificationType.FIRING
        if all(notice.step is Step.REMINDED for notice in self.notices):
            return NotificationType.STILL_FIRING
        return NotificationType.ESCALATED

    @property
    def order(self) -> tuple[bool, int, datetime]:
        """The sort key: firing alerts first, then by severity, then the oldest first."""
        severity = list(Severity).index(self.last.alert.severity)
        return self.type is NotificationType.RESOLVED, -severity, self.notices[0].at


@dataclass(frozen=True, slots=True)
class Group:
    """The updates of a digest with the same rule and severity, all firing or all resolved."""

    rule: str
    severity: Severity
    resolved: bool
    updates: tuple[AlertUpdate, ...]


@dataclass(frozen=True, slots=True)
class Notification:
    """One message to a channel."""

    updates: tuple[AlertUpdate, ...]

    @property
    def id(self) -> str:
        """32 hex digits that depend on the notices only: the same notices are always the same notification."""
        text = ",".join(map(str, self.notice_ids))
        return sha256(f"notices {text}".encode()).hexdigest()[:32]

    @property
    def notice_ids(self) -> Sequence[int]:
        """The ids of its notices."""
        return sorted(notice.id for update in self.updates for notice in update.notices)

    @property
    def type(self) -> NotificationType:
        """The type: that of its only alert, or a digest of several."""
        return self.updates[0].type if len(self.updates) == 1 else NotificationType.DIGEST

    @property
    def at(self) -> datetime:
        """The time of its latest step."""
        return max(notice.at for update in self.updates for notice in update.notices)

    @property
    def groups(self) -> Sequence[Group]:
        """Its updates in groups, the most urgent first."""
        alike: dict[tuple[bool, Severity, str], list[AlertUpdate]] = defaultdict(list)
        for update in sorted(self.updates, key=lambda update: update.order):
            alert = update.last.alert
            alike[update.type is NotificationType.RESOLVED, alert.severity, alert.rule].append(update)
        return [Group(rule, severity, over, tuple(updates)) for (over, severity, rule), updates in alike.items()]


def compose(notices: Sequence[Notice]) -> Sequence[Notification]:
    """Return the notifications for these pending notices of a channel, the most urgent first.

    Notifications that a worker began come first and alone, unchanged, so that their receiver can recognize a
    duplicate by its id. Reminders of alerts that still fire are one notification, the daily digest.
    """
    begun: dict[str, list[Notice]] = defaultdict(list)
    for notice in notices:
        if notice.notification is not None:
            begun[notice.notification].append(notice)
    if begun:
        return [Notification(_updates(found)) for found in begun.values()]
    updates = _updates(notices)
    if len(updates) > MAX_SEPARATE:
        return [Notification(updates)]
    reminders = tuple(update for update in updates if update.type is NotificationType.STILL_FIRING)
    separate = [Notification((update,)) for update in updates if update not in reminders]
    return [*separate, Notification(reminders)] if reminders else separate


def delays_after_failure(failures: int, *, retry_after_seconds: float | None, jitter: float) -> tuple[float, float]:
    """Return in how many seconds what failed is retried, and how long the channel rests, after failures in a row.

    A new alert may use a failing channel sooner than the retry, but at most once a minute, and not before the
    channel's own Retry-After (of at most an hour). `jitter` is random, from -1 to 1.
    """
    if retry_after_seconds is not None:
        shortest = backoff.NOTIFICATIONS.delay_seconds(1)
        seconds = min(max(retry_after_seconds, shortest), backoff.MAX_RETRY_AFTER_SECONDS)
        return seconds, seconds
    delay = backoff.NOTIFICATIONS.delay_seconds(failures, jitter=jitter)
    return delay, min(delay, _MAX_REST_SECONDS)


def rest_after_success(notifications: Sequence[Notification]) -> float:
    """Return for how many seconds a channel rests after these notifications, so that further alerts are collected."""
    if any(notification.type is NotificationType.DIGEST for notification in notifications):
        return _MAX_REST_SECONDS
    return _REST_AFTER_ONE_SECONDS * len(notifications)


def _updates(notices: Sequence[Notice]) -> tuple[AlertUpdate, ...]:
    of_alert: dict[str, list[Notice]] = defaultdict(list)
    for notice in sorted(notices, key=lambda notice: notice.id):
        of_alert[notice.alert.id].append(notice)
    return tuple(sorted((AlertUpdate(tuple(found)) for found in of_alert.values()), key=lambda update: update.order))
