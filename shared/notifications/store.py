"""Notification channels, and the notices of alert steps that each channel is or was sent.

A channel is the unit of sending: one worker at a time leases it. A notice is one step of an alert for one channel;
notices that are sent together are one notification, whose id is their `telling`.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, Select, case, delete, func, literal_column, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from shared.alerts.policy import Step
from shared.alerts.tables import alert_steps, alerts
from shared.errors import ConflictError
from shared.notifications.policy import NOTIFIED_STEPS, Alert, Notice, Notification
from shared.notifications.tables import alert_channels as channels
from shared.notifications.tables import alert_notices as notices
from shared.sources.tables import sources
from shared.vocabulary import Severity

_CHANNEL = channels.c[
    "name", "kind", "target", "least_severity", "created_at", "updated_at", "told_at", "failures", "failing_since",
    "last_error", "rests_until", "sources", "tenants", "rules",
]  # fmt: skip
"""A channel as it is stored: `target` is encrypted, `failures` are those in a row, since `failing_since`."""

_IS_PENDING = notices.c.state == literal_column("'pending'")
"""A literal, by which PostgreSQL can choose the partial index."""

# Text: one statement leases several rows with SKIP LOCKED, like the other queues. Enqueuing locks only the key of a
# channel against deletion, so that claims and enqueuing never wait for each other.
_CLAIM = f"""
WITH due AS (
    SELECT name FROM alert_channels AS c
    WHERE (rests_until IS NULL OR rests_until <= now()) AND (lease_until IS NULL OR lease_until < now())
        AND EXISTS (
            SELECT 1 FROM alert_notices
            WHERE channel = c.name AND state = 'pending' AND available_at <= now()
        )
    ORDER BY rests_until NULLS FIRST, name LIMIT %(limit)s FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE alert_channels SET lease_token = %(token)s, lease_until = now() + make_interval(secs => %(lease_seconds)s)
WHERE name IN (SELECT name FROM due) RETURNING {", ".join(column.name for column in _CHANNEL)}
"""

# Text: the conditions differ by step. A channel that was notified of an alert is notified of its end, whatever its
# severity is by then; no other channel is. A limit of a channel excludes alerts that have no such field. The lock
# keeps channels from being deleted meanwhile, which would leave their notices behind.
_ENQUEUE = """
INSERT INTO alert_notices (channel, step_id, state, enqueued_at, available_at)
SELECT c.name, s.id, 'pending', now(), now()
FROM alert_steps AS s JOIN alerts AS a ON a.id = s.alert_id LEFT JOIN sources AS of_alert ON of_alert.id = a.source_id
CROSS JOIN alert_channels AS c
WHERE s.id = ANY(%(step_ids)s) AND s.step = ANY(%(steps)s)
AND (a.muted_until IS NULL OR a.muted_until <= %(now)s) AND CASE s.step
    WHEN 'resolved' THEN EXISTS (
        SELECT 1 FROM alert_steps AS earlier JOIN alert_notices AS sent ON sent.step_id = earlier.id
        WHERE earlier.alert_id = s.alert_id AND earlier.id < s.id AND sent.channel = c.name
    )
    ELSE array_position(%(severities)s, s.severity) >= array_position(%(severities)s, c.least_severity)
        AND (c.sources IS NULL OR of_alert.slug = ANY(c.sources))
        AND (c.tenants IS NULL OR a.tenant = ANY(c.tenants))
        AND (c.rules IS NULL OR a.rule = ANY(c.rules))
END
ORDER BY s.id, c.name
FOR KEY SHARE OF c
ON CONFLICT (channel, step_id) DO NOTHING
"""


def list_channels(connection: Connection) -> Sequence[Row[Any]]:
    """Return all channels, by name."""
    return connection.execute(select(*_CHANNEL).order_by(channels.c.name)).all()


def get_channel(connection: Connection, name: str, *, lock: bool = False) -> Row[Any] | None:
    """Return a channel; None if there is none. `lock` prevents other changes until the transaction ends."""
    found = select(*_CHANNEL).where(channels.c.name == name)
    if lock:
        found = found.with_for_update(key_share=True)
    return connection.execute(found).one_or_none()


def create_channel(
    connection: Connection, *, name: str, kind: str, target: bytes, min_severity: str, **limits: Sequence[str] | None
) -> Row[Any]:
    """Create a channel. Raises ConflictError if the name is taken.

    `limits` are `sources`, `tenants` and `rules`: only alerts about one of them; without, about any.
    """
    created = upsert(channels).values(
        name=name,
        kind=kind,
        target=target,
        least_severity=min_severity,
        created_at=func.now(),
        updated_at=func.now(),
        **{limit: list(values) if values else None for limit, values in limits.items()},
    )
    row = connection.execute(created.on_conflict_do_nothing().returning(*_CHANNEL)).one_or_none()
    if row is None:
        raise ConflictError(f"There is a channel called {name!r} already. Choose another name.")
    return row


def update_channel(
    connection: Connection, name: str, *, target: bytes, min_severity: str, **limits: Sequence[str] | None
) -> Row[Any]:
    """Change a channel that exists. Of the `limits` of `create_channel`, those that are given are replaced."""
    given = {limit: list(values) if values else None for limit, values in limits.items()}
    changed = update(channels).where(channels.c.name == name)
    changed = changed.values(target=target, least_severity=min_severity, updated_at=func.now(), **given)
    return connection.execute(changed.returning(*_CHANNEL)).one()


def delete_channel(connection: Connection, name: str) -> bool:
    """Delete a channel, and give up its pending notices; return False if there is none.

    Notices that were sent stay in the history of the alerts.
    """
    deleted = connection.execute(delete(channels).where(channels.c.name == name)).rowcount
    connection.execute(
        update(notices)
        .where(notices.c.channel == name, _IS_PENDING)
        .values(state="dead", last_error="the channel was removed")
    )
    return bool(deleted)


def claim_channels(connection: Connection, *, token: UUID, limit: int, lease_seconds: float) -> Sequence[Row[Any]]:
    """Lease up to `limit` channels with due notices, those that have rested longest first.

    Channels that another worker has leased are left to it.
    """
    return connection.exec_driver_sql(_CLAIM, {"token": token, "limit": limit, "lease_seconds": lease_seconds}).all()


def release_channel(connection: Connection, name: str, token: UUID, *, rest_seconds: float) -> None:
    """Release a channel after a success, and pause it. Notices that waited for a retry become due."""
    released = connection.execute(
        update(channels)
        .where(channels.c.name == name, channels.c.lease_token == token)
        .values(
            lease_until=None,
            lease_token=None,
            failures=0,
            failing_since=None,
            last_error=None,
            told_at=func.now(),
            rests_until=func.now() + timedelta(seconds=rest_seconds),
        )
    )
    if released.rowcount:
        _make_due(connection, name)


def release_failing_channel(connection: Connection, name: str, token: UUID, *, error: str, rest_seconds: float) -> None:
    """Release a channel that failed, and let it rest."""
    connection.execute(
        update(channels)
        .where(channels.c.name == name, channels.c.lease_token == token)
        .values(
            lease_until=None,
            lease_token=None,
            failures=channels.c.failures + 1,
            failing_since=func.coalesce(channels.c.failing_since, func.now()),
            last_error=error,
            rests_until=func.now() + timedelta(seconds=rest_seconds),
        )
    )


def end_rest(connection: Connection, name: str) -> None:
    """Make all pending notices of a channel due, because the channel works again."""
    connection.execute(update(channels).where(channels.c.name == name).values(rests_until=None))
    _make_due(connection, name)


def drop_muted(connection: Connection, alert_id: UUID) -> None:
    """Give up the pending notices of an alert that was muted."""
    of_alert = select(alert_steps.c.id).where(alert_steps.c.alert_id == alert_id)
    connection.execute(
        update(notices)
        .where(notices.c.step_id.in_(of_alert), _IS_PENDING)
        .values(state="dead", last_error="the alert was muted")
    )


def enqueue(connection: Connection, step_ids: Sequence[int], now: datetime) -> int:
    """Store a notice of each step for every channel that is to be notified; return the number of notices.

    No channel is notified of an alert that is muted `now`.

    Call it in the transaction that stores the steps, so that they are sent even if the process dies after it.
    """
    values = {"step_ids": list(step_ids), "steps": list(NOTIFIED_STEPS), "severities": list(Severity), "now": now}
    return connection.exec_driver_sql(_ENQUEUE, values).rowcount if step_ids else 0


def list_pending(connection: Connection, channel: str, *, limit: int) -> Sequence[Notice]:
    """Return up to `limit` pending notices of a channel, due or not."""
    rows = connection.execute(
        select(
            *notices.c["id", "telling"],
            *alert_steps.c["step", "at", "severity", "summary", "numbers"],
            alerts.c.id.label("alert_id"),
            *alerts.c["rule", "kind", "subject", "tenant", "evidence_event_id", "started_at"],
            *alerts.c["acknowledged_at", "acknowledged_by"],
            sources.c.slug.label("source"),
        )
        .select_from(
            notices.join(alert_steps, alert_steps.c.id == notices.c.step_id)
            .join(alerts, alerts.c.id == alert_steps.c.alert_id)
            .outerjoin(sources, sources.c.id == alerts.c.source_id)
        )
        .where(notices.c.channel == channel, _IS_PENDING)
        .order_by(notices.c.available_at, notices.c.id)
        .limit(limit)
    )
    return [
        Notice(
            id=row.id,
            step=Step(row.step),
            at=row.at,
            notification=row.telling and row.telling.hex,
            alert=Alert(
                id=str(row.alert_id),
                rule=row.rule,
                kind=row.kind,
                subject=row.subject,
                severity=Severity(row.severity),
                state="resolved" if row.step == Step.RESOLVED else "firing",
                source=row.source,
                tenant=row.tenant,
                summary=row.summary,
                numbers=row.numbers,
                evidence_event_id=row.evidence_event_id and str(row.evidence_event_id),
                started_at=row.started_at,
                resolved_at=row.at if row.step == Step.RESOLVED else None,
                acknowledged_at=row.acknowledged_at,
                acknowledged_by=row.acknowledged_by,
            ),
        )
        for row in rows
    ]


def begin(connection: Connection, notifications: Sequence[Notification]) -> None:
    """Store which notices each notification has, and count the attempt, before anything is sent.

    A worker that takes over from one that died sends the same notifications, with the same ids.
    """
    for notification in notifications:
        connection.execute(
            update(notices)
            .where(notices.c.id.in_(notification.notice_ids), _IS_PENDING)
            .values(telling=UUID(notification.id), attempts=notices.c.attempts + 1)
        )


def finish(connection: Connection, notification: Notification) -> None:
    """Store that a notification was sent, even if another worker has leased the channel meanwhile."""
    connection.execute(
        update(notices)
        .where(notices.c.id.in_(notification.notice_ids), _IS_PENDING)
        .values(state="sent", sent_at=func.now(), last_error=None)
    )


def fail(
    connection: Connection,
    notification: Notification,
    *,
    error: str,
    permanent: bool,
    retry_seconds: float,
    give_up_after: timedelta,
) -> int:
    """Store that a notification failed; return how many of its notices are given up.

    That is all of them if the failure is `permanent`, and otherwise those that are older than `give_up_after`. The
    others are sent in a new notification, with what else is due then.
    """
    is_dead = notices.c.enqueued_at <= func.now() - (timedelta(0) if permanent else give_up_after)
    states = connection.execute(
        update(notices)
        .where(notices.c.id.in_(notification.notice_ids), _IS_PENDING)
        .values(
            last_error=error,
            telling=None,
            state=case((is_dead, "dead"), else_="pending"),
            available_at=func.now() + timedelta(seconds=retry_seconds),
        )
        .returning(notices.c.state)
    )
    return sum(state == "dead" for state in states.scalars())


def postpone(connection: Connection, notifications: Sequence[Notification], *, retry_seconds: float) -> None:
    """Return notifications that were not tried to the queue, without an attempt."""
    connection.execute(
        update(notices)
        .where(notices.c.id.in_([id_ for one in notifications for id_ in one.notice_ids]), _IS_PENDING)
        .values(
            telling=None,
            attempts=notices.c.attempts - 1,
            available_at=func.now() + timedelta(seconds=retry_seconds),
        )
    )


def list_notices(connection: Connection, alert_id: UUID) -> Sequence[Row[Any]]:
    """Return the notices of all steps of an alert. Notices with the same `telling` were sent in one notification."""
    next_attempt_at = func.greatest(notices.c.available_at, channels.c.rests_until)
    found: Select[Any] = (
        select(
            *notices.c["channel", "step_id"],
            alert_steps.c.step,
            *notices.c["state", "attempts", "enqueued_at", "sent_at", "last_error", "telling"],
            case((notices.c.state == "pending", next_attempt_at)).label("next_attempt_at"),
        )
        .select_from(
            alert_steps.join(notices, notices.c.step_id == alert_steps.c.id).outerjoin(
                channels, channels.c.name == notices.c.channel
            )
        )
        .where(alert_steps.c.alert_id == alert_id)
        .order_by(notices.c.id)
    )
    return connection.execute(found).all()


def _make_due(connection: Connection, name: str) -> None:
    connection.execute(
        update(notices)
        .where(notices.c.channel == name, _IS_PENDING, notices.c.available_at > func.now())
        .values(available_at=func.now())
    )
