"""`tidings up`, started as a person would: its promises at the start, at a crash, and at the end."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
import redis as redis_client

from cli.supervisor import ports, process_groups
from cli.supervisor.ports import Address
from tests.support.databases import DatabaseServer
from tests.support.supervised_system import START_SECONDS, STOP_SECONDS, Up, command, environment, running, wait_until

GROUPS = {"postgres", "redis", "receiver", "worker", "deliverer", "beat", "api"}


def address(url: str) -> Address:
    parts = urlsplit(url)
    assert parts.hostname
    assert parts.port
    return Address(host=parts.hostname, port=parts.port)


def run(*arguments: str, cwd: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        cwd=cwd,
        env=environment(**settings),
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )


def up_on_free_ports(data: Path) -> tuple[str, ...]:
    return ("up", "--data", str(data), "--receiver-port", "0", "--api-port", "0")


@pytest.fixture(scope="module")
def up(session_dir: Path) -> Iterator[Up]:
    """One installation with two workers."""
    data = session_dir / "up"
    data.mkdir()
    with running(data, "--workers", "2") as up:
        yield up


class TestWhileRunning:
    """These share one installation, and leave it running."""

    def test_the_ready_file_is_true(self, up: Up) -> None:
        facts = up.ready()
        wait_until(lambda: address(facts["receiver_url"]).answers("/readyz"))  # it has two seconds for each answer
        wait_until(lambda: address(facts["api_url"]).answers("/healthz"))
        with psycopg.connect(facts["database_url"]) as connection:
            assert connection.execute("SELECT 1 FROM alembic_version").fetchone() == (1,)
        with redis_client.Redis.from_url(facts["broker_url"]) as client:
            assert client.ping()
        assert facts["admin_key"]
        assert set(facts["pids"]) == GROUPS
        assert all(process_groups.alive(pid) for pids in facts["pids"].values() for pid in pids)

    def test_the_ready_file_and_the_secrets_are_for_their_owner_only(self, up: Up) -> None:
        for name in ("ready.json", "admin_key", "secret_keys"):
            assert (up.data / name).stat().st_mode & 0o077 == 0, name

    def test_every_worker_has_a_parent_and_two_children(self, up: Up) -> None:
        assert len(up.pids("worker")) == 6

    def test_nothing_is_written_to_the_working_directory(self, up: Up) -> None:
        known = {"admin_key", "secret_keys", "lock", "logs", "postgres", "redis", "ready.json"}
        wait_until(lambda: {path.name for path in up.data.iterdir()} == known)  # drafts of the ready file come and go

    @pytest.mark.parametrize("position", [0, 1], ids=["the main process", "the one that does the work"])
    @pytest.mark.parametrize("group", ["receiver", "worker", "api"])
    def test_a_process_that_was_killed_is_replaced(self, up: Up, group: str, position: int) -> None:
        up.kill(group, position)
        facts = up.ready()
        wait_until(lambda: address(facts["receiver_url"]).answers("/readyz"))
        wait_until(lambda: address(facts["api_url"]).answers("/healthz"))

    @pytest.mark.parametrize("group", ["beat", "deliverer"])
    def test_a_process_that_works_alone_is_replaced_when_it_was_killed(self, up: Up, group: str) -> None:
        up.kill(group)

    def test_a_database_that_was_killed_comes_back_at_the_same_address(self, up: Up) -> None:
        facts = up.ready()
        up.kill("postgres")
        assert up.ready()["database_url"] == facts["database_url"]
        wait_until(lambda: address(facts["receiver_url"]).answers("/readyz"))

    def test_a_broker_that_was_killed_comes_back_at_the_same_address(self, up: Up) -> None:
        facts = up.ready()
        up.kill("redis")
        assert up.ready()["broker_url"] == facts["broker_url"]

    def test_a_second_one_on_the_same_data_refuses(self, up: Up) -> None:
        second = run(*up_on_free_ports(up.data), cwd=up.data)
        assert second.returncode == 2
        assert f"already running on {up.data}, as process {up.process.pid}" in second.stderr
        assert "Traceback" not in second.stderr
        assert up.ready()

    def test_a_port_that_is_taken_is_named(self, up: Up, data_dir: Path) -> None:
        taken = str(address(up.ready()["receiver_url"]).port)
        refused = run("up", "--data", str(data_dir), "--receiver-port", taken, cwd=data_dir)
        assert refused.returncode == 2
        assert f"--receiver-port {taken}" in refused.stderr


def test_sigterm_leaves_nothing(data_dir: Path) -> None:
    with running(data_dir) as up:
        up.process.send_signal(signal.SIGTERM)
        assert up.process.wait(STOP_SECONDS) == 0
        assert up.everything() == set()
        assert not up.ready()


def test_kill_9_takes_everything_along_and_the_next_start_finds_what_there_was(data_dir: Path) -> None:
    with running(data_dir) as up:
        first = up.ready()
        with psycopg.connect(first["database_url"]) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 1 AS one")
        os.kill(up.process.pid, signal.SIGKILL)
        assert up.leaves_nothing()
        up.ready_file.unlink()

    with running(data_dir) as up:
        second = up.ready()
        assert second["admin_key"] == first["admin_key"]
        with psycopg.connect(second["database_url"]) as connection:
            assert connection.execute("SELECT one FROM kept").fetchone() == (1,)


def test_ctrl_c_while_it_starts_leaves_nothing(data_dir: Path) -> None:
    with subprocess.Popen(
        command(*up_on_free_ports(data_dir)),
        env=environment(),
        stdout=subprocess.DEVNULL,
        text=True,
    ) as process:
        wait_until((data_dir / "logs" / "release.log").exists)
        process.send_signal(signal.SIGINT)
        assert process.wait(STOP_SECONDS) == 0
    assert Up(process, data_dir / "ready.json", data_dir).everything() == set()


def test_servers_that_are_named_are_used(data_dir: Path, database_url: str, broker_url: str) -> None:
    with running(data_dir, TIDINGS_DATABASE_URL=database_url, TIDINGS_BROKER_URL=broker_url) as up:
        facts = up.ready()
        assert facts["database_url"] == database_url
        assert facts["broker_url"] == broker_url
        assert set(facts["pids"]) == GROUPS - {"postgres", "redis"}


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("TIDINGS_RECEIVER_PORT", "eighty"),
        ("TIDINGS_RECEIVER_PROCESSES", "0"),
        ("TIDINGS_WORKER_PROCESSES", "many"),
        ("TIDINGS_SECRET_KEYS", "too short"),
        ("TIDINGS_EGRESS_ALLOW", "everywhere"),
        ("TIDINGS_DATABASE_URL", "no url at all"),
        ("TIDINGS_DATABASE_URL", "mysql://127.0.0.1/tidings"),
        ("TIDINGS_BROKER_URL", "carrier-pigeon://127.0.0.1"),
    ],
)
def test_a_wrong_setting_is_named_in_a_sentence(data_dir: Path, setting: str, value: str) -> None:
    refused = run(*up_on_free_ports(data_dir), cwd=data_dir, **{setting: value})
    assert refused.returncode == 2
    assert setting in refused.stderr
    assert "Traceback" not in refused.stdout + refused.stderr


def test_a_database_that_cannot_be_reached_is_named(data_dir: Path, broker_url: str) -> None:
    nowhere = f"postgresql://tidings@127.0.0.1:{ports.free_port()}/tidings"
    refused = run(
        *up_on_free_ports(data_dir), cwd=data_dir, TIDINGS_DATABASE_URL=nowhere, TIDINGS_BROKER_URL=broker_url
    )
    assert refused.returncode == 2
    assert "TIDINGS_DATABASE_URL" in refused.stderr
    assert "Traceback" not in refused.stdout + refused.stderr


def test_migrate_may_run_again(postgres: DatabaseServer, database_url: str, tmp_path: Path) -> None:
    again = run("migrate", cwd=tmp_path, TIDINGS_DATABASE_URL=database_url)
    assert (again.returncode, again.stderr) == (0, "")


def test_help_needs_none_of_what_the_commands_need(tmp_path: Path) -> None:
    shown = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "cli.main", "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "migrate" in shown.stdout
    for heavy in ("sqlalchemy", "celery", "psycopg", "cryptography"):
        assert heavy not in shown.stderr
