"""What recovering needs to know: where in the log a time is, and which deliveries there are already."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection

from shared.changes.log import START, Cursor
from shared.domain.deliveries import DeliveryStatus

_MADE = """
SELECT d.change_transaction::text::bigint, d.change_id, d.id, d.status
FROM unnest(%(transactions)s::text[], %(ids)s::bigint[]) AS place (transaction, id)
JOIN deliveries AS d ON d.subscription_id = %(subscription_id)s AND d.change_transaction = place.transaction::xid8
    AND d.change_id = place.id
"""


# Of a log of which nothing was let go there is no row.
_FIRST_KEPT = """
SELECT f.transaction::text::bigint, f.id, first.changed_at FROM change_floor AS f CROSS JOIN LATERAL (
    SELECT changed_at FROM state_changes AS c WHERE (c.transaction, c.id) > (f.transaction, f.id)
    ORDER BY c.transaction, c.id LIMIT 1
) AS first WHERE first.changed_at > %(moment)s
"""

_CLOCKS_DIFFER = timedelta(minutes=1)  # of the worker that marked how far the log reached, and of the database


class Made(NamedTuple):
    """A delivery that there is, and where it stands."""

    id: UUID
    status: DeliveryStatus


def before(connection: Connection, moment: datetime) -> Cursor:
    """A place of the log that everything that changed from this moment on is behind."""
    row = connection.exec_driver_sql(
        "SELECT transaction::text::bigint, id FROM change_marks WHERE at <= %(at)s ORDER BY at DESC LIMIT 1",
        {"at": moment - _CLOCKS_DIFFER},
    ).one_or_none()
    return START if row is None else (row[0], row[1])


def kept_since(connection: Connection, moment: datetime) -> datetime | None:
    """From when on changes are kept, where that is no longer from this moment on; None where it is."""
    row = connection.exec_driver_sql(_FIRST_KEPT, {"moment": moment}).one_or_none()
    return None if row is None or (row[0], row[1]) <= before(connection, moment) else row[2]


def made(connection: Connection, subscription_id: UUID, places: Sequence[Cursor]) -> Mapping[Cursor, Made]:
    """The deliveries to this subscription of the changes at these places, as far as there are any."""
    rows = connection.exec_driver_sql(
        _MADE,
        {
            "subscription_id": subscription_id,
            "transactions": [str(place[0]) for place in places],
            "ids": [place[1] for place in places],
        },
    )
    return {(row[0], row[1]): Made(row[2], DeliveryStatus(row[3])) for row in rows}
