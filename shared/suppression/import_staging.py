"""What an import has read and checked, kept until all of it goes on the suppression list in one transaction."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection

from shared.vocabulary import MailType, SuppressionReason


class Staged(NamedTuple):
    """One checked line. `key` is 32 hex digits, `tenant` is '' for all, `until` None for good."""

    key: str
    tenant: str
    reason: SuppressionReason
    address: str | None
    domain: str | None
    types: frozenset[MailType]
    classification: str | None
    until: datetime | None
    note: str | None


_COLUMN_TYPES = {**dict.fromkeys(Staged._fields, "text"), "key": "uuid", "until": "timestamptz"}
_INPUT = ", ".join(f"unnest(%({name})b::{type_}[]) AS {name}" for name, type_ in _COLUMN_TYPES.items())

_STAGE = f"""
WITH input AS (SELECT {_INPUT})
INSERT INTO staged_suppressions (job_id, {", ".join(Staged._fields)})
SELECT %(job_id)s, {", ".join("string_to_array(types, ',')" if n == "types" else n for n in Staged._fields)}
FROM input ORDER BY key, tenant, reason
ON CONFLICT (job_id, key, tenant, reason) DO UPDATE SET
    {", ".join(f"{name} = excluded.{name}" for name in Staged._fields[3:])}
"""

_READ = f"""
SELECT {", ".join(Staged._fields)} FROM staged_suppressions
WHERE job_id = %(job_id)s AND (key, tenant, reason) > (%(key)s, %(tenant)s, %(reason)s)
ORDER BY key, tenant, reason LIMIT %(limit)s
"""


def stage(connection: Connection, job_id: UUID, lines: Sequence[Staged]) -> None:
    """Keep these; of several about the same the last holds."""
    last = {(line.key, line.tenant, line.reason): line for line in lines}
    if not last:
        return
    columns = dict(zip(Staged._fields, map(list, zip(*last.values(), strict=True)), strict=True))
    columns["types"] = [",".join(sorted(types)) for types in columns["types"]]
    connection.exec_driver_sql(_STAGE, {**columns, "job_id": job_id})


def in_order(connection: Connection, job_id: UUID, limit: int) -> Iterator[list[Staged]]:
    """All that is kept, so many at a time, by key: who writes the list in this order deadlocks with nobody."""
    after: tuple[UUID, str, str] = (UUID(int=0), "", "")
    while True:
        values = {"job_id": job_id, "key": after[0], "tenant": after[1], "reason": after[2], "limit": limit}
        rows = connection.exec_driver_sql(_READ, values).all()
        if not rows:
            return
        yield [
            Staged(
                row[0].hex,
                row[1],
                SuppressionReason(row[2]),
                row[3],
                row[4],
                frozenset(map(MailType, row[5])),
                *row[6:],
            )
            for row in rows
        ]
        after = (rows[-1][0], rows[-1][1], rows[-1][2])


def count(connection: Connection, job_id: UUID) -> int:
    """How many are kept."""
    found: int = connection.exec_driver_sql(
        "SELECT count(*) FROM staged_suppressions WHERE job_id = %(id)s", {"id": job_id}
    ).scalar_one()
    return found
