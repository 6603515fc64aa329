"""What a worker process stands on: its settings and its connections, made once after the fork."""

from dataclasses import dataclass
from functools import cache

from sqlalchemy import Engine

from shared import settings
from shared.broker import TaskNotifier
from shared.encryption import Vault
from shared.postgres import engine
from shared.postgres.connection import Plans
from shared.rules.reloader import RulesReloader
from shared.settings import Settings
from shared.sources.cache import SourceCache
from shared.suppression import recipient_hashes
from shared.suppression.recipient_hashes import RecipientHasher


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerContext:
    """Everything a task needs.

    `engine` commits without waiting for the disk: what it commits has its effects in the database alone, and is
    done again if the receipt comes back with it. So does `brisk`, which plans a statement once: that is for a few rows,
    with which planning takes longer than running. `durable` is for what leaves the house.
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

    def close(self) -> None:
        """Let go of the database."""
        for made in (self.engine, self.engine_small_batches, self.engine_sync_commit):
            made.dispose()


def build(configuration: Settings) -> WorkerContext:
    """Put a rim together. Raises SettingsError, SecretsError, or RulesError where there are no rules to work by."""
    configuration.require("database_url", "broker_url", "secret_keys")
    vault = Vault(configuration.secret_keys)
    url = configuration.database_url
    engine_sync_commit = engine.create(url, application="worker durable", pool_size=1)
    rules = RulesReloader(configuration.rules)
    with engine_sync_commit.begin() as connection:
        hasher = recipient_hashes.load(connection, vault)
        rules.rules(connection)
        rules.record(connection)
    return WorkerContext(
        settings=configuration,
        engine=engine.create(url, application="worker", pool_size=2, synchronous_commit=False, plans=Plans.EACH_TIME),
        engine_small_batches=engine.create(
            url, application="worker brisk", pool_size=1, synchronous_commit=False, plans=Plans.ONCE
        ),
        engine_sync_commit=engine_sync_commit,
        vault=vault,
        source_cache=SourceCache(vault),
        notifier=TaskNotifier(configuration.broker_url),
        hasher=hasher,
        rules=rules,
    )


@cache
def current() -> WorkerContext:
    """The rim of this process; connections must not cross a fork, so the first task makes it."""
    return build(settings.read())
