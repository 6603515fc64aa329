"""Wakes workers after commits. A separate thread does so, because no request may wait for the broker."""

import threading
import time

from receiver import metrics
from shared.broker import PROCESS_RECEIPTS, TaskNotifier
from shared.supervision import SupervisedThread

_INTERVAL_SECONDS = 0.01
_BUSY_INTERVAL_SECONDS = 0.05
_BUSY_RECEIPTS_PER_SECOND = 300
"""At this rate workers are always busy, so they need fewer wake-ups."""
_RATE_SECONDS = 0.05
"""The rate is that of at least this time: a few receipts at once are not a high rate."""

_MIN_PAUSE_SECONDS = 1.0
_MAX_PAUSE_SECONDS = 5.0


class Notifier:
    """Sends the first wake-up at once, then at most one per task and interval. `notify` only sets a flag."""

    def __init__(self, tasks: TaskNotifier) -> None:
        self._tasks = tasks
        self._due: set[str] = set()
        self._receipts = 0
        self._wanted = threading.Event()
        self._stopping = threading.Event()
        self._thread = SupervisedThread("notifier", self._run)
        self._thread.start()

    def notify(self, task: str = PROCESS_RECEIPTS, receipts: int = 1) -> None:
        """Wake the workers of a task soon. `receipts` is the number of new ones."""
        self._due.add(task)
        self._receipts += receipts
        if not self._wanted.is_set():
            self._wanted.set()

    def close(self) -> None:
        """Send the last wake-up if one is due, then stop."""
        self._stopping.set()
        self._wanted.set()
        self._thread.join(timeout=2)
        self._tasks.close()

    def _run(self) -> None:
        pause, sent_at = _MIN_PAUSE_SECONDS, 0.0
        while not self._stopping.is_set():
            self._wanted.wait()
            self._wanted.clear()
            receipts, self._receipts = self._receipts, 0
            now = time.monotonic()
            is_busy = receipts > _BUSY_RECEIPTS_PER_SECOND * max(now - sent_at, _RATE_SECONDS)
            sent_at = now
            if self._send():
                pause = _MIN_PAUSE_SECONDS
                self._stopping.wait(_BUSY_INTERVAL_SECONDS if is_busy else _INTERVAL_SECONDS)
            else:  # the broker is unreachable; meanwhile the workers' sweep finds the receipts
                self._stopping.wait(pause)
                pause = min(2 * pause, _MAX_PAUSE_SECONDS)
        if self._due:
            self._send()

    def _send(self) -> bool:
        due, self._due = self._due, set()
        results = [self._tasks.notify(task) for task in tuple(due)]  # requests may still add to it
        is_sent = all(results)
        metrics.count_wakeup(is_sent)
        return is_sent
