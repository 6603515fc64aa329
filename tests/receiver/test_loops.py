"""Every thread of the receiver survives an error that it does not expect. /healthz is 503 until it runs again."""

import os
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cli.supervisor import environment, ports, process_groups
from cli.supervisor.environment import ROOT, read_procfile
from cli.supervisor.ports import Address
from receiver.group_commit import GroupCommitWriter
from receiver.notifier import Notifier, pause_after
from receiver.refusal_log import RefusalLog
from receiver.source_cache import SourceCache
from shared import ids, supervision
from shared.encryption import Vault, new_key
from shared.postgres import engine, migrate
from shared.receipts.store import Refusal
from shared.sources import store as sources
from shared.supervision import failed_loops
from tests.receiver.test_group_commit import receipt
from tests.support.cluster import crash, eventually
from tests.support.receiver import Loop
from tests.support.servers import Server
from tests.support.worker_env import RecordingNotifier

CLOUDMAILIN = {"username": "user", "password": "secret"}


class Faulty:
    """A dependency that fails at the first use of `method`, with an error that no caller expects."""

    def __init__(self, real: Any, method: str) -> None:
        self._real = real
        self._method: str | None = method

    def execution_options(self, **options: Any) -> "Faulty":
        self._real = self._real.execution_options(**options)
        return self

    def __getattr__(self, name: str) -> Any:
        if name == self._method:
            self._method = None
            raise SystemExit("a bug")
        return getattr(self._real, name)


def reported(name: str) -> None:
    assert eventually(lambda: failed_loops() == [name])


@pytest.fixture(autouse=True)
def _slow_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave these tests the time to see that a loop has failed."""
    monkeypatch.setattr(supervision, "RESTART_SECONDS", 3.0)


@pytest.fixture
def database(database_url: str) -> Iterator[Any]:
    made = engine.create_engine(database_url, application="test")
    yield made
    made.dispose()


def test_the_writer_stores_again(database) -> None:
    loop = Loop()
    with closing(loop), closing(GroupCommitWriter(Faulty(database, "connect"))) as writer:  # type: ignore[arg-type]
        with ThreadPoolExecutor() as waiting:  # the request waits for longer than the restart takes
            outcomes = waiting.submit(loop.call_each, [partial(writer.store, receipt(1))])
            reported("group commit")
        [outcome] = outcomes.result()
        assert isinstance(outcome, Exception)
        assert eventually(lambda: not failed_loops())
        assert loop.call(writer.store, receipt(2))


def test_refusals_are_stored_again(database) -> None:
    now = datetime.now(UTC)
    refusal = Refusal(
        id=ids.receipt_id(now), source="s", refused_at=now, status_code=404, reason="unknown_source", detail="",
        remote_ip=None, headers="{}", bytes=0,
    )  # fmt: skip
    log = RefusalLog(Faulty(database, "begin"))  # type: ignore[arg-type]
    log.record(refusal)
    reported("refusal log")
    assert eventually(lambda: not failed_loops())
    log.record(refusal)
    with database.connect() as connection:
        assert eventually(lambda: connection.exec_driver_sql("SELECT count(*) FROM refusals").scalar() == 1)
    log.close()


def test_sources_are_loaded_again(database) -> None:
    vault = Vault([new_key()])
    with database.begin() as connection:
        sources.create(connection, slug="cm", provider="cloudmailin", credentials=vault.seal(CLOUDMAILIN), settings={})
    cache = SourceCache(Faulty(database, "connect"), vault)  # type: ignore[arg-type]
    assert eventually(lambda: bool(failed_loops()))
    assert eventually(lambda: cache.find("cm") is not None and not failed_loops())
    cache.close()


@pytest.mark.parametrize(
    ("receipts", "seconds"), [(0, 0.01), (1, 0.01), (5, 0.05), (25, 0.05), (50, 0.1), (75, 0.15), (10_000, 0.15)]
)
def test_more_receipts_mean_a_longer_pause_between_wake_ups(receipts: int, seconds: float) -> None:
    assert pause_after(receipts) == pytest.approx(seconds)


def test_wake_ups_are_sent_again() -> None:
    tasks = RecordingNotifier()
    notifier = Notifier(Faulty(tasks, "notify"))  # type: ignore[arg-type]
    notifier.notify("first")
    reported("notifier")
    assert eventually(lambda: not failed_loops())
    notifier.notify("second")
    assert eventually(lambda: tasks.tasks == ["second"])
    notifier.close()


def test_healthz_names_a_loop_that_has_failed(receiver, database) -> None:
    assert receiver.client.get("/healthz").status_code == 200
    notifier = Notifier(Faulty(RecordingNotifier(), "notify"))  # type: ignore[arg-type]
    notifier.notify()
    reported("notifier")
    response = receiver.client.get("/healthz")
    assert (response.status_code, response.text) == (503, "failed: notifier\n")
    assert eventually(lambda: receiver.client.get("/healthz").status_code == 200)
    notifier.close()


@contextmanager
def small_disk(path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(path)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount the small file system that this test fills")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def test_a_receiver_survives_a_full_disk_and_a_database_that_is_down(make_postgres, tmp_path) -> None:
    """Its logs and its metrics are on the full disk. The database is stopped, so that it has something to log."""
    postgres = make_postgres()
    key = new_key()
    migrate.upgrade(postgres.url)
    database = engine.create_engine(postgres.url, application="test")
    with database.begin() as connection:
        credentials = Vault([key]).seal(CLOUDMAILIN)
        sources.create(connection, slug="cm", provider="cloudmailin", credentials=credentials, settings={})
    database.dispose()
    address = Address(host="127.0.0.1", port=ports.free_port())
    with small_disk(tmp_path / "disk") as disk:
        filler = disk / "filler"
        with (disk / "log").open("ab") as log, filler.open("wb", buffering=0) as filling, suppress(OSError):
            while True:
                filling.write(b"x" * 4096)
        settings = {
            "TIDINGS_HOST": address.host, "TIDINGS_RECEIVER_PORT": str(address.port), "TIDINGS_SECRET_KEYS": key,
            "TIDINGS_DATABASE_URL": postgres.url, "TIDINGS_BROKER_URL": "redis://127.0.0.1:1/0", "TMPDIR": str(disk),
        }  # fmt: skip
        with (disk / "log").open("ab") as log:
            process = subprocess.Popen(
                ["/bin/sh", "-c", f"exec {read_procfile()['receiver']}"],
                cwd=ROOT, env=environment.merge_environment(settings), stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        server = Server(address.port, process)
        try:
            assert eventually(lambda: address.answers("/healthz"))
            pids = process_groups.members(process.pid)
            assert post(server, b"1") == 200
            crash(postgres)
            assert {post(server, b"%d" % number) for number in range(3)} == {503}
            postgres.start()
            assert eventually(lambda: address.answers("/readyz"))
            assert post(server, b"2") == 200
            filler.unlink()
            assert post(server, b"3") == 200
            assert eventually(lambda: address.answers("/healthz"))  # it has two seconds for each answer
            assert process_groups.members(process.pid) == pids, "a process was replaced"
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(60)


def post(server: Server, body: bytes) -> int:
    return server.call("POST", "/webhooks/cm", body, {"Authorization": "Basic dXNlcjpzZWNyZXQ="})[0].status
