"""The audit log: who changed what, over the API or by a command. Written in the transaction of the change."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from shared import ids
from shared.postgres.pagination import Page, Position, Span, Walk


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One change. `actor` is `key:<id>:<name>` or `command:<user>`, `tenant` that of the key.

    `object` is its kind and name, such as `source:main`. `details` hold no secrets.
    """

    id: UUID
    at: datetime
    actor: str
    tenant: str | None
    action: str
    object: str
    details: Mapping[str, Any]


def record(
    connection: Connection,
    *,
    actor: str,
    action: str,
    object: str,  # noqa: A002 - the word of the API
    details: Mapping[str, Any] | None = None,
    tenant: str | None = None,
) -> None:
    """Note that somebody changed something; `details` are values of JSON, times and enums."""
    now = datetime.now(UTC)
    connection.exec_driver_sql(
        "INSERT INTO audit_log (id, at, actor, tenant, action, object, details) VALUES"
        " (%(id)s, %(at)s, %(actor)s, %(tenant)s, %(action)s, %(object)s, %(details)s::jsonb)",
        {
            "id": ids.receipt_id(now),
            "at": now,
            "actor": actor,
            "tenant": tenant,
            "action": action,
            "object": object,
            "details": json.dumps(details or {}, default=_plain),
        },
    )


def listed(
    connection: Connection,
    *,
    actor: str | None = None,
    action: str | None = None,
    object: str | None = None,  # noqa: A002 - the word of the API
    span: Span | None = None,
    after: Position | None = None,
    limit: int = 50,
) -> Page[Entry]:
    """Entries, the newest first. `actor`, `action` and `object` may also be the first words of what is looked for."""
    walk = Walk(table="audit_log", keys=("id",))
    (span or Span()).cut(walk, "id")
    for column, wanted, mark in (("actor", actor, ":"), ("object", object, ":"), ("action", action, ".")):
        if wanted is not None:
            walk.pick(
                f"({column} = %({column})s OR starts_with({column}, %({column}_begins)s))",
                **{column: wanted, f"{column}_begins": wanted + mark},
            )
    walk.after(after)
    found = walk.page(connection, limit)
    rows = connection.exec_driver_sql(
        "SELECT id, at, actor, tenant, action, object, details FROM audit_log WHERE id = ANY(%(ids)s) ORDER BY id DESC",
        {"ids": [position[0] for position in found.items]},
    ).mappings()
    return Page([Entry(**row) for row in rows], found.next)


def difference(before: Any, after: Any) -> dict[str, Any]:
    """What changed of a row (a dataclass), as details. What is stored encrypted is only said to have changed."""
    pairs = {entry.name: (getattr(before, entry.name), getattr(after, entry.name)) for entry in fields(before)}
    return {
        name: {"before": old, "after": new} if not isinstance(new, bytes) else "changed"
        for name, (old, new) in pairs.items()
        if old != new and name not in ("updated_at", "version")
    }


def _plain(value: Any) -> Any:
    """What JSON has no word for: times, ids, sets."""
    if isinstance(value, datetime):
        return value.isoformat()
    return sorted(value) if isinstance(value, set | frozenset) else str(value)
