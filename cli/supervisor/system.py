"""A running Tidings on one machine: what is started in which order, until ready, until stopped."""

import functools
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from cli import embedded
from cli.supervisor import environment as supervisor_environment
from cli.supervisor import procfile, ready_file
from cli.supervisor.console import Screen
from cli.supervisor.data_dir import DataDirectory
from cli.supervisor.ready_file import Address, ReadyFile
from cli.supervisor.service import Service
from cli.supervisor.supervisor import Supervisor
from cli.supervisor.watchdog import Watchdog
from shared.errors import TidingsError
from shared.rules.reloader import require_rules
from shared.settings import Settings

_PAUSE_SECONDS: Final = 0.05
_CALM_PAUSE_SECONDS: Final = 0.2  # once everything is ready
_SURVEY_SECONDS: Final = 1.0  # how old the pids of the ready file may be
_START_SECONDS: Final = 120.0  # generous: PostgreSQL may have to recover from a crash
_TOO_MANY_FAILURES: Final = 4  # of one process while starting; later there is no limit
# Who is stopped when. Receivers first: then nothing new comes in, and the others can finish what they have.
_STAGES: Final = ({"receiver"}, {"worker", "deliverer", "beat", "api"}, {"redis"}, {"postgres"})


class StartError(TidingsError):
    """Something that could not be started; the message holds what it said last."""


class Interrupted(Exception):  # noqa: N818 - it is no error
    """Somebody wants us to stop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """How Tidings shall be run. `configuration` is for what has no option of its own."""

    configuration: Settings
    data: Path
    receiver: Address
    api: Address
    workers: int
    ready_file: Path | None
    verbose: bool


class Running:
    """Everything that `tidings up` runs. A context manager: at its end nothing is left."""

    def __init__(self, wishes: Wishes, interruptions: Callable[[], int]) -> None:
        """`interruptions` says how often somebody has wanted us to stop: the first time orderly, then at
        once.
        """
        self._wishes = wishes
        self._interruptions = interruptions
        self._commands = procfile.read()
        self._directory = DataDirectory(wishes.data)
        self._watchdog = Watchdog(keep_open=(self._directory.lock_descriptor,))
        self._screen = Screen(verbose=wishes.verbose)
        self._supervisor = Supervisor(self._screen.say, self._watchdog)
        self._ready = ReadyFile([self._directory.ready_file, *([wishes.ready_file] if wishes.ready_file else [])])
        self._environment: dict[str, str] = {}
        self._surveyed_at = 0.0

    def __enter__(self) -> Self:
        self._ready.remove()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._screen.say("stopping")
        self._ready.remove()
        asked = max(self._interruptions(), 1)
        self._supervisor.stop(_STAGES, hurry=lambda: self._interruptions() > asked)
        self._watchdog.close()
        self._screen.follow()
        self._screen.say("stopped")

    def run(self) -> None:
        """Start everything, say so when it is ready, keep it running until somebody wants us to stop."""
        try:
            self._start()
            while True:
                self._pause(_CALM_PAUSE_SECONDS)
                self._survey()
        except Interrupted:
            return

    def _start(self) -> None:
        began_at = time.monotonic()
        wishes = self._wishes
        self._environment = supervisor_environment.settle(
            wishes.configuration, self._directory, wishes.receiver, wishes.api
        )
        self._start_servers()
        self._migrate()
        require_rules(wishes.configuration.rules, self._environment["TIDINGS_DATABASE_URL"])
        for group, command in self._commands.items():
            for name in self._instances(group):
                log = self._directory.log(name)
                self._add(name, group, functools.partial(self._launch, command, log), log)
        self._wait_until("receiver", lambda: self._wishes.receiver.answers("/readyz"))
        self._wait_until("api", lambda: self._wishes.api.answers("/healthz"))
        broker_url = self._environment["TIDINGS_BROKER_URL"]
        consumers = self._wishes.workers + ("deliverer" in self._commands)
        self._wait_until("worker", lambda: ready_file.consumers(broker_url) >= consumers)
        self._announce(time.monotonic() - began_at)

    def _start_servers(self) -> None:
        wanted: dict[str, type[embedded.Server]] = {
            "TIDINGS_DATABASE_URL": embedded.Postgres,
            "TIDINGS_BROKER_URL": embedded.Redis,
        }
        started = []
        for setting, kind in wanted.items():
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
        log = self._directory.log(procfile.RELEASE)
        command = self._commands.pop(procfile.RELEASE, "tidings migrate")
        if self._run_once(functools.partial(self._launch, command, log)) != 0:
            lines = log.read_text().strip().splitlines() or [f"`{command}` failed; see {log}."]
            raise StartError(lines[-1].removeprefix("Error: "))

    def _instances(self, group: str) -> list[str]:
        if group != "worker" or self._wishes.workers == 1:
            return [group]
        return [f"{group}.{number}" for number in range(1, self._wishes.workers + 1)]

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
        self._screen.add(name, log)
        self._supervisor.add(service)

    def _launch(self, command: str, log: Path) -> subprocess.Popen[bytes]:
        with log.open("ab") as output:
            return subprocess.Popen(
                ["/bin/sh", "-c", f"exec {command}"],
                cwd=procfile.ROOT,
                env=supervisor_environment.environment_with(self._environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _run_once(self, launch: Callable[[], subprocess.Popen[bytes]]) -> int:
        """Run a process to its end and return its exit code, while everything else is kept running."""
        with self._supervisor.errand(launch) as process:
            while process.poll() is None:
                self._pause()
            return process.returncode

    def _wait_until(self, name: str, condition: Callable[[], bool]) -> None:
        """Wait until something is ready. Raises StartError if it takes too long, or if one keeps dying."""
        deadline = time.monotonic() + _START_SECONDS
        while not condition():
            self._pause()
            for service in self._supervisor.services:
                if service.failures >= _TOO_MANY_FAILURES:
                    raise StartError(
                        f"The {service.name} cannot be started. It said last (more is in {service.log}):\n"
                        + service.last_words()
                    )
            if time.monotonic() > deadline:
                raise StartError(f"The {name} was not ready in {_START_SECONDS:g} s; see {self._directory.path}/logs.")

    def _pause(self, seconds: float = _PAUSE_SECONDS) -> None:
        """A moment for everybody: the dead are buried, the due are started, what was logged is shown."""
        if self._interruptions():
            raise Interrupted
        if self._supervisor.tend():
            self._surveyed_at = 0.0
        self._screen.follow()
        time.sleep(seconds)

    def _survey(self) -> None:
        """Keep the ready file true: processes are also replaced by their own parents."""
        if time.monotonic() - self._surveyed_at < _SURVEY_SECONDS:
            return
        pids = self._supervisor.pids()
        if pids is not None:
            self._ready.write(pids)
            self._surveyed_at = time.monotonic()

    def _announce(self, seconds: float) -> None:
        receiver, api, environment = self._wishes.receiver, self._wishes.api, self._environment
        self._ready.facts = {
            "receiver_url": receiver.url,
            "api_url": api.url,
            "admin_key": environment["TIDINGS_ADMIN_KEY"],
            "database_url": environment["TIDINGS_DATABASE_URL"],
            "broker_url": environment["TIDINGS_BROKER_URL"],
        }
        self._survey()
        self._screen.say(f"ready after {seconds:.1f} s; Ctrl-C stops it")
        self._screen.show("webhooks", f"{receiver.url}/webhooks/<source>")
        self._screen.show("API", f"{api.url}/docs")
        self._screen.show("admin key", environment["TIDINGS_ADMIN_KEY"])
        self._screen.show("logs", str(self._directory.path / "logs"))
