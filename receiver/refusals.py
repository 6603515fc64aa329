"""Lists what was refused, without making the refusal slower, and without letting a flood fill the database."""

import threading
from dataclasses import replace

import psycopg
import structlog

from receiver.database import Database, Line
from shared.receipts import refusals
from shared.receipts.refusals import Refusal

_INTERVAL_SECONDS = 0.2
_MOST_ROWS_PER_FLUSH = 50

log = structlog.get_logger()


class RefusalBook:
    """A thread that writes what was noted. Beyond 50 in 200 ms, like is counted with like, whatever the source."""

    def __init__(self, database: Database) -> None:
        self._line = Line(database)
        self._noted: list[Refusal] = []
        self._counts: dict[tuple[str, int, str], int] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="refusals", daemon=True)
        self._thread.start()

    def note(self, refusal: Refusal) -> None:
        """Have a refusal listed, soon."""
        with self._lock:
            if len(self._noted) >= _MOST_ROWS_PER_FLUSH and _alike(refusal) not in self._counts:
                refusal = replace(refusal, source="")  # there is no end to the names that somebody may think of
            if len(self._noted) < _MOST_ROWS_PER_FLUSH or _alike(refusal) not in self._counts:
                self._noted.append(refusal)
                self._counts.setdefault(_alike(refusal), 0)
            else:
                self._counts[_alike(refusal)] += 1

    def close(self) -> None:
        """Write what is noted, then stop."""
        self._stopping.set()
        self._thread.join(timeout=2)

    def _run(self) -> None:
        while not self._stopping.wait(_INTERVAL_SECONDS):
            self._flush()
        self._flush()
        self._line.give_up()

    def _flush(self) -> None:
        with self._lock:
            noted, counts = self._noted, self._counts
            self._noted, self._counts = [], {}
        if not noted:
            return
        rows = []
        for refusal in reversed(noted):  # the last of each kind carries the count of those left out
            left_out = counts.pop(_alike(refusal), 0)
            rows.append(replace(refusal, count=1 + left_out))
        try:
            refusals.record(self._line.connection(), rows)
        except psycopg.Error as error:
            self._line.give_up()
            log.warning("refusals could not be listed", refusals=len(rows), error=str(error).partition("\n")[0])


def _alike(refusal: Refusal) -> tuple[str, int, str]:
    return refusal.source, refusal.status_code, refusal.reason
