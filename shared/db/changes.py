"""The log of changes, as a feed.

Changes are read in the order of their transactions, and only as far as no transaction that is still open could
come before: so a reader that follows the cursor misses none. (Ids alone are no order: they are drawn before
their transaction commits.) Where a change stands in this order is what it is called by.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection

from shared.db.walks import MOST_READ

START = (0, 0)
Cursor = tuple[int, int]
"""Transaction and id of the last change that was read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change of what is known."""

    id: int
    transaction: int
    type: str
    changed_at: datetime
    source: str
    message_id: UUID | None
    recipient: str | None
    event_id: UUID | None
    status: str | None
    previous_status: str | None
    version: int | None

    @property
    def cursor(self) -> Cursor:
        """Where it stands in the log."""
        return (self.transaction, self.id)


@dataclass(frozen=True, slots=True)
class Reading:
    """Changes in order, and the cursor to go on from: always there, also when there was nothing."""

    changes: Sequence[Change]
    next: Cursor


_SETTLED = """
SELECT id, transaction, type FROM state_changes
WHERE (transaction, id) > (%(transaction)s::text::xid8, %(id)s)
    AND transaction < pg_snapshot_xmin(pg_current_snapshot())
ORDER BY transaction, id LIMIT %(most)s
"""

_READ = f"""
WITH settled AS MATERIALIZED ({_SETTLED}),
fitting AS (
    SELECT * FROM settled WHERE type LIKE ANY(%(types)s) ORDER BY transaction, id LIMIT %(limit)s
)
SELECT c.id, c.transaction::text::bigint AS transaction, c.type, c.changed_at, s.slug AS source, c.message_id,
    c.recipient, c.event_id, c.status, c.previous_status, c.version
FROM fitting JOIN state_changes AS c ON c.transaction = fitting.transaction AND c.id = fitting.id
JOIN sources AS s ON s.id = c.source_id
ORDER BY c.transaction, c.id
"""

_LAST = f"""
WITH settled AS MATERIALIZED ({_SETTLED})
SELECT transaction::text::bigint, id FROM settled ORDER BY transaction DESC, id DESC LIMIT 1
"""


def read(connection: Connection, *, after: Cursor = START, types: Sequence[str] = (), limit: int = 50) -> Reading:
    """The changes that follow `after`; `types` such as `message.bounced` or `message.*`, none for all."""
    values = {
        "transaction": str(after[0]),
        "id": after[1],
        "types": [_pattern(name) for name in types] or ["%"],
        "limit": limit,
        "most": MOST_READ if types else limit,
    }
    # What is settled before the changes are read is no more than what is settled when they are.
    last = connection.exec_driver_sql(_LAST, values).one_or_none()
    if last is None:
        return Reading((), after)
    rows = connection.exec_driver_sql(_READ, values).mappings()
    found = [Change(**row) for row in rows]
    if len(found) == limit:
        return Reading(found, found[-1].cursor)
    return Reading(found, max([(last[0], last[1]), *(change.cursor for change in found[-1:])]))


def _pattern(name: str) -> str:
    """A LIKE pattern in which `*` stands for anything."""
    escaped = name.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return escaped.replace("*", "%")
