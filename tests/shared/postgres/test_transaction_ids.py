"""After the database moved to another server the change log goes on, and no reader misses anything."""

import subprocess
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from cli import embedded
from shared.changes import log as change_log
from shared.deliveries import fan_out_cursor
from shared.errors import ConflictError
from shared.postgres import engine, migrate
from tests.support.databases import program


def opened(server: embedded.Postgres) -> Engine:
    return engine.create_engine(server.url, application="test", pool_size=1)


def change(database: Engine, type_: str) -> None:
    with database.begin() as connection:
        connection.exec_driver_sql("INSERT INTO state_changes (type) VALUES (%(type)s)", {"type": type_})


def follow(database: Engine) -> list[str]:
    """What a deliverer finds."""
    with database.begin() as connection:
        place = fan_out_cursor.lock_cursor(connection)
        assert place is not None
        found = fan_out_cursor.read_changes(connection, place, inbound="", limit=10)
        if found:
            fan_out_cursor.move_cursor(connection, (found[-1].transaction, found[-1].id))
    return [subject.type for subject in found]


def read(database: Engine, after: change_log.Cursor) -> list[change_log.Change]:
    with database.begin() as connection:
        return list(change_log.read(connection, after=after, limit=10).changes)


def move(old: embedded.Postgres, new: embedded.Postgres) -> None:
    """By pg_dump, as one moves to another server."""
    dump = subprocess.run([program("pg_dump"), "--no-owner", old.url], capture_output=True, check=True)
    restored = [program("psql"), "--quiet", "--set", "ON_ERROR_STOP=1", new.url]
    subprocess.run(restored, input=dump.stdout, capture_output=True, check=True)


@pytest.fixture
def moved(make_postgres) -> Iterator[tuple[Engine, Engine]]:
    """An old server with many transactions, of which a change was delivered; and the new one, on which none was."""
    old, new = make_postgres(), make_postgres()
    migrate.upgrade(old.url)
    before, after = opened(old), opened(new)
    for _ in range(3000):
        with before.begin() as connection:
            connection.exec_driver_sql("SELECT pg_current_xact_id()")
    change(before, "delivered before")
    assert follow(before) == ["delivered before"]
    change(before, "not yet delivered")
    move(old, new)
    yield before, after
    before.dispose()
    after.dispose()


def test_without_a_migration_deliverers_say_what_to_do(moved: tuple[Engine, Engine]) -> None:
    _, after = moved
    with pytest.raises(ConflictError, match="tidings migrate"):
        follow(after)


def test_after_it_everything_goes_on_where_it_was(moved: tuple[Engine, Engine]) -> None:
    before, after = moved
    (first, _) = read(before, (0, 0))
    for _ in range(2):  # every start migrates
        migrate.upgrade(after.url.render_as_string(hide_password=False))
    change(after, "written after the move")
    assert follow(after) == ["not yet delivered", "written after the move"]
    assert [found.type for found in read(after, first.cursor)] == ["not yet delivered", "written after the move"]
