"""The stage: one PostgreSQL and one Redis on throwaway data, and both sides on them."""

import secrets
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import psycopg
from psycopg import sql

from bench.processes import Processes
from bench.sides import Place, Side, Tidings, Usual
from cli import embedded
from cli.supervisor import ports
from cli.supervisor.ports import Address
from cli.supervisor.watchdog import Watchdog
from shared.encryption import new_key

_HOST: Final = "127.0.0.1"


class Stage:
    """A context manager: at its end nothing runs any more and nothing is left on the disk."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.directory = Path(tempfile.mkdtemp(prefix="tidings-bench-"))
        self.directory.chmod(0o711)  # PostgreSQL may run as another user
        self.postgres: embedded.Postgres
        self.redis: embedded.Redis
        self.tidings: Tidings
        self.usual: Usual

    @property
    def sides(self) -> tuple[Side, Side]:
        """Both, in the order in which they take turns."""
        return self.tidings, self.usual

    def __enter__(self) -> Self:
        try:
            self._stack.callback(shutil.rmtree, self.directory, ignore_errors=True)
            watchdog = self._stack.enter_context(Watchdog())
            self.postgres = self._stack.enter_context(embedded.postgres(self.directory / "postgres", watchdog=watchdog))
            self.redis = self._stack.enter_context(embedded.redis(self.directory / "redis", watchdog=watchdog))
            self.tidings = Tidings(*self._place("tidings_bench", 0, watchdog))
            self._stack.callback(self.tidings.close)
            self.usual = Usual(*self._place("usual_bench", 1, watchdog))
            self._stack.callback(self.usual.close)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def keep_logs(self, target: Path) -> None:
        """Copy what the processes logged to where it outlives the stage."""
        shutil.copytree(self.directory / "logs", target, dirs_exist_ok=True)

    def _place(self, database: str, broker_database: int, watchdog: Watchdog) -> tuple[Place, Processes]:
        with psycopg.connect(self.postgres.url, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))
        place = Place(
            database_url=self.postgres.url_of(database),
            broker_url=f"{self.redis.url.rpartition('/')[0]}/{broker_database}",
            secret_key=new_key(),
            receiver=Address(host=_HOST, port=ports.free_port(_HOST)),
            api=Address(host=_HOST, port=ports.free_port(_HOST)),
            admin_key=secrets.token_urlsafe(24),
        )
        logs = self.directory / "logs"
        logs.mkdir(exist_ok=True)
        processes = Processes(logs, place.environment(), watchdog)
        self._stack.callback(processes.stop)
        return place, processes
