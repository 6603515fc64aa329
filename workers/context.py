"""The context of a worker process: its settings and connections, created once."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from threading import Lock, Semaphore

from sqlalchemy import Engine

from shared import settings
from shared.broker import TaskNotifier
from shared.counters.metric_store import Observations
from shared.encryption import Vault
from shared.postgres import engine
from shared.postgres.engine import PlanCacheMode
from shared.rules.reloader import RulesReloader
from shared.settings import Settings
from shared.sources.public_keys import KeyServers
from shared.sources.source import SourceCache
from shared.suppression import recipient_hashes
from shared.suppression.recipient_hashes import RecipientHasher


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerContext:
    """Everything that a task needs.

    `engine` commits without waiting for the disk: after a crash of the server, workers claim the same work again.
    `engine_small_batches` does so too, plans each statement once (for few rows, planning would take longest), and has
    a short timeout, because other receipts wait meanwhile.
    `engine_sync_commit` waits for the disk: use it before any external side effect.
    `observations` are counted in memory; the clock of the process stores them.
    """

    settings: Settings
    engine: Engine
    engine_small_batches: Engine
    engine_sync_commit: Engine
    vault: Vault
    source_cache: SourceCache
    notifier: TaskNotifier
    hasher: RecipientHasher
    rules: RulesReloader
    key_servers: KeyServers = field(default_factory=KeyServers)
    observations: Observations = field(default_factory=Observations)

    def close(self) -> None:
        """Close all connections to the database."""
        for pool in (self.engine, self.engine_small_batches, self.engine_sync_commit):
            pool.dispose()


class ConcurrencyLimit:
    """A limit on concurrent runs of a task in this process. A run above the limit does not wait."""

    def __init__(self, limit: int) -> None:
        self._free = Semaphore(limit)

    @contextmanager
    def try_acquire(self) -> Iterator[bool]:
        """Take a slot for the duration of the context. Yields False if all are taken."""
        is_acquired = self._free.acquire(blocking=False)
        try:
            yield is_acquired
        finally:
            if is_acquired:
                self._free.release()


def build(configuration: Settings) -> WorkerContext:
    """Build a context. Raises SettingsError, SecretsError, or RulesError if no valid rules were ever loaded."""
    configuration.require("database_url", "broker_url", "secret_keys")
    vault = Vault(configuration.secret_keys)
    url = configuration.database_url
    engine_sync_commit = engine.create_engine(url, application="worker sync commit", pool_size=1)
    rules = RulesReloader(configuration.rules)
    with engine_sync_commit.begin() as connection:
        hasher = recipient_hashes.load(connection, vault)
        rules.rules(connection)
        rules.record(connection)
    return WorkerContext(
        settings=configuration,
        engine=engine.create_engine(
            url, application="worker", pool_size=2, synchronous_commit=False, plan_cache_mode=PlanCacheMode.CUSTOM
        ),
        engine_small_batches=engine.create_engine(
            url,
            application="worker small batches",
            pool_size=1,
            statement_timeout_ms=8_000,
            synchronous_commit=False,
            plan_cache_mode=PlanCacheMode.GENERIC,
        ),
        engine_sync_commit=engine_sync_commit,
        vault=vault,
        source_cache=SourceCache(vault),
        notifier=TaskNotifier(configuration.broker_url),
        hasher=hasher,
        rules=rules,
    )


_lock = Lock()


def current() -> WorkerContext:
    """Return this process's context. A worker builds it before it forks, and closes its connections."""
    with _lock:
        return _build_once()


@cache
def _build_once() -> WorkerContext:
    return build(settings.read())
