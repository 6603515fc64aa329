"""Deletes expired changes from the beginning of the log.

A change does not say when it was committed. So maintenance records from time to time how far the log reaches
(`change_marks`): changes before a mark that is older than retention are older themselves.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Connection, Text, cast, delete, exists, func, literal, select, tuple_
from sqlalchemy.dialects.postgresql import insert

from shared.changes.log import Cursor
from shared.changes.tables import change_marks, state_changes
from shared.postgres.metadata import Xid8

_POSITION = tuple_(state_changes.c.transaction, state_changes.c.id)
# Text, not expressions: the tables are those of `deliveries`, which depends on this package.
_NEEDED_BY = {
    "fan_out": "SELECT transaction::text::bigint, id + 1 FROM fan_out WHERE single",
    "deliveries": """
        SELECT change_transaction::text::bigint, change_id FROM pending_deliveries
        ORDER BY change_transaction, change_id LIMIT 1
    """,
}
"""For each consumer of the log: the first position that it still needs."""

# Text, not an expression: it is one statement with several CTEs, two of which write.
_DELETE_BEFORE = """
WITH old AS MATERIALIZED (
    SELECT transaction, id FROM state_changes
    WHERE (transaction, id) < (%(transaction)s::text::xid8, %(id)s) AND (transaction, id) > (
        coalesce((SELECT transaction FROM change_floor WHERE single), '0'::xid8),
        coalesce((SELECT id FROM change_floor WHERE single), 0)
    )
    ORDER BY transaction, id LIMIT %(limit)s
),
deleted AS (
    DELETE FROM state_changes AS c USING old WHERE c.transaction = old.transaction AND c.id = old.id
)
INSERT INTO change_floor (transaction, id) SELECT transaction, id FROM old ORDER BY transaction DESC, id DESC LIMIT 1
ON CONFLICT (single) DO UPDATE SET transaction = excluded.transaction, id = excluded.id
RETURNING (SELECT count(*) FROM old)
"""


def add_mark(connection: Connection, now: datetime) -> None:
    """Record how far the log reaches now."""
    mark = insert(change_marks).values(at=now, transaction=func.log_horizon(type_=Xid8()), id=0)
    connection.execute(mark.on_conflict_do_nothing())


def find_deletable(connection: Connection, oldest: datetime) -> tuple[Cursor, str | None] | None:
    """Return the position before which changes can be deleted, and which consumer holds back older ones, if any.

    Changes after `oldest` stay, and changes that a consumer (`_NEEDED_BY`) has not read. None if no mark is that old.
    """
    marks = change_marks.c
    expired = connection.execute(
        select(cast(cast(marks.transaction, Text), BigInteger), marks.id)
        .where(marks.at < oldest)
        .order_by(marks.at.desc())
        .limit(1)
    ).one_or_none()
    if expired is None:
        return None
    before: Cursor = (expired[0], expired[1])
    end, held_by = before, None
    for name, query in _NEEDED_BY.items():
        needed = connection.exec_driver_sql(query).one_or_none()
        if needed is not None and (needed[0], needed[1]) < before:
            before, held_by = (needed[0], needed[1]), name
    if held_by is not None:
        held = select(exists().where(_literal(before) <= _POSITION, _literal(end) > _POSITION))
        if not connection.scalar(held):
            held_by = None
    return before, held_by


def delete_before(connection: Connection, before: Cursor, *, limit: int) -> int:
    """Delete up to `limit` of the oldest changes before a position; return their number.

    Only one process may do this at a time. Then cursors before the deleted changes raise CursorGoneError.
    """
    values: Mapping[str, Any] = {"transaction": str(before[0]), "id": before[1], "limit": limit}
    return int(connection.exec_driver_sql(_DELETE_BEFORE, values).scalar() or 0)


def delete_marks(connection: Connection, oldest: datetime) -> None:
    """Delete the marks before the newest expired one, which alone is still used."""
    marks = change_marks.c
    newest_expired = select(func.max(marks.at)).where(marks.at < oldest).scalar_subquery()
    connection.execute(delete(change_marks).where(marks.at < newest_expired))


def _literal(position: Cursor) -> Any:
    return tuple_(literal(str(position[0]), Xid8()), literal(position[1], BigInteger()))
