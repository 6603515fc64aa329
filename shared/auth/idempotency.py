"""Answers that are kept, so that who repeats a request under the same key gets the same answer."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import msgspec
from sqlalchemy import Connection

KEPT: Final = timedelta(days=1)

_ABANDONED_AFTER = timedelta(minutes=2)  # longer than any request takes that still lives


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What is kept; `body` is sealed. Without a status code the request is still being answered."""

    request_hash: bytes
    status_code: int | None
    headers: list[tuple[str, str]] | None
    body: bytes | None


# Whoever was to answer and never did has died: after a while the key is free again.
_BEGIN = """
INSERT INTO idempotent_answers AS a (key, request_hash, created_at) VALUES (%(key)s, %(request_hash)s, %(now)s)
ON CONFLICT (key) DO UPDATE SET request_hash = excluded.request_hash, status_code = NULL, headers = NULL, body = NULL,
    created_at = excluded.created_at
WHERE a.created_at < CASE WHEN a.status_code IS NULL THEN %(abandoned)s::timestamptz ELSE %(outdated)s END
RETURNING true
"""


def begin(connection: Connection, key: UUID, request_hash: bytes, now: datetime) -> Answer | None:
    """Take this key, to answer its request: None. Where it was taken before: what is kept."""
    while True:
        taken = connection.exec_driver_sql(
            _BEGIN,
            {
                "key": key,
                "request_hash": request_hash,
                "now": now,
                "abandoned": now - _ABANDONED_AFTER,
                "outdated": now - KEPT,
            },
        ).scalar()
        found = None if taken else _find(connection, key)
        if taken or found:  # neither: it was released in between
            return found


def finish(
    connection: Connection, key: UUID, since: datetime, status_code: int, headers: list[tuple[str, str]], body: bytes
) -> None:
    """Keep the answer to the request that took the key at this moment."""
    connection.exec_driver_sql(
        "UPDATE idempotent_answers SET status_code = %(status_code)s, headers = %(headers)s::json, body = %(body)s"
        " WHERE key = %(key)s AND created_at = %(since)s AND status_code IS NULL",
        {
            "key": key,
            "since": since,
            "status_code": status_code,
            "headers": msgspec.json.encode(headers).decode(),
            "body": body,
        },
    )


def release(connection: Connection, key: UUID, since: datetime) -> None:
    """Give the key back: what was asked for was not done."""
    connection.exec_driver_sql(
        "DELETE FROM idempotent_answers WHERE key = %(key)s AND created_at = %(since)s AND status_code IS NULL",
        {"key": key, "since": since},
    )


def trim(connection: Connection, now: datetime) -> int:
    """Forget what is kept no longer; return how many."""
    return connection.exec_driver_sql(
        "DELETE FROM idempotent_answers WHERE created_at < %(outdated)s", {"outdated": now - KEPT}
    ).rowcount


def _find(connection: Connection, key: UUID) -> Answer | None:
    row: Any = (
        connection.exec_driver_sql(
            "SELECT request_hash, status_code, headers, body FROM idempotent_answers WHERE key = %(key)s", {"key": key}
        )
        .mappings()
        .one_or_none()
    )
    return None if row is None else Answer(**row)
