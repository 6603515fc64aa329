"""A provider with its API, a receiver that can be reached or not, and the worker behind it: all but the processes."""

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from werkzeug.serving import WSGIRequestHandler, make_server

from shared.encryption import Vault, new_key
from shared.providers.api.base import Span
from shared.reconciliation import failed_deliveries
from shared.reconciliation import store as reconciliations
from shared.reconciliation.failed_deliveries import KnownFailure
from shared.reconciliation.store import Standing
from shared.settings import Settings
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
from tests import effects
from tests.receiving import receiving
from tests.workers import workshop as workshops
from tests.workers.workshop import NotingBell, Workshop
from workers import process_receipts, reconcile
from workers.context import WorkerContext

Account = MailChannelsAccount | ArkAccount
ALWAYS = Span(since=datetime(2020, 1, 1, tzinfo=UTC), until=datetime(2100, 1, 1, tzinfo=UTC))


@dataclass
class Scene:
    """What a test plays with. The provider's webhook leads to the gate, and from there to the receiver."""

    workshop: Workshop
    key: str
    server: ProviderServer
    gate: Gate
    accounts: dict[str, Account] = field(default_factory=dict)
    sources: dict[str, Source] = field(default_factory=dict)

    def add_source(self, slug: str, **settings: str) -> Source:
        """The source of one of the server's providers, enrolled at the gate."""
        dialect = self.server.dialects[slug]
        account: Account
        if isinstance(dialect, MailChannels):
            account = self.server.account(slug, MailChannelsAccount)
        else:
            account = self.server.account(slug, ArkAccount)
        account.enrol(self.url(slug))
        given = {**self.server.settings(slug), **settings}
        source = self.workshop.add_source(slug, dialect.NAME, dialect.credentials(), **given)
        self.accounts[slug], self.sources[slug] = account, source
        return source

    def url(self, slug: str) -> str:
        return f"{self.gate.url}/webhooks/{slug}"

    def play(self, slug: str, *, count: int = 12, seed: int = 1) -> Play:
        """So many messages, of which nothing is repeated or forged."""
        return stage(SCENARIOS["happy"], self.server.dialects[slug], count=count, seed=seed, now=datetime.now(UTC))

    def suffer(self, slug: str, play: Play) -> int:
        """Send a play while the receiver is away in the middle of it; how many requests failed."""
        account = self.accounts[slug]
        outage.send_through(play.postings, account.dialect, self.gate, self.url(slug), account.log)
        return len(account.log.failed())

    def reconcile(self) -> None:
        """What a worker does when its time has come, and what it does with what arrives."""
        reconcile.reconcile_due(self.workshop.ctx)
        self.work()

    def work(self) -> None:
        """Process what is pending, and see what was new in it."""
        process_receipts.drain(self.workshop.ctx)
        with self.workshop.ctx.engine.begin() as connection:
            failed_deliveries.settle(connection)

    @contextmanager
    def working(self) -> Iterator[None]:
        """A worker is about, and processes what arrives."""
        over = threading.Event()

        def go_on() -> None:
            while not over.wait(0.05):
                process_receipts.drain(self.workshop.ctx)

        thread = threading.Thread(target=go_on)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def let_time_pass(self) -> None:
        """Every run is due, every lease over, every attempt to be made again."""
        past = "now() - interval '1 s'"
        self.workshop.run(
            f"UPDATE reconciliations SET next_at = {past}, lease_until = least(lease_until, {past}),"
            " reconciled_until = reconciled_until - interval '1 hour'"
        )
        self.workshop.run(f"UPDATE failed_deliveries SET next_attempt_at = {past} WHERE next_attempt_at IS NOT NULL")

    def failures(self, slug: str) -> list[KnownFailure]:
        with self.workshop.ctx.engine.begin() as connection:
            return failed_deliveries.listed(connection, self.sources[slug].id, span=ALWAYS, limit=10_000)

    def states(self, slug: str) -> set[str]:
        return {failure.state for failure in self.failures(slug)}

    def standing(self, slug: str) -> Standing:
        with self.workshop.ctx.engine.begin() as connection:
            found = reconciliations.find(connection, self.sources[slug].id)
        assert found is not None
        return found

    def marked(self) -> set[UUID]:
        return {row[0] for row in self.workshop.rows("SELECT receipt_id FROM reconciled_receipts")}

    def receipts(self) -> set[UUID]:
        return {row[0] for row in self.workshop.rows("SELECT id FROM receipts")}

    def everything_arrived_once(self, play: Play) -> None:
        """Every event of the play had its effect, and none twice."""
        (count,) = self.workshop.rows("SELECT count(*) FROM events WHERE type <> 'test'")[0]
        assert count == play.events, f"{count} of {play.events} events"
        with self.workshop.ctx.engine.connect() as connection:
            effects.nothing_is_doubled(connection)
        assert self.workshop.rows("SELECT count(*) FROM pending_receipts") == [(0,)]


class _Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""


@contextmanager
def _receiver(database_url: str, vault: Vault) -> Iterator[str]:
    """A receiver, where it can be reached; its URL."""
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


def _dispose(rims: Iterable[WorkerContext]) -> None:
    for ctx in rims:
        ctx.close()


@contextmanager
def opened(database_url: str, slugs: Sequence[str] = ("mc", "ark"), key: str = "") -> Iterator[Scene]:
    """A scene with these sources: names that begin with `mc` are of MailChannels, the others of Ark."""
    key = key or new_key()
    vault, bell = Vault([key]), NotingBell()
    ctx = workshops.build(database_url, Settings(), vault, bell)
    dialects = {slug: MailChannels(seed=7) if slug.startswith("mc") else Ark() for slug in slugs}
    made = [ctx]
    with ExitStack() as stack:
        stack.callback(_dispose, made)
        gate = stack.enter_context(Gate(stack.enter_context(_receiver(database_url, vault))))
        server = stack.enter_context(ProviderServer(dialects))
        scene = Scene(workshop=Workshop(ctx, bell, made), key=key, server=server, gate=gate)
        for slug in slugs:
            scene.add_source(slug)
        yield scene
