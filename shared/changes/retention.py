"""Letting go of the log of changes, from its beginning, as retention passes.

A change does not say when it was committed. So it is marked now and then how far the log reaches: what stands before a
mark that is older than retention is older itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from shared.changes.log import Cursor


@dataclass(frozen=True, slots=True)
class Reach:
    """Everything before this place may go. `held_by` names who still needs changes that retention has passed."""

    before: Cursor
    held_by: str | None


_MARK = """
INSERT INTO change_marks (at, transaction, id) VALUES (%(now)s, log_horizon(), 0)
ON CONFLICT (at) DO NOTHING
"""

_PASSED = """
SELECT transaction::text::bigint, id FROM change_marks WHERE at < %(oldest)s ORDER BY at DESC LIMIT 1
"""

_HOLDERS = {
    "fan_out": "SELECT transaction::text::bigint, id + 1 FROM fan_out WHERE single",
    "deliveries": """
        SELECT change_transaction::text::bigint, change_id FROM pending_deliveries
        ORDER BY change_transaction, change_id LIMIT 1
    """,
}
"""The first place that is still needed."""

_ARE_ANY = """
SELECT EXISTS (
    SELECT FROM state_changes WHERE (transaction, id) >= (%(transaction)s::text::xid8, %(id)s)
        AND (transaction, id) < (%(passed_transaction)s::text::xid8, %(passed_id)s)
)
"""

_LET_GO = """
WITH old AS MATERIALIZED (
    SELECT transaction, id FROM state_changes
    WHERE (transaction, id) < (%(transaction)s::text::xid8, %(id)s) AND (transaction, id) > (
        coalesce((SELECT transaction FROM change_floor WHERE single), '0'::xid8),
        coalesce((SELECT id FROM change_floor WHERE single), 0)
    )
    ORDER BY transaction, id LIMIT %(most)s
),
gone AS (
    DELETE FROM state_changes AS c USING old WHERE c.transaction = old.transaction AND c.id = old.id
)
INSERT INTO change_floor (transaction, id) SELECT transaction, id FROM old ORDER BY transaction DESC, id DESC LIMIT 1
ON CONFLICT (single) DO UPDATE SET transaction = excluded.transaction, id = excluded.id
RETURNING (SELECT count(*) FROM old)
"""


def mark(connection: Connection, now: datetime) -> None:
    """Note how far the log reaches now."""
    connection.exec_driver_sql(_MARK, {"now": now})


def reach(connection: Connection, oldest: datetime) -> Reach | None:
    """How far the log may be let go of: nothing younger than `oldest`, and nothing that somebody still needs.

    None where no mark is as old.
    """
    passed = connection.exec_driver_sql(_PASSED, {"oldest": oldest}).one_or_none()
    if passed is None:
        return None
    before, held_by = (passed[0], passed[1]), None
    for name, query in _HOLDERS.items():
        needed = connection.exec_driver_sql(query).one_or_none()
        if needed is not None and (needed[0], needed[1]) < before:
            before, held_by = (needed[0], needed[1]), name
    is_held = held_by is not None and _are_any(connection, before, (passed[0], passed[1]))
    return Reach(before, held_by if is_held else None)


def _are_any(connection: Connection, begin: Cursor, end: Cursor) -> bool:
    """Whether there are changes from one place up to another."""
    values = {
        "transaction": str(begin[0]),
        "id": begin[1],
        "passed_transaction": str(end[0]),
        "passed_id": end[1],
    }
    return bool(connection.exec_driver_sql(_ARE_ANY, values).scalar())


def let_go(connection: Connection, before: Cursor, *, most: int) -> int:
    """Delete up to `most` of the oldest changes before a place; return how many.

    For one at a time. Whoever asks for what followed a change that is gone is told so from the commit on.
    """
    values: Mapping[str, Any] = {"transaction": str(before[0]), "id": before[1], "most": most}
    return int(connection.exec_driver_sql(_LET_GO, values).scalar() or 0)


def forget_marks(connection: Connection, oldest: datetime) -> None:
    """Let go of the marks before the newest that is older than retention: they are of no use any more."""
    connection.exec_driver_sql(
        "DELETE FROM change_marks WHERE at < (SELECT max(at) FROM change_marks WHERE at < %(oldest)s)",
        {"oldest": oldest},
    )
