"""A receiver as in production, on a database of the test's own. It records wake-ups instead of sending them."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

import pytest
from sqlalchemy import Engine
from werkzeug.test import Client

from receiver.group_commit import GroupCommitWriter
from receiver.refusal_log import RefusalLog
from receiver.source_cache import SourceCache
from shared.broker import PROCESS_RECEIPTS, VERIFY
from shared.encryption import Vault, new_key
from shared.postgres import engine
from shared.settings import Settings
from shared.sources import store as sources
from tests.support.receiver import Received, receiving

P = ParamSpec("P")
T = TypeVar("T")


@dataclass
class Receiver:
    """What a test posts to, and looks behind."""

    database: Engine
    vault: Vault
    parts: Received
    wakeups: list[str] = field(default_factory=list)

    @property
    def client(self) -> Client:
        return Client(self.parts.app)

    @property
    def writer(self) -> GroupCommitWriter:
        return self.parts.deps.writer

    @property
    def sources(self) -> SourceCache:
        return self.parts.deps.sources

    @property
    def rejections(self) -> RefusalLog:
        return self.parts.deps.refusals

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function on the receiver's event loop, as a request does."""
        return self.parts.loop.call(function, *args, **kwargs)

    def add_source(self, slug: str, provider: str, credentials: dict[str, Any], **settings: str) -> int:
        with self.database.begin() as connection:
            return sources.create(
                connection,
                slug=slug,
                provider=provider,
                credentials=self.vault.seal(credentials),
                settings=settings,
            ).id

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with self.database.connect() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(query)]

    def refused(self) -> list[tuple[Any, ...]]:
        self.rejections.close()  # which writes what is recorded
        return self.rows("SELECT source, status_code, reason, count FROM refusals ORDER BY id")


@pytest.fixture
def make_receiver(database_url: str) -> Iterator[Callable[..., Receiver]]:
    with ExitStack() as stack:

        def make(max_age_seconds: float = 2.0, **settings: Any) -> Receiver:
            vault, wakeups = Vault([new_key()]), list[str]()
            parts = stack.enter_context(
                receiving(
                    database_url,
                    vault,
                    Settings(**settings),
                    on_queued=lambda _receipts: wakeups.append(PROCESS_RECEIPTS),
                    on_quarantined=lambda: wakeups.append(VERIFY),
                    max_age_seconds=max_age_seconds,
                )
            )
            behind = engine.create_engine(database_url, application="test")
            stack.callback(behind.dispose)
            return Receiver(behind, vault, parts, wakeups)

        yield make


@pytest.fixture
def receiver(make_receiver: Callable[..., Receiver]) -> Receiver:
    return make_receiver()
