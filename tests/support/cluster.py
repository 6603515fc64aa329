"""A whole Tidings that the test can hurt: its processes are those of the Procfile, its servers are its own.

Nothing restarts automatically: the test decides what is killed, and what is started again when.
"""

import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import psycopg
import redis as redis_client
from sqlalchemy import NullPool, create_engine, make_url

from cli import embedded
from cli.embedded.server import Server
from cli.supervisor import environment as supervisor_environment
from cli.supervisor import ports, process_groups, ready_file
from cli.supervisor.environment import ROOT, read_procfile
from cli.supervisor.ports import Address
from cli.supervisor.watchdog import Watchdog
from shared.broker import TaskNotifier
from shared.encryption import Vault, new_key
from shared.postgres import migrate
from shared.providers.registry import PROVIDERS
from shared.sources import store as sources
from simulator.mail import Happening
from simulator.providers.base import Dialect
from simulator.providers.generic.webhooks import read_mapping
from simulator.providers.mailchannels.webhooks import MailChannels
from tests.support import log_search, state_checks, traffic
from tests.support.traffic import Acknowledged, Provider

PATIENCE_SECONDS: Final = 120.0
WORKERS: Final = "workers.app"
_PAUSE_SECONDS: Final = 0.05
_STOP_SECONDS: Final = 15.0
_LEASES_RUN_OUT_SECONDS: Final = 2.0
_LAST_LINES: Final = 15


