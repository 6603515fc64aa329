"""The fan-out cursor: the last change of the log for which deliveries were created, and the changes after it.

A deliverer locks the cursor while it creates deliveries, and commits both together. So each change gets exactly one
delivery per matching subscription, even if a deliverer dies.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Connection, Row, Text, cast, func, literal, select, tuple_, update

from shared.changes.log import Cursor
from shared.changes.tables import state_changes
from shared.deliveries import tables
from shared.errors import ConflictError
from shared.postgres.metadata import Xid8

_CURSOR = select(cast(cast(tables.fan_out.c.transaction, Text), BigInteger).label("transaction"), tables.fan_out.c.id)
_IS_BEYOND = (tables.fan_out.c.transaction > func.log_beyond(type_=Xid8())).label("is_beyond")

# Text, not an expression: fan-out is hot. The changes are limited before the joins.
_NEXT_CHANGES = """
WITH settled AS MATERIALIZED (
    SELECT transaction, id, changed_at, type, source_id, message_id, recipient, event_id, data FROM state_changes
    WHERE (transaction, id) > (%(transaction)s::text::xid8, %(id)s)
        AND transaction < log_horizon()
    ORDER BY transaction, id LIMIT %(limit)s
)
SELECT c.transaction::text::bigint AS transaction, c.id, c.changed_at, c.type, s.slug AS source, c.message_id,
    c.recipient, m.tag, coalesce(nullif(m.tenant, ''), c.data ->> 'tenant') AS tenant, e.data AS inbound,
    CASE WHEN e.id IS NOT NULL AND e.provider_object IS NULL AND e.object_at IS NULL THEN (
        SELECT o.data FROM event_objects AS o
        WHERE o.id > (left(e.id::text, 31) || '00000')::uuid AND o.id <= e.id ORDER BY o.id DESC LIMIT 1
    ) END AS inbound_shared
FROM settled AS c
LEFT JOIN sources AS s ON s.id = c.source_id
LEFT JOIN messages AS m ON m.id = c.message_id
LEFT JOIN events AS e ON e.id = CASE WHEN c.type = %(inbound)s THEN c.event_id END
ORDER BY c.transaction, c.id
"""

# Text, not an expression: fan-out is hot, and one statement checks and updates on one snapshot of the database. A
# subscription that is committed after the snapshot begins after the skipped changes.
_SKIP_IF_NO_SUBSCRIBERS = """
WITH subscribers AS MATERIALIZED (
    SELECT EXISTS (SELECT FROM subscriptions WHERE state <> 'disabled' AND deleted_at IS NULL) AS present
),
moved AS (
    UPDATE fan_out SET transaction = last.transaction, id = last.id
    FROM subscribers, (
        SELECT transaction, id FROM state_changes WHERE transaction < log_horizon()
        ORDER BY transaction DESC, id DESC LIMIT 1
    ) AS last
    WHERE NOT subscribers.present AND (fan_out.transaction, fan_out.id) < (last.transaction, last.id)
)
SELECT NOT present FROM subscribers
"""


def lock_cursor(connection: Connection) -> Cursor | None:
    """Return the cursor, locked until the end of the transaction; None while another process holds it.

    Raises ConflictError if the cursor is beyond this server's transaction numbers (`shared.postgres.transaction_ids`).
    """
    # A process that freezes while it holds the cursor must not block the others for long.
    connection.execute(select(func.set_config("idle_in_transaction_session_timeout", "10s", True)))
    row = connection.execute(_CURSOR.add_columns(_IS_BEYOND).with_for_update(skip_locked=True)).one_or_none()
    if row is None:
        return None
    if row.is_beyond:
        raise ConflictError("The database was moved here from another server: run `tidings migrate`, then start again.")
    return (row.transaction, row.id)


def get_cursor(connection: Connection) -> Cursor:
    """Return the cursor. All deliveries of changes up to it exist already."""
    row = connection.execute(_CURSOR).one()
    return (row.transaction, row.id)


def wait_for_cursor(connection: Connection) -> None:
    """Wait for the fan-out step in progress: it may not see what was committed during it."""
    connection.execute(_CURSOR.with_for_update())


def read_changes(connection: Connection, cursor: Cursor, *, inbound: str, limit: int) -> Sequence[Row[Any]]:
    """Return the settled changes after a cursor, in order, with the columns that filters need.

    Changes of type `inbound` also have the data of their event, and what it shares. A change is settled when no open
    transaction can still commit a change before it.
    """
    values = {"transaction": str(cursor[0]), "id": cursor[1], "inbound": inbound, "limit": limit}
    return connection.exec_driver_sql(_NEXT_CHANGES, values).all()


def has_more(connection: Connection, cursor: Cursor) -> bool:
    """Return whether there are changes after a cursor, settled or not."""
    position = tuple_(state_changes.c.transaction, state_changes.c.id)
    is_after = position > tuple_(literal(str(cursor[0]), Xid8), literal(cursor[1], BigInteger))
    return bool(connection.execute(select(select(1).where(is_after).exists())).scalar())


def skip_if_no_subscribers(connection: Connection) -> bool:
    """Move the cursor to the end of the settled log if no subscription is active or paused; return whether it did."""
    return bool(connection.exec_driver_sql(_SKIP_IF_NO_SUBSCRIBERS).scalar_one())


def move_cursor(connection: Connection, cursor: Cursor) -> None:
    """Store the position of the last change for which deliveries were created."""
    connection.execute(update(tables.fan_out).values(transaction=str(cursor[0]), id=cursor[1]))


def next_changed_at(connection: Connection, cursor: Cursor) -> datetime | None:
    """Return when the first change after a cursor happened, settled or not; None if there is none."""
    position = tuple_(state_changes.c.transaction, state_changes.c.id)
    is_after = position > tuple_(literal(str(cursor[0]), Xid8), literal(cursor[1], BigInteger))
    first = select(state_changes.c.changed_at).where(is_after).order_by(*position.clauses).limit(1)
    found: datetime | None = connection.execute(first).scalar()
    return found
