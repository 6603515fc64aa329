"""Tidings without its processes, on the database of a test. Each part is built when the test first uses it."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from ipaddress import ip_network
from typing import Any, cast
from urllib.parse import urlencode
from uuid import UUID, uuid4

import psycopg
import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine
from werkzeug.test import TestResponse

from api.app import create_app
from api.core.resource import Deps
from shared.encryption import Vault, new_key
from shared.errors import VerificationError
from shared.events.event import Event
from shared.messages import store as messages
from shared.postgres import engine, partitions
from shared.providers.registry import PROVIDERS
from shared.receipts import normalize, quarantine
from shared.receipts import store as receipts
from shared.receipts.store import Receipt
from shared.settings import Settings
from shared.sources import store as sources
from shared.sources.source import Source, open_source
from shared.suppression import recipient_hashes
from shared.vocabulary import RefusalReason
from tests.support import log_search, rows, state_checks
from tests.support.databases import Snapshot
from tests.support.openapi import AnswerChecker
from tests.support.worker_env import RecordingNotifier, build_worker_context
from workers.context import WorkerContext
from workers.deliveries import fan_out
from workers.deliveries.deliverer import Deliverer
from workers.deliveries.fan_out import FanOutResult
from workers.deliveries.subscription_cache import SubscriptionCache
from workers.jobs import runner

ADMIN_KEY = "the key of the test's administrator"
HANDLE = "acct"
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
LOOPBACK = (ip_network("127.0.0.0/8"),)


@dataclass
class System:
    """The API, a worker and a deliverer on one database; what a test puts in, and what it reads back.

    `key` is sent with every request to the API; None sends none.
    """

    database_url: str
    settings: Settings
    secret_key: str
    vault: Vault
    engine: Engine
    notifier: RecordingNotifier = field(default_factory=RecordingNotifier)
    key: str | None = ADMIN_KEY
    headers: dict[str, str] = field(default_factory=dict)
    deliverers: list[Deliverer] = field(default_factory=list)
    signing_secrets: dict[UUID, str] = field(default_factory=dict)
    _contexts: list[WorkerContext] = field(default_factory=list)

    # The API

    @cached_property
    def client(self) -> FlaskClient:
        """A client of the API's application."""
        deps = Deps(settings=self.settings, engine=self.engine, vault=self.vault, notifier=self.notifier)
        return create_app(deps).test_client()

    @cached_property
    def answer_checker(self) -> AnswerChecker:
        """What compares each answer with the document of the API."""
        return AnswerChecker(self.client)

    def call(self, method: str, path: str, body: Any = None, **query: Any) -> TestResponse:
        """Send one request to the API, whatever it answers."""
        headers = dict(self.headers)
        if self.key is not None:
            headers["Authorization"] = f"Bearer {self.key}"
        target = f"{path}?{urlencode(query)}" if query else path
        answer = self.client.open(target, method=method, headers=headers, json=body)
        self.answer_checker.check(method, path.partition("?")[0], answer)
        return answer

    def get(self, path: str, **query: Any) -> Any:
        """Send a GET, which must be answered with 200; its document."""
        answer = self.call("GET", path, **query)
        assert answer.status_code == 200, answer.text
        return answer.get_json()

    def list_items(self, path: str, **query: Any) -> list[dict[str, Any]]:
        """Return the items of all pages."""
        found: list[dict[str, Any]] = []
        while True:
            page = self.get(path, **query)
            found += page["items"]
            if page["next_cursor"] is None:
                return found
            query["cursor"] = page["next_cursor"]

    def create_source(self, slug: str = "main", provider: str = "mailchannels", **credentials: Any) -> int:
        """Create a source over the API; its id."""
        given = credentials or {"customer_handles": [HANDLE]}
        log_search.remember(provider, given)
        answer = self.call("POST", "/v1/sources", {"slug": slug, "provider": provider, "credentials": given})
        assert answer.status_code == 201, answer.text
        return self._source_id(slug)

    def create_subscription(self, url: str, types: tuple[str, ...] = ("*",), **fields: Any) -> dict[str, Any]:
        """Create a subscription over the API."""
        answer = self.call("POST", "/v1/subscriptions", {"url": url, "types": list(types), **fields})
        assert answer.status_code == 201, answer.text
        return cast("dict[str, Any]", answer.get_json())

    def list_deliveries(self, **query: Any) -> list[dict[str, Any]]:
        """Return the deliveries as the API lists them."""
        return self.list_items("/v1/deliveries", **query)

    def get_delivery(self, **query: Any) -> dict[str, Any]:
        """Return the only delivery that the API lists."""
        (found,) = self.list_deliveries(**query)
        return found

    # The worker

    @cached_property
    def ctx(self) -> WorkerContext:
        """The context of the worker's tasks."""
        return self._build_context(self.settings)

    def add_worker(self) -> WorkerContext:
        """Build the context of one more worker process, with the settings of the first."""
        return self._build_context(self.ctx.settings)

    def run_jobs(self) -> None:
        """Work on jobs until none is left."""
        runner.run_due(self.ctx, turn_seconds=60)

    def run_job(self, method: str, path: str, body: Any) -> dict[str, Any]:
        """Create a job over the API, work on it, and return it as it is then."""
        answer = self.call(method, path, body)
        assert answer.status_code == 202, answer.text
        self.run_jobs()
        return cast("dict[str, Any]", self.get(answer.headers["Location"]))

    # Sources, receipts and events

    def add_source(self, slug: str, provider: str, credentials: Mapping[str, Any], **settings: Any) -> Source:
        """Store a source, without the checks of the API."""
        log_search.remember(provider, credentials)
        with self.engine.begin() as connection:
            sealed = self.vault.seal(credentials)
            row = sources.create(connection, slug=slug, provider=provider, credentials=sealed, settings=settings)
        return open_source(row, self.vault)

    def build_receipt(self, source: Source, body: bytes, headers: Mapping[str, str]) -> Receipt:
        """Build the receipt of a verified webhook."""
        return rows.build_receipt(source, body, headers)

    def store_receipt(self, source: Source, body: bytes, headers: Mapping[str, str] | None = None) -> UUID:
        """Store a verified webhook, so that it waits in the queue."""
        receipt = rows.build_receipt(source, body, headers or {})
        with self.engine.begin() as connection:
            assert receipts.record(connection, [receipt]) == {receipt.id}
        return receipt.id

    def quarantine(self, source: Source, body: bytes, headers: Mapping[str, str], key_id: str | None = None) -> UUID:
        """Store a webhook whose signature names an unknown key, or failed its verification."""
        receipt = rows.build_receipt(source, body, headers, vault_if_unverified=self.vault)
        error = VerificationError(
            RefusalReason.UNKNOWN_KEY if key_id else RefusalReason.BAD_CREDENTIALS, "set aside by a test", key_id=key_id
        )
        with self.engine.begin() as connection:
            assert quarantine.add(connection, receipt, error, max_rows=1000, max_bytes=1 << 24)
        return receipt.id

    def queue_body(self, body: bytes, slug: str = "main", at: datetime | None = None, **fields: Any) -> UUID:
        """Store a webhook that repeats no other, whatever its body, so that it waits in the queue."""
        receipt = rows.build_unique_receipt(self._source_id(slug), body, at or datetime.now(UTC), **fields)
        with self.engine.begin() as connection:
            receipts.record(connection, [receipt])
        return receipt.id

    def process_events(self, *events: Mapping[str, Any], slug: str = "main", at: datetime | None = None) -> UUID:
        """Store a webhook with these events of MailChannels, and process it."""
        body = json.dumps([{"customer_handle": HANDLE, **event} for event in events]).encode()
        receipt_id = self.queue_body(body, slug, at)
        self.process_receipt(receipt_id)
        return receipt_id

    def process_receipt(self, receipt_id: UUID) -> None:
        """Process one receipt as a worker does, without suppression and counters."""
        with self.engine.begin() as connection:
            token = uuid4()
            (claimed,) = [
                found
                for found in receipts.claim(connection, limit=100, max_bytes=10**9, token=token, lease_seconds=60)
                if found.id == receipt_id
            ]
            (row,) = sources.by_ids(connection, [claimed.source_id])
            source = open_source(row, self.vault)
            events = normalize.parse_events(source, claimed.id, claimed.received_at, claimed.body)
            messages.apply(connection, cast("Any", events))
            receipts.finish(connection, [claimed.id], token)
            connection.exec_driver_sql("UPDATE pending_receipts SET lease_until = NULL, lease_token = NULL")

    def receipt_state(self, receipt_id: UUID) -> tuple[str, str | None]:
        """Return the state of a receipt, and the reason."""
        if self.rows("SELECT 1 FROM pending_receipts WHERE receipt_id = %(id)s", id=receipt_id):
            return "pending", None
        parked = self.rows("SELECT state, reason FROM parked_receipts WHERE receipt_id = %(id)s", id=receipt_id)
        return parked[0] if parked else ("processed", None)

    def recipient_statuses(self) -> Mapping[str, str | None]:
        """Return the status of every recipient; each has one message."""
        return dict(self.rows("SELECT recipient, status FROM recipient_states"))

    def change_types(self) -> list[str]:
        """Return the types of the change log, in its order."""
        return [row[0] for row in self.rows("SELECT type FROM state_changes ORDER BY id")]

    def make_receipts_due(self) -> None:
        """Let all waiting times of receipts pass and all their leases expire."""
        self.execute("UPDATE pending_receipts SET available_at = now() - interval '1 s', lease_until = NULL")
        self.execute("UPDATE parked_receipts SET available_at = now() - interval '1 s'")

    def assert_nothing_doubled(self) -> None:
        """Check that every event is stored and announced once."""
        with self.engine.connect() as connection:
            state_checks.assert_nothing_doubled(connection)

    # Subscriptions and deliveries

    def insert_subscription(self, url: str = "http://127.0.0.1:1/", **columns: Any) -> UUID:
        """Insert a subscription, to all changes by default."""
        with self.engine.begin() as connection:
            id_, secret = rows.insert_subscription(connection, self.vault, url, **columns)
        self.signing_secrets[id_] = secret
        return id_

    def update_subscription(self, subscription_id: UUID, **columns: Any) -> None:
        """Change columns of a subscription."""
        assignments = ", ".join(f"{name} = %({name})s" for name in columns)
        statement = f"UPDATE subscriptions SET {assignments}, version = version + 1 WHERE id = %(id)s"
        self.execute(statement, id=subscription_id, **columns)

    def log_change(self, type_: str = "message.bounced", **columns: Any) -> str:
        """Log a change; its cursor."""
        with self.engine.begin() as connection:
            return rows.insert_change(connection, type_, **columns)

    def fan_out(self, **limits: int) -> FanOutResult:
        """Make one step of the fan-out, as a worker that has nothing in its cache."""
        return fan_out.advance(self.ctx, SubscriptionCache(self.vault), **limits)

    def deliver(self) -> None:
        """Deliver until nothing is due."""
        if not self.deliverers:
            self.deliverers.append(Deliverer(self.ctx))
        self.deliverers[0].deliver()

    def add_deliverer(self, **settings: float) -> Deliverer:
        """Build one more process that delivers."""
        deliverer = Deliverer(self.add_worker(), **settings)
        self.deliverers.append(deliverer)
        return deliverer

    def make_deliveries_due(self) -> None:
        """Let all waiting times of deliveries pass, all leases expire, and all circuit breakers close."""
        self.execute("UPDATE pending_deliveries SET available_at = now() - interval '1 s', lease_until = NULL")
        self.execute("UPDATE endpoint_health SET open_until = NULL")

    def delivery_statuses(self) -> list[tuple[str, int]]:
        """Return status and number of attempts of every delivery, in the order of the changes."""
        found = self.rows(
            "SELECT status, attempts FROM deliveries ORDER BY change_transaction, change_id, subscription_id"
        )
        return [(row[0], row[1]) for row in found]

    def delivery_attempts(self) -> list[tuple[Any, ...]]:
        """Return number, status, http_status, request_capture and response_capture of each attempt."""
        return self.rows(
            "SELECT number, status, http_status, request_capture, response_capture FROM delivery_attempts ORDER BY id"
        )

    def pending_deliveries(self) -> list[tuple[Any, ...]]:
        """Return lane, seconds until it is due, and attempts of each pending delivery."""
        return self.rows(
            "SELECT lane, extract(epoch FROM available_at - now())::float8, attempts FROM pending_deliveries"
            " ORDER BY change_transaction, change_id"
        )

    # The database, and the command line

    def rows(self, query: str, **values: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(query, values or None)]

    def execute(self, statement: str, **values: Any) -> list[Any]:
        """Run and commit a statement; the rows that it returns."""
        with self.engine.begin() as connection:
            result = connection.exec_driver_sql(statement, values)
            return list(result) if result.returns_rows else []

    @property
    def environment(self) -> dict[str, str]:
        """The settings that make a command work on this system, whatever the environment of the tests contains."""
        found = {
            "TIDINGS_DATABASE_URL": self.database_url,
            "TIDINGS_SECRET_KEYS": self.secret_key,
            "TIDINGS_BROKER_URL": "",
        }
        if self.settings.egress_allow:
            found["TIDINGS_EGRESS_ALLOW"] = ",".join(map(str, self.settings.egress_allow))
        return found

    def take_snapshot(self) -> Snapshot:
        """Take the state of the database that `reset` brings back. It contains the pepper, which processes cache."""
        with self.engine.begin() as connection:
            recipient_hashes.load(connection, self.vault)
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            return Snapshot.take(connection)

    def reset(self, snapshot: Snapshot) -> None:
        """Bring back the state of the database; the API and the worker go on, deliverers are closed.

        Identifiers go on too: a worker keeps sources by id and version.
        """
        self._close_deliverers()
        self.key = ADMIN_KEY
        self.notifier.tasks.clear()
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            snapshot.restore(connection, sequences=False)

    def close(self) -> None:
        """Close all connections."""
        self._close_deliverers()
        for ctx in self._contexts:
            ctx.close()
        self.engine.dispose()

    def _build_context(self, settings: Settings) -> WorkerContext:
        ctx = build_worker_context(self.database_url, settings, self.vault, self.notifier)
        self._contexts.append(ctx)
        return ctx

    def _close_deliverers(self) -> None:
        for deliverer in self.deliverers:
            deliverer.close()
        self.deliverers.clear()

    def _source_id(self, slug: str) -> int:
        with self.engine.begin() as connection:
            row = sources.find(connection, slug)
        assert row is not None
        return row.id