class Process:
    """One line of the Procfile, running: the leader of a session that holds all that it starts."""

    def __init__(self, command: str, environment: Mapping[str, str], log: Path, watchdog: Watchdog) -> None:
        self.log = log
        self._watchdog = watchdog
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", f"exec {command}"],
                cwd=ROOT,
                env=supervisor_environment.merge_environment(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        watchdog.watch(self.pid)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        """Kill all its processes with SIGKILL."""
        process_groups.kill(self.pid)
        self._process.wait()
        self._watchdog.forget(self.pid)

    def kill_parent(self) -> None:
        """Kill the main process with SIGKILL; its children become orphans."""
        process_groups.send(self.pid, signal.SIGKILL)
        self._process.wait()

    def kill_child(self) -> None:
        """Kill the children, which do the work, with SIGKILL."""
        for pid in process_groups.members(self.pid):
            if pid != self.pid:
                process_groups.send(pid, signal.SIGKILL)

    def freeze(self) -> None:
        """Stop all its processes with SIGSTOP."""
        process_groups.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Continue after `freeze`."""
        process_groups.kill(self.pid, signal.SIGCONT)

    def stop(self) -> None:
        """Send SIGTERM, as an operator would; kill what is left."""
        self.thaw()
        process_groups.send(self.pid, signal.SIGTERM)
        eventually(lambda: not self.is_running, _STOP_SECONDS)
        self.kill()


class Cluster:
    """Receivers, workers and beat, by names such as `worker` and `worker 2`; and their servers."""

    def __init__(self, postgres: embedded.Postgres, redis: Server, logs: Path, watchdog: Watchdog) -> None:
        key = new_key()
        self.postgres = postgres
        self.redis = redis
        self.vault = Vault([key])
        self.processes: dict[str, Process] = {}
        self._commands = read_procfile()
        self._logs = logs
        self._watchdog = watchdog
        self._ports: dict[str, int] = {}
        self.environment = {
            "TIDINGS_DATABASE_URL": postgres.url,
            "TIDINGS_BROKER_URL": redis.url,
            "TIDINGS_SECRET_KEYS": key,
            "TIDINGS_EGRESS_ALLOW": "127.0.0.0/8",
        }
        migrate.upgrade(postgres.url)
        # Without a pool: the test's own connections do not live longer than a server may.
        self.engine = create_engine(make_url(postgres.url).set(drivername="postgresql+psycopg"), poolclass=NullPool)

    def start(self, *names: str, application: str = WORKERS) -> None:
        """Start processes without waiting; `application` is the Celery application of workers."""
        for name in names:
            group = name.partition(" ")[0]
            port = {"TIDINGS_RECEIVER_PORT": str(self._port(name))} if group == "receiver" else {}
            command = self._commands[group].replace(WORKERS, application)
            self.processes[name] = Process(command, {**self.environment, **port}, self.log(name), self._watchdog)

    def start_and_wait(self, *names: str, application: str = WORKERS) -> None:
        """Start processes, and wait until all are ready."""
        self.start(*names, application=application)
        self.wait_until_ready()

    def stop(self, *names: str) -> None:
        """Stop processes in an orderly way."""
        for name in names:
            self.processes.pop(name).stop()

    def restart(self, name: str) -> None:
        """Start a killed process again, as a supervisor would, after killing the rest of it."""
        self.processes[name].kill()
        self.start(name)

    def close(self) -> None:
        """Kill every process."""
        for process in self.processes.values():
            process.kill()
        self.processes.clear()
        self.engine.dispose()

    def add_source(self, slug: str, dialect: Dialect) -> int:
        """Add a source that all receivers know. Keys of APIs are left out, so that the real ones are never called."""
        provider = PROVIDERS[dialect.NAME]
        required = {field.name for field in provider.credential_fields if field.required}
        given = dialect.credentials().items()
        credentials = {name: value for name, value in given if name not in provider.api_fields or name in required}
        log_search.remember(dialect.NAME, credentials)
        with self.engine.begin() as connection:
            row = sources.create(
                connection,
                slug=slug,
                provider=dialect.NAME,
                credentials=self.vault.seal(credentials),
                settings={"generic": read_mapping()} if dialect.NAME == "generic" else {},
            )
        for name in self.names("receiver"):
            self.wait_for(partial(self._address(name).answers, f"/webhooks/{slug}"), name)
        return row.id

    def urls(self, slug: str) -> list[str]:
        """Return the webhook URLs of a source, one for each receiver."""
        return [f"{self._address(name).url}/webhooks/{slug}" for name in self.names("receiver")]

    def wait_until_ready(self) -> None:
        """Wait until every receiver commits and every worker listens."""
        for name in self.names("receiver"):
            self.wait_for(partial(self._address(name).answers, "/readyz"), name)
        workers = self.names("worker")
        self.wait_for(lambda: ready_file.count_workers(self.redis.url) >= len(workers), *workers)

    def restore(self, *names: str) -> None:
        """Run the servers, these processes and no others, whatever a test did to them."""
        for server in (self.postgres, self.redis):
            if not server.is_ready():
                server.start()
        for name in {*self.processes} - {*names}:
            self.processes.pop(name).kill()
        for name in names:
            if name not in self.processes:
                self.start(name)
            elif not self.processes[name].is_running:
                self.restart(name)
            self.processes[name].thaw()
        self.wait_until_ready()

    def rows(self, query: str, **values: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(query, values or None)]

    def wait_until_processed(
        self,
        *,
        due_after_seconds: float = _LEASES_RUN_OUT_SECONDS,
        expire_leases: bool = True,
        ring: bool = False,
    ) -> None:
        """Wait until no receipt is pending; with `ring`, workers get wake-ups now and then.

        What a killed worker held is free when its lease has expired. So that a test need not sit that out, all leases
        are made to expire after `due_after_seconds`, also those of living workers, unless `expire_leases` is false. The
        time grows, so that a slow worker finishes before its attempts are used up; with `ring` less, because one that
        dies again and again needs each of them.
        """
        aged_at = began_at = time.monotonic()
        while pending := self.pending():
            now = time.monotonic()
            assert now < began_at + PATIENCE_SECONDS, f"still pending: {pending}\n{self.log_tails(*self.processes)}"
            if now > aged_at + due_after_seconds:
                self.make_receipts_due(expire_leases=expire_leases)
                if ring:
                    self._ring()
                due_after_seconds *= 1.3 if ring else 2
                aged_at = now
            time.sleep(_PAUSE_SECONDS)

    def make_receipts_due(self, *, expire_leases: bool = True) -> None:
        """Let all waiting times pass, and all leases expire."""
        with self.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE pending_receipts SET available_at = least(available_at, now())")
            if expire_leases:
                connection.exec_driver_sql(
                    "UPDATE pending_receipts SET lease_until = least(lease_until, now() - interval '1 s')"
                )

    def pending(self) -> list[tuple[Any, ...]]:
        """Return some pending receipts, for the message of a failure."""
        return self.rows(
            "SELECT receipt_id, attempts, available_at - now(), lease_until - now(), last_error FROM pending_receipts"
            " LIMIT 5"
        )

    def leased(self) -> list[tuple[Any, ...]]:
        """Return the receipts that workers have claimed and not finished."""
        return self.rows("SELECT receipt_id FROM pending_receipts WHERE lease_until > now()")

    @contextmanager
    def hold_workers(self) -> Iterator[None]:
        """Block every worker after its claim, until the context is left: a few seconds, or their statements end."""
        with self.engine.connect() as connection:
            connection.exec_driver_sql("LOCK TABLE event_keys IN ACCESS EXCLUSIVE MODE")
            yield

    def has_waiting_workers(self) -> bool:
        """Return whether a worker is blocked by `hold_workers`."""
        return bool(self.rows("SELECT FROM pg_locks WHERE relation = 'event_keys'::regclass AND NOT granted"))

    def assert_nothing_doubled(self) -> None:
        """Check that every event is stored and announced once."""
        with self.engine.connect() as connection:
            state_checks.assert_nothing_doubled(connection)

    def states(self, source_id: int) -> Mapping[state_checks.StateKey, state_checks.StoredState]:
        """Return the states of the messages of a source."""
        keys = self.rows("SELECT coalesce(key, id) FROM messages WHERE source_id = %(id)s", id=source_id)
        known = {row[0].hex for row in keys}
        with self.engine.connect() as connection:
            return {
                place: effect for place, effect in state_checks.stored_states(connection).items() if place[0] in known
            }

    def log(self, name: str) -> Path:
        """Return the log of all processes of this name."""
        return self._logs / f"{name}.log"

    def log_tails(self, *names: str) -> str:
        """Return the ends of these logs, for the message of a failure."""
        ends = []
        for name in names:
            text = self.log(name).read_text(errors="replace") if self.log(name).exists() else ""
            ends.append("\n".join([f"--- {name} said last:", *text.splitlines()[-_LAST_LINES:]]))
        return "\n".join(ends)

    def names(self, group: str) -> list[str]:
        """Return the processes of a kind."""
        return [name for name in self.processes if name.partition(" ")[0] == group]

    def _ring(self) -> None:
        notifier = TaskNotifier(self.redis.url)
        notifier.notify()
        notifier.close()

    def wait_for(self, condition: Callable[[], bool], *names: str) -> None:
        """Wait for a condition; fail with the logs of these processes if it does not hold in time."""
        assert eventually(condition), self.log_tails(*names)

    def answers(self, name: str, path: str) -> bool:
        """Return whether a receiver answers a GET of this path with 200."""
        return self._address(name).answers(path)

    def _port(self, name: str) -> int:
        return self._ports.setdefault(name, ports.free_port())

    def _address(self, name: str) -> Address:
        return Address(host="127.0.0.1", port=self._port(name))


@dataclass
class SimulatedSource:
    """A source of the cluster, and the simulated provider that posts to it."""

    cluster: Cluster
    slug: str
    dialect: MailChannels
    source_id: int

    @cached_property
    def provider(self) -> Provider:
        return Provider(self.dialect, self.cluster.urls(self.slug))

    def bodies(self, happenings: Sequence[Happening], *, seed: int = 1) -> list[bytes]:
        return traffic.bodies(self.dialect, happenings, seed=seed)

    def count_by_state(self, receipts: set[UUID]) -> dict[str, int]:
        """Count these receipts by their state."""
        rows = self.cluster.rows(
            "SELECT coalesce(parked.state, CASE WHEN pending.receipt_id IS NULL THEN 'processed' ELSE 'pending' END),"
            " count(*) FROM receipts LEFT JOIN parked_receipts AS parked ON parked.receipt_id = id"
            " LEFT JOIN pending_receipts AS pending ON pending.receipt_id = id WHERE id = ANY(%(ids)s) GROUP BY 1",
            ids=list(receipts),
        )
        return {state: count for state, count in rows}  # noqa: C416 - typed

    def assert_every_acknowledged_event_stored_once(
        self, happenings: Sequence[Happening], done: Acknowledged, *, dead: int = 0
    ) -> None:
        """Check that the states are those of the pure fold, and that no acknowledged receipt is missing."""
        self.cluster.wait_until_processed()
        processed = len(done.ids) - dead
        assert self.count_by_state(done.ids) == {"processed": processed, **({"dead": dead} if dead else {})}
        assert self.cluster.states(self.source_id) == state_checks.expected_states(self.source_id, happenings)
        self.cluster.assert_nothing_doubled()


def crash(server: embedded.Postgres) -> None:
    """Kill the server, and wait until its backends, which lead sessions of their own, have noticed it and ended.

    Until then they serve those who are connected to them.
    """
    with psycopg.connect(server.url, autocommit=True) as connection:
        backends = [row[0] for row in connection.execute("SELECT pid FROM pg_stat_activity")]
    server.kill()
    assert eventually(lambda: not any(map(process_groups.alive, backends)))


@contextmanager
def frozen(server: Server) -> Iterator[None]:
    """Stop the server and its backends with SIGSTOP, until the context is left."""
    if not isinstance(server, embedded.Postgres):
        with _stopped([server.pid]):
            yield
        return
    with psycopg.connect(server.url, autocommit=True) as connection, _stopped([server.pid]):
        # Those that serve a connection are leaders of sessions of their own, so the server has to be asked for them.
        backends = [row[0] for row in connection.execute("SELECT pid FROM pg_stat_activity")]
        with _stopped(backends):
            yield


@contextmanager
def _stopped(pids: Iterable[int]) -> Iterator[None]:
    try:
        for pid in pids:
            process_groups.send(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in pids:
            process_groups.send(pid, signal.SIGCONT)


def flush(redis: Server) -> None:
    """Empty Redis."""
    with redis_client.Redis.from_url(redis.url) as client:
        client.flushall()


def eventually(condition: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> bool:
    """Return whether the condition holds in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_PAUSE_SECONDS)
    return True
