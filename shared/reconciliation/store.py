"""How far each source has been reconciled, and who is at it: a lease with a fencing token."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """One source's reconciliation in the hands of whoever knows the token, and what was known when it began."""

    source_id: int
    token: UUID
    started_at: datetime
    reconciled_until: datetime | None
    checked_at: datetime | None
    validated_at: datetime | None
    validated: bool | None
    failures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How far a source has been reconciled, and what its provider told of its webhooks; None: not known.

    `webhooks` are `{url, enabled, ours}`; `failures` are runs in a row.
    """

    reconciled_until: datetime | None
    next_at: datetime
    last_started_at: datetime | None
    last_finished_at: datetime | None
    last_error: str | None
    failures: int
    enrolled: bool | None
    validated: bool | None
    webhooks: Sequence[Mapping[str, Any]]
    checked_at: datetime | None
    validated_at: datetime | None


_UNTIL_CHANGED_SECONDS = 300.0

_STANDING = ", ".join(entry.name for entry in fields(Standing))
_CLAIMED = (
    "RETURNING source_id, lease_token AS token, last_started_at AS started_at, reconciled_until, checked_at,"
    " validated_at, validated, failures"
)
_TAKE = "SET lease_until = now() + make_interval(secs => %(seconds)s), lease_token = %(token)s, last_started_at = now()"
_FREE = "(lease_until IS NULL OR lease_until < now())"


def ensure(connection: Connection, source_ids: Iterable[int]) -> None:
    """Make rows for the sources that have none; they are due at once."""
    connection.exec_driver_sql(
        "INSERT INTO reconciliations (source_id, next_at) SELECT id, now() FROM unnest(%(ids)b::bigint[]) AS id"
        " ON CONFLICT DO NOTHING",
        {"ids": list(source_ids)},
    )


def ensure_for(connection: Connection, providers: Iterable[str]) -> None:
    """Make rows for the sources in service of these providers that have none."""
    connection.exec_driver_sql(
        "INSERT INTO reconciliations (source_id, next_at) SELECT id, now() FROM sources AS s"
        " WHERE provider = ANY(%(providers)s) AND deleted_at IS NULL"
        " AND NOT EXISTS (SELECT FROM reconciliations WHERE source_id = s.id) ON CONFLICT DO NOTHING",
        {"providers": list(providers)},
    )


def claim_due(connection: Connection, *, token: UUID, lease_seconds: float) -> Lease | None:
    """Lease the source in service that has been due for longest; None if there is none that nobody is at."""
    row = connection.exec_driver_sql(
        f"UPDATE reconciliations {_TAKE} WHERE source_id = (SELECT source_id FROM reconciliations AS r"
        f" WHERE next_at <= now() AND {_FREE}"
        " AND EXISTS (SELECT FROM sources WHERE id = r.source_id AND deleted_at IS NULL)"
        f" ORDER BY next_at LIMIT 1 FOR UPDATE SKIP LOCKED) {_CLAIMED}",
        {"token": token, "seconds": lease_seconds},
    ).one_or_none()
    return Lease(**row._asdict()) if row else None


def claim(connection: Connection, source_id: int, *, token: UUID, lease_seconds: float) -> Lease | None:
    """Lease this source, due or not; None if somebody is at it."""
    row = connection.exec_driver_sql(
        f"UPDATE reconciliations {_TAKE} WHERE source_id = %(id)s AND {_FREE} {_CLAIMED}",
        {"id": source_id, "token": token, "seconds": lease_seconds},
    ).one_or_none()
    return Lease(**row._asdict()) if row else None


def hold(connection: Connection, lease: Lease, *, lease_seconds: float) -> bool:
    """Make a lease last longer; False if it is somebody else's by now, and nothing may be written."""
    return bool(
        connection.exec_driver_sql(
            "UPDATE reconciliations SET lease_until = now() + make_interval(secs => %(seconds)s)"
            " WHERE source_id = %(id)s AND lease_token = %(token)s",
            {"id": lease.source_id, "token": lease.token, "seconds": lease_seconds},
        ).rowcount
    )


def advance(connection: Connection, source_id: int, until: datetime | None) -> None:
    """Remember up to when everything has been listed, in place of a time that has not come yet."""
    connection.exec_driver_sql(
        "UPDATE reconciliations SET reconciled_until = greatest("
        "CASE WHEN reconciled_until <= now() THEN reconciled_until END, %(until)s::timestamptz)"
        " WHERE source_id = %(id)s",
        {"id": source_id, "until": until},
    )


def release(
    connection: Connection, lease: Lease, *, next_at: datetime, error: str | None, failures: int, finished: bool
) -> None:
    """Give a lease back, with what came of the run, if it is still ours."""
    connection.exec_driver_sql(
        "UPDATE reconciliations SET lease_until = NULL, lease_token = NULL, next_at = %(next_at)s,"
        " last_error = %(error)s, failures = %(failures)s,"
        " last_finished_at = CASE WHEN %(finished)s THEN now() ELSE last_finished_at END"
        " WHERE source_id = %(id)s AND lease_token = %(token)s",
        {
            "id": lease.source_id,
            "token": lease.token,
            "next_at": next_at,
            "error": error,
            "failures": min(failures, 1000),
            "finished": finished,
        },
    )


def postpone(connection: Connection, lease: Lease, *, error: str | None) -> None:
    """Give back the lease of a source that cannot be reconciled as it is; somebody may change it."""
    connection.exec_driver_sql(
        "UPDATE reconciliations SET lease_until = NULL, lease_token = NULL, last_error = %(error)s,"
        " next_at = now() + make_interval(secs => %(seconds)s)"
        " WHERE source_id = %(id)s AND lease_token = %(token)s",
        {"id": lease.source_id, "token": lease.token, "error": error, "seconds": _UNTIL_CHANGED_SECONDS},
    )


def note_webhooks(
    connection: Connection, source_id: int, webhooks: Sequence[Mapping[str, Any]], *, enrolled: bool
) -> None:
    """Remember where the provider posts to, and whether that is to us."""
    connection.exec_driver_sql(
        "UPDATE reconciliations SET webhooks = %(webhooks)s::jsonb, enrolled = %(enrolled)s, checked_at = now()"
        " WHERE source_id = %(id)s",
        {"id": source_id, "webhooks": json.dumps(list(webhooks)), "enrolled": enrolled},
    )


def note_validation(connection: Connection, source_id: int, *, validated: bool) -> None:
    """Remember whether the provider's test reached us."""
    connection.exec_driver_sql(
        "UPDATE reconciliations SET validated = %(validated)s, validated_at = now() WHERE source_id = %(id)s",
        {"id": source_id, "validated": validated},
    )


def find(connection: Connection, source_id: int) -> Standing | None:
    """Where a source stands; None if it has never been looked at."""
    row = connection.exec_driver_sql(
        f"SELECT {_STANDING} FROM reconciliations WHERE source_id = %(id)s", {"id": source_id}
    ).one_or_none()
    return Standing(**row._asdict()) if row else None