def mailchannels_event(
    kind: str, *recipients: str, second: int = 0, request_id: str = "r1", **fields: Any
) -> dict[str, Any]:
    """Build one event of MailChannels, `second` seconds after BEGIN."""
    return {
        "event": kind,
        "email": "shop@example.com",
        "timestamp": int(BEGIN.timestamp()) + second,
        "request_id": request_id,
        "recipients": list(recipients),
        **fields,
    }


@contextmanager
def open_system(
    database_url: str, secret_key: str = "", *, begin: datetime | None = None, **settings: Any
) -> Iterator[System]:
    """Open a system in this database. With `begin`, events of that week can be stored."""
    secret_key = secret_key or new_key()
    made = engine.create_engine(database_url, application="test", pool_size=4, synchronous_commit=False)
    if begin is not None:
        with made.begin() as connection:
            partitions.create_missing(connection, now=begin, weeks_ahead=0)
    system = System(
        database_url=database_url,
        settings=Settings(**{"admin_key": ADMIN_KEY, "api_rate": 0, **settings}),
        secret_key=secret_key,
        vault=Vault([secret_key]),
        engine=made,
    )
    try:
        yield system
    finally:
        system.close()


def replace_parser(monkeypatch: pytest.MonkeyPatch, source: Source, parse: Callable[..., list[Event]]) -> None:
    """Let the provider of a source parse its bodies by another function, until the test ends."""
    changed = replace(source.provider, parse=parse)
    monkeypatch.setitem(cast("Any", PROVIDERS), source.provider.name, changed)
