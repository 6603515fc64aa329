"""Erasing an address where no index leads to it: each of these tables is gone through, some rows at a time.

What an eraser makes of a text is decided in `shared.domain.erasure`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection

from shared.domain.erasure import Eraser


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """A table to be gone through: its primary key and the columns that may hold an address, with their types.

    `only` is a condition for its rows. What is encrypted cannot be gone through like this.
    """

    table: str
    key: Mapping[str, str]
    texts: Mapping[str, str]
    limit: int = 5000
    only: str = "true"


def _text(*names: str) -> dict[str, str]:
    return dict.fromkeys(names, "text")


def _files(only: str) -> Sweep:
    key = {"job_id": "uuid", "name": "text", "part": "integer"}
    return Sweep(table="job_files", key=key, texts={"content": "bytea"}, limit=4, only=only)


GIVEN_FILES = _files("name <> 'output'")
"""What imports read."""

STAGED = Sweep(
    table="staged_suppressions",
    key={"job_id": "uuid", "key": "uuid", "tenant": "text", "reason": "text"},
    texts=_text("address", "note"),
)
"""What imports have read."""

DELIVERED = (
    Sweep(table="deliveries", key={"id": "uuid"}, texts=_text("last_error")),
    Sweep(
        table="delivery_attempts",
        key={"id": "uuid"},
        texts=dict.fromkeys(("request_capture", "response_capture"), "json"),
        limit=1000,
    ),
    Sweep(table="endpoint_health", key={"subscription_id": "uuid"}, texts=_text("last_error")),
)
"""What was sent on from the log of changes, and what was answered."""

OTHERS = (
    Sweep(
        table="suppressions",
        key={"key": "uuid", "tenant": "text", "reason": "text", "origin": "text"},
        texts=_text("note", "actor"),
    ),
    Sweep(table="suppression_history", key={"id": "bigint"}, texts=_text("note", "actor")),
    Sweep(table="soft_bounce_checks", key={"due_at": "timestamptz", "id": "bigint"}, texts=_text("recipient")),
    Sweep(
        table="state_changes",
        key={"transaction": "xid8", "id": "bigint"},
        texts={"recipient": "text", "data": "jsonb"},
    ),
    Sweep(table="refusals", key={"id": "uuid"}, texts={**_text("source", "detail"), "headers": "json"}),
    Sweep(table="pending_receipts", key={"receipt_id": "uuid"}, texts=_text("last_error")),
    Sweep(table="parked_receipts", key={"receipt_id": "uuid"}, texts=_text("reason", "detail")),
    Sweep(
        table="jobs",
        key={"id": "uuid"},
        texts={**dict.fromkeys(("parameters", "position", "report"), "jsonb"), "error": "text"},
    ),
    _files("name = 'output'"),
    Sweep(table="alerts", key={"id": "uuid"}, texts={**_text("subject", "summary"), "numbers": "jsonb"}),
    Sweep(table="alert_steps", key={"id": "bigint"}, texts={**_text("summary", "actor"), "numbers": "jsonb"}),
    Sweep(table="alert_notices", key={"id": "bigint"}, texts=_text("last_error")),
    Sweep(
        table="failed_deliveries", key={"source_id": "bigint", "reference": "text"}, texts=_text("url", "last_error")
    ),
    Sweep(table="reconciliations", key={"source_id": "bigint"}, texts={"last_error": "text", "webhooks": "jsonb"}),
    Sweep(table="audit_log", key={"id": "uuid"}, texts={"object": "text", "details": "jsonb"}),
)

SWEEPS = (GIVEN_FILES, STAGED, *OTHERS, *DELIVERED)
"""Every other table that may hold an address in clear. A test names those that do not, and why."""


class Swept(NamedTuple):
    """What one piece of a sweep did; `next` is where the next one begins, None at the end."""

    looked: int
    changed: int
    next: list[str] | None


def exists(connection: Connection, swept: Sweep) -> bool:
    """Whether there is such a table in this database."""
    found = connection.exec_driver_sql("SELECT to_regclass(%(table)s) IS NOT NULL", {"table": swept.table})
    return bool(found.scalar_one())


def sweep(connection: Connection, swept: Sweep, after: Sequence[str] | None, eraser: Eraser) -> Swept:
    """Go through some rows of a table."""
    keys = list(swept.key)
    bound = "true" if after is None else f"({', '.join(keys)}) > ({_given(swept.key)})"
    holds = " OR ".join(
        "true" if kind == "bytea" else f"{name}::text ILIKE ANY(%(patterns)s)" for name, kind in swept.texts.items()
    )
    rows = connection.exec_driver_sql(
        f"WITH next AS MATERIALIZED (SELECT {', '.join(keys)}, ({holds}) AS holds FROM {swept.table} WHERE {bound}"
        f" AND {swept.only}"
        f" ORDER BY {', '.join(keys)} LIMIT %(limit)s),"
        " numbered AS (SELECT *, row_number() OVER () AS number, count(*) OVER () AS looked FROM next)"
        f" SELECT holds, number, looked, {', '.join(f'{name}::text' for name in keys)} FROM numbered"
        " WHERE holds OR number = looked ORDER BY number",
        {"limit": swept.limit, "patterns": eraser.patterns, **dict(zip(keys, after or (), strict=False))},
    ).all()
    if not rows:
        return Swept(0, 0, None)
    _, _, looked, *last = rows[-1]
    places = [dict(zip(keys, place, strict=True)) for holds, _, _, *place in rows if holds]
    changed = sum(_replace(connection, swept, place, eraser) for place in places)
    return Swept(looked, changed, last if looked == swept.limit else None)


def _replace(connection: Connection, swept: Sweep, place: Mapping[str, str], eraser: Eraser) -> bool:
    """Replace what is to be replaced in one row; whether anything was."""
    where = f"({', '.join(swept.key)}) = ({_given(swept.key)})"
    columns = ", ".join(name if kind == "bytea" else f"{name}::text AS {name}" for name, kind in swept.texts.items())
    row = connection.exec_driver_sql(
        f"SELECT {columns} FROM {swept.table} WHERE {where} FOR UPDATE", dict(place)
    ).one_or_none()
    before = {} if row is None else {name: value for name, value in row._asdict().items() if value is not None}
    after = {
        name: eraser.erase(value) if isinstance(value, str) else eraser.erase_bytes(bytes(value))
        for name, value in before.items()
    }
    new = {name: value for name, value in after.items() if value != before[name]}
    if new:
        given = ", ".join(f"{name} = %(new_{name})s::{swept.texts[name]}" for name in new)
        values = {f"new_{name}": value for name, value in new.items()}
        connection.exec_driver_sql(f"UPDATE {swept.table} SET {given} WHERE {where}", {**place, **values})
    return bool(new)


def _given(key: Mapping[str, str]) -> str:
    return ", ".join(f"%({name})s::text::{kind}" for name, kind in key.items())


def rows_to_look_at(connection: Connection) -> int:
    """About how many rows there are to be gone through, for a progress bar."""
    found: int = connection.exec_driver_sql(
        "WITH named AS (SELECT to_regclass(name) AS oid FROM unnest(%(tables)s::text[]) AS name)"
        " SELECT coalesce(sum(greatest(reltuples, 0)), 0)::bigint FROM pg_class WHERE relkind = 'r' AND oid IN"
        " (SELECT oid FROM named UNION SELECT inhrelid FROM pg_inherits WHERE inhparent IN (SELECT oid FROM named))",
        {"tables": ["receipts", *(swept.table for swept in SWEEPS)]},
    ).scalar_one()
    return found
