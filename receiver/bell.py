"""Rings the doorbell after commits: at most once in 10 ms and process, and never in a request's way."""

import threading
import time

from receiver import metrics
from shared.doorbell import DRAIN, Doorbell

_INTERVAL_SECONDS = 0.01
_PAUSE_AFTER_FAILURE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 5.0


class Bell:
    """A thread that publishes; `ring` only raises its flag."""

    def __init__(self, doorbell: Doorbell) -> None:
        self._doorbell = doorbell
        self._due: set[str] = set()
        self._wanted = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bell", daemon=True)
        self._thread.start()

    def ring(self, task: str = DRAIN) -> None:
        """Have the workers told, soon, that there is work for this task."""
        self._due.add(task)
        if not self._wanted.is_set():
            self._wanted.set()

    def close(self) -> None:
        """Ring a last time if that is due, then stop."""
        self._stopping.set()
        self._wanted.set()
        self._thread.join(timeout=2)
        self._doorbell.close()

    def _run(self) -> None:
        pause = _PAUSE_AFTER_FAILURE_SECONDS
        while not self._stopping.is_set():
            self._wanted.wait()
            self._wanted.clear()
            if self._publish():
                pause = _PAUSE_AFTER_FAILURE_SECONDS
                time.sleep(_INTERVAL_SECONDS)
            else:
                # The breaker: the sweep finds the rows meanwhile.
                self._stopping.wait(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
        if self._due:
            self._publish()

    def _publish(self) -> bool:
        due, self._due = self._due, set()
        answers = [self._doorbell.ring(task) for task in due]
        metrics.count_bell(all(answers))
        return all(answers)
