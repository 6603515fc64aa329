"""Queries of the recovery job: the position of a time in the log, and the deliveries that exist already."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, literal, select, tuple_

from shared.changes.log import START, Cursor
from shared.changes.tables import change_floor, change_marks, state_changes
from shared.postgres.metadata import Xid8

# Text, not an expression: a thousand cursors as two arrays.
_EXISTING = """
SELECT d.change_transaction::text::bigint AS transaction, d.change_id, d.id, d.status
FROM unnest(%(transactions)s::text[], %(ids)s::bigint[]) AS place (transaction, id)
JOIN deliveries AS d ON d.subscription_id = %(subscription_id)s AND d.change_transaction = place.transaction::xid8
    AND d.change_id = place.id
"""

_MAX_CLOCK_DIFFERENCE = timedelta(minutes=1)  # between workers, which write `change_marks`, and the database


def cursor_before(connection: Connection, moment: datetime) -> Cursor:
    """Return a cursor before all changes since `moment`."""
    marked = change_marks.c.at <= moment - _MAX_CLOCK_DIFFERENCE
    latest = select(change_marks).where(marked).order_by(change_marks.c.at.desc()).limit(1)
    row = connection.execute(latest).one_or_none()
    return START if row is None else (int(row.transaction), row.id)


def stored_since(connection: Connection, moment: datetime) -> datetime | None:
    """Return the time of the oldest stored change if changes since `moment` were deleted; otherwise None."""
    floor = connection.execute(select(change_floor)).one_or_none()
    if floor is None or (int(floor.transaction), floor.id) <= cursor_before(connection, moment):
        return None  # nothing was deleted from the log, or only older changes
    position = tuple_(state_changes.c.transaction, state_changes.c.id)
    is_after = position > tuple_(literal(floor.transaction, Xid8), literal(floor.id))
    first = select(state_changes.c.changed_at).where(is_after).order_by(*position.clauses).limit(1)
    changed_at = connection.execute(first).scalar_one_or_none()
    return changed_at if changed_at is not None and changed_at > moment else None


def get_existing(connection: Connection, subscription_id: UUID, cursors: Sequence[Cursor]) -> Mapping[Cursor, Row[Any]]:
    """Return `id` and `status` of the existing deliveries of these changes to a subscription."""
    rows = connection.exec_driver_sql(
        _EXISTING,
        {
            "subscription_id": subscription_id,
            "transactions": [str(cursor[0]) for cursor in cursors],
            "ids": [cursor[1] for cursor in cursors],
        },
    )
    return {(row.transaction, row.change_id): row for row in rows}
