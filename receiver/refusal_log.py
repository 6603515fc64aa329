"""Records refused requests, without delaying the response. A flood of them does not fill the database."""

import threading
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from shared.errors import first_line
from shared.receipts.store import Refusal, record_refusals
from shared.supervision import SupervisedThread
from shared.vocabulary import RefusalReason

# The most that one process stores in a minute. Anybody can cause refusals, so any others are only counted.
MAX_ROWS_OF_KIND = 20
MAX_ROWS = 200
MAX_HEADER_BYTES = 64 * 1024
MAX_KINDS = 50
COUNTS_SECONDS = 5.0
"""How often the counts are stored, one row for each kind: source, status code and reason."""

_INTERVAL_SECONDS = 0.2

log = structlog.get_logger()

_Kind = tuple[str, int, str]


class RefusalLog:
    """A thread that stores refusals: the first ones of a kind in each minute as they are, and a count of the others."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._recorded: list[Refusal] = []
        self._counted: dict[_Kind, Refusal] = {}
        self._minute = datetime.min.replace(tzinfo=UTC)
        self._seen: Counter[_Kind] = Counter()
        self._rows = self._header_bytes = 0
        self._is_failing = False
        self._lock = threading.Lock()
        self._wanted = threading.Event()
        self._stopping = threading.Event()
        self._thread = SupervisedThread("refusal log", self._run)
        self._thread.start()

    def record(self, refusal: Refusal) -> None:
        """Store or count a refusal soon."""
        minute = refusal.refused_at.replace(second=0, microsecond=0)
        # A client could invent any number of sources.
        source = "" if refusal.reason == RefusalReason.UNKNOWN_SOURCE else refusal.source
        with self._lock:
            self._wanted.set()
            if minute > self._minute:
                self._minute, self._rows, self._header_bytes = minute, 0, 0
                self._seen.clear()
            kind = source, refusal.status_code, refusal.reason
            if kind not in self._seen and len(self._seen) >= MAX_KINDS:
                kind = "", refusal.status_code, refusal.reason
            self._seen[kind] += 1
            if self._seen[kind] > MAX_ROWS_OF_KIND or self._rows >= MAX_ROWS:
                before = self._counted.get(kind)
                count = refusal.count + (before.count if before else 0)
                self._counted[kind] = replace(refusal, source=kind[0], remote_ip=None, headers="{}", count=count)
                return
            self._rows += 1
            self._header_bytes += len(refusal.headers)
            is_over = self._header_bytes > MAX_HEADER_BYTES
            self._recorded.append(replace(refusal, headers="{}") if is_over else refusal)

    def close(self) -> None:
        """Store the remaining refusals and counts, then stop."""
        self._stopping.set()
        self._wanted.set()
        self._thread.join(timeout=2)
        self._engine.dispose()

    def _run(self) -> None:
        waited = 0.0
        while not self._stopping.is_set():
            self._wanted.wait()
            self._stopping.wait(_INTERVAL_SECONDS)
            waited += _INTERVAL_SECONDS
            self._write(with_counts=waited >= COUNTS_SECONDS)
            waited = 0.0 if waited >= COUNTS_SECONDS else waited
        self._write(with_counts=True)

    def _write(self, *, with_counts: bool) -> None:
        with self._lock:
            rows, self._recorded = self._recorded, []
            if with_counts:
                rows = [*rows, *self._counted.values()]
                self._counted = {}
            if not self._counted:
                self._wanted.clear()
        if not rows:
            return
        try:
            with self._engine.begin() as connection:
                record_refusals(connection, rows)
            self._is_failing = False
        except SQLAlchemyError as error:
            if not self._is_failing:  # one line for an outage
                log.warning("refusals could not be stored", refusals=len(rows), error=first_line(error))
            self._is_failing = True
