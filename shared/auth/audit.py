"""The audit log: who changed what, through the API or by a command. Written in the transaction of the change."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, Text, cast, func, or_, select

from shared import ids
from shared.auth.tables import audit_log
from shared.postgres.metadata import oldest_beyond
from shared.postgres.pagination import KeysetQuery, Page, Position, Span

MAX_ROWS = 100_000
MAX_BYTES = 64 * 1024 * 1024
"""Of one actor."""


def record(
    connection: Connection,
    *,
    actor: str,
    action: str,
    object: str,  # noqa: A002 - the word of the API
    details: Mapping[str, Any] | None = None,
    tenant: str | None = None,
) -> None:
    """Record a change. `actor` is `key:<id>:<name>`, `user:<id>:<email>` or `command:<user>`.

    `tenant` is that of the key or user.
    `object` is a kind and a name, such as `source:main`. `details` hold JSON values, times and enums, and no secrets.
    """

    def to_json(value: Any) -> Any:
        if isinstance(value, datetime):
            return value.isoformat()
        return sorted(value) if isinstance(value, set | frozenset) else str(value)

    now = datetime.now(UTC)
    connection.execute(
        audit_log.insert().values(
            id=ids.receipt_id(now),
            at=now,
            actor=actor,
            tenant=tenant,
            action=action,
            object=object,
            details=json.loads(json.dumps(details or {}, default=to_json)),
        )
    )


def trim(connection: Connection, *, max_rows: int = MAX_ROWS, max_bytes: int = MAX_BYTES) -> int:
    """Delete the oldest entries of each actor beyond the limits; return their number.

    An actor that causes many entries pushes out its own, and nobody else's.
    """
    size = func.octet_length(cast(audit_log.c.details, Text))
    too_many = or_(func.count() > max_rows, func.sum(size) > max_bytes)
    deleted = 0
    for actor in connection.scalars(select(audit_log.c.actor).group_by(audit_log.c.actor).having(too_many)).all():
        is_its = audit_log.c.actor == actor
        newest_first = audit_log.c.id.desc()
        beyond = oldest_beyond(audit_log.c.id, newest_first, size, is_its, max_rows=max_rows, max_bytes=max_bytes)
        deleted += connection.execute(audit_log.delete().where(audit_log.c.id.in_(beyond))).rowcount
    return deleted


def list_entries(
    connection: Connection,
    *,
    actor: str | None = None,
    action: str | None = None,
    object: str | None = None,  # noqa: A002 - the word of the API
    span: Span | None = None,
    after: Position | None = None,
    limit: int = 50,
) -> Page[Row[Any]]:
    """Return rows of `audit_log`, the newest first.

    `actor` and `object` also match as a prefix that ends at a colon, `action` as one that ends at a dot.
    """
    query = KeysetQuery(audit_log.c.id)
    query.where(*(span or Span()).of_ids(audit_log.c.id))
    for column, value, separator in (
        (audit_log.c.actor, actor, ":"),
        (audit_log.c.object, object, ":"),
        (audit_log.c.action, action, "."),
    ):
        if value is not None:
            query.filter(or_(column == value, column.startswith(value + separator, autoescape=True)))
    page = query.fetch(connection, after=after, limit=limit)
    statement = select(audit_log).where(audit_log.c.id.in_([key for (key,) in page.items]))
    rows: Sequence[Row[Any]] = connection.execute(statement.order_by(audit_log.c.id.desc())).all()
    return Page(rows, page.next)


def difference(before: Any, after: Any) -> dict[str, Any]:
    """Return the changed fields of a row as details; an encrypted value is only said to have changed."""
    names = before._fields if isinstance(before, Row) else [entry.name for entry in fields(before)]
    pairs = {name: (getattr(before, name), getattr(after, name)) for name in names}
    return {
        name: {"before": old, "after": new} if not isinstance(new, bytes) else "changed"
        for name, (old, new) in pairs.items()
        if old != new and name not in ("updated_at", "version")
    }
