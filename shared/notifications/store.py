"""What each channel still has to be told of alerts, and was told."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection, RowMapping

from shared.alerts.policy import Step
from shared.notifications.policy import TOLD, Alert, Notice, Telling
from shared.vocabulary import Severity

# Whoever was told of an alert is told of its end, whatever its severity is by then; nobody else is. The channels
# are kept from being removed meanwhile, so that no notice is left over from one that is gone.
_ENQUEUE = """
INSERT INTO alert_notices (channel, step_id, state, enqueued_at, available_at)
SELECT c.name, s.id, 'pending', now(), now()
FROM alert_steps AS s CROSS JOIN alert_channels AS c
WHERE s.id = ANY(%(step_ids)s) AND s.step = ANY(%(steps)s) AND CASE s.step
    WHEN 'resolved' THEN EXISTS (
        SELECT 1 FROM alert_steps AS earlier JOIN alert_notices AS told ON told.step_id = earlier.id
        WHERE earlier.alert_id = s.alert_id AND earlier.id < s.id AND told.channel = c.name
    )
    ELSE array_position(%(severities)s, s.severity) >= array_position(%(severities)s, c.least_severity)
END
ORDER BY s.id, c.name
FOR KEY SHARE OF c
ON CONFLICT (channel, step_id) DO NOTHING
"""

_WAITING = """
SELECT n.id, s.step, s.at, n.telling, a.id AS alert_id, a.rule, a.kind, a.subject, s.severity, sources.slug AS source,
    a.tenant, s.summary, s.numbers, a.evidence_event_id, a.started_at, a.acknowledged_at, a.acknowledged_by
FROM alert_notices AS n JOIN alert_steps AS s ON s.id = n.step_id JOIN alerts AS a ON a.id = s.alert_id
LEFT JOIN sources ON sources.id = a.source_id
WHERE n.channel = %(channel)s AND n.state = 'pending' ORDER BY n.available_at, n.id LIMIT %(limit)s
"""

_AS_STORED = (
    "rule", "kind", "subject", "source", "tenant", "summary", "numbers", "started_at", "acknowledged_at",
    "acknowledged_by",
)  # fmt: skip
"""What of an alert is told as it is stored."""

_FAILED = """
WITH tried AS (
    UPDATE alert_notices SET last_error = %(error)s, telling = NULL,
        state = CASE WHEN enqueued_at <= now() - %(give_up_after)s::interval THEN 'dead' ELSE 'pending' END,
        available_at = now() + make_interval(secs => %(retry_seconds)s)
    WHERE id = ANY(%(ids)s) AND state = 'pending' RETURNING state
)
SELECT count(*) FROM tried WHERE state = 'dead'
"""

_OF_ALERT = """
SELECT n.channel, n.step_id, s.step, n.state, n.attempts, n.enqueued_at, n.sent_at, n.last_error, n.telling,
    CASE n.state WHEN 'pending' THEN greatest(n.available_at, c.rests_until) END AS next_attempt_at
FROM alert_steps AS s JOIN alert_notices AS n ON n.step_id = s.id LEFT JOIN alert_channels AS c ON c.name = n.channel
WHERE s.alert_id = %(alert_id)s ORDER BY n.id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeFacts:
    """What one channel was told of one step of an alert, or has yet to be.

    `telling` is the message it was told in last; other notices with the same one were told in it too.
    """

    channel: str
    step_id: int
    step: str
    state: str
    attempts: int
    enqueued_at: datetime
    sent_at: datetime | None
    last_error: str | None
    telling: UUID | None
    next_attempt_at: datetime | None


def enqueue(connection: Connection, step_ids: Sequence[int]) -> int:
    """Have these steps told to every channel that wants them; return how many notices that makes.

    In the transaction that takes the steps: what is decided is told, also if the process dies right after.
    """
    values = {"step_ids": list(step_ids), "steps": list(TOLD), "severities": list(Severity)}
    return connection.exec_driver_sql(_ENQUEUE, values).rowcount if step_ids else 0


def waiting(connection: Connection, channel: str, *, limit: int) -> Sequence[Notice]:
    """Up to `limit` notices that a channel has yet to be told, whether or not their time has come."""
    rows = connection.exec_driver_sql(_WAITING, {"channel": channel, "limit": limit})
    return [_notice(row) for row in rows.mappings()]


def begin(connection: Connection, tellings: Sequence[Telling]) -> None:
    """Keep what is told together, and count the attempt, before anything is told.

    So a worker that takes over from one that died tells the same messages, by their ids.
    """
    if not tellings:
        return
    pairs = [(notice_id, telling.id) for telling in tellings for notice_id in telling.notice_ids]
    ids, messages = zip(*pairs, strict=True)
    connection.exec_driver_sql(
        "UPDATE alert_notices AS n SET telling = given.telling, attempts = n.attempts + 1"
        " FROM unnest(%(ids)s::bigint[], %(messages)s::text[]::uuid[]) AS given (id, telling)"
        " WHERE n.id = given.id AND n.state = 'pending'",
        {"ids": list(ids), "messages": list(messages)},
    )


def sent(connection: Connection, telling: Telling) -> None:
    """Note that a message was told. It was, whoever has the channel by now."""
    connection.exec_driver_sql(
        "UPDATE alert_notices SET state = 'sent', sent_at = now(), last_error = NULL"
        " WHERE id = ANY(%(ids)s) AND state = 'pending'",
        {"ids": list(telling.notice_ids)},
    )


def failed(
    connection: Connection,
    telling: Telling,
    *,
    error: str,
    permanent: bool,
    retry_seconds: float,
    give_up_after: timedelta,
) -> int:
    """Note that a message could not be told; return how many of its notices are given up.

    That is all of them if the failure is `permanent`, and otherwise those that are older than `give_up_after`. The
    rest are put together anew the next time, with what else is due then.
    """
    dead: int = connection.exec_driver_sql(
        _FAILED,
        {
            "error": error,
            "give_up_after": timedelta(0) if permanent else give_up_after,
            "retry_seconds": retry_seconds,
            "ids": list(telling.notice_ids),
        },
    ).scalar_one()
    return dead


def put_back(connection: Connection, tellings: Sequence[Telling], *, retry_seconds: float) -> None:
    """Have what was put together but not tried tried later, and charge no attempt for it."""
    connection.exec_driver_sql(
        "UPDATE alert_notices SET telling = NULL, attempts = attempts - 1,"
        " available_at = now() + make_interval(secs => %(retry_seconds)s)"
        " WHERE id = ANY(%(ids)s) AND state = 'pending'",
        {
            "ids": [notice_id for telling in tellings for notice_id in telling.notice_ids],
            "retry_seconds": retry_seconds,
        },
    )


def of_alert(connection: Connection, alert_id: UUID) -> Sequence[NoticeFacts]:
    """Who was told what of an alert, and who has yet to be."""
    rows = connection.exec_driver_sql(_OF_ALERT, {"alert_id": alert_id})
    return [NoticeFacts(**row) for row in rows.mappings()]


def _notice(row: RowMapping) -> Notice:
    step, telling, evidence = Step(row["step"]), row["telling"], row["evidence_event_id"]
    is_over = step is Step.RESOLVED
    return Notice(
        id=row["id"],
        step=step,
        at=row["at"],
        telling=None if telling is None else telling.hex,
        alert=Alert(
            id=str(row["alert_id"]),
            severity=Severity(row["severity"]),
            state="resolved" if is_over else "firing",
            resolved_at=row["at"] if is_over else None,
            evidence_event_id=None if evidence is None else str(evidence),
            **{name: row[name] for name in _AS_STORED},
        ),
    )
