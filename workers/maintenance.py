"""Keeping the tables small: partitions are made ahead, and what retention has passed is let go."""

import time
from collections import Counter
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from shared.auth import idempotency as idempotent_answers
from shared.changes import retention as log_retention
from shared.operations import retention
from shared.postgres import partitions
from workers.context import WorkerContext
from workers.jobs import abandon

_LOCK = 0x71D1466
_CHANGES_AT_ONCE = 5000
_HISTORY_AT_ONCE = 5000
_MOST_SECONDS = 30.0  # for the log of changes, and for history; the rest waits for the next time

log = structlog.get_logger()


def maintain(ctx: WorkerContext) -> None:
    """Do what is due, unless another worker is at it."""
    now = datetime.now(UTC)
    oldest = now - timedelta(days=ctx.settings.retention_days)
    with ctx.engine.begin() as connection:
        if not _is_alone(connection):
            return
        made = partitions.ensure(connection, now=now)
    with ctx.engine.begin() as connection:  # of its own: whatever becomes of it, the partitions are made
        if not _is_alone(connection):
            return
        trimmed = retention.trim(connection, oldest)
        trimmed["idempotent_answers"] = idempotent_answers.trim(connection, now)
        log_retention.mark(connection, now)
        log_retention.forget_marks(connection, oldest)
    log.info("maintained", partitions_made=made, rows_trimmed=trimmed)
    let_go_of_history(ctx, now, now - oldest)
    abandon.give_up_old(ctx, oldest)
    let_go_of_changes(ctx, oldest)
    try:
        with ctx.engine.begin() as connection:
            dropped = partitions.drop_before(connection, oldest)
    except OperationalError:
        log.warning("old partitions are in use; they are dropped next time")
    else:
        log.info("old partitions", dropped=dropped)


def let_go_of_history(ctx: WorkerContext, now: datetime, kept: timedelta) -> None:
    """Delete history that is very old, a little at a time; `kept` is how long everything else is kept."""
    deadline, gone = time.monotonic() + _MOST_SECONDS, Counter[str]()
    while time.monotonic() < deadline:
        with ctx.engine.begin() as connection:
            if not _is_alone(connection):
                return
            now_gone = retention.trim_history(connection, now, kept, most=_HISTORY_AT_ONCE)
        gone.update(now_gone)
        if max(now_gone.values()) < _HISTORY_AT_ONCE:
            break
    log.info("let go of history", **gone)


def let_go_of_changes(ctx: WorkerContext, oldest: datetime) -> None:
    """Delete from the log what is older, a little at a time, so that nobody waits for it."""
    deadline, gone = time.monotonic() + _MOST_SECONDS, 0
    with ctx.engine.begin() as connection:
        reach = log_retention.reach(connection, oldest)
    if reach is None:
        return
    while time.monotonic() < deadline:
        with ctx.engine.begin() as connection:
            if not _is_alone(connection):
                return
            now_gone = log_retention.let_go(connection, reach.before, most=_CHANGES_AT_ONCE)
        gone += now_gone
        if now_gone < _CHANGES_AT_ONCE:
            break
    if reach.held_by:
        log.warning("the log of changes is older than retention: it is still needed", held_by=reach.held_by)
    log.info("let go of changes", changes=gone)


def _is_alone(connection: Connection) -> bool:
    """Whether no other worker maintains as long as this transaction lasts."""
    return bool(connection.exec_driver_sql("SELECT pg_try_advisory_xact_lock(%(lock)s)", {"lock": _LOCK}).scalar())
