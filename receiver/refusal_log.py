"""Records refused requests, without delaying the response. A flood of them does not fill the database."""

import threading
from dataclasses import replace

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from shared.errors import first_line
from shared.receipts.store import Refusal, record_refusals

_INTERVAL_SECONDS = 0.2
_MAX_ROWS_PER_INTERVAL = 50

log = structlog.get_logger()

_Kind = tuple[str, int, str]


class RefusalLog:
    """A thread that stores refusals. After 50 rows in 200 ms, it only counts similar ones, across all sources."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._recorded: list[Refusal] = []
        self._repetitions: dict[_Kind, int] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="refusal log", daemon=True)
        self._thread.start()

    def record(self, refusal: Refusal) -> None:
        """Store a refusal soon."""
        with self._lock:
            is_full = len(self._recorded) >= _MAX_ROWS_PER_INTERVAL
            if is_full and _kind(refusal) not in self._repetitions:
                refusal = replace(refusal, source="")  # a client could invent any number of slugs
            if is_full and _kind(refusal) in self._repetitions:
                self._repetitions[_kind(refusal)] += 1
            else:
                self._recorded.append(refusal)
                self._repetitions.setdefault(_kind(refusal), 0)

    def close(self) -> None:
        """Store the remaining refusals, then stop."""
        self._stopping.set()
        self._thread.join(timeout=2)
        self._engine.dispose()

    def _run(self) -> None:
        while not self._stopping.wait(_INTERVAL_SECONDS):
            self._write()
        self._write()

    def _write(self) -> None:
        with self._lock:
            recorded, repetitions = self._recorded, self._repetitions
            self._recorded, self._repetitions = [], {}
        if not recorded:
            return
        # Refusals without a row are added to the count of the last row of their kind.
        rows = [replace(one, count=1 + repetitions.pop(_kind(one), 0)) for one in reversed(recorded)]
        try:
            with self._engine.begin() as connection:
                record_refusals(connection, rows)
        except SQLAlchemyError as error:
            log.warning("refusals could not be stored", refusals=len(rows), error=first_line(error))


def _kind(refusal: Refusal) -> _Kind:
    return refusal.source, refusal.status_code, refusal.reason
