"""Alerts as the evaluation stores them, for tests of how they are sent and shown."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Connection

from shared import ids
from shared.notifications import store as notifications

BEGIN = datetime(2026, 1, 1, 12, tzinfo=UTC)


def fire(
    connection: Connection,
    subject: str = "main",
    *,
    rule: str = "bounces",
    kind: str = "rate",
    severity: str = "warning",
    summary: str | None = None,
    numbers: Mapping[str, Any] | None = None,
    source_id: int | None = None,
    at: datetime = BEGIN,
) -> UUID:
    """Insert an alert that has just fired, and enqueue its notifications."""
    alert_id = ids.receipt_id(at)
    values = {
        "id": alert_id,
        "rule": rule,
        "kind": kind,
        "subject": subject,
        "severity": severity,
        "source_id": source_id,
        "summary": summary or f"5.5 % of the mail of {subject} bounced.",
        "numbers": msgspec.json.encode(numbers or {"bounced": 11, "ended": 200, "percent": 5.5}).decode(),
        "at": at,
    }
    connection.exec_driver_sql(
        "INSERT INTO alerts (id, rule, kind, subject, severity, state, source_id, summary, numbers, started_at,"
        " judged_at) VALUES (%(id)s, %(rule)s, %(kind)s, %(subject)s, %(severity)s, 'firing', %(source_id)s,"
        " %(summary)s, %(numbers)s::jsonb, %(at)s, %(at)s)",
        values,
    )
    _step(connection, alert_id, "fired", at)
    return alert_id


def escalate(connection: Connection, alert_id: UUID, *, at: datetime = BEGIN + timedelta(minutes=5)) -> None:
    """Make it critical."""
    connection.exec_driver_sql("UPDATE alerts SET severity = 'critical' WHERE id = %(id)s", {"id": alert_id})
    _step(connection, alert_id, "escalated", at)


def resolve(connection: Connection, alert_id: UUID, *, at: datetime = BEGIN + timedelta(minutes=30)) -> None:
    """Resolve it."""
    connection.exec_driver_sql(
        "UPDATE alerts SET state = 'resolved', resolved_at = %(at)s WHERE id = %(id)s", {"id": alert_id, "at": at}
    )
    _step(connection, alert_id, "resolved", at)


def _step(connection: Connection, alert_id: UUID, word: str, at: datetime) -> None:
    step_id = connection.exec_driver_sql(
        "INSERT INTO alert_steps (alert_id, at, step, severity, summary, numbers)"
        " SELECT id, %(at)s, %(step)s, severity, summary, numbers FROM alerts WHERE id = %(id)s RETURNING id",
        {"id": alert_id, "step": word, "at": at},
    ).scalar_one()
    notifications.enqueue(connection, [step_id], at)
