"""Rewrites addresses that an earlier version stored in a form that `shared.addresses.normalize` no longer returns.

Every table is read along its primary key, a part at a time; each part may be repeated. The statements are SQL text:
they are the same for several tables.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection

from shared.addresses import normalize
from shared.messages import rebuild
from shared.suppression import store as suppressions
from shared.suppression.recipient_hashes import RecipientHasher

ROWS_PER_PART = 1000
_UNUSUAL = r"""[^\x21-\x7e]|["'(),:;<>\\]"""
"""Only addresses with such a character can have another form."""

Rewrite = Callable[[Connection, RecipientHasher, Mapping[str, str], str], None]
"""Rewrites one row: its primary key, and the new address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressColumn:
    """A column of addresses, the table's primary key, and what rewrites a row if an update is not enough."""

    table: str
    key: Sequence[str]
    column: str
    rewrite: Rewrite | None = None


def rewrite_part(
    connection: Connection, hasher: RecipientHasher, column: AddressColumn, after: Sequence[str] | None
) -> tuple[int, Sequence[str] | None]:
    """Rewrite the rows that follow a key. Returns how many changed and the key of the last row; None at the end."""
    keys = ", ".join(column.key)
    bound = f"WHERE ({keys}) > ({', '.join(f'%({name})s' for name in column.key)})" if after else ""
    rows = connection.exec_driver_sql(
        f"SELECT {', '.join(f'{name}::text' for name in column.key)},"
        f" CASE WHEN {column.column} ~ %(unusual)s THEN {column.column} END"
        f" FROM {column.table} {bound} ORDER BY {keys} LIMIT {ROWS_PER_PART}",
        {"unusual": _UNUSUAL, **dict(zip(column.key, after or (), strict=False))},
    ).all()
    changed = 0
    for *values, old in rows:
        if old is None or (new := normalize(old)) == old:
            continue
        key = dict(zip(column.key, values, strict=True))
        (column.rewrite or partial(_update, column))(connection, hasher, key, new)
        changed += 1
    return changed, list(rows[-1][:-1]) if len(rows) == ROWS_PER_PART else None


def _update(
    column: AddressColumn,
    connection: Connection,
    hasher: RecipientHasher,  # noqa: ARG001
    key: Mapping[str, str],
    new: str,
) -> None:
    """Update the address. If it is a part of the key and the new key exists already, that row stays."""
    row = " AND ".join(f"{name} = %({name})s" for name in column.key)
    if column.column in key:
        other = row.replace(f"%({column.column})s", "%(new)s")
        connection.exec_driver_sql(
            f"DELETE FROM {column.table} WHERE {row} AND EXISTS (SELECT FROM {column.table} WHERE {other})",
            {**key, "new": new},
        )
    connection.exec_driver_sql(f"UPDATE {column.table} SET {column.column} = %(new)s WHERE {row}", {**key, "new": new})


def _rewrite_entry(connection: Connection, hasher: RecipientHasher, key: Mapping[str, str], new: str) -> None:
    """Move an entry to the new address. An entry that is there already then suppresses the mail of both."""
    old_key, new_key = key["key"].replace("-", ""), hasher.hash_normalized(new)
    suppressions.lock_exclusive(connection, sorted({old_key, new_key}))
    connection.exec_driver_sql(
        "WITH old AS (DELETE FROM suppressions WHERE key = %(key)s AND tenant = %(tenant)s AND reason = %(reason)s"
        " AND origin = %(origin)s RETURNING *)"
        " INSERT INTO suppressions AS s SELECT (jsonb_populate_record(NULL::suppressions, to_jsonb(old)"
        " || jsonb_build_object('key', %(new_key)s::text, 'address', %(new)s::text))).* FROM old"
        " ON CONFLICT (key, tenant, reason, origin) DO UPDATE SET since = least(s.since, excluded.since),"
        " types = ARRAY(SELECT DISTINCT unnest(s.types || excluded.types) ORDER BY 1),"
        " until = CASE WHEN s.until IS NOT NULL AND excluded.until IS NOT NULL THEN greatest(s.until, excluded.until)"
        " END, expired_at = CASE WHEN s.expired_at IS NOT NULL THEN excluded.expired_at END",
        {**key, "new_key": new_key, "new": new},
    )
    _move_history(connection, old_key, new_key)


def _move_history(connection: Connection, old_key: str, new_key: str) -> None:
    """Move the history and the lifts of an address to the key of its new form."""
    keys = {"old": old_key, "new": new_key}
    connection.exec_driver_sql("UPDATE suppression_history SET key = %(new)s WHERE key = %(old)s", keys)
    connection.exec_driver_sql(
        "WITH old AS (DELETE FROM suppression_lifts WHERE key = %(old)s RETURNING *)"
        " INSERT INTO suppression_lifts AS l (key, tenant, reason, by_event, lifted_at)"
        " SELECT %(new)s, tenant, reason, by_event, lifted_at FROM old"
        " ON CONFLICT (key, tenant, reason, by_event) DO UPDATE"
        " SET lifted_at = greatest(l.lifted_at, excluded.lifted_at)",
        keys,
    )


def _rewrite_state(connection: Connection, hasher: RecipientHasher, key: Mapping[str, str], new: str) -> None:
    """Give a state and its events to the new recipient. If that has a state already, both are folded into one."""
    values = {**key, "new": new}
    connection.exec_driver_sql(
        "UPDATE events SET recipient = %(new)s WHERE message_id = %(message_id)s AND recipient = %(recipient)s", values
    )
    moved = connection.exec_driver_sql(
        "UPDATE recipient_states SET recipient = %(new)s WHERE message_id = %(message_id)s"
        " AND recipient = %(recipient)s AND NOT EXISTS (SELECT FROM recipient_states WHERE message_id = %(message_id)s"
        " AND recipient = %(new)s)",
        values,
    )
    if not moved.rowcount:
        connection.exec_driver_sql(
            "DELETE FROM recipient_states WHERE message_id = %(message_id)s AND recipient = %(recipient)s", values
        )
        rebuild.rebuild_states(connection, [(key["message_id"].replace("-", ""), new)])
    _move_history(connection, hasher.hash_normalized(key["recipient"]), hasher.hash_normalized(new))


COLUMNS: Sequence[AddressColumn] = (
    AddressColumn(
        table="suppressions", key=("key", "tenant", "reason", "origin"), column="address", rewrite=_rewrite_entry
    ),
    AddressColumn(table="soft_bounces", key=("recipient", "tenant", "message_id"), column="recipient"),
    AddressColumn(table="soft_bounce_checks", key=("due_at", "id"), column="recipient"),
    AddressColumn(
        table="recipient_states", key=("message_id", "recipient"), column="recipient", rewrite=_rewrite_state
    ),
    AddressColumn(table="messages", key=("id",), column="sender"),
    AddressColumn(table="state_changes", key=("transaction", "id"), column="recipient"),
)
"""In this order: what is checked before mail is sent comes first."""
