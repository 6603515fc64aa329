"""Earlier names, for the tests of erasure, deliveries and fan-out; gone when those files use `System`."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from tests.support.databases import DatabaseServer
from tests.support.rows import insert_subscription as subscribe
from tests.support.system import BEGIN, System, open_system
from workers.context import WorkerContext
from workers.deliveries.deliverer import Deliverer
from workers.deliveries.fan_out import FanOutStep

__all__ = ["Downstream", "House", "Workshop", "in_database", "opened", "subscribe"]

House = System


class Workshop:
    """A system under the names of a worker's tests."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.add_source = system.add_source
        self.receive = system.store_receipt
        self.park = system.quarantine
        self.rows = system.rows
        self.run = system.execute
        self.standing = system.receipt_state
        self.statuses = system.recipient_statuses
        self.changes = system.change_types
        self.come_due = system.make_receipts_due
        self.another_rim = system.add_worker
        self.nothing_is_doubled = system.assert_nothing_doubled

    @property
    def ctx(self) -> WorkerContext:
        return self.system.ctx

    @property
    def bell(self) -> "Bell":
        return Bell(self.system)


class Bell:
    """A notifier under its earlier name."""

    def __init__(self, system: System) -> None:
        self._system = system

    @property
    def rings(self) -> list[str]:
        return self._system.notifier.tasks


class Downstream:
    """A system under the names of the deliverer's tests."""

    def __init__(self, workshop: Workshop) -> None:
        self.workshop = workshop
        system = self.system = workshop.system
        self.set = system.update_subscription
        self.change = system.log_change
        self.deliver = system.deliver
        self.another = system.add_deliverer
        self.come_due = system.make_deliveries_due
        self.statuses = system.delivery_statuses
        self.attempts = system.delivery_attempts
        self.pending = system.pending_deliveries

    @property
    def deliverers(self) -> list[Deliverer]:
        return self.system.deliverers

    @property
    def secrets(self) -> dict[UUID, str]:
        return self.system.signing_secrets

    def subscribe(self, url: str = "http://127.0.0.1:1/", **columns: Any) -> UUID:
        return self.system.insert_subscription(url, **columns)

    def fan_out(self, **limits: int) -> FanOutStep:
        return self.system.fan_out(**limits)


@contextmanager
def in_database(_server: DatabaseServer, pool: Any) -> Iterator[System]:
    """Open a system in a database of the pool."""
    with pool.database() as url, open_system(url, begin=BEGIN) as system:
        yield system


@contextmanager
def opened(where: str | Workshop, **settings: Any) -> Iterator[Any]:
    """Open a workshop in a database, or the subscribers of a workshop."""
    if isinstance(where, Workshop):
        yield Downstream(where)
        return
    with open_system(where, **settings) as system:
        yield Workshop(system)
