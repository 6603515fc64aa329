"""`tidings doctor` finds each fault that is planted, names the fix, and finds nothing in a healthy system."""

import json
import shlex
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import psycopg
import pytest
import redis as redis_client

from cli.supervisor.environment import ROOT
from shared.counters import metric_store
from shared.counters.metric_store import Metric
from shared.encryption import new_key
from shared.operations import doctor
from shared.postgres import migrate, partitions
from tests.cli.test_status import report_all_roles
from tests.support import supervised_system
from tests.support.command_line import Commands, check_advice
from tests.support.provider_env import open_provider_env

SSL_OR_GSS_REQUEST = (80877103, 80877104)


@pytest.fixture
def healthy(commands: Commands, broker_url: str) -> Commands:
    """A system in which nothing is wrong: a test plants its fault in it."""
    commands.settings["TIDINGS_BROKER_URL"] = broker_url
    report_all_roles(commands.system.engine)
    with commands.system.engine.begin() as connection:
        partitions.create_missing(connection)
    assert commands.system.ctx  # stores what TIDINGS_SECRET_KEYS must open
    commands.run("doctor")
    return commands


def findings(commands: Commands, *options: str) -> dict[str, str]:
    """Return what was found by the name of the check, with its fix; the command must end with 1."""
    document = json.loads(commands.run("doctor", "--json", *options, code=1))
    for one in document["findings"]:
        check_advice(one["mend"])
    return {one["check"]: f"{one['found']} → {one['mend']}" for one in document["findings"]}


