"""The log of changes, as a feed.

Changes are read in the order of their transactions, and only as far as no transaction that is still open could
come before: so a reader that follows the cursor misses none. (Ids alone are no order: they are drawn before
their transaction commits.) Where a change stands in this order is what it is called by.

Nobody is told what a crash of the database could still undo: transactions would get the same numbers again, and a
reader would look for the changes of the second ones behind the first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, RowMapping

from shared.changes.filters import EVERYTHING, ChangeFilter
from shared.errors import TidingsError
from shared.postgres.pagination import MAX_ROWS_READ
from shared.subscriptions.model import ANY, ChangeSubject

START = (0, 0)
Cursor = tuple[int, int]
"""Transaction and id of the last change that was read. START stands for the oldest that is kept."""


class GoneError(TidingsError):
    """What follows a cursor is not there to be read; the message says why. `oldest` is where reading can begin."""

    def __init__(self, message: str, oldest: Cursor) -> None:
        super().__init__(message)
        self.oldest = oldest


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change of what is known. `source` is None where no single one is concerned.

    `data` is what it is about, where that is not a message: an entry of the suppression list, an alert. `tenant` and
    `tag` are those of its message, or of what it is about.
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
        """Where it stands in the log."""
        return (self.transaction, self.id)

    @property
    def subject(self) -> ChangeSubject:
        """What it is about, as far as that decides who is told."""
        domain = self.recipient.rpartition("@")[2] if self.recipient and "@" in self.recipient else None
        return ChangeSubject(
            type=self.type, source=self.source, tenant=self.tenant, recipient_domain=domain, tag=self.tag
        )


@dataclass(frozen=True, slots=True)
class Reading:
    """Changes in order, and the cursor to go on from: always there, also when there was nothing."""

    changes: Sequence[Change]
    next: Cursor


_CHANGE = """c.id, c.transaction::text::bigint AS transaction, c.type, c.changed_at, s.slug AS source, c.message_id,
    c.recipient, c.event_id, c.status, c.previous_status, c.version, c.data,
    coalesce(nullif(m.tenant, ''), c.data ->> 'tenant') AS tenant, m.tag"""

_FIELDS = tuple(entry.name for entry in fields(Change))

_MESSAGE = "LEFT JOIN messages AS m ON m.id = c.message_id"
_ABOUT = f"LEFT JOIN sources AS s ON s.id = c.source_id {_MESSAGE}"

_PICKS = {
    "types": "c.type LIKE ANY(%(types)s)",
    "sources": "c.source_id = ANY(ARRAY(SELECT id FROM sources WHERE slug = ANY(%(sources)s)))",
    "tenant": "coalesce(m.tenant, c.tenant) = %(tenant)s",
    "domains": "strpos(c.recipient, '@') > 0 AND split_part(c.recipient, '@', -1) = ANY(%(domains)s)",
    "tags": "m.tag = ANY(%(tags)s)",
    "message_id": "c.message_id = %(message_id)s::uuid",
}


# Everything in one statement, that is to say of one moment: what is there, how far it was looked through, and how much
# of the log there is. Every row tells of the log; where no change fits there is one row, without a change.
_READ = """
WITH settled AS MATERIALIZED (
    SELECT transaction, id, type, source_id, message_id, recipient, data ->> 'tenant' AS tenant FROM state_changes
    WHERE (transaction, id) > (%(transaction)s::text::xid8, %(id)s)
        AND transaction < log_horizon()
    ORDER BY transaction, id LIMIT %(most)s
),
fitting AS (
    SELECT c.transaction, c.id FROM settled AS c {joined} WHERE {fits} ORDER BY c.transaction, c.id LIMIT %(limit)s
),
looked AS (SELECT transaction, id FROM settled ORDER BY transaction DESC, id DESC LIMIT 1)
SELECT {log}, looked.transaction::text::bigint AS looked_transaction, looked.id AS looked_id, change.*
FROM {of_log} LEFT JOIN looked ON true LEFT JOIN (
    SELECT {change} FROM fitting JOIN state_changes AS c ON c.transaction = fitting.transaction AND c.id = fitting.id
    {about}
) AS change ON true
ORDER BY change.transaction, change.id
"""

_LOG = """log_horizon()::text::bigint AS horizon,
    log_beyond()::text::bigint AS beyond,
    floor.transaction::text::bigint AS floor_transaction, floor.id AS floor_id"""
_OF_LOG = "(SELECT) AS always LEFT JOIN change_floor AS floor ON floor.single"

_END = f"""
SELECT {_LOG}, looked.transaction::text::bigint AS looked_transaction, looked.id AS looked_id
FROM {_OF_LOG} LEFT JOIN (
    SELECT transaction, id FROM state_changes WHERE transaction < log_horizon()
    ORDER BY transaction DESC, id DESC LIMIT 1
) AS looked ON true
"""

_AT = f"""
SELECT {_CHANGE}
FROM unnest(%(transactions)b::text[], %(ids)b::bigint[]) AS asked (transaction, id)
JOIN state_changes AS c ON c.transaction = asked.transaction::xid8 AND c.id = asked.id {_ABOUT}
"""

# A commit waits until all that came before it is on disk, provided that it wrote something itself.
_FLUSH = "SELECT pg_logical_emit_message(true, 'tidings', '')"
_FLUSH_IF_BEHIND = f"{_FLUSH} WHERE pg_current_wal_flush_lsn() < pg_current_wal_insert_lsn()"


def read(
    connection: Connection, *, after: Cursor = START, wanted: ChangeFilter = EVERYTHING, limit: int = 50
) -> Reading:
    """The changes that follow `after`. They may be told once the transaction has committed, and no sooner.

    Where few fit, the reading may be short of `limit` or empty although more follows; its cursor goes on from how far
    was looked. Raises GoneError.
    """
    conditions, values = _conditions(wanted)
    values |= {
        "transaction": str(after[0]),
        "id": after[1],
        "limit": limit,
        "most": MAX_ROWS_READ if conditions else limit,
    }
    statement = _READ.format(
        joined=_MESSAGE if {"tenant", "tags"} & values.keys() else "",
        fits=" AND ".join(conditions) or "true",
        log=_LOG,
        of_log=_OF_LOG,
        change=_CHANGE,
        about=_ABOUT,
    )
    rows = connection.exec_driver_sql(statement, values).mappings().all()
    _require(after, rows[0])
    found = [_change(row) for row in rows if row["id"] is not None]
    following = found[-1].cursor if len(found) == limit else _looked(rows[0])
    if following is not None and following != after:
        connection.exec_driver_sql(_FLUSH_IF_BEHIND)
    return Reading(found, following or (after if after != START else _bare_end(connection, rows[0])))


def end(connection: Connection) -> Cursor:
    """Where the log ends now: who goes on from here gets what is yet to come, once the transaction has committed."""
    log = connection.exec_driver_sql(_END).mappings().one()
    looked = _looked(log)
    if looked is None:
        return _bare_end(connection, log)
    connection.exec_driver_sql(_FLUSH_IF_BEHIND)
    return looked


def require(connection: Connection, cursor: Cursor) -> None:
    """Raise GoneError unless one can go on from this cursor."""
    _require(cursor, connection.exec_driver_sql(f"SELECT {_LOG} FROM {_OF_LOG}").mappings().one())


def at(connection: Connection, cursors: Sequence[Cursor]) -> list[Change]:
    """The changes at these places of the log, as far as they are still kept; in no order."""
    values = {"transactions": [str(cursor[0]) for cursor in cursors], "ids": [cursor[1] for cursor in cursors]}
    return [_change(row) for row in connection.exec_driver_sql(_AT, values).mappings()]


def _change(row: RowMapping) -> Change:
    return Change(**{name: row[name] for name in _FIELDS})


def _looked(row: RowMapping) -> Cursor | None:
    return None if row["looked_id"] is None else (row["looked_transaction"], row["looked_id"])


def _bare_end(connection: Connection, log: RowMapping) -> Cursor:
    """The end of a log that nothing is in, for now or yet."""
    if log["floor_id"] is not None:
        connection.exec_driver_sql(_FLUSH_IF_BEHIND)
        return (log["floor_transaction"], log["floor_id"])
    # That transactions have these numbers may be known to nobody but the memory of the database.
    connection.exec_driver_sql(_FLUSH)
    return (log["horizon"], 0)


def _require(cursor: Cursor, log: RowMapping) -> None:
    floor = START if log["floor_id"] is None else (log["floor_transaction"], log["floor_id"])
    if START < cursor < floor:
        raise GoneError(
            "What followed this cursor is no longer kept. Take stock anew, then go on from oldest_cursor.", floor
        )
    if cursor[0] > log["beyond"]:
        raise GoneError(
            "This cursor is ahead of the log: the database was set back since, or is another one."
            " Take stock anew, then go on from oldest_cursor.",
            floor,
        )


def _conditions(wanted: ChangeFilter) -> tuple[list[str], dict[str, Any]]:
    """What `shared.changes.filters.fits` means, for the database; the values by name."""
    values = {
        "types": None if ANY in wanted.types else [_pattern(name) for name in wanted.types],
        "sources": list(wanted.sources) or None,
        "tenant": wanted.tenant,
        "domains": list(wanted.recipient_domains) or None,
        "tags": list(wanted.tags) or None,
        "message_id": wanted.message_id,
    }
    given = {name: value for name, value in values.items() if value is not None}
    return [_PICKS[name] for name in given], given


def _pattern(name: str) -> str:
    """A LIKE pattern; only at the end does `*` stand for anything."""
    escaped = name.removesuffix(ANY).replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"{escaped}%" if name.endswith(ANY) else escaped
