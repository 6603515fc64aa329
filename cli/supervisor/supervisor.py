"""The supervisor: keeps a set of processes running, and leaves none behind when it stops."""

import ctypes
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from subprocess import Popen

from cli.supervisor import process_groups
from cli.supervisor.service import Service
from cli.supervisor.watchdog import Watchdog

_PR_SET_CHILD_SUBREAPER = 36
_GRACE_SECONDS = 10.0
_PAUSE_SECONDS = 0.05


class Supervisor:
    """Services in the order they are started. It has no thread: somebody calls `tend` again and again."""

    def __init__(self, report: Callable[[str], None], watchdog: Watchdog) -> None:
        """`report` gets a sentence about whatever happens."""
        self.services: list[Service] = []
        self._report = report
        self._watchdog = watchdog
        self._errands: set[int] = set()
        adopt_orphans()

    def add(self, service: Service) -> None:
        """Start a service, and keep it running from now on."""
        self.services.append(service)
        service.start()

    def tend(self) -> bool:
        """Bury what has died, start what is due. Whether anything was started."""
        started = False
        for service in self.services:
            if death := service.bury():
                self._report(f"{service.name} {death}, starting it again")
            if service.is_due:
                service.start()
                started = True
        self._reap_orphans()
        return started

    @contextmanager
    def errand(self, launch: Callable[[], Popen[bytes]]) -> Iterator[Popen[bytes]]:
        """A process that is run once; killed if it is still there at the end."""
        process = launch()
        self._errands.add(process.pid)
        self._watchdog.watch(process.pid)
        try:
            yield process
        finally:
            process_groups.kill(process.pid)
            process.wait()
            self._errands.discard(process.pid)
            self._watchdog.forget(process.pid)

    def stop(self, stages: Sequence[Iterable[str]], *, hurry: Callable[[], bool] = lambda: False) -> None:
        """Stop stage after stage, each a set of groups; who is not named belongs to none and is killed at the
        end.

        Each stage has 10 seconds, or until `hurry` says so.
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
                    self._report(f"{service.name} did not stop in time, killing it")
                service.end()
        for service in self.services:
            service.end()
        self._reap_orphans()

    def pids(self) -> dict[str, list[int]] | None:
        """Every group's processes, the main ones first; None while a service is down."""
        if any(not service.is_running for service in self.services):
            return None
        members = process_groups.by_leader()
        found: dict[str, list[int]] = {}
        for service in self.services:
            found.setdefault(service.group, []).extend(service.pids(members))
        return found

    def _reap_orphans(self) -> None:
        """Collect the exit status of processes that became ours when their parents died."""
        known = self._errands | {service.process.pid for service in self.services if service.process is not None}
        while (ended := _ended_child()) is not None and ended not in known:
            os.waitpid(ended, 0)


def adopt_orphans() -> None:
    """On Linux, let the orphans among our descendants become our children, so that none is out of sight."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _ended_child() -> int | None:
    """A child that has ended and was not waited for, left as it is."""
    try:
        info = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return info.si_pid if info is not None else None
