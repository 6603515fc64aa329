"""A receiver put together as in production, on a database of the test's own; its bell only notes that it rang."""

from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
from sqlalchemy import Engine
from werkzeug.test import Client

from receiver.directory import Directory
from receiver.refusals import RefusalBook
from receiver.writer import Writer
from shared.doorbell import DRAIN, VERIFY
from shared.encryption import Vault, new_key
from shared.postgres import engine
from shared.settings import Settings
from shared.sources import store as sources
from tests.receiving import Received, receiving

T = TypeVar("T")


@dataclass
class Receiver:
    """What a test posts to, and looks behind."""

    database: Engine
    vault: Vault
    parts: Received
    rings: list[str] = field(default_factory=list)

    @property
    def client(self) -> Client:
        return Client(self.parts.app)

    @property
    def writer(self) -> Writer:
        return self.parts.door.writer

    @property
    def directory(self) -> Directory:
        return self.parts.door.directory

    @property
    def refusals(self) -> RefusalBook:
        return self.parts.door.refusals

    def run(self, asked: Coroutine[Any, Any, T]) -> T:
        """What comes of it, on the receiver's event loop."""
        return self.parts.loop.run(asked)

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
        self.refusals.close()  # which writes what is noted
        return self.rows("SELECT source, status_code, reason, count FROM refusals ORDER BY id")


@pytest.fixture
def make_receiver(database_url: str) -> Iterator[Callable[..., Receiver]]:
    with ExitStack() as stack:

        def make(**settings: Any) -> Receiver:
            vault, rings = Vault([new_key()]), list[str]()
            bell = {"on_queued": lambda: rings.append(DRAIN), "on_parked": lambda: rings.append(VERIFY)}
            parts = stack.enter_context(receiving(database_url, vault, Settings(**settings), **bell))
            behind = engine.create(database_url, application="test")
            stack.callback(behind.dispose)
            return Receiver(behind, vault, parts, rings)

        yield make


@pytest.fixture
def receiver(make_receiver: Callable[..., Receiver]) -> Receiver:
    return make_receiver()
