"""The queues from which workers take the events of sources: which are due to be polled, and the results."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlsplit

from sqlalchemy import Connection, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from shared.errors import CredentialsError
from shared.providers.webhooks.base import QueueSettings
from shared.sources.source import read_settings
from shared.sources.tables import source_queues, sources

_columns = source_queues.c
_HAS_QUEUE: Final = sources.c.deleted_at.is_(None) & sources.c.settings["queue"].as_string().is_not(None)


def claim_due(connection: Connection, *, limit: int, lease_seconds: float) -> Sequence[int]:
    """Return the ids of sources whose queues are due, and lease them: no other process polls them for this time.

    The lease only saves calls. SQS gives a message to one of several readers, and a duplicate is stored once.
    """
    until = func.now() + timedelta(seconds=lease_seconds)
    due = (
        select(sources.c.id, until)
        .outerjoin(source_queues, _columns.source_id == sources.c.id)
        .where(_HAS_QUEUE, or_(_columns.source_id.is_(None), _columns.next_at <= func.now()))
        .order_by(_columns.next_at.nulls_first())
        .limit(limit)
    )
    claim = insert(source_queues).from_select(["source_id", "next_at"], due)
    # Another process may have claimed it in between.
    claim = claim.on_conflict_do_update(
        index_elements=["source_id"],
        set_={"next_at": claim.excluded.next_at},
        where=_columns.next_at <= func.now(),
    )
    return list(connection.scalars(claim.returning(_columns.source_id)))


def identify(queue: QueueSettings) -> tuple[str, str]:
    """Return what is the same in all URLs of a queue: at AWS, region and path; elsewhere, host and path."""
    parts = urlsplit(queue.url)
    is_at_aws = (parts.hostname or "").endswith((".amazonaws.com", ".amazonaws.com.cn"))
    return queue.region if is_at_aws else parts.netloc, parts.path.rstrip("/")


def find_readers(connection: Connection) -> dict[tuple[str, str], list[str]]:
    """Return the slugs of the sources that read each queue, as `identify` names it. Without unreadable settings."""
    readers: dict[tuple[str, str], list[str]] = {}
    rows = connection.execute(select(sources.c.slug, sources.c.settings).where(_HAS_QUEUE).order_by(sources.c.slug))
    for row in rows:
        try:
            queue = read_settings(row.settings).queue
        except CredentialsError:
            continue
        if queue is not None:
            readers.setdefault(identify(queue), []).append(row.slug)
    return readers


def record_poll(
    connection: Connection, source_id: int, *, stored: int = 0, refused: int = 0, lease_seconds: float
) -> None:
    """Count what a poll brought, and prolong the lease."""
    _update(
        connection,
        source_id,
        polled_at=func.now(),
        stored=_columns.stored + stored,
        refused=_columns.refused + refused,
        failures=0,
        error=None,
        next_at=func.now() + timedelta(seconds=lease_seconds),
    )


def record_failure(connection: Connection, source_id: int, error: str) -> int:
    """Record why a queue could not be polled; return how many times that is in a row. `postpone` follows."""
    values = {"failures": _columns.failures + 1, "error": error}
    statement = update(source_queues).where(_columns.source_id == source_id).values(values)
    return connection.scalar(statement.returning(_columns.failures)) or 1


def postpone(connection: Connection, source_id: int, seconds: float) -> None:
    """End a lease: the queue is due after these seconds."""
    _update(connection, source_id, next_at=func.now() + timedelta(seconds=seconds))


def make_due(connection: Connection, source_id: int) -> None:
    """Poll a queue at once that failed: somebody has changed its source."""
    connection.execute(
        update(source_queues).where(_columns.source_id == source_id, _columns.failures > 0).values(next_at=func.now())
    )


def read(connection: Connection) -> Mapping[int, dict[str, Any]]:
    """Return by source how its queue does: `polled_at`, `stored`, `refused`, `failures`, `error` and `next_at`.

    `stored` and `refused` are messages since the source has a queue; `next_at` is only given after a failure.
    """
    rows = connection.execute(select(source_queues).join(sources, sources.c.id == _columns.source_id).where(_HAS_QUEUE))
    return {
        row.source_id: {
            "polled_at": row.polled_at,
            "stored": row.stored,
            "refused": row.refused,
            "failures": row.failures,
            "error": row.error,
            "next_at": row.next_at if row.failures else None,
        }
        for row in rows
    }


def _update(connection: Connection, source_id: int, **values: Any) -> None:
    connection.execute(update(source_queues).where(_columns.source_id == source_id).values(values))
