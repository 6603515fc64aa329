"""The change log, read in order and without gaps.

Changes are ordered by transaction, then id. (Ids alone are not an order: they are assigned before their transaction
commits.) A read ends before the oldest transaction that is still open, so that a reader who follows the cursor misses
none. The position in this order identifies a change.

A change is returned only when a crash of the database can no longer undo it. Otherwise new transactions could get the
same numbers again, and a reader would miss their changes because its cursor is already past them.

The statements are SQL text: each takes the changes, the position read and the bounds of the log from one snapshot.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, RowMapping, func, select

from shared.changes.filters import EVERYTHING, ChangeFilter
from shared.errors import GoneError
from shared.postgres.pagination import MAX_ROWS_READ
from shared.subscriptions.model import ANY, ChangeSubject

START = (0, 0)
Cursor = tuple[int, int]
"""Transaction and id of the last change that was read. START means the beginning of the log."""


class CursorGoneError(GoneError):
    """The changes after a cursor cannot be read; the message says why. Reading can begin at `oldest`."""

    def __init__(self, message: str, oldest: Cursor) -> None:
        super().__init__(message)
        self.oldest = oldest


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change. `source` is None if the change concerns no single source.

    `data` describes the suppression or the alert if the change is not about a message. `tenant` and `tag` are those
    of the message, the suppression or the alert.
    """

    id: int
    transaction: int
    type: str
    changed_at: datetime
    source: str | None
    message_id: UUID | None
    recipient: str | None
    event_id: UUID | None
    status: str | None
    previous_status: str | None
    version: int | None
    data: Mapping[str, Any] | None
    tenant: str | None
    tag: str | None

    @property
    def cursor(self) -> Cursor:
        """The position in the log."""
        return (self.transaction, self.id)

    @property
    def subject(self) -> ChangeSubject:
        """The fields that decide which subscribers receive it."""
        domain = self.recipient.rpartition("@")[2] if self.recipient and "@" in self.recipient else None
        return ChangeSubject(
            type=self.type, source=self.source, tenant=self.tenant, recipient_domain=domain, tag=self.tag
        )


@dataclass(frozen=True, slots=True)
class LogPage:
    """Changes in order, and the cursor to continue from, which an empty page has too."""

    changes: Sequence[Change]
    next: Cursor


_CHANGE = """c.id, c.transaction::text::bigint AS transaction, c.type, c.changed_at, s.slug AS source, c.message_id,
    c.recipient, c.event_id, c.status, c.previous_status, c.version, c.data,
    coalesce(nullif(m.tenant, ''), c.data ->> 'tenant') AS tenant, m.tag"""

_FIELDS = tuple(entry.name for entry in fields(Change))

_MESSAGE = "LEFT JOIN messages AS m ON m.id = c.message_id"
_ABOUT = f"LEFT JOIN sources AS s ON s.id = c.source_id {_MESSAGE}"

_CONDITIONS = {
    "types": "c.type LIKE ANY(%(types)s)",
    "sources": "c.source_id = ANY(ARRAY(SELECT id FROM sources WHERE slug = ANY(%(sources)s)))",
    "tenant": "coalesce(m.tenant, c.tenant) = %(tenant)s",
    "domains": "strpos(c.recipient, '@') > 0 AND split_part(c.recipient, '@', -1) = ANY(%(domains)s)",
    "tags": "m.tag = ANY(%(tags)s)",
    "message_id": "c.message_id = %(message_id)s::uuid",
}

# One statement, so that the changes, the position read and the bounds of the log belong to one snapshot. Every row has
# the bounds; if no change matches there is one row without a change.
_READ = """
WITH settled AS MATERIALIZED (
    SELECT transaction, id, type, source_id, message_id, recipient, data ->> 'tenant' AS tenant FROM state_changes
    WHERE (transaction, id) > (%(transaction)s::text::xid8, %(id)s)
        AND transaction < log_horizon()
    ORDER BY transaction, id LIMIT %(max_rows)s
),
matching AS (
    SELECT c.transaction, c.id FROM settled AS c {joined} WHERE {conditions}
    ORDER BY c.transaction, c.id LIMIT %(limit)s
),
scanned AS (SELECT transaction, id FROM settled ORDER BY transaction DESC, id DESC LIMIT 1)
SELECT {log}, scanned.transaction::text::bigint AS scanned_transaction, scanned.id AS scanned_id, change.*
FROM {of_log} LEFT JOIN scanned ON true LEFT JOIN (
    SELECT {change} FROM matching JOIN state_changes AS c ON c.transaction = matching.transaction AND c.id = matching.id
    {about}
) AS change ON true
ORDER BY change.transaction, change.id
"""

_LOG = """log_horizon()::text::bigint AS horizon,
    log_beyond()::text::bigint AS beyond,
    floor.transaction::text::bigint AS floor_transaction, floor.id AS floor_id"""
_OF_LOG = "(SELECT) AS always LEFT JOIN change_floor AS floor ON floor.single"

_END = f"""
SELECT {_LOG}, scanned.transaction::text::bigint AS scanned_transaction, scanned.id AS scanned_id
FROM {_OF_LOG} LEFT JOIN (
    SELECT transaction, id FROM state_changes WHERE transaction < log_horizon()
    ORDER BY transaction DESC, id DESC LIMIT 1
) AS scanned ON true
"""

