"""Keeps those who lift suppressions and those who add them apart, so that neither overlooks what the other is writing.

Adding is shared, lifting is alone; the keys are spread over a few buckets, so that a lift holds up hardly anybody.
The locks are held until the transaction ends, and taken in one order. What is read after they were taken is complete.
Whoever waits to be alone has all others wait behind it: nobody may share for longer than a batch takes.
"""

from collections.abc import Iterable

from sqlalchemy import Connection

_CLASS = 0x71D1467
_BUCKETS = 16


def share(connection: Connection, keys: Iterable[str]) -> None:
    """Before adding what depends on lifts: none of these keys is under way."""
    _lock(connection, "pg_advisory_xact_lock_shared", keys)


def hold(connection: Connection, keys: Iterable[str]) -> None:
    """Before lifting: nothing that depends on it is being added for these keys."""
    _lock(connection, "pg_advisory_xact_lock", keys)


def _lock(connection: Connection, function: str, keys: Iterable[str]) -> None:
    buckets = sorted({int(key[:4], 16) % _BUCKETS for key in keys})
    if not buckets:
        return
    connection.exec_driver_sql(
        f"SELECT {function}({_CLASS}, bucket) FROM unnest(%(buckets)s::int[]) AS bucket", {"buckets": buckets}
    )
