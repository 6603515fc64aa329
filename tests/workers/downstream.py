"""Subscribers of a workshop: subscriptions and changes are put there, sinks are told, and asked what they got."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Connection

from shared import ids
from shared.domain.deliveries import DEFAULT_SCHEDULE
from shared.domain.subscriptions import SigningSecret
from shared.encryption import Vault
from shared.http import standard_webhooks
from shared.subscriptions import seal_secrets
from tests.workers.workshop import Workshop
from workers import fan_out
from workers.deliveries import Deliverer
from workers.delivering.subscribers import Subscribers
from workers.fan_out import FannedOut

_INSERT = """
INSERT INTO subscriptions (id, name, url, types, sources, tenant, recipient_domains, tags, headers, secrets, payload,
    timeout_s, retry_schedule, rate_per_second, concurrency, ordered, state, state_since, created_at, updated_at)
VALUES (%(id)s, 'test', %(url)s, %(types)s, %(sources)s, %(tenant)s, %(recipient_domains)s, %(tags)s, %(headers)s,
    %(secrets)s, %(payload)s, %(timeout_s)s, %(retry_schedule)s, %(rate_per_second)s, %(concurrency)s, %(ordered)s,
    %(state)s, now(), now(), now())
"""


def subscribe(connection: Connection, vault: Vault, url: str, **wishes: Any) -> tuple[UUID, str]:
    """Insert a subscription to everything, unless wished otherwise; its id, and what it is signed with."""
    id_ = ids.receipt_id(datetime.now(UTC))
    secret = standard_webhooks.new_secret()
    values: dict[str, Any] = {
        "types": ["*"],
        "sources": [],
        "tenant": None,
        "recipient_domains": [],
        "tags": [],
        "payload": "tidings",
        "timeout_s": 5,
        "retry_schedule": list(DEFAULT_SCHEDULE),
        "rate_per_second": None,
        "concurrency": 10,
        "ordered": False,
        "state": "active",
        "headers": {},
        "secrets": (SigningSecret(value=secret),),
        **wishes,
    }
    values["headers"] = vault.seal(values["headers"])
    values["secrets"] = seal_secrets(values["secrets"], vault)
    connection.exec_driver_sql(_INSERT, {**values, "id": id_, "url": url})
    return id_, secret


@dataclass
class Downstream:
    """What a test puts in, and looks at afterwards."""

    workshop: Workshop
    deliverers: list[Deliverer] = field(default_factory=list)
    secrets: dict[UUID, str] = field(default_factory=dict)

    def subscribe(self, url: str = "http://127.0.0.1:1/", **wishes: Any) -> UUID:
        """A subscription to everything, unless wished otherwise."""
        with self.workshop.ctx.engine.begin() as connection:
            id_, secret = subscribe(connection, self.workshop.ctx.vault, url, **wishes)
        self.secrets[id_] = secret
        return id_

    def set(self, subscription_id: UUID, **values: Any) -> None:
        """Change columns of a subscription."""
        columns = ", ".join(f"{name} = %({name})s" for name in values)
        self.workshop.run(
            f"UPDATE subscriptions SET {columns}, version = version + 1 WHERE id = %(id)s", id=subscription_id, **values
        )

    def change(self, type_: str = "message.bounced", **values: Any) -> str:
        """Log a change, and return what it is called."""
        row = {"type": type_, **values}
        if isinstance(row.get("data"), dict):
            row["data"] = msgspec.json.encode(row["data"]).decode()
        with self.workshop.ctx.engine.begin() as connection:
            names = ", ".join(row)
            marks = ", ".join(f"%({name})s" for name in row)
            transaction, id_ = connection.exec_driver_sql(
                f"INSERT INTO state_changes ({names}) VALUES ({marks}) RETURNING transaction::text, id", row
            ).one()
        return f"{transaction}-{id_}"

    def fan_out(self, **limits: int) -> FannedOut:
        """One step, by a worker that remembers nothing."""
        return fan_out.advance(self.workshop.ctx, Subscribers(self.workshop.ctx.vault), **limits)

    def deliver(self) -> None:
        """Deliver until there is nothing left to do just now."""
        if not self.deliverers:
            self.deliverers.append(Deliverer(self.workshop.ctx))
        self.deliverers[0].deliver()

    def another(self) -> Deliverer:
        """One more process that delivers."""
        deliverer = Deliverer(self.workshop.another_rim())
        self.deliverers.append(deliverer)
        return deliverer

    def come_due(self) -> None:
        """All waiting times have passed, all leases have run out, and every endpoint may be called again."""
        self.workshop.run("UPDATE pending_deliveries SET available_at = now() - interval '1 s', lease_until = NULL")
        self.workshop.run("UPDATE endpoint_health SET open_until = NULL")

    def statuses(self) -> list[tuple[str, int]]:
        """Status and number of attempts of every delivery, in the order in which they were made."""
        return [
            (row[0], row[1])
            for row in self.workshop.rows(
                "SELECT status, attempts FROM deliveries ORDER BY change_transaction, change_id, subscription_id"
            )
        ]

    def attempts(self) -> list[tuple[Any, ...]]:
        """number, status, http_status, request_capture, response_capture."""
        return self.workshop.rows(
            "SELECT number, status, http_status, request_capture, response_capture FROM delivery_attempts ORDER BY id"
        )

    def pending(self) -> list[tuple[Any, ...]]:
        """What is still to be made: lane, seconds until it is due, attempts."""
        return self.workshop.rows(
            "SELECT lane, extract(epoch FROM available_at - now())::float8, attempts FROM pending_deliveries"
            " ORDER BY change_transaction, change_id"
        )


@contextmanager
def opened(workshop: Workshop) -> Iterator[Downstream]:
    """The subscribers of this workshop."""
    downstream = Downstream(workshop)
    yield downstream
    for deliverer in downstream.deliverers:
        deliverer.close()
