"""A simulated provider with its API, a receiver that can be shut off from it, and a system behind that receiver."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row
from werkzeug.serving import WSGIRequestHandler, make_server

from shared.encryption import Vault
from shared.providers.api.base import Span
from shared.reconciliation import failed_deliveries
from shared.reconciliation import store as reconciliations
from shared.reconciliation.failed_deliveries import KnownFailure
from shared.sources.source import Source
from simulator import outage
from simulator.outage import Gate
from simulator.providers.ark.api import ArkAccount
from simulator.providers.ark.webhooks import Ark
from simulator.providers.mailchannels.api import MailChannelsAccount
from simulator.providers.mailchannels.webhooks import MailChannels
from simulator.scenarios import SCENARIOS
from simulator.server import ProviderServer
from simulator.staging import Play, stage
from tests.support import state_checks
from tests.support.receiver import receiving
from tests.support.system import System, open_system
from workers import process_receipts, reconcile

Account = MailChannelsAccount | ArkAccount
ALWAYS = Span(since=datetime(2020, 1, 1, tzinfo=UTC), until=datetime(2100, 1, 1, tzinfo=UTC))


@dataclass
class ProviderEnv:
    """A provider with its API, and a system. The provider's webhook leads to the gate, and from there to a receiver."""

    system: System
    server: ProviderServer
    gate: Gate
    accounts: dict[str, Account] = field(default_factory=dict)
    sources: dict[str, Source] = field(default_factory=dict)

    def add_source(self, slug: str, **settings: str) -> Source:
        """Add a source of one of the server's providers, whose webhook leads to the gate."""
        dialect = self.server.dialects[slug]
        account: Account
        if isinstance(dialect, MailChannels):
            account = self.server.account(slug, MailChannelsAccount)
        else:
            account = self.server.account(slug, ArkAccount)
        account.enrol(self.url(slug))
        given = {**self.server.settings(slug), **settings}
        source = self.system.add_source(slug, dialect.NAME, dialect.credentials(), **given)
        self.accounts[slug], self.sources[slug] = account, source
        return source

    def url(self, slug: str) -> str:
        return f"{self.gate.url}/webhooks/{slug}"

    def make_play(self, slug: str, *, count: int = 12, seed: int = 1) -> Play:
        """Make the webhooks of `count` messages, none of them repeated or forged."""
        return stage(SCENARIOS["happy"], self.server.dialects[slug], count=count, seed=seed, now=datetime.now(UTC))

    def send_during_outage(self, slug: str, play: Play) -> int:
        """Send a play, in the middle of which the receiver is out of reach; the number of failed requests."""
        account = self.accounts[slug]
        outage.send_through(play.postings, account.dialect, self.gate, self.url(slug), account.log)
        return len(account.log.failed())

    def reconcile(self) -> None:
        """Reconcile what is due, and process what arrives."""
        reconcile.reconcile_due(self.system.ctx)
        self.work()

    def work(self) -> None:
        """Process what is pending, and settle the failures that it fills."""
        process_receipts.process_due(self.system.ctx)
        with self.system.ctx.engine.begin() as connection:
            failed_deliveries.settle(connection)

    @contextmanager
    def worker_running(self) -> Iterator[None]:
        """Process what arrives, in a thread, until the context is left."""
        over = threading.Event()

        def go_on() -> None:
            while not over.wait(0.05):
                process_receipts.process_due(self.system.ctx)

        thread = threading.Thread(target=go_on)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def make_runs_due(self) -> None:
        """Make every run and every attempt due, and let all leases expire."""
        past = "now() - interval '1 s'"
        self.system.execute(
            f"UPDATE reconciliations SET next_at = {past}, lease_until = least(lease_until, {past}),"
            " reconciled_until = reconciled_until - interval '1 hour'"
        )
        self.system.execute(f"UPDATE failed_deliveries SET next_attempt_at = {past} WHERE next_attempt_at IS NOT NULL")

    def failures(self, slug: str) -> list[KnownFailure]:
        with self.system.ctx.engine.begin() as connection:
            return failed_deliveries.list_failed(connection, self.sources[slug].id, span=ALWAYS, limit=10_000)

    def failure_states(self, slug: str) -> set[str]:
        return {failure.state for failure in self.failures(slug)}

    def reconciliation(self, slug: str) -> Row[Any]:
        with self.system.ctx.engine.begin() as connection:
            found = reconciliations.get(connection, self.sources[slug].id)
        assert found is not None
        return found

    def reconciled_receipt_ids(self) -> set[UUID]:
        return {row[0] for row in self.system.rows("SELECT receipt_id FROM reconciled_receipts")}

    def receipt_ids(self) -> set[UUID]:
        return {row[0] for row in self.system.rows("SELECT id FROM receipts")}

    def assert_everything_arrived_once(self, play: Play) -> None:
        """Check that every event of the play was stored, and none twice."""
        (count,) = self.system.rows("SELECT count(*) FROM events WHERE type <> 'test'")[0]
        assert count == play.events, f"{count} of {play.events} events"
        with self.system.ctx.engine.connect() as connection:
            state_checks.assert_nothing_doubled(connection)
        assert self.system.rows("SELECT count(*) FROM pending_receipts") == [(0,)]


class _Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Log nothing."""


@contextmanager
def _receiver(database_url: str, vault: Vault) -> Iterator[str]:
    """Serve a receiver; its URL."""
    with receiving(database_url, vault) as received:
        server = make_server("127.0.0.1", 0, received.app, threaded=True, request_handler=_Quiet)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


@contextmanager
def open_provider_env(database_url: str, slugs: Sequence[str] = ("mc", "ark"), key: str = "") -> Iterator[ProviderEnv]:
    """Open an environment with these sources: those whose names begin with `mc` are MailChannels', the others Ark's."""
    dialects = {slug: MailChannels(seed=7) if slug.startswith("mc") else Ark() for slug in slugs}
    with ExitStack() as stack:
        system = stack.enter_context(open_system(database_url, key))
        gate = stack.enter_context(Gate(stack.enter_context(_receiver(database_url, system.vault))))
        server = stack.enter_context(ProviderServer(dialects))
        env = ProviderEnv(system=system, server=server, gate=gate)
        for slug in slugs:
            env.add_source(slug)
        yield env
