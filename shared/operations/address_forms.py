"""Rewrites addresses that an earlier version stored in a form that `shared.addresses.normalize` no longer returns.

Every table is read along its primary key, a part at a time; each part may be repeated.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    Table,
    Text,
    and_,
    case,
    cast,
    delete,
    exists,
    literal,
    select,
    tuple_,
    update,
)
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from shared.addresses import normalize
from shared.changes.tables import state_changes
from shared.messages import rebuild
from shared.messages.tables import events, messages, recipient_states
from shared.suppression import store as suppression_store
from shared.suppression.recipient_hashes import RecipientHasher
from shared.suppression.tables import soft_bounce_checks, soft_bounces, suppression_history, suppressions

ROWS_PER_PART = 1000
_UNUSUAL = r"""[^\x21-\x7e]|["'(),:;<>\\]"""
"""Only addresses with such a character can have another form."""

Key = Mapping[str, str]
"""The primary key of a row: its columns as text, so that a job can store it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressColumn:
    """A column of addresses, and what rewrites a row if renaming it is not enough."""

    table: Table
    column: str
    rewrite: Callable[[Connection, RecipientHasher, Key, str], None] | None = None


def rewrite_part(
    connection: Connection, hasher: RecipientHasher, column: AddressColumn, after: Sequence[str] | None
) -> tuple[int, Sequence[str] | None]:
    """Rewrite the rows that follow a key. Returns how many changed and the key of the last row; None at the end."""
    primary, address = list(column.table.primary_key), column.table.c[column.column]
    unusual = case((address.regexp_match(_UNUSUAL), address))
    statement = select(*(cast(part, Text) for part in primary), unusual).order_by(*primary).limit(ROWS_PER_PART)
    if after:
        last = (cast(literal(text, Text), part.type) for text, part in zip(after, primary, strict=True))
        statement = statement.where(tuple_(*primary) > tuple_(*last))
    rows = connection.execute(statement).all()
    changed = 0
    for *values, old in rows:
        if old is None or (new := normalize(old)) == old:
            continue
        key = {part.name: value for part, value in zip(primary, values, strict=True)}
        if column.rewrite is None:
            _rename(connection, column.table, column.column, key, new)
        else:
            column.rewrite(connection, hasher, key, new)
        changed += 1
    return changed, list(rows[-1][:-1]) if len(rows) == ROWS_PER_PART else None


def _rename(connection: Connection, table: Table, column: str, key: Key, new: str) -> bool:
    """Update the address. If it is a part of the key and the new key exists already, that row stays: return False."""
    if column in key:
        other = table.alias("other")
        is_taken = exists().where(_has_key(other.c, {**key, column: new}))
        if connection.execute(delete(table).where(_has_key(table.c, key), is_taken)).rowcount:
            return False
    connection.execute(update(table).where(_has_key(table.c, key)).values({column: new}))
    return True


def _has_key(columns: ReadOnlyColumnCollection[str, Any], key: Key) -> ColumnElement[bool]:
    return and_(*(columns[name] == cast(literal(text, Text), columns[name].type) for name, text in key.items()))


def _rewrite_entry(connection: Connection, hasher: RecipientHasher, key: Key, new: str) -> None:
    """Move an entry to the new address. An entry that is there already then suppresses the mail of both."""
    old_key, new_key = key["key"].replace("-", ""), hasher.hash_normalized(new)
    suppression_store.lock_exclusive(connection, sorted({old_key, new_key}))
    # Text, because it copies all columns, whichever they are.
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
    history = suppression_history.c
    connection.execute(update(suppression_history).where(history.key == UUID(old_key)).values(key=UUID(new_key)))
    connection.exec_driver_sql(
        "WITH old AS (DELETE FROM suppression_lifts WHERE key = %(old)s RETURNING *)"
        " INSERT INTO suppression_lifts AS l (key, tenant, reason, by_event, lifted_at)"
        " SELECT %(new)s, tenant, reason, by_event, lifted_at FROM old"
        " ON CONFLICT (key, tenant, reason, by_event) DO UPDATE"
        " SET lifted_at = greatest(l.lifted_at, excluded.lifted_at)",
        keys,
    )


def _rewrite_state(connection: Connection, hasher: RecipientHasher, key: Key, new: str) -> None:
    """Give a state and its events to the new recipient. If that has a state already, both are folded into one."""
    connection.execute(update(events).where(_has_key(events.c, key)).values(recipient=new))
    if not _rename(connection, recipient_states, "recipient", key, new):
        rebuild.rebuild_states(connection, [(key["message_id"].replace("-", ""), new)])
    _move_history(connection, hasher.hash_normalized(key["recipient"]), hasher.hash_normalized(new))


COLUMNS: Sequence[AddressColumn] = (
    AddressColumn(table=suppressions, column="address", rewrite=_rewrite_entry),
    AddressColumn(table=soft_bounces, column="recipient"),
    AddressColumn(table=soft_bounce_checks, column="recipient"),
    AddressColumn(table=recipient_states, column="recipient", rewrite=_rewrite_state),
    AddressColumn(table=messages, column="sender"),
    AddressColumn(table=state_changes, column="recipient"),
)
"""In this order, because applications check suppressions before they send mail."""
