"""The contents of notifications: JSON for programs, a title and a text for people."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from shared.alerts import formatting, kinds
from shared.alerts.policy import Step
from shared.foreign_text import show
from shared.notifications.policy import Alert, AlertUpdate, Group, Notification, NotificationType
from shared.vocabulary import Severity

MAX_GROUPS = 20
MAX_UPDATES_OF_GROUP = 5
MAX_TITLE_LENGTH = 150
MAX_SUMMARY_LENGTH = 500
"""Limits of a message, so that every service takes it, however many alerts it is about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What a channel is sent. `id` is the same for every attempt; `is_over` if all its alerts are resolved."""

    id: str
    type: NotificationType
    at: datetime
    severity: Severity
    is_over: bool
    title: str
    text: str
    data: Mapping[str, Any]

    @property
    def payload(self) -> Mapping[str, Any]:
        """The message for programs, in the form of Standard Webhooks."""
        return {"type": self.type, "timestamp": self.at, "data": self.data}


def render(notification: Notification) -> Message:
    """Return the message of a notification."""
    if notification.type is NotificationType.DIGEST:
        return _digest(notification)
    (update,) = notification.updates
    alert, is_over = update.last.alert, notification.type is NotificationType.RESOLVED
    is_reminder = notification.type is NotificationType.STILL_FIRING
    heading = "RESOLVED" if is_over else f"STILL {alert.severity.upper()}" if is_reminder else alert.severity.upper()
    return Message(
        id=message_id(notification.id),
        type=notification.type,
        at=notification.at,
        severity=alert.severity,
        is_over=is_over,
        title=_shorten(f"{heading}: {alert.summary}", MAX_TITLE_LENGTH),
        text=show("\n".join(_lines(update)), lines=True),
        data={
            **asdict(alert),
            "summary": _shorten(alert.summary, MAX_SUMMARY_LENGTH),
            "steps": [{"id": notice.id, "step": notice.step, "at": notice.at} for notice in update.notices],
            "next_step": next_step(alert),
            "path": alert_path(alert.id),
        },
    )


def render_test(channel: str, *, message_id: str, now: datetime) -> Message:
    """Return the message that tests a channel."""
    sentence = f"This is a test of the channel {channel}. Alerts will look like this message."
    return Message(
        id=f"test_{message_id}",
        type=NotificationType.TEST,
        at=now,
        severity=Severity.WARNING,
        is_over=False,
        title=f"Tidings: test of the channel {channel}",
        text=sentence,
        data={"channel": channel, "summary": sentence},
    )


def next_step(alert: Alert) -> str:
    """Return what to do about an alert, with the names that it is about."""
    return kinds.next_step(alert.kind, subject=alert.subject, source=alert.source, numbers=alert.numbers)


def message_id(notification_id: UUID | str) -> str:
    """Return the message id of a notification."""
    return f"alert_{UUID(str(notification_id)).hex}"


def alert_path(alert_id: str) -> str:
    """Return the path of an alert in the API."""
    return f"/v1/alerts/{alert_id}"


def _lines(update: AlertUpdate) -> Iterator[str]:
    alert, last = update.last.alert, update.last
    is_escalated = update.type is NotificationType.ESCALATED
    yield _shorten(alert.summary, MAX_SUMMARY_LENGTH)
    yield ""
    yield f"Severity: {alert.severity}" + (", more severe than before" if is_escalated else "")
    yield f"Since: {_time(alert.started_at)}"
    if last.step is Step.RESOLVED:
        is_late = update.notices[0].step is not Step.RESOLVED
        late = "; the channel could not be notified before" if is_late else ""
        minutes = round((last.at - alert.started_at).total_seconds() / 60)
        hours = round(minutes / 60)
        duration = f"{minutes} min" if minutes < 120 else f"{hours} h" if hours < 48 else f"{round(hours / 24)} days"
        yield f"Resolved: {_time(last.at)}, after {duration}{late}"
    yield f"Rule: {show(alert.rule)}"
    for name, value in (("Source", alert.source), ("Tenant", alert.tenant)):
        if value:
            yield f"{name}: {show(value)}"
    if alert.numbers:
        yield f"Numbers: {formatting.numbers(alert.numbers)}"
    if alert.acknowledged_at:
        yield f"Acknowledged: {_time(alert.acknowledged_at)} by {show(alert.acknowledged_by or '')}"
    yield ""
    if update.type is not NotificationType.RESOLVED:
        yield f"What to do: {show(next_step(alert))}"
    yield f"Details: {alert_path(alert.id)} of the API, or `tidings alerts show {alert.id}`."


def _digest(notification: Notification) -> Message:
    groups = notification.groups
    over = sum(len(group.updates) for group in groups if group.resolved)
    firing = len(notification.updates) - over
    severity = next((group.severity for group in groups if not group.resolved), groups[0].severity)
    is_daily = all(update.type is NotificationType.STILL_FIRING for update in notification.updates)
    words = ((firing, "still firing" if is_daily else "firing"), (over, "resolved"))
    title = ", ".join(f"{number} alerts {word}" for number, word in words if number)
    return Message(
        id=message_id(notification.id),
        type=NotificationType.DIGEST,
        at=notification.at,
        severity=severity,
        is_over=not firing,
        title=f"{severity.upper()}: {title}" if firing else f"RESOLVED: {title}",
        text=show("\n".join(_digest_lines(groups, title)), lines=True),
        data={
            "count": len(notification.updates),
            "firing": firing,
            "resolved": over,
            "groups": [
                {
                    "rule": group.rule,
                    "severity": group.severity,
                    "state": "resolved" if group.resolved else "firing",
                    "count": len(group.updates),
                    "alerts": [
                        {
                            **{name: getattr(alert, name) for name in ("id", "source", "started_at", "resolved_at")},
                            "summary": _shorten(alert.summary, MAX_TITLE_LENGTH),
                            "path": alert_path(alert.id),
                        }
                        for alert in (update.last.alert for update in group.updates[:MAX_UPDATES_OF_GROUP])
                    ],
                }
                for group in groups[:MAX_GROUPS]
            ],
            "more_groups": max(0, len(groups) - MAX_GROUPS),
        },
    )


def _digest_lines(groups: Sequence[Group], title: str) -> Iterator[str]:
    yield f"{title}:"
    for group in groups[:MAX_GROUPS]:
        yield ""
        yield f"{'resolved' if group.resolved else group.severity}: {group.rule}, {len(group.updates)}"
        for update in group.updates[:MAX_UPDATES_OF_GROUP]:
            yield f"- {_time(update.notices[0].at)} {_shorten(update.last.alert.summary, MAX_TITLE_LENGTH)}"
        if len(group.updates) > MAX_UPDATES_OF_GROUP:
            yield f"- and {len(group.updates) - MAX_UPDATES_OF_GROUP} more"
        if not group.resolved:
            yield f"  What to do: {show(next_step(group.updates[0].last.alert))}"
    if len(groups) > MAX_GROUPS:
        yield ""
        yield f"and {len(groups) - MAX_GROUPS} more rules"
    yield ""
    yield "Details: /v1/alerts of the API, or `tidings alerts list`."


def _shorten(text: str, max_length: int) -> str:
    text = show(" ".join(text.split()))
    return text if len(text) <= max_length else text[: max_length - 1] + "…"


def _time(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
