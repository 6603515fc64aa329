"""Stored answers: a request that is repeated under the same Idempotency-Key gets the same answer."""

from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Row, case, func, literal, null, select
from sqlalchemy.dialects.postgresql import insert

from shared.auth.tables import idempotent_answers as answers
from shared.postgres.metadata import oldest_beyond

RETENTION: Final = timedelta(days=1)
_MAX_ROWS: Final = 100_000
_MAX_BYTES: Final = 256 * 1024 * 1024
_ABANDONED_AFTER = timedelta(minutes=2)  # longer than any request takes


def begin(connection: Connection, key: UUID, request_hash: bytes, now: datetime) -> Row[Any] | None:
    """Reserve a key for a request. Return None if it was free, and the stored row if it was not.

    Without a `status_code` the first request is still being answered. A request whose process died frees its key
    after two minutes.
    """
    statement = insert(answers).values(key=key, request_hash=request_hash, created_at=now)
    expired = answers.c.created_at < case(
        (answers.c.status_code.is_(None), literal(now - _ABANDONED_AFTER)), else_=literal(now - RETENTION)
    )
    reserve = statement.on_conflict_do_update(
        index_elements=[answers.c.key],
        set_={
            "request_hash": statement.excluded.request_hash,
            "status_code": None,
            "headers": null(),
            "body": None,
            "created_at": statement.excluded.created_at,
        },
        where=expired,
    ).returning(answers.c.key)
    while True:
        if connection.execute(reserve).one_or_none():
            return None
        found = connection.execute(select(answers).where(answers.c.key == key)).one_or_none()
        if found:  # else it was released in between
            return found


def finish(
    connection: Connection, key: UUID, since: datetime, status_code: int, headers: list[tuple[str, str]], body: bytes
) -> None:
    """Store the encrypted answer to the request that reserved the key at `since`."""
    is_open = (answers.c.key == key) & (answers.c.created_at == since) & answers.c.status_code.is_(None)
    values = {"status_code": status_code, "headers": headers, "body": body}
    connection.execute(answers.update().where(is_open).values(values))


def release(connection: Connection, key: UUID, since: datetime) -> None:
    """Free a key whose request was not carried out."""
    is_open = (answers.c.key == key) & (answers.c.created_at == since) & answers.c.status_code.is_(None)
    connection.execute(answers.delete().where(is_open))


def trim(connection: Connection, now: datetime, *, max_rows: int = _MAX_ROWS, max_bytes: int = _MAX_BYTES) -> int:
    """Delete answers past retention, and the oldest ones beyond the limits. Return their number."""
    expired = connection.execute(answers.delete().where(answers.c.created_at < now - RETENTION)).rowcount
    size = func.coalesce(func.octet_length(answers.c.body), 0)
    newest_first = answers.c.created_at.desc()
    beyond = oldest_beyond(answers.c.key, newest_first, size, max_rows=max_rows, max_bytes=max_bytes)
    return expired + connection.execute(answers.delete().where(answers.c.key.in_(beyond))).rowcount
