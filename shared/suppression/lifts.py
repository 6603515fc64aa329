"""Lifts of suppressions, as they are remembered: what happened before one suppresses no more."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Lift:
    """One lift. `tenant` and `reason` None are all; `by_event`: the recipient subscribed again."""

    lifted_at: datetime
    tenant: str | None
    reason: str | None
    by_event: bool


def find(connection: Connection, keys: Sequence[str]) -> list[Lift]:
    """Those of these addresses and domains, the oldest first."""
    rows = connection.exec_driver_sql(
        "SELECT lifted_at, tenant, reason, by_event FROM suppression_lifts WHERE key = ANY(%(keys)s::uuid[])"
        " ORDER BY lifted_at",
        {"keys": list(keys)},
    ).mappings()
    return [Lift(**row) for row in rows]
