"""The supervisor keeps a set of processes running and stops all of them at the end."""

import ctypes
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from subprocess import Popen

from cli.supervisor import process_groups
from cli.supervisor.service import Service
from cli.supervisor.watchdog import Watchdog

_PR_SET_CHILD_SUBREAPER = 36
_GRACE_SECONDS = 10.0
_PAUSE_SECONDS = 0.05


class Supervisor:
    """Services in start order. It has no thread: the owner calls `restart_ended` repeatedly."""

    def __init__(self, report: Callable[[str], None], watchdog: Watchdog) -> None:
        """`report` receives a message about each event."""
        self.services: list[Service] = []
        self._report = report
        self._watchdog = watchdog
        self._one_offs: set[int] = set()
        adopt_orphans()

    def add(self, service: Service) -> None:
        """Start a service and keep it running."""
        self.services.append(service)
        service.start()

    def restart_ended(self) -> bool:
        """Clean up after services that ended and start those that are due; return whether any was started."""
        started = False
        for service in self.services:
            if ending := service.handle_exit():
                self._report(f"{service.name} {ending}; restarting it")
            if service.is_due:
                service.start()
                started = True
        self._reap_orphans()
        return started

    @contextmanager
    def run_once(self, launch: Callable[[], Popen[bytes]]) -> Iterator[Popen[bytes]]:
        """Start a process that is not restarted; kill it if it still runs at the end."""
        process = launch()
        self._one_offs.add(process.pid)
        self._watchdog.watch(process.pid)
        try:
            yield process
        finally:
            process_groups.kill(process.pid)
            process.wait()
            self._one_offs.discard(process.pid)
            self._watchdog.forget(process.pid)

    def stop(self, stages: Sequence[Iterable[str]], *, hurry: Callable[[], bool] = lambda: False) -> None:
        """Stop the services stage by stage; each stage is a set of groups. Kill the services of no stage at the end.

        Each stage has 10 seconds, or ends when `hurry` returns true.
        """
        for groups in stages:
            stopping = [service for service in self.services if service.group in groups]
            for service in stopping:
                service.ask_to_stop()
            deadline = time.monotonic() + _GRACE_SECONDS
            while any(service.is_running for service in stopping) and time.monotonic() < deadline and not hurry():
                time.sleep(_PAUSE_SECONDS)
            for service in stopping:
                if service.is_running:
                    self._report(f"{service.name} did not stop in time; killing it")
                service.kill()
        for service in self.services:
            service.kill()
        self._reap_orphans()

    def pids(self) -> dict[str, list[int]] | None:
        """Return the processes of every group, the main ones first; None while a service is down."""
        if any(not service.is_running for service in self.services):
            return None
        members = process_groups.by_leader({one.process.pid for one in self.services if one.process is not None})
        found: dict[str, list[int]] = {}
        for service in self.services:
            found.setdefault(service.group, []).extend(service.pids(members))
        return found

    def _reap_orphans(self) -> None:
        """Collect the exit status of processes that this one adopted when their parents ended."""
        known = self._one_offs | {service.process.pid for service in self.services if service.process is not None}
        with suppress(ChildProcessError):  # there is no child at all
            # WNOWAIT leaves the exit status for its owner, if the child is not an orphan.
            while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                if ended.si_pid in known:
                    break
                os.waitpid(ended.si_pid, 0)


def adopt_orphans() -> None:
    """On Linux, adopt orphaned descendants as children, so that none is missed."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
