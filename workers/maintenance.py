"""Hourly maintenance: create partitions ahead, and delete rows older than the retention time.

After an update: rewrite what an earlier version stored in another form.
"""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import structlog
from sqlalchemy.exc import OperationalError

from shared.auth import audit
from shared.auth import idempotency as idempotent_answers
from shared.changes import retention as log_retention
from shared.jobs.store import Job
from shared.messages import search_store
from shared.operations import address_forms, retention
from shared.postgres import partitions
from workers.context import WorkerContext
from workers.jobs import abandon
from workers.jobs.progress import Progress

REWRITE_ADDRESSES: Final = "rewrite_addresses"
CHANGES_PER_TRANSACTION = 5000
_HISTORY_PER_TRANSACTION = 5000
_MAX_INDEX_SECONDS = 4.0
_MAX_SECONDS = 30.0  # for changes and for history each; the next run deletes the rest

log = structlog.get_logger()


def maintain(ctx: WorkerContext) -> None:
    """Do all maintenance, unless another worker is doing it."""
    now = datetime.now(UTC)
    oldest = now - timedelta(days=ctx.settings.retention_days)
    with ctx.engine.begin() as connection:
        if not retention.lock_maintenance(connection):
            return
        created = partitions.create_missing(connection, now=now)
    with ctx.engine.begin() as connection:  # a separate transaction, so that no error here undoes the partitions
        if not retention.lock_maintenance(connection):
            return
        trimmed = retention.delete_expired(connection, oldest)
        trimmed["refusals"] += retention.delete_oldest_refusals(connection)
        trimmed["idempotent_answers"] = idempotent_answers.trim(connection, now)
        trimmed["audit_log"] = audit.trim(connection)
        log_retention.add_mark(connection, now)
        log_retention.delete_marks(connection, oldest)
    log.info("maintained", partitions_created=created, rows_deleted=trimmed)
    delete_old_history(ctx, now, now - oldest)
    abandon.expire_old(ctx, oldest)
    delete_old_changes(ctx, oldest)
    try:
        with ctx.engine.begin() as connection:
            dropped = partitions.drop_before(connection, oldest)
    except OperationalError:
        log.warning("old partitions are in use; the next run drops them")
    else:
        log.info("old partitions dropped", dropped=dropped)


def index_messages(ctx: WorkerContext) -> int:
    """Compute the search signatures of new messages, unless there are few; return the number of entries."""
    deadline, total = time.monotonic() + _MAX_INDEX_SECONDS, 0
    while time.monotonic() < deadline:
        with ctx.engine.begin() as connection:
            entries = search_store.index_queued(connection)
        if not entries:
            break
        total += entries
    if total:
        log.info("messages indexed", entries=total)
    return total


def delete_old_history(ctx: WorkerContext, now: datetime, retained: timedelta) -> None:
    """Delete very old history, a few rows per transaction. `retained` is the retention time of everything else."""
    deadline, deleted = time.monotonic() + _MAX_SECONDS, Counter[str]()
    while time.monotonic() < deadline:
        with ctx.engine.begin() as connection:
            if not retention.lock_maintenance(connection):
                return
            counts = retention.delete_old_history(connection, now, retained, limit=_HISTORY_PER_TRANSACTION)
        deleted.update(counts)
        if max(counts.values()) < _HISTORY_PER_TRANSACTION:
            break
    log.info("old history deleted", **deleted)


def delete_old_changes(ctx: WorkerContext, oldest: datetime) -> None:
    """Delete old changes from the log, a few rows per transaction, so that readers do not wait."""
    deadline, deleted = time.monotonic() + _MAX_SECONDS, 0
    with ctx.engine.begin() as connection:
        found = log_retention.find_deletable(connection, oldest)
    if found is None:
        return
    before, held_by = found
    while time.monotonic() < deadline:
        with ctx.engine.begin() as connection:
            if not retention.lock_maintenance(connection):
                return
            count = log_retention.delete_before(connection, before, limit=CHANGES_PER_TRANSACTION)
        deleted += count
        if count < CHANGES_PER_TRANSACTION:
            break
    if held_by:
        log.warning("changes older than retention are still needed", held_by=held_by)
    log.info("old changes deleted", changes=deleted)


def rewrite_addresses(ctx: WorkerContext, job: Job, progress: Progress) -> Mapping[str, Any]:
    """Bring stored addresses into the form of this version; the migration that changed the form creates the job.

    A part and its progress commit together, so none is repeated.
    The report says for each table how many rows have changed.
    """
    tables = address_forms.COLUMNS
    done: int = job.position.get("done", 0)
    after: Sequence[str] | None = job.position.get("after")
    report = dict.fromkeys((column.table.name for column in tables), 0) | dict(job.report)
    while done < len(tables):
        column = tables[done]
        with ctx.engine.begin() as connection:
            changed, after = address_forms.rewrite_part(connection, ctx.hasher, column, after)
            report[column.table.name] += changed
            done += after is None
            progress.record(connection, done, len(tables), {"done": done, "after": after}, report)
        progress.end_turn_if_over()
    return report
