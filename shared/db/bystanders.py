"""Who may have an address in memory while it is erased, and write it down afterwards: jobs, and deliverers."""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import Connection

from shared.db.deliveries import LEASE_SPARE_SECONDS

_LONGEST_CALL_SECONDS = 30  # a subscription's timeout_s is no longer

# Whoever writes its result, or tells how far it has got, has locked its row: that one cannot be interrupted.
_FREE = """
SELECT id FROM jobs WHERE state IN ('queued', 'running') AND kind = ANY(%(kinds)s) ORDER BY id
FOR NO KEY UPDATE SKIP LOCKED
"""
_OPEN = "SELECT count(*) FROM jobs WHERE state IN ('queued', 'running') AND kind = ANY(%(kinds)s)"
_TAKE = """
UPDATE jobs SET lease_token = NULL, available_at = least(available_at, now()),
    attempts = CASE WHEN available_at > now() THEN greatest(0, attempts - 1) ELSE attempts END
WHERE id = ANY(%(ids)s) AND lease_token IS NOT NULL
"""


def take_from_jobs(connection: Connection, kinds: Collection[str]) -> bool:
    """Have open jobs of these kinds begin their piece anew, after this transaction, with what is stored then.

    Their holders lose the lease, and with it what they have read. False, and nothing is done, while one of the jobs
    is writing.
    """
    values = {"kinds": list(kinds)}
    free = [row[0] for row in connection.exec_driver_sql(_FREE, values)]
    if len(free) < connection.exec_driver_sql(_OPEN, values).scalar_one():
        return False
    connection.exec_driver_sql(_TAKE, {"ids": free})
    return True


def deliverers_forget_at(connection: Connection, remembered_seconds: float) -> datetime | None:
    """When calls begin to be made of what is stored now, if deliverers remember so long; None if there are none."""
    found: datetime | None = connection.exec_driver_sql(
        "SELECT now() + make_interval(secs => %(seconds)s) WHERE EXISTS (SELECT FROM subscriptions)",
        {"seconds": remembered_seconds},
    ).scalar()
    return found


def calls_since_before(connection: Connection, moment: str) -> bool:
    """Whether calls are under way, or may yet be, that were begun before this moment. Goes through all that waits."""
    under_way = connection.exec_driver_sql(
        "SELECT now() < %(moment)s::text::timestamptz OR EXISTS (SELECT FROM pending_deliveries WHERE lease_until >"
        " now() AND lease_until <= %(moment)s::text::timestamptz + make_interval(secs => %(longest)s))",
        {"moment": moment, "longest": _LONGEST_CALL_SECONDS + LEASE_SPARE_SECONDS},
    ).scalar_one()
    return bool(under_way)
