"""The embedded servers are killed and started again, as all other tests do with them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import redis as redis_client
from redis.backoff import NoBackoff
from redis.retry import Retry

from cli import embedded
from cli.embedded import postgres_user, postgresql
from cli.embedded.server import eventually
from cli.supervisor import process_groups
from cli.supervisor.watchdog import Watchdog
from shared.errors import TidingsError

MakePostgres = Callable[[], embedded.Postgres]
MakeRedis = Callable[[], embedded.Redis]


def test_what_was_committed_survives_a_kill_and_is_found_at_the_same_address(
    make_postgres: MakePostgres,
) -> None:
    server = make_postgres()
    url = server.url
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS one")
    killed = server.pid
    server.kill()
    assert not process_groups.alive(killed)

    server.start()

    assert server.pid != killed
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT one FROM kept").fetchone() == (1,)


def test_a_second_server_object_finds_the_same_data(make_postgres: MakePostgres) -> None:
    first = make_postgres()
    with psycopg.connect(first.url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS one")
    first.stop()

    with embedded.postgres(first.data_dir) as second, psycopg.connect(second.url) as connection:
        assert connection.execute("SELECT one FROM kept").fetchone() == (1,)


def test_a_note_of_a_server_whose_number_is_another_process_by_now_does_not_hinder(
    make_postgres: MakePostgres,
) -> None:
    server = make_postgres()
    server.kill()
    note = server.cluster / "postmaster.pid"
    lines = note.read_text().splitlines()
    note.write_text("\n".join([str(os.getppid()), *lines[1:]]) + "\n")

    server.start()

    assert server.is_ready()


def test_a_server_left_running_on_the_data_is_stopped_first(make_postgres: MakePostgres) -> None:
    left = make_postgres()

    with embedded.postgres(left.data_dir) as server:
        assert server.is_ready()
        assert not left.is_running


def test_commits_are_durable(make_postgres: MakePostgres) -> None:
    server = make_postgres()
    with psycopg.connect(server.url) as connection:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            assert connection.execute("SELECT current_setting(%s)", [setting]).fetchone() == ("on",)


def test_a_connection_needs_the_password(make_postgres: MakePostgres, make_redis: MakeRedis) -> None:
    server, broker = make_postgres(), make_redis()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(f"postgresql://tidings@127.0.0.1:{server.port}/tidings")
    with (
        redis_client.Redis(port=broker.port, retry=Retry(NoBackoff(), 0)) as client,
        pytest.raises(redis_client.AuthenticationError),
    ):
        client.ping()
    assert (server.data_dir / "password").stat().st_mode & 0o077 == 0


def test_redis_keeps_nothing_and_evicts_nothing(make_redis: MakeRedis) -> None:
    server = make_redis()
    with redis_client.Redis.from_url(server.url) as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        client.set("key", "value")
    server.kill()
    server.start()
    with redis_client.Redis.from_url(server.url) as client:
        assert client.get("key") is None


def test_servers_end_with_the_process_that_started_them(data_dir: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from cli import embedded; directory = Path(sys.argv[1]);"
        "servers = [embedded.postgres(directory / 'postgres'), embedded.redis(directory / 'redis')];"
        "[server.start() for server in servers]; print(*(server.pid for server in servers), flush=True);"
        "time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(data_dir)], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        pids = [int(word) for word in owner.stdout.readline().split()]
        assert len(pids) == 2
        owner.kill()
    assert eventually(lambda: not any(process_groups.alive(pid) for pid in pids), timeout_seconds=60)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as another user")
class TestStartedByRoot:
    """PostgreSQL refuses to run as root, so another user must be able to reach the cluster."""

    @pytest.fixture
    def closed_dir(self, data_dir: Path) -> Iterator[Path]:
        closed = data_dir / "closed"
        closed.mkdir(mode=0o700)
        yield closed / "data"
        pointer = closed / "data" / "postgres.elsewhere"
        if pointer.exists():
            shutil.rmtree(pointer.read_text().strip(), ignore_errors=True)

    def test_the_server_runs_as_somebody_else(self, make_postgres: MakePostgres) -> None:
        server = make_postgres()
        assert Path(f"/proc/{server.pid}").stat().st_uid == postgres_user.server_user().uid != 0

    def test_a_directory_closed_to_others_stays_closed_and_is_found_again(
        self, closed_dir: Path, watchdog: Watchdog
    ) -> None:
        with (
            embedded.postgres(closed_dir, watchdog=watchdog) as server,
            psycopg.connect(server.url) as connection,
        ):
            connection.execute("CREATE TABLE kept AS SELECT 1 AS one")
        assert closed_dir.parent.stat().st_mode & 0o777 == 0o700

        with (
            embedded.postgres(closed_dir, watchdog=watchdog) as server,
            psycopg.connect(server.url) as connection,
        ):
            assert connection.execute("SELECT one FROM kept").fetchone() == (1,)

    def test_a_cluster_that_is_gone_is_complained_about(self, closed_dir: Path) -> None:
        shutil.rmtree(embedded.postgres(closed_dir).home)
        with pytest.raises(TidingsError, match="is gone"):
            embedded.postgres(closed_dir)

    def test_binaries_closed_to_others_are_copied(self, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        package = postgres_user.package()
        closed = data_dir / "closed"
        closed.mkdir(mode=0o700)
        shutil.copytree(package, closed / package.name, symlinks=True)
        shutil.copytree(package.with_name(package.name + ".libs"), closed / (package.name + ".libs"), symlinks=True)
        monkeypatch.setattr(postgres_user, "package", lambda: closed / package.name)
        monkeypatch.setattr(postgres_user, "FALLBACK_DIRECTORIES", (data_dir / "tidings",))

        with embedded.postgres(data_dir / "data") as server:
            assert str(data_dir / "tidings") in process_groups.command_of(server.pid)


@pytest.mark.parametrize(
    ("memory", "buffers", "wal"),
    [
        (512, "64MB", "4096MB"),
        (8 * 1024, "1024MB", "4096MB"),
        (24 * 1024, "3072MB", "6144MB"),
        (256 * 1024, "8192MB", "16384MB"),
    ],
)
def test_postgresql_is_sized_by_the_memory(memory: int, buffers: str, wal: str) -> None:
    sized = postgresql.size_settings(memory * 1024 * 1024)
    assert (sized["shared_buffers"], sized["max_wal_size"]) == (buffers, wal)


def test_settings_in_force_are_those_for_this_machine(make_postgres: MakePostgres) -> None:
    with psycopg.connect(make_postgres().url) as connection:
        row = connection.execute("SELECT pg_size_bytes(current_setting('shared_buffers')) / 1024 / 1024").fetchone()
    assert row == (int(postgresql.size_settings(postgresql.memory_bytes())["shared_buffers"].removesuffix("MB")),)
