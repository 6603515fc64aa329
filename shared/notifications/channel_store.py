"""Where people are told of alerts. A channel is the unit of telling: one worker at a time, with a pace of its own."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection

from shared.errors import TidingsError


class NameTakenError(TidingsError):
    """There is a channel of this name already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelRow:
    """A channel as it is stored. `target` is sealed; `failures` are those in a row, since `failing_since`."""

    name: str
    kind: str
    target: bytes
    least_severity: str
    created_at: datetime
    updated_at: datetime
    told_at: datetime | None
    failures: int
    failing_since: datetime | None
    last_error: str | None
    rests_until: datetime | None


_COLUMNS = ", ".join(entry.name for entry in fields(ChannelRow))

# The key is only locked against deletion by those who enqueue, so a claim never waits for them, nor they for it.
_CLAIM = f"""
WITH due AS (
    SELECT name FROM alert_channels AS c
    WHERE (rests_until IS NULL OR rests_until <= now()) AND (lease_until IS NULL OR lease_until < now())
        AND EXISTS (
            SELECT 1 FROM alert_notices
            WHERE channel = c.name AND state = 'pending' AND available_at <= now()
        )
    ORDER BY rests_until NULLS FIRST, name LIMIT %(limit)s FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE alert_channels SET lease_token = %(token)s, lease_until = now() + make_interval(secs => %(lease_seconds)s)
WHERE name IN (SELECT name FROM due) RETURNING {_COLUMNS}
"""


def listed(connection: Connection) -> list[ChannelRow]:
    """All channels, by name."""
    rows = connection.exec_driver_sql(f"SELECT {_COLUMNS} FROM alert_channels ORDER BY name")
    return [ChannelRow(**row) for row in rows.mappings()]


def find(connection: Connection, name: str, *, lock: bool = False) -> ChannelRow | None:
    """The channel of this name, kept from being changed by others until the transaction ends if `lock`."""
    row = connection.exec_driver_sql(
        f"SELECT {_COLUMNS} FROM alert_channels WHERE name = %(name)s" + (" FOR NO KEY UPDATE" if lock else ""),
        {"name": name},
    ).mappings()
    found = row.one_or_none()
    return None if found is None else ChannelRow(**found)


def create(connection: Connection, *, name: str, kind: str, target: bytes, least_severity: str) -> ChannelRow:
    """Add a channel. Raises NameTakenError."""
    found = connection.exec_driver_sql(
        "INSERT INTO alert_channels (name, kind, target, least_severity, created_at, updated_at)"
        " VALUES (%(name)s, %(kind)s, %(target)s, %(least_severity)s, now(), now())"
        f" ON CONFLICT (name) DO NOTHING RETURNING {_COLUMNS}",
        {"name": name, "kind": kind, "target": target, "least_severity": least_severity},
    ).mappings()
    row = found.one_or_none()
    if row is None:
        raise NameTakenError(f"There is a channel called {name!r} already.")
    return ChannelRow(**row)


def update(connection: Connection, name: str, *, target: bytes, least_severity: str) -> ChannelRow:
    """Change a channel that is there."""
    found = connection.exec_driver_sql(
        "UPDATE alert_channels SET target = %(target)s, least_severity = %(least_severity)s, updated_at = now()"
        f" WHERE name = %(name)s RETURNING {_COLUMNS}",
        {"name": name, "target": target, "least_severity": least_severity},
    ).mappings()
    return ChannelRow(**found.one())


def delete(connection: Connection, name: str) -> bool:
    """Remove a channel, and what it still had to be told; False if there is none.

    What it was told stays in the history of the alerts.
    """
    gone = connection.exec_driver_sql("DELETE FROM alert_channels WHERE name = %(name)s", {"name": name}).rowcount
    connection.exec_driver_sql(
        "UPDATE alert_notices SET state = 'dead', last_error = 'the channel was removed'"
        " WHERE channel = %(name)s AND state = 'pending'",
        {"name": name},
    )
    return bool(gone)


def claim(connection: Connection, *, token: UUID, limit: int, lease_seconds: float) -> Sequence[ChannelRow]:
    """Lease up to `limit` channels for which something is due, those that have rested longest first.

    Those that another worker tells are left to it.
    """
    values = {"token": token, "limit": limit, "lease_seconds": lease_seconds}
    return [ChannelRow(**row) for row in connection.exec_driver_sql(_CLAIM, values).mappings()]


def succeeded(connection: Connection, name: str, token: UUID, *, rest_seconds: float) -> None:
    """Give back a channel that was told, and leave it in peace for a while. What waited for it to be mended is due."""
    released = connection.exec_driver_sql(
        "UPDATE alert_channels SET lease_until = NULL, lease_token = NULL, failures = 0, failing_since = NULL,"
        " last_error = NULL, told_at = now(), rests_until = now() + make_interval(secs => %(rest_seconds)s)"
        " WHERE name = %(name)s AND lease_token = %(token)s",
        {"name": name, "token": token, "rest_seconds": rest_seconds},
    )
    if released.rowcount:
        _hurry(connection, name)


def failed(connection: Connection, name: str, token: UUID, *, error: str, rest_seconds: float) -> None:
    """Give back a channel that could not be told, and leave it alone for a while."""
    connection.exec_driver_sql(
        "UPDATE alert_channels SET lease_until = NULL, lease_token = NULL, failures = failures + 1,"
        " failing_since = coalesce(failing_since, now()), last_error = %(error)s,"
        " rests_until = now() + make_interval(secs => %(rest_seconds)s)"
        " WHERE name = %(name)s AND lease_token = %(token)s",
        {"name": name, "token": token, "error": error, "rest_seconds": rest_seconds},
    )


def wake(connection: Connection, name: str) -> None:
    """Tell a channel what it still has to be told as soon as may be: it was mended."""
    connection.exec_driver_sql("UPDATE alert_channels SET rests_until = NULL WHERE name = %(name)s", {"name": name})
    _hurry(connection, name)


def _hurry(connection: Connection, name: str) -> None:
    connection.exec_driver_sql(
        "UPDATE alert_notices SET available_at = now()"
        " WHERE channel = %(name)s AND state = 'pending' AND available_at > now()",
        {"name": name},
    )
