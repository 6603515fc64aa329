"""A receiver put together as in production, on a database of the test's own; its bell only notes that it rang."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine

from receiver.app import create_app
from receiver.database import Database
from receiver.directory import Directory
from receiver.door import Door
from receiver.refusals import RefusalBook
from receiver.writer import Writer
from shared.db import engine, sources
from shared.doorbell import DRAIN, VERIFY
from shared.secrets import Vault, new_key
from shared.settings import Settings


@dataclass
class Receiver:
    """What a test posts to, and looks behind."""

    database: Engine
    vault: Vault
    client: FlaskClient
    writer: Writer
    directory: Directory
    refusals: RefusalBook
    rings: list[str] = field(default_factory=list)

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
    made: list[Receiver] = []

    def make(**settings: Any) -> Receiver:
        database = Database(url=database_url, application="test", statement_timeout_ms=1000)
        vault = Vault([new_key()])
        rings: list[str] = []
        writer = Writer(database, on_queued=lambda: rings.append(DRAIN), on_parked=lambda: rings.append(VERIFY))
        directory = Directory(database, vault)
        refusals = RefusalBook(database)
        door = Door(settings=Settings(**settings), vault=vault, directory=directory, writer=writer, refusals=refusals)
        behind = engine.create(database_url, application="test")
        receiver = Receiver(behind, vault, create_app(door).test_client(), writer, directory, refusals, rings)
        made.append(receiver)
        return receiver

    yield make
    for receiver in made:
        receiver.writer.close()
        receiver.refusals.close()
        receiver.directory.close()
        receiver.database.dispose()


@pytest.fixture
def receiver(make_receiver: Callable[..., Receiver]) -> Receiver:
    return make_receiver()
