"""From the log of changes to deliveries: how far it was followed, what comes next, and what is made of it.

Whoever follows holds the row that says how far; the deliveries and the new place are committed together. So there is
one delivery of each change to each subscription that wants it, whatever dies in between.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection

from shared.changes.log import Cursor
from shared.errors import TidingsError

ORDER_LOCK = 0x71D0D
"""Held by whoever makes or ends deliveries that wait for one another, so that neither misses what the other does."""

FRESH = 0
LATE = 1
"""The lanes: what changed just now does not wait for what is retried, replayed or recovered."""

# Whoever freezes while it holds the place must not hold up the others for long.
_HOLD = "SELECT set_config('idle_in_transaction_session_timeout', '10s', true)"

_PLACE = "SELECT transaction::text::bigint, id, transaction > log_beyond() FROM fan_out"

_NEXT = """
WITH settled AS MATERIALIZED (
    SELECT transaction, id, changed_at, type, source_id, message_id, recipient, event_id, data FROM state_changes
    WHERE (transaction, id) > (%(transaction)s::text::xid8, %(id)s)
        AND transaction < log_horizon()
    ORDER BY transaction, id LIMIT %(limit)s
)
SELECT c.transaction::text::bigint AS transaction, c.id, c.changed_at, c.type, s.slug AS source, c.message_id,
    c.recipient, m.tag, coalesce(nullif(m.tenant, ''), c.data ->> 'tenant') AS tenant, e.data AS inbound
FROM settled AS c
LEFT JOIN sources AS s ON s.id = c.source_id
LEFT JOIN messages AS m ON m.id = c.message_id
LEFT JOIN events AS e ON e.id = CASE WHEN c.type = %(inbound)s THEN c.event_id END
ORDER BY c.transaction, c.id
"""

_ADD = """
WITH made AS MATERIALIZED (
    SELECT * FROM unnest(%(id)b::uuid[], %(subscription_id)b::uuid[], %(transaction)b::text[], %(change_id)b::bigint[],
        %(type)b::text[], %(message_id)b::uuid[], %(status)b::text[], %(ordered)b::boolean[], %(follows)b::boolean[])
    AS made (id, subscription_id, transaction, change_id, type, message_id, status, ordered, follows)
),
kept AS (
    INSERT INTO deliveries (id, subscription_id, change_transaction, change_id, type, message_id, status, created_at)
    SELECT id, subscription_id, transaction::xid8, change_id, type, message_id, status, now() FROM made
)
INSERT INTO pending_deliveries (delivery_id, subscription_id, change_transaction, change_id, message_id, lane,
    available_at, ordered)
SELECT id, subscription_id, transaction::xid8, change_id, message_id, CASE WHEN ordered AND (follows OR EXISTS (
        SELECT FROM pending_deliveries AS earlier WHERE earlier.ordered
        AND earlier.subscription_id = made.subscription_id AND earlier.message_id = made.message_id
    )) THEN 2 ELSE %(lane)s END, now(), ordered
FROM made WHERE status = 'pending'
"""


class MovedError(TidingsError):
    """The log knows of transactions that this server has not had; see `shared.postgres.transaction_ids`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A change, as far as it matters for who is told. `inbound` is what is known of mail that came in."""

    transaction: int
    id: int
    changed_at: datetime
    type: str
    source: str | None
    message_id: UUID | None
    recipient: str | None
    tag: str | None
    tenant: str | None
    inbound: Any


class NewDelivery(NamedTuple):
    """A delivery to be made; a tuple, because a batch is turned from rows into columns.

    `transaction` is text. `follows`: an earlier one in the same batch must come first.
    """

    id: UUID
    subscription_id: UUID
    transaction: str
    change_id: int
    type: str
    message_id: UUID | None
    status: str
    ordered: bool
    follows: bool


def hold(connection: Connection) -> Cursor | None:
    """How far the log was followed, held until the end of the transaction; None while another holds it.

    Raises MovedError where the log was followed further than this server can have got.
    """
    connection.exec_driver_sql(_HOLD)
    row = connection.exec_driver_sql(f"{_PLACE} FOR UPDATE SKIP LOCKED").one_or_none()
    if row is None:
        return None
    if row[2]:
        raise MovedError("The database was moved here from another server: run `tidings migrate`, then start again.")
    return (row[0], row[1])


def reached(connection: Connection) -> Cursor:
    """How far the log was followed: of what is before, every delivery that was to be made can be seen from now on."""
    row = connection.exec_driver_sql(_PLACE).one()
    return (row[0], row[1])


def wait(connection: Connection) -> None:
    """Wait until nobody follows the log who may not know of what was changed before."""
    connection.exec_driver_sql(f"{_PLACE} FOR UPDATE")


def following(connection: Connection, place: Cursor, *, inbound: str, limit: int) -> list[Subject]:
    """The settled changes behind a place, in order. `inbound` is the type of which to tell what came in."""
    values = {"transaction": str(place[0]), "id": place[1], "inbound": inbound, "limit": limit}
    return [Subject(**row) for row in connection.exec_driver_sql(_NEXT, values).mappings()]


def has_unsettled(connection: Connection, place: Cursor) -> bool:
    """Whether changes are there behind a place, settled or not: another transaction may have to end first."""
    return bool(
        connection.exec_driver_sql(
            "SELECT EXISTS (SELECT FROM state_changes WHERE (transaction, id) > (%(transaction)s::text::xid8, %(id)s))",
            {"transaction": str(place[0]), "id": place[1]},
        ).scalar()
    )


def add(connection: Connection, deliveries: Sequence[NewDelivery], lane: int = FRESH) -> None:
    """Make these deliveries; those that are quarantined wait for a person."""
    if not deliveries:
        return
    if any(delivery.ordered for delivery in deliveries):
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%(lock)s)", {"lock": ORDER_LOCK})
    columns = map(list, zip(*deliveries, strict=True))
    connection.exec_driver_sql(_ADD, {**dict(zip(NewDelivery._fields, columns, strict=True)), "lane": lane})


def advance(connection: Connection, place: Cursor) -> None:
    """The log was followed up to here."""
    connection.exec_driver_sql(
        "UPDATE fan_out SET transaction = %(transaction)s::text::xid8, id = %(id)s",
        {"transaction": str(place[0]), "id": place[1]},
    )
