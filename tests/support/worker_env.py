"""What a worker runs with, on the database of a test."""

from shared.broker import PROCESS_RECEIPTS, TaskNotifier
from shared.encryption import Vault
from shared.postgres import engine
from shared.postgres.engine import PlanCacheMode
from shared.rules.reloader import RulesReloader
from shared.settings import Settings
from shared.sources.source import SourceCache
from shared.suppression import recipient_hashes
from workers.context import WorkerContext


class RecordingNotifier(TaskNotifier):
    """Records the tasks that workers would be woken up for, and sends nothing."""

    def __init__(self) -> None:
        self.tasks: list[str] = []

    def notify(self, task: str = PROCESS_RECEIPTS) -> bool:
        self.tasks.append(task)
        return True

    def close(self) -> None:
        """Nothing is open."""


def build_worker_context(database_url: str, settings: Settings, vault: Vault, notifier: TaskNotifier) -> WorkerContext:
    """Build a context as `workers.context.build` does, with a notifier of the test's own."""
    engine_sync_commit = engine.create_engine(database_url, application="test worker sync commit", pool_size=1)
    with engine_sync_commit.begin() as connection:
        keys = recipient_hashes.load(connection, vault)
    return WorkerContext(
        settings=settings,
        engine=engine.create_engine(database_url, application="test worker", pool_size=4, synchronous_commit=False),
        engine_small_batches=engine.create_engine(
            database_url,
            application="test worker small batches",
            pool_size=4,
            synchronous_commit=False,
            plan_cache_mode=PlanCacheMode.GENERIC,
        ),
        engine_sync_commit=engine_sync_commit,
        vault=vault,
        source_cache=SourceCache(vault),
        notifier=notifier,
        hasher=keys,
        rules=RulesReloader(settings.rules, interval_seconds=0),
    )
