"""The two sides that are compared: the same doors to both, so that every scenario treats them alike."""

import abc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Final

import psycopg
import redis

from bench import signing
from bench.processes import Processes
from bench.usual import QUEUE as USUAL_QUEUE
from cli.supervisor import ready_file
from cli.supervisor.environment import read_procfile
from cli.supervisor.ports import Address
from shared.encryption import Vault
from shared.postgres import engine, migrate
from shared.sources import store as sources

_DATA: Final = (
    "receipts, pending_receipts, parked_receipts, receipt_keys, refusals, "
    "events, event_keys, messages, recipient_states, state_changes, "
    "minute_counts, alerts, alert_steps, alert_notices"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a side lives: its own database, its own broker database, its own port."""

    database_url: str
    broker_url: str
    secret_key: str
    receiver: Address
    api: Address
    admin_key: str

    def environment(self) -> dict[str, str]:
        """Return the environment of every process of this side."""
        return {
            "TIDINGS_DATABASE_URL": self.database_url,
            "TIDINGS_BROKER_URL": self.broker_url,
            "TIDINGS_SECRET_KEYS": self.secret_key,
            "TIDINGS_ADMIN_KEY": self.admin_key,
            "TIDINGS_HOST": self.receiver.host,
            "TIDINGS_RECEIVER_PORT": str(self.receiver.port),
            "TIDINGS_API_PORT": str(self.api.port),
            "TIDINGS_API_RATE": "0",  # what is measured is not held back
            "TIDINGS_LOG_LEVEL": "warning",
            "TIDINGS_EGRESS_ALLOW": "127.0.0.0/8",
            "USUAL_DATABASE_URL": self.database_url,
            "USUAL_BROKER_URL": self.broker_url,
        }


class Side(abc.ABC):
    """One side. `connections` is how many the load generator opens."""

    name: ClassVar[str]
    connections: ClassVar[int]
    workers: ClassVar[tuple[str, ...]]

    def __init__(self, place: Place, processes: Processes) -> None:
        self.place = place
        self.processes = processes
        self._broker = redis.Redis.from_url(place.broker_url)
        migrate.upgrade(place.database_url)
        self._add_source()

    @property
    def address(self) -> tuple[str, int]:
        """Where the receiver listens."""
        return self.place.receiver.host, self.place.receiver.port

    @abc.abstractmethod
    def commands(self) -> Mapping[str, str]:
        """Return the command of every process, by its name."""

    @abc.abstractmethod
    def most_pending(self, events: int) -> int:
        """Return the number of events that may wait before the load pauses: about a second's work."""

    @abc.abstractmethod
    def pending(self, connection: psycopg.Connection, accepted: int, events: int) -> int:
        """Return the number of accepted events that are not processed yet. Called all the time."""

    @abc.abstractmethod
    def is_idle(self, connection: psycopg.Connection) -> bool:
        """Return whether nothing waits for the workers."""

    def connect(self) -> psycopg.Connection:
        """Return a connection to this side's database, each statement a transaction."""
        return psycopg.connect(self.place.database_url, autocommit=True)

    def start_receiver(self) -> None:
        """Start the receiver and wait until it answers."""
        self.start("receiver")
        self.processes.wait_until(lambda: self.place.receiver.answers("/healthz"), self._name("receiver"))

    @contextmanager
    def working(self) -> Iterator[None]:
        """Have the workers run."""
        before = ready_file.count_workers(self.place.broker_url)
        for name in self.workers:
            self.start(name)
        worker = self._name("worker")
        self.processes.wait_until(lambda: ready_file.count_workers(self.place.broker_url) > before, worker)
        try:
            yield
        finally:
            self.processes.stop(*map(self._name, self.workers))

    def start(self, name: str) -> None:
        """Start one of the processes."""
        self.processes.start(self._name(name), self.commands()[name])

    def pids(self, name: str) -> list[int]:
        """Return the processes behind a name, the main one first."""
        return self.processes.pids(self._name(name))

    def reset(self) -> None:
        """Forget all data; the workers must not be running. Then have the database put its house in order."""
        self._broker.delete(*self._queues())
        with self.connect() as connection:
            connection.execute(f"TRUNCATE {_DATA}")
            connection.execute("CHECKPOINT")

    def close(self) -> None:
        """Disconnect from the broker."""
        self._broker.close()

    def events(self, connection: psycopg.Connection) -> int:
        """Return the number of processed and committed events."""
        row = connection.execute("SELECT count(*) FROM event_keys").fetchone()
        return int(row[0]) if row else 0

    def _name(self, name: str) -> str:
        return f"{self.name}-{name}"

    def _queues(self) -> tuple[str, ...]:
        return ("unacked", "unacked_index", "tidings", USUAL_QUEUE)

    def _add_source(self) -> None:
        vault = Vault([self.place.secret_key])
        target = engine.create_engine(self.place.database_url, application="bench", pool_size=1)
        with target.begin() as connection:
            sources.create(
                connection,
                slug=signing.SLUG,
                provider="mailchannels",
                credentials=vault.seal(signing.dialect().credentials()),
                settings={},
            )
        target.dispose()


class Tidings(Side):
    """As its Procfile starts it: a receiver, a worker, beat, and the API."""

    name = "tidings"
    connections = 48
    workers = ("worker", "beat")

    def commands(self) -> Mapping[str, str]:
        """Return the commands of the Procfile."""
        return read_procfile()

    def most_pending(self, events: int) -> int:
        """Return how many events may wait: the more are in one body, the faster they are processed."""
        return 4000 if events == 1 else 20_000

    def pending(self, connection: psycopg.Connection, accepted: int, events: int) -> int:  # noqa: ARG002
        """Return the number of events, by the rows of the queue."""
        row = connection.execute("SELECT count(*) FROM pending_receipts").fetchone()
        return int(row[0]) * events if row else 0

    def is_idle(self, connection: psycopg.Connection) -> bool:
        """Return whether the queue has no rows."""
        return self.pending(connection, 0, 1) == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """What can be turned on the usual way. `python -m bench --only tuning` tries others."""

    threads: int = 8
    """Of each of the two gunicorn processes."""
    concurrency: int = 2
    """Processes of the Celery worker."""
    prefetch: int = 32
    """Tasks that each of them has at hand."""


class Usual(Side):
    """The usual way, each setting at what was best on two cores."""

    name = "usual"
    connections = 32
    workers = ("worker",)
    tuning: Tuning = Tuning()

    def commands(self) -> Mapping[str, str]:
        """Return the commands of Gunicorn and a Celery worker."""
        address, tuning = self.place.receiver, self.tuning
        return {
            "receiver": f"env USUAL_THREADS={tuning.threads} gunicorn --bind {address.host}:{address.port}"
            f" --worker-class gthread --workers 2 --threads {tuning.threads} --keep-alive 75 --no-control-socket"
            " --log-level warning bench.usual.view:app",
            "worker": "celery --quiet -A bench.usual.tasks:celery worker --pool prefork"
            f" --concurrency {tuning.concurrency} --prefetch-multiplier {tuning.prefetch}"
            f" --without-gossip --without-mingle --queues {USUAL_QUEUE} --loglevel warning",
        }

    def most_pending(self, events: int) -> int:
        """Return enough bodies for both processes of the worker."""
        return max(400, 8 * events)

    def pending(self, connection: psycopg.Connection, accepted: int, events: int) -> int:
        """Return the number by what has been processed: how many tasks a waiting task will send is unknown."""
        return accepted * events - self.events(connection)

    def is_idle(self, connection: psycopg.Connection) -> bool:  # noqa: ARG002 - its queue is in the broker
        """Return whether no task waits in the broker, or was given to a worker that has not begun it."""
        return not self._broker.llen(USUAL_QUEUE) and not self._broker.hlen("unacked")