_AT = f"""
SELECT {_CHANGE}
FROM unnest(%(transactions)b::text[], %(ids)b::bigint[]) AS asked (transaction, id)
JOIN state_changes AS c ON c.transaction = asked.transaction::xid8 AND c.id = asked.id {_ABOUT}
"""

_IS_FLUSH_BEHIND = func.pg_current_wal_flush_lsn() < func.pg_current_wal_insert_lsn()


def read(
    connection: Connection, *, after: Cursor = START, wanted: ChangeFilter = EVERYTHING, limit: int = 50
) -> LogPage:
    """Return the changes after `after`. The caller must commit before it passes them on. Raises CursorGoneError.

    A read is limited in rows. If few match, the page may have fewer than `limit` changes, or none, although more
    follow; its cursor has then advanced to the last row read.
    """
    conditions, values = _conditions(wanted)
    values |= {
        "transaction": str(after[0]),
        "id": after[1],
        "limit": limit,
        "max_rows": MAX_ROWS_READ if conditions else limit,
    }
    statement = _READ.format(
        joined=_MESSAGE if {"tenant", "tags"} & values.keys() else "",
        conditions=" AND ".join(conditions) or "true",
        log=_LOG,
        of_log=_OF_LOG,
        change=_CHANGE,
        about=_ABOUT,
    )
    rows = connection.exec_driver_sql(statement, values).mappings().all()
    _require_kept(after, rows[0])
    found = [_change(row) for row in rows if row["id"] is not None]
    following = found[-1].cursor if len(found) == limit else _scanned(rows[0])
    if following is not None and following != after:
        _flush(connection, only_if_behind=True)
    return LogPage(found, following or (after if after != START else _end_of_empty_log(connection, rows[0])))


def get_end(connection: Connection) -> Cursor:
    """Return the end of the log: a reader that continues from here gets all later changes. Commit before using it."""
    log = connection.exec_driver_sql(_END).mappings().one()
    scanned = _scanned(log)
    if scanned is None:
        return _end_of_empty_log(connection, log)
    _flush(connection, only_if_behind=True)
    return scanned


def require_readable(connection: Connection, cursor: Cursor) -> None:
    """Raise CursorGoneError unless reading can continue from this cursor."""
    _require_kept(cursor, connection.exec_driver_sql(f"SELECT {_LOG} FROM {_OF_LOG}").mappings().one())


def get_changes(connection: Connection, cursors: Sequence[Cursor]) -> list[Change]:
    """Return the changes at these positions that are still kept, in any order."""
    values = {"transactions": [str(cursor[0]) for cursor in cursors], "ids": [cursor[1] for cursor in cursors]}
    return [_change(row) for row in connection.exec_driver_sql(_AT, values).mappings()]


def _flush(connection: Connection, *, only_if_behind: bool = False) -> None:
    """Make the commit wait until all earlier WAL is on disk, as it does only if its transaction wrote something."""
    message = select(func.pg_logical_emit_message(True, "tidings", ""))
    connection.execute(message.where(_IS_FLUSH_BEHIND) if only_if_behind else message)


def _change(row: RowMapping) -> Change:
    return Change(**{name: row[name] for name in _FIELDS})


def _scanned(row: RowMapping) -> Cursor | None:
    return None if row["scanned_id"] is None else (row["scanned_transaction"], row["scanned_id"])


def _end_of_empty_log(connection: Connection, log: RowMapping) -> Cursor:
    """Return the end of a log that has no changes, or none any more."""
    if log["floor_id"] is not None:
        _flush(connection, only_if_behind=True)
        return (log["floor_transaction"], log["floor_id"])
    # Only the memory of the database may know that transaction numbers have come this far.
    _flush(connection)
    return (log["horizon"], 0)


def _require_kept(cursor: Cursor, log: RowMapping) -> None:
    floor = START if log["floor_id"] is None else (log["floor_transaction"], log["floor_id"])
    if START < cursor < floor:
        raise CursorGoneError(
            "The changes after this cursor are no longer kept."
            " Reload the current state, then continue from oldest_cursor.",
            floor,
        )
    if cursor[0] > log["beyond"]:
        raise CursorGoneError(
            "This cursor is ahead of the log: the database was restored from a backup or replaced."
            " Reload the current state, then continue from oldest_cursor.",
            floor,
        )


def _conditions(wanted: ChangeFilter) -> tuple[list[str], dict[str, Any]]:
    """Return the SQL conditions of `shared.changes.filters.matches`, and their values."""
    values = {
        "types": None if ANY in wanted.types else [_pattern(name) for name in wanted.types],
        "sources": list(wanted.sources) or None,
        "tenant": wanted.tenant,
        "domains": list(wanted.recipient_domains) or None,
        "tags": list(wanted.tags) or None,
        "message_id": wanted.message_id,
    }
    given = {name: value for name, value in values.items() if value is not None}
    return [_CONDITIONS[name] for name in given], given


def _pattern(name: str) -> str:
    """Return a LIKE pattern; `*` is a wildcard only at the end."""
    escaped = name.removesuffix(ANY).replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"{escaped}%" if name.endswith(ANY) else escaped