def run_program(commands: Commands, command: str) -> subprocess.CompletedProcess[str]:
    """Run a shell command in a separate process, with the settings of these commands."""
    environment = supervised_system.environment(**commands.settings)
    return subprocess.run(
        ["/bin/sh", "-c", command], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def test_an_old_schema(healthy: Commands) -> None:
    healthy.system.execute("DROP TABLE metric_totals")
    healthy.system.execute("UPDATE alembic_version SET version_num = '0001'")
    found = findings(healthy)
    assert found.keys() == {"schema"}
    assert "revision 0001" in found["schema"]
    assert "tidings migrate" in found["schema"]


def test_a_schema_of_a_newer_version(healthy: Commands) -> None:
    healthy.system.execute("UPDATE alembic_version SET version_num = '9999'")
    assert "newer version" in findings(healthy)["schema"]


def test_an_unsupported_encoding(healthy: Commands) -> None:
    with psycopg.connect(healthy.system.database_url, autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS latin")
        connection.execute("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE_PROVIDER libc LOCALE 'C'")
        try:
            url = urlsplit(healthy.system.database_url)._replace(path="/latin").geturl()
            healthy.settings["TIDINGS_DATABASE_URL"] = url
            found = findings(healthy)
        finally:
            connection.execute("DROP DATABASE latin WITH (FORCE)")
    assert "encoding LATIN1" in found["server"]
    assert "ENCODING 'UTF8'" in found["server"]


def test_a_missing_partition(healthy: Commands) -> None:
    (name,) = healthy.system.rows(
        "SELECT max(inhrelid::regclass::text) FROM pg_inherits WHERE inhparent = 'receipts'::regclass"
        " AND inhrelid::regclass::text <= 'receipts_' || to_char(now(), 'YYYYMMDD')"
    )[0]
    healthy.system.execute(f"DROP TABLE {name}")
    assert findings(healthy) == {"partitions": f"partitions are missing: {name} → tidings migrate"}


def test_a_pooler_that_drops_settings(healthy: Commands) -> None:
    address = urlsplit(healthy.system.database_url)
    with DroppingPooler(str(address.hostname), int(address.port or 0)) as pooler:
        place = f"{address.netloc.rpartition('@')[0]}@127.0.0.1:{pooler.port}"
        healthy.settings["TIDINGS_DATABASE_URL"] = address._replace(netloc=place).geturl()
        found = findings(healthy)
    assert found.keys() == {"session settings"}
    assert "enable_seqscan is on, not off" in found["session settings"]
    assert "make the pooler pass or refuse" in found["session settings"]


def test_a_broker_that_evicts(healthy: Commands) -> None:
    with redis_client.Redis.from_url(healthy.settings["TIDINGS_BROKER_URL"]) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            found = findings(healthy)
        finally:
            client.config_set("maxmemory-policy", "noeviction")
    assert found.keys() == {"broker"}
    assert found["broker"].endswith('→ redis-cli -u "$TIDINGS_BROKER_URL" CONFIG SET maxmemory-policy noeviction')


def test_a_broker_that_cannot_be_reached(healthy: Commands) -> None:
    healthy.settings["TIDINGS_BROKER_URL"] = "redis://127.0.0.1:1/0"
    found = findings(healthy)
    assert found.keys() == {"broker"}
    assert "takes no message" in found["broker"]


def test_a_broker_that_is_not_named(healthy: Commands) -> None:
    healthy.settings["TIDINGS_BROKER_URL"] = ""
    assert "TIDINGS_BROKER_URL is not set" in findings(healthy)["broker"]


def test_a_clock_that_differs_from_that_of_the_database(healthy: Commands) -> None:
    program = (
        "import time; right = time.time; time.time = lambda: right() + 3600\n"
        "from cli.main import main; main(['doctor'])"
    )
    ended = run_program(healthy, f"{sys.executable} -c {shlex.quote(program)}")
    assert ended.returncode == 1, ended.stderr
    assert "✗ clock: the clock of the database is 3,600." in ended.stdout
    assert "s behind the clock of this machine" in " ".join(ended.stdout.split())
    assert "1 finding\n" in ended.stdout


def test_an_old_transaction_that_holds_back_the_feed(healthy: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "MAX_TRANSACTION_SECONDS", 0.0)
    with psycopg.connect(healthy.system.database_url, application_name="a forgotten shell") as blocking:
        pid = blocking.info.backend_pid
        blocking.execute("SELECT pg_current_xact_id()")
        found = findings(healthy)
    assert found.keys() == {"transactions"}
    assert "(a forgotten shell)" in found["transactions"]
    command = f'psql "$TIDINGS_DATABASE_URL" -c "SELECT pg_terminate_backend({pid})"'
    assert found["transactions"].endswith(command)


def test_a_wrong_secret_key(healthy: Commands) -> None:
    healthy.settings["TIDINGS_SECRET_KEYS"] = new_key()
    found = findings(healthy)
    assert found.keys() == {"stored secrets"}
    assert "set TIDINGS_SECRET_KEYS" in found["stored secrets"]


def test_a_malformed_secret_key(healthy: Commands) -> None:
    healthy.settings["TIDINGS_SECRET_KEYS"] = "abc"
    assert findings(healthy).keys() == {"secret keys", "stored secrets"}


def test_a_source_that_cannot_be_opened(healthy: Commands) -> None:
    healthy.system.create_source()
    healthy.system.execute("UPDATE sources SET credentials = '\\x00'")
    assert "tidings sources check main" in findings(healthy)["stored secrets"]


def test_a_disk_that_is_nearly_full(healthy: Commands) -> None:
    """The file system of processes has no free blocks, on every machine."""
    found = findings(healthy, "--data", "/proc")
    assert found.keys() == {"disk"}
    assert "the disk of /proc has 0.0 GB free" in found["disk"]
    assert "make room" in found["disk"]


def test_a_file_limit_that_is_too_low(healthy: Commands) -> None:
    ended = run_program(healthy, f"ulimit -n 1024 && {sys.executable} -m cli.main doctor")
    assert ended.returncode == 1, ended.stderr
    assert "✗ file limit: a process may have 1,024 open files" in ended.stdout
    assert "ulimit -Hn 4096" in ended.stdout
    assert "1 finding\n" in ended.stdout


def test_a_source_that_is_silent(healthy: Commands) -> None:
    quiet, active = (healthy.system.create_source(slug) for slug in ("quiet", "active"))
    with healthy.system.engine.begin() as connection:
        metric_store.add(connection, {(Metric.EVENTS, source_id, "opened"): 1.0 for source_id in (quiet, active)})
    healthy.run("doctor")
    healthy.system.execute(
        "UPDATE metric_totals SET updated_at = now() - interval '2 days' WHERE source_id = %(id)s", id=quiet
    )
    found = findings(healthy)
    assert found.keys() == {"silence"}
    assert "source quiet has had no event since 20" in found["silence"]
    assert "tidings sources check quiet" in found["silence"]


def test_a_source_that_never_had_an_event(healthy: Commands) -> None:
    healthy.system.create_source()
    healthy.run("doctor")
    healthy.system.execute("UPDATE sources SET created_at = now() - interval '2 days'")
    assert "has had no event since it was created" in findings(healthy)["silence"]


def test_a_webhook_that_is_not_enrolled(database_url: str, broker_url: str) -> None:
    with open_provider_env(database_url, ["mc"]) as provider:
        commands = Commands(provider.system, {**provider.system.environment, "TIDINGS_BROKER_URL": broker_url})
        report_all_roles(provider.system.engine)
        commands.run("sources", "webhooks", "mc")
        commands.run("doctor")
        commands.run("sources", "unenrol", "mc", "--yes")
        found = findings(commands)
    assert found.keys() == {"enrolment"}
    assert "tidings sources enrol mc" in found["enrolment"]


def test_a_queue_with_two_readers(healthy: Commands) -> None:
    """An earlier version let two sources read one queue."""
    queue = {"url": "https://sqs.eu-west-1.amazonaws.com/123456789012/events"}
    keys = {"access_key_id": "AKIAIOSFODNN7EXAMPLE", "secret_access_key": "s" * 40}
    for slug in ("first", "second"):
        healthy.system.add_source(slug, "ses", keys, queue={**queue, "url": f"{queue['url']}-{slug}"})
    healthy.run("doctor")
    healthy.system.execute(f"UPDATE sources SET settings = '{json.dumps({'queue': queue})}'")
    assert "first, second read one queue" in findings(healthy)["queues"]


def test_an_endpoint_that_the_egress_guard_refuses(healthy: Commands) -> None:
    subscription_id = healthy.system.insert_subscription("http://127.0.0.1:9/")
    found = findings(healthy)
    assert found.keys() == {"egress"}
    assert f"tidings subscriptions change {subscription_id} --url" in found["egress"]
    healthy.settings["TIDINGS_EGRESS_ALLOW"] = "127.0.0.0/8"
    healthy.run("doctor")


@pytest.mark.parametrize(
    ("role", "statement"),
    [
        ("worker", "DELETE FROM periodic_tasks WHERE task = 'tidings.sweep'"),
        ("deliverer", "DELETE FROM periodic_tasks WHERE task = 'tidings.deliver'"),
        ("receiver", "UPDATE metric_totals SET updated_at = now() - interval '2 min' WHERE label = 'receiver'"),
    ],
)
def test_a_role_without_a_process(healthy: Commands, role: str, statement: str) -> None:
    healthy.system.execute(statement)
    assert f"tidings run {role}" in " ".join(
        one["mend"] for one in json.loads(healthy.run("doctor", "--json", code=1))["findings"]
    )


def test_a_database_that_cannot_be_reached(healthy: Commands) -> None:
    healthy.settings["TIDINGS_DATABASE_URL"] = "postgresql://nobody@127.0.0.1:1/none"
    found = findings(healthy)
    assert found.keys() == {"database"}
    assert "cannot be reached" in found["database"]


def test_two_faults_are_both_found_within_eighty_columns(healthy: Commands) -> None:
    healthy.system.create_source()
    healthy.system.execute("UPDATE sources SET created_at = now() - interval '2 days'")
    healthy.settings["TIDINGS_BROKER_URL"] = "redis://127.0.0.1:1/0"
    printed = healthy.run("doctor", code=1)
    assert "2 findings" in printed
    assert [line for line in printed.splitlines() if len(line) > 80 and "→" not in line] == []


def test_a_running_system_is_healthy(data_dir: Path) -> None:
    with supervised_system.running(data_dir) as up:

        def run(command: str) -> subprocess.CompletedProcess[str]:
            words = supervised_system.command(command, "--data", str(up.data))
            environment = supervised_system.environment()
            return subprocess.run(words, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)

        supervised_system.wait_until(lambda: run("status").returncode == 0)
        assert run("doctor").returncode == 0, run("doctor").stdout
        with psycopg.connect(json.loads((up.data / "ready.json").read_text())["database_url"]) as connection:
            connection.execute("UPDATE alembic_version SET version_num = '0001'")
        assert f"→ tidings migrate --data {up.data}\n" in run("doctor").stdout
        with psycopg.connect(json.loads((up.data / "ready.json").read_text())["database_url"]) as connection:
            connection.execute("UPDATE alembic_version SET version_num = %s", [migrate.head()])
        assert run("migrate").returncode == 0, run("migrate").stderr


class DroppingPooler:
    """A connection pooler that drops the startup parameter `options`, and passes on everything else."""

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._sessions: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in (self._thread, *self._sessions):
            thread.join()

    def _serve(self) -> None:
        with suppress(OSError):  # the listener was closed
            while True:
                client, _ = self._listener.accept()
                self._sessions.append(threading.Thread(target=self._connect, args=(client,), daemon=True))
                self._sessions[-1].start()

    def _connect(self, client: socket.socket) -> None:
        packet = read_packet(client)
        while int.from_bytes(packet[4:8]) in SSL_OR_GSS_REQUEST:
            client.sendall(b"N")
            packet = read_packet(client)
        words = packet[8:-2].split(b"\0")
        kept = {name: value for name, value in zip(words[::2], words[1::2], strict=True) if name != b"options"}
        rest = packet[4:8] + b"".join(name + b"\0" + value + b"\0" for name, value in kept.items()) + b"\0"
        server = socket.create_connection(self._server)
        server.sendall((len(rest) + 4).to_bytes(4) + rest)
        upward = threading.Thread(target=copy, args=(client, server), daemon=True)
        upward.start()
        copy(server, client)
        upward.join()
        client.close()
        server.close()


def read_packet(client: socket.socket) -> bytes:
    """Read one packet of the start of a session: its length comes first."""
    head = client.recv(4, socket.MSG_WAITALL)
    return head + client.recv(int.from_bytes(head) - 4, socket.MSG_WAITALL)


def copy(origin: socket.socket, target: socket.socket) -> None:
    """Copy until one end closes."""
    with suppress(OSError):
        while received := origin.recv(65536):
            target.sendall(received)
    for end in (origin, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
