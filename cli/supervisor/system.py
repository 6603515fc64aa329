"""Starts every process of one machine in order, waits until all are ready, and stops them."""

import functools
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from cli import embedded
from cli.supervisor import environment as supervisor_environment
from cli.supervisor import ready_file
from cli.supervisor.console import Console
from cli.supervisor.data_dir import DataDirectory
from cli.supervisor.environment import RELEASE, ROOT, read_procfile
from cli.supervisor.ports import Address
from cli.supervisor.ready_file import ReadyFile
from cli.supervisor.service import Service
from cli.supervisor.supervisor import Supervisor
from cli.supervisor.watchdog import Watchdog
from shared.errors import TidingsError
from shared.rules.reloader import require_rules
from shared.settings import Settings, shared_settings

_PAUSE_SECONDS: Final = 0.05
_READY_PAUSE_SECONDS: Final = 0.2  # when everything is ready
_READY_FILE_SECONDS: Final = 1.0  # the maximum age of the pids in the ready file
_START_SECONDS: Final = 120.0  # generous: PostgreSQL may have to recover from a crash
_MAX_START_FAILURES: Final = 4  # of one process until everything is ready; unlimited later
# The order of stopping. Receivers first: nothing new arrives, and the others can finish their work.
_STAGES: Final = ({"receiver"}, {"worker", "deliverer", "beat", "api"}, {"redis"}, {"postgres"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of `tidings up`. `configuration` holds the settings that have no option."""

    configuration: Settings
    data: Path
    receiver: Address
    api: Address
    workers: int
    ready_file: Path | None
    verbose: bool


class SupervisedSystem:
    """The processes that `tidings up` runs. A context manager: leaving it stops all of them."""

    def __init__(self, options: Options, stop_signals: Callable[[], int]) -> None:
        """`stop_signals` returns the number of stop signals so far: one stops in order, two stop at once."""
        self._options = options
        self._stop_signals = stop_signals
        self._commands = read_procfile()
        self._directory = DataDirectory(options.data)
        self._watchdog = Watchdog(keep_open=(self._directory.lock_descriptor,))
        self._console = Console(verbose=options.verbose)
        self._supervisor = Supervisor(self._console.print, self._watchdog)
        self._ready = ReadyFile([self._directory.ready_file, *([options.ready_file] if options.ready_file else [])])
        self._environment: dict[str, str] = {}
        self._ready_file_written_at = 0.0

    def __enter__(self) -> Self:
        self._ready.remove()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._console.print("stopping")
        self._ready.remove()
        asked = max(self._stop_signals(), 1)
        self._supervisor.stop(_STAGES, hurry=lambda: self._stop_signals() > asked)
        self._watchdog.close()
        self._console.print_logs()
        self._console.print("stopped")

    def run(self) -> None:
        """Start everything, announce when it is ready, and keep it running until a signal arrives."""
        try:
            self._start()
            while True:
                try:
                    self._pause(_READY_PAUSE_SECONDS)
                    self._update_ready_file()
                except OSError as error:  # a full disk, or no more processes: what runs must not stop for that
                    self._console.print(f"a check of the processes failed; it is repeated: {error}")
                    time.sleep(_READY_PAUSE_SECONDS)
        except KeyboardInterrupt:
            return

    def _start(self) -> None:
        started_at = time.monotonic()
        options = self._options
        self._environment = supervisor_environment.build_environment(
            options.configuration, self._directory, options.receiver, options.api
        )
        self._start_servers()
        self._migrate()
        require_rules(options.configuration.rules, self._environment["TIDINGS_DATABASE_URL"])
        for group, command in self._commands.items():
            for name in self._instances(group):
                log = self._directory.log(name)
                self._add(name, group, functools.partial(self._launch, command, log), log)
        self._wait_until("receiver", lambda: self._options.receiver.answers("/readyz"))
        self._wait_until("api", lambda: self._options.api.answers("/healthz"))
        broker_url = self._environment["TIDINGS_BROKER_URL"]
        consumers = self._options.workers + ("deliverer" in self._commands)
        self._wait_until("worker", lambda: ready_file.count_workers(broker_url) >= consumers)
        self._announce(time.monotonic() - started_at)

    def _start_servers(self) -> None:
        servers: dict[str, type[embedded.Server]] = {
            "TIDINGS_DATABASE_URL": embedded.Postgres,
            "TIDINGS_BROKER_URL": embedded.Redis,
        }
        started = []
        for setting, kind in servers.items():
            if self._environment[setting]:
                continue
            log = self._directory.log(kind.name)
            server = kind(self._directory.path / kind.name, log=log, watchdog=self._watchdog)
            self._environment[setting] = server.url
            self._add(server.name, server.name, server.launch, log, kind)
            started.append(server)
        for server in started:
            self._wait_until(server.name, server.is_ready)

    def _migrate(self) -> None:
        log = self._directory.log(RELEASE)
        command = self._commands.pop(RELEASE, "tidings migrate")
        if self._run_once(functools.partial(self._launch, command, log)) != 0:
            lines = log.read_text().strip().splitlines() or [f"`{command}` failed. See {log}."]
            raise TidingsError(lines[-1].removeprefix("Error: "))

    def _instances(self, group: str) -> list[str]:
        if group != "worker" or self._options.workers == 1:
            return [group]
        return [f"{group}.{number}" for number in range(1, self._options.workers + 1)]

    def _add(
        self,
        name: str,
        group: str,
        launch: Callable[[], subprocess.Popen[bytes]],
        log: Path,
        server: type[embedded.Server] | None = None,
    ) -> None:
        service = Service(name=name, group=group, launch=launch, log=log, watchdog=self._watchdog)
        if server is not None:
            service.stop_signal, service.holds_data = server.stop_signal, server.holds_data
        self._console.add(name, log)
        self._supervisor.add(service)

    def _launch(self, command: str, log: Path) -> subprocess.Popen[bytes]:
        with log.open("ab") as output:
            return subprocess.Popen(
                ["/bin/sh", "-c", f"exec {command}"],
                cwd=ROOT,
                env=supervisor_environment.merge_environment(self._environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _run_once(self, launch: Callable[[], subprocess.Popen[bytes]]) -> int:
        """Run a process to its end and return its exit code. The other processes are kept running."""
        with self._supervisor.run_once(launch) as process:
            while process.poll() is None:
                self._pause()
            return process.returncode

    def _wait_until(self, name: str, condition: Callable[[], bool]) -> None:
        """Wait until something is ready. Raises TidingsError after two minutes, or if a process keeps failing."""
        deadline = time.monotonic() + _START_SECONDS
        while not condition():
            self._pause()
            for service in self._supervisor.services:
                if service.failures >= _MAX_START_FAILURES:
                    raise TidingsError(
                        f"The {service.name} cannot be started. The end of its log, {service.log}:\n"
                        + service.log_tail()
                    )
            if time.monotonic() > deadline:
                raise TidingsError(
                    f"The {name} was not ready within {_START_SECONDS:g} s. Its log is in {self._directory.path}/logs."
                )

    def _pause(self, seconds: float = _PAUSE_SECONDS) -> None:
        """Restart processes that ended, print new log lines, and sleep. Raises KeyboardInterrupt after a signal."""
        if self._stop_signals():
            raise KeyboardInterrupt
        if self._supervisor.restart_ended():
            self._ready_file_written_at = 0.0
        self._console.print_logs()
        time.sleep(seconds)

    def _update_ready_file(self) -> None:
        """Write current pids to the ready file: servers also replace their own child processes."""
        if time.monotonic() - self._ready_file_written_at < _READY_FILE_SECONDS:
            return
        pids = self._supervisor.pids()
        if pids is not None:
            self._ready.write(pids)
            self._ready_file_written_at = time.monotonic()

    def _announce(self, seconds: float) -> None:
        receiver, api, environment = self._options.receiver, self._options.api, self._environment
        self._ready.facts = {
            "receiver_url": receiver.url,
            "api_url": api.url,
            "admin_key": environment["TIDINGS_ADMIN_KEY"],
            "database_url": environment["TIDINGS_DATABASE_URL"],
            "broker_url": environment["TIDINGS_BROKER_URL"],
            "settings": shared_settings(os.environ),
        }
        self._update_ready_file()
        self._console.print(f"ready after {seconds:.1f} s; press Ctrl-C to stop")
        self._console.print_value("webhooks", f"{receiver.url}/webhooks/<source>")
        self._console.print_value("API", f"{api.url}/docs")
        self._console.print_value("admin key", f"in {self._ready.paths[0]}")
        self._console.print_value("logs", str(self._directory.path / "logs"))
