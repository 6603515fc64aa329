"""The audit log: who changed what, over the API or by a command. Written in the transaction of the change."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, or_, select

from shared import ids
from shared.auth.tables import audit_log
from shared.postgres.pagination import KeysetQuery, Page, Position, Span


def record(
    connection: Connection,
    *,
    actor: str,
    action: str,
    object: str,  # noqa: A002 - the word of the API
    details: Mapping[str, Any] | None = None,
    tenant: str | None = None,
) -> None:
    """Record a change. `actor` is `key:<id>:<name>` or `command:<user>`, `tenant` that of the key.

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
