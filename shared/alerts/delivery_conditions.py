"""Conditions of deliveries that alerts tell of."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection

_DEAD = """
SELECT s.id AS subscription_id, s.name, s.tenant, NULL AS reason, count(*) AS deliveries
FROM deliveries AS d JOIN subscriptions AS s ON s.id = d.subscription_id AND s.deleted_at IS NULL
WHERE d.status = 'dead' AND d.dead_at >= %(since)s GROUP BY s.id
"""

_DISABLED = """
SELECT id AS subscription_id, name, tenant, state_reason AS reason, 0 AS deliveries
FROM subscriptions WHERE state = 'disabled' AND deleted_at IS NULL
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Concerned:
    """A subscription that something is wrong with: why it is disabled, or how many of its deliveries are dead."""

    subscription_id: UUID
    name: str
    tenant: str | None
    reason: str | None
    deliveries: int


def dead(connection: Connection, since: datetime) -> Sequence[Concerned]:
    """How many deliveries to which subscriptions ended as dead since then, and are so still."""
    return [Concerned(**row) for row in connection.exec_driver_sql(_DEAD, {"since": since}).mappings()]


def disabled(connection: Connection) -> Sequence[Concerned]:
    """The subscriptions that are disabled."""
    return [Concerned(**row) for row in connection.exec_driver_sql(_DISABLED).mappings()]
