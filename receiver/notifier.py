"""Wakes workers after commits. A separate thread does so, because no request may wait for the broker."""

import threading

from receiver import metrics
from shared.broker import PROCESS_RECEIPTS, TaskNotifier
from shared.supervision import SupervisedThread

_PAUSES = ((0.01, 0.05), (0.002, 0.15))
"""Pairs of the seconds for each receipt that was announced and the most seconds. The longer pause applies.

Above 100 receipts a second it is 50 ms, and workers look without wake-ups. Above 500 it grows to 150 ms, because a
batch of 50 receipts costs almost as much as one of 150 (docs/decisions/0014). Each receiver process has its own pauses.
"""

_MIN_RETRY_SECONDS = 1.0
_MAX_RETRY_SECONDS = 5.0


def pause_after(receipts: int) -> float:
    """Return how many seconds to wait after a wake-up that announced this number of receipts."""
    return max(min(max(receipts, 1) * each, most) for each, most in _PAUSES)


class Notifier:
    """Sends the first wake-up at once, then at most one per task and pause. `notify` only sets a flag."""

    def __init__(self, tasks: TaskNotifier) -> None:
        self._tasks = tasks
        self._due: set[str] = set()
        self._receipts = 0
        self._wanted = threading.Event()
        self._stopping = threading.Event()
        self._thread = SupervisedThread("notifier", self._run)
        self._thread.start()

    def notify(self, task: str = PROCESS_RECEIPTS, receipts: int = 1) -> None:
        """Wake the workers of a task soon. `receipts` is the number of new ones that wait for processing."""
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
        retry = _MIN_RETRY_SECONDS
        while not self._stopping.is_set():
            self._wanted.wait()
            self._wanted.clear()
            receipts, self._receipts = self._receipts, 0
            if self._send():
                retry = _MIN_RETRY_SECONDS
                self._stopping.wait(pause_after(receipts))
            else:  # the broker is unreachable; meanwhile the workers' sweep finds the receipts
                self._stopping.wait(retry)
                retry = min(2 * retry, _MAX_RETRY_SECONDS)
        if self._due:
            self._send()

    def _send(self) -> bool:
        due, self._due = self._due, set()
        results = [self._tasks.notify(task) for task in tuple(due)]  # requests may still add to it
        is_sent = all(results)
        metrics.count_wakeup(is_sent)
        return is_sent
