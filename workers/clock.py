"""Runs periodic tasks by the process's own clock while no wake-ups come: broker or beat may be down.

Every process reports to the database which periodic tasks wake-ups have started. A task that no process has run in time
is claimed by one of them and run in a thread. While wake-ups arrive, nothing runs twice.
"""

import os
import threading
import time
from collections import Counter
from contextlib import suppress
from typing import Any, Final

import structlog
from celery import Celery
from celery.bootsteps import StartStopStep
from celery.concurrency.prefork import TaskPool
from celery.signals import task_postrun, task_prerun, worker_process_init, worker_process_shutdown
from sqlalchemy.exc import SQLAlchemyError

from shared.broker import QUEUE, QUEUES
from shared.errors import first_line
from shared.jobs import periodic
from shared.supervision import SupervisedThread
from workers import context

TICK_SECONDS: Final = 2.0
GRACE_SECONDS: Final = 4.5
"""How late a wake-up may be. A sweep, due every 8 s, is started 14.5 s after the last one at the latest."""
_STOP_SECONDS: Final = 8.0
_REPLACED_SECONDS: Final = 10.0

log = structlog.get_logger()


class Clock:
    """The clock of one process that runs tasks: `slots` at once, of these queues."""

    def __init__(self, app: Celery, slots: int) -> None:
        self._app = app
        self._slots = slots
        queues = set(app.amqp.queues.consume_from)
        entries = app.conf.beat_schedule.values()
        self._schedule = {
            entry["task"]: float(entry["schedule"]) for entry in entries if QUEUES.get(entry["task"], QUEUE) in queues
        }
        self._running: Counter[str] = Counter()  # started by wake-ups
        self._ran: dict[str, float] = {}
        self._threads: dict[str, threading.Thread] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = SupervisedThread("clock", self._run)

    def start(self) -> None:
        """Start the thread."""
        task_prerun.connect(self._on_start)
        task_postrun.connect(self._on_end)
        self._thread.start()

    def stop(self) -> None:
        """Stop, and give running tasks some seconds to end."""
        self._stopping.set()
        deadline = time.monotonic() + _STOP_SECONDS
        for thread in (self._thread, *self._threads.values()):
            thread.join(max(0.0, deadline - time.monotonic()))
        with suppress(SQLAlchemyError):
            context.current().observations.flush(context.current().engine)

    def _on_start(self, task: Any, **_: Any) -> None:
        with self._lock:
            self._running[task.name] += 1
            self._ran[task.name] = time.monotonic()

    def _on_end(self, task: Any, **_: Any) -> None:
        with self._lock:
            self._running[task.name] -= 1

    def _run(self) -> None:
        while not self._stopping.wait(TICK_SECONDS):
            try:
                self._tick()
            except SQLAlchemyError as error:
                log.warning("the clock cannot reach the database", error=first_line(error))

    def _tick(self) -> None:
        """Report what ran, store what was observed, and run what is late. Only a process with a free slot runs it."""
        now = time.monotonic()
        with self._lock:
            running = +self._running
            ran = {task: now - at for task, at in self._ran.items() if task in self._schedule}
            self._ran.clear()
        ran.update({task: 0.0 for task in running if task in self._schedule})
        self._threads = {task: thread for task, thread in self._threads.items() if thread.is_alive()}
        is_busy = running.total() >= self._slots
        free = {} if is_busy else {task: every for task, every in self._schedule.items() if task not in self._threads}
        ctx = context.current()
        with ctx.engine.begin() as connection:
            late = periodic.claim_missed(connection, free, ran, grace_seconds=GRACE_SECONDS)
        ctx.observations.flush(ctx.engine)
        for task in late:
            self._threads[task] = threading.Thread(target=self._run_task, args=(task,), name=task, daemon=True)
            self._threads[task].start()
        problem = ctx.notifier.find_problem() if late else None
        if problem:
            log.warning("the broker is unusable; periodic tasks run by the clock", problem=problem, tasks=late)
            with ctx.engine.begin() as connection:
                periodic.record_problem(connection, late, f"it refuses messages: {problem}")

    def _run_task(self, task: str) -> None:
        try:
            self._app.tasks[task]()
        except Exception:  # as in Celery: it is logged, and the next run tries again
            log.exception("periodic task failed", task=task)


class ClockStep(StartStopStep):  # type: ignore[misc]
    """Part of a Celery worker. It starts the clock where the tasks run: here, or in each process of the pool."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self._clock: Clock | None = None
        self._stopping = threading.Event()

    def start(self, parent: Any) -> None:
        """Start the clock in this process, or watch the processes of its pool, which have their own."""
        if isinstance(parent.pool, TaskPool):
            SupervisedThread("pool", lambda: self._watch(parent.pool)).start()
        else:
            self._clock = Clock(parent.app, parent.concurrency)
            self._clock.start()

    def stop(self, parent: Any) -> None:  # noqa: ARG002
        """Stop the clock."""
        self._stopping.set()
        if self._clock is not None:
            self._clock.stop()

    def _watch(self, pool: TaskPool) -> None:
        """End this process if one of its pool has ended and is not replaced, as by Celery without a broker."""
        dead_since: dict[int, float] = {}
        while not self._stopping.wait(TICK_SECONDS):
            now = time.monotonic()
            dead = [pid for pid in pool.info["processes"] if not _is_running(pid)]
            # By process: where one receipt ends each of them, the next one may have ended too.
            dead_since = {pid: dead_since.get(pid, now) for pid in dead}
            if any(now - since > _REPLACED_SECONDS for since in dead_since.values()):
                log.error("a process that runs tasks has ended and was not replaced; this worker ends")
                os._exit(1)


def _is_running(child: int) -> bool:
    try:
        return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    except ChildProcessError:
        return False


def install(app: Celery) -> None:
    """Give every process that runs tasks of this application a clock."""
    app.steps["worker"].add(ClockStep)
    clocks: list[Clock] = []

    def start(**_: Any) -> None:
        clocks.append(Clock(app, slots=1))
        clocks[0].start()

    def stop(**_: Any) -> None:
        for clock in clocks:
            clock.stop()

    worker_process_init.connect(start, weak=False)
    worker_process_shutdown.connect(stop, weak=False)
