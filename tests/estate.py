"""A house with workers and deliverers: subscriptions are made over the API, and deliveries arrive at real sinks."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

from shared.encryption import new_key
from shared.settings import Settings
from tests.api import house as houses
from tests.api.house import ADMIN_KEY, House
from tests.conftest import DatabaseServer, new_database
from tests.workers import downstream as downstreams
from tests.workers import workshop as workshops
from tests.workers.downstream import Downstream
from tests.workers.workshop import NotingBell, Workshop
from workers.context import WorkerContext
from workers.jobs import runner as working

_TABLES = (
    "subscriptions", "endpoint_health", "deliveries", "pending_deliveries", "delivery_attempts", "state_changes",
    "messages", "recipient_states", "events", "event_keys", "jobs", "change_marks", "change_floor", "api_keys",
    "audit_log", "idempotent_answers",
)  # fmt: skip
LOOPBACK = (ip_network("127.0.0.0/8"),)


@dataclass
class Estate:
    """What a test asks by `house`, and works on by `downstream` and `rim`."""

    house: House
    downstream: Downstream
    settings: dict[str, str]
    """What tells a command line of it."""

    @property
    def ctx(self) -> WorkerContext:
        return self.downstream.workshop.ctx

    def subscribe(self, url: str, types: tuple[str, ...] = ("*",), **wishes: Any) -> dict[str, Any]:
        """A subscription, made by the API."""
        answer = self.house.call("POST", "/v1/subscriptions", {"url": url, "types": list(types), **wishes})
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.get_json()
        return made

    def change(self, type_: str = "message.bounced", **values: Any) -> str:
        return self.downstream.change(type_, **values)

    def deliver(self) -> None:
        """Follow the log and deliver until there is nothing left to do just now."""
        self.downstream.deliver()

    def deliveries(self, **query: Any) -> list[dict[str, Any]]:
        return self.house.items("/v1/deliveries", **query)

    def delivery(self, **query: Any) -> dict[str, Any]:
        """The only one."""
        (found,) = self.deliveries(**query)
        return found

    def clear(self) -> None:
        """Empty it: that takes less time than making another."""
        for deliverer in self.downstream.deliverers:
            deliverer.close()
        self.downstream.deliverers.clear()
        self.house.key = ADMIN_KEY
        self.house.execute(";".join(f"DELETE FROM {table}" for table in _TABLES))
        self.house.execute("TRUNCATE sources RESTART IDENTITY")

    def work(self) -> None:
        """Work on jobs until none is left."""
        working.work(self.ctx, slice_seconds=60)

    def job(self, method: str, path: str, body: Any) -> dict[str, Any]:
        """Ask for a job, work on it, and return it as it is then."""
        answer = self.house.call(method, path, body)
        assert answer.status_code == 202, answer.text
        self.work()
        found: dict[str, Any] = self.house.get(answer.headers["Location"])
        return found


@contextmanager
def opened(database_url: str) -> Iterator[Estate]:
    """An estate in this database, that delivers to loopback."""
    key = new_key()
    with houses.opened(database_url, key, egress_allow=LOOPBACK) as house:
        settings, bell = Settings(egress_allow=LOOPBACK), NotingBell()
        ctx = workshops.build(database_url, settings, house.vault, bell)
        workshop = Workshop(ctx, bell, [ctx])
        with downstreams.opened(workshop) as downstream:
            settings_ = {
                "TIDINGS_DATABASE_URL": database_url,
                "TIDINGS_SECRET_KEYS": key,
                "TIDINGS_BROKER_URL": "",
                "TIDINGS_EGRESS_ALLOW": ",".join(map(str, LOOPBACK)),
            }
            yield Estate(house, downstream, settings_)
        for made in workshop.made:
            made.close()


@contextmanager
def in_new_database(postgres: DatabaseServer, template: str) -> Iterator[Estate]:
    """An estate for several tests, one after the other."""
    with new_database(postgres, template) as url, opened(url) as estate:
        yield estate
