"""What `tidings up` and `tidings migrate` refuse at the start, because nothing could work with it."""

import threading
from collections.abc import Callable
from typing import cast
from urllib.parse import urlsplit

import psycopg
import pytest
import redis as redis_client
from click.testing import CliRunner

from cli import embedded
from cli.embedded.server import eventually
from cli.main import main
from cli.supervisor import ready_file
from cli.supervisor.data_dir import DataDirectory
from cli.supervisor.environment import build_environment
from cli.supervisor.ports import Address
from shared.encryption import new_key
from shared.errors import ConflictError
from shared.postgres import migrate
from shared.settings import Settings, SettingsError

HERE = Address(host="127.0.0.1", port=1)


def start_with(broker_url: str) -> None:
    given = Settings(broker_url=broker_url, secret_keys=(new_key(),), admin_key="key")
    build_environment(given, cast("DataDirectory", None), HERE, HERE)  # it is for secrets that are not given


def test_a_wrong_password_of_the_broker_is_named(make_redis: Callable[[], embedded.Redis]) -> None:
    server = make_redis()
    start_with(server.url)
    wrong = f"redis://:wrong@127.0.0.1:{urlsplit(server.url).port}/0"
    with pytest.raises(SettingsError, match="TIDINGS_BROKER_URL: the broker refuses the login"):
        start_with(wrong)


def test_a_broker_that_is_away_may_come_back() -> None:
    start_with("redis://127.0.0.1:1/0")


def test_workers_are_counted_at_the_broker_of_a_list_that_answers(broker_url: str) -> None:
    brokers = f"redis://127.0.0.1:1;{broker_url}"
    assert ready_file.count_workers("redis://127.0.0.1:1") == 0
    assert ready_file.count_workers(brokers) == 0
    with redis_client.Redis.from_url(broker_url) as client:
        worker = threading.Thread(target=client.brpop, args=("a queue",))
        worker.start()
        try:
            assert eventually(lambda: ready_file.count_workers(brokers) == 1, timeout_seconds=60)
        finally:
            client.lpush("a queue", "the end")
            worker.join()


@pytest.mark.parametrize(
    ("options", "then", "reason"),
    [
        ("ENCODING 'LATIN1' LOCALE_PROVIDER libc LOCALE 'C'", "", "encoding LATIN1"),
        ("", "ALTER DATABASE odd SET default_transaction_read_only = on", "read-only"),
    ],
)
def test_a_database_that_cannot_work_is_named(database_url: str, options: str, then: str, reason: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS odd")
        connection.execute(f"CREATE DATABASE odd TEMPLATE template0 {options}")
        if then:
            connection.execute(then)
        try:
            with pytest.raises(ConflictError, match=reason):
                migrate.upgrade(urlsplit(database_url)._replace(path="/odd").geturl())
        finally:
            connection.execute("DROP DATABASE odd WITH (FORCE)")


def test_a_database_that_a_newer_version_has_migrated_is_named(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(ConflictError, match=r"revision 9999.*a newer one"):
        migrate.upgrade(database_url)


def test_a_role_that_may_not_create_tables_is_named(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS tidings_guest")
        connection.execute("CREATE ROLE tidings_guest LOGIN PASSWORD 'guest'")
        connection.execute("CREATE DATABASE guests")
        try:
            guest = urlsplit(database_url)
            url = guest._replace(netloc=f"tidings_guest:guest@{guest.hostname}:{guest.port}", path="/guests").geturl()
            refused = CliRunner().invoke(main, ["migrate"], env={"TIDINGS_DATABASE_URL": url})
        finally:
            connection.execute("DROP DATABASE guests WITH (FORCE)")
            connection.execute("DROP ROLE tidings_guest")
    assert refused.exit_code == 2
    assert "lacks a right: permission denied for schema public" in refused.output
