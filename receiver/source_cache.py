"""Cache of sources, reloaded when one changes (PostgreSQL's LISTEN) and every two seconds.

No request queries the database for its source. So a lookup is cheap, and a slow database does not delay refusals.
"""

import threading
import time
from collections.abc import Mapping
from multiprocessing.connection import Pipe, wait
from typing import Any

import psycopg
import structlog
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from receiver.errors import StorageUnavailableError
from shared.encryption import Vault
from shared.errors import NotFoundError, TidingsError, first_line
from shared.http import greenlets
from shared.http.greenlets import Completion
from shared.http.timeouts import TimeoutWheel
from shared.postgres.engine import is_pooled
from shared.providers.webhooks.base import StatusCodes
from shared.sources import store as sources
from shared.sources.source import Source, open_source
from shared.supervision import SupervisedThread

_MAX_AGE_SECONDS = 2.0
_MIN_INTERVAL_SECONDS = 0.05
_REFRESH_SECONDS = 1.0
_CHECK_SECONDS = 0.05
_RECONNECT_SECONDS = 1.0

log = structlog.get_logger()


class SourceCache:
    """Sources by slug, reloaded at least every `max_age_seconds`."""

    def __init__(self, engine: Engine, vault: Vault, *, max_age_seconds: float = _MAX_AGE_SECONDS) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._vault = vault
        self._max_age_seconds = max_age_seconds
        self._by_slug: Mapping[str, Source] = {}
        self._unusable: frozenset[str] = frozenset()
        self._loaded_at = 0.0
        self._wanted = threading.Event()
        self._stopping = threading.Event()
        self._stop_reader, self._stop_writer = Pipe(duplex=False)
        self._timeouts: TimeoutWheel[Completion[Any]] = TimeoutWheel(_CHECK_SECONDS)
        self._waiting: dict[Completion[bool], int] = {}
        self._loads_started = 0
        self._lock = threading.Lock()
        self._threads = [
            SupervisedThread("source cache", self._run),
            SupervisedThread("source notifications", self._listen),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def age_seconds(self) -> float:
        """How long ago the sources were last loaded."""
        return time.monotonic() - self._loaded_at

    def find(self, slug: str) -> Source | None:
        """Return the source of this name if it is in memory."""
        return self._by_slug.get(slug)

    def get(self, slug: str) -> Source:
        """Return the source of this name. Reloads the sources if it is not in memory.

        Raises NotFoundError; StorageUnavailableError if the database does not respond, or if the stored
        credentials cannot be used. An operator may fix them before the provider stops retrying.
        """
        source = self._by_slug.get(slug)
        if source is not None:
            return source
        is_current = self.refresh()
        source = self._by_slug.get(slug)
        if source is not None:
            return source
        if not is_current or slug in self._unusable:
            raise StorageUnavailableError("The source cannot be loaded at the moment; try again.")
        raise NotFoundError("No source has this name; check the webhook's URL.")

    def status_codes(self, slug: str | None) -> StatusCodes:
        """Return the status codes of the source's provider, or those for unknown sources."""
        source = self._by_slug.get(slug) if slug else None
        return source.provider.status_codes if source else StatusCodes()

    @property
    def waiting_requests(self) -> int:
        """How many requests wait for a reload."""
        return len(self._waiting)

    def refresh(self, max_seconds: float = _REFRESH_SECONDS) -> bool:
        """Request a reload and wait for it; concurrent callers share one. Return False if the database is too slow."""
        completion = Completion[bool](self._timeouts)
        with self._lock:
            self._waiting[completion] = self._loads_started
        self._wanted.set()
        try:
            return completion.wait(max_seconds)
        except TimeoutError:
            return False
        finally:
            with self._lock:
                self._waiting.pop(completion, None)

    def close(self) -> None:
        """Stop both threads."""
        self._stopping.set()
        self._wanted.set()
        self._stop_writer.close()
        for thread in self._threads:
            thread.join(timeout=2)
        self._engine.dispose()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wanted.clear()
            try:
                self._load()
            except SQLAlchemyError as error:
                log.warning("sources could not be loaded", error=first_line(error))
                self._stopping.wait(_MIN_INTERVAL_SECONDS)
            self._stopping.wait(_MIN_INTERVAL_SECONDS)
            self._wanted.wait(self._max_age_seconds)

    def _load(self) -> None:
        with self._lock:
            self._loads_started += 1
            started = self._loads_started
        with self._engine.connect() as connection:
            self._load_changed(connection)
        with self._lock:
            # Requests that began to wait during this load stay: it may have missed the source that they need.
            current = [waiting for waiting, since in self._waiting.items() if since < started]
            for waiting in current:
                del self._waiting[waiting]
        greenlets.complete((waiting, True) for waiting in current)

    def _load_changed(self, connection: Connection) -> None:
        versions = sources.versions(connection)
        loaded = {source.id: source for source in self._by_slug.values() if source.id in versions}
        changed = [id_ for id_, version in versions.items() if id_ not in loaded or loaded[id_].version != version]
        unusable = set()
        for row in sources.by_ids(connection, changed) if changed else ():
            try:
                loaded[row.id] = open_source(row, self._vault)
            except TidingsError as error:
                loaded.pop(row.id, None)  # verifying with outdated credentials is worse than a 503
                unusable.add(row.slug)
                log.warning("source cannot be used", source=row.slug, error=str(error))
        self._by_slug = {source.slug: source for source in loaded.values()}
        self._unusable = frozenset(unusable)
        self._loaded_at = time.monotonic()

    def _listen(self) -> None:
        """Request a reload whenever PostgreSQL reports a changed source.

        If this fails, or a connection pooler cannot listen, the periodic reload remains.
        """
        while not self._stopping.is_set():
            try:
                with self._engine.connect() as connection:
                    if is_pooled(connection):
                        return
                    connection.detach()  # a listening connection must not return to the pool
                    connection.exec_driver_sql(f"LISTEN {sources.CHANNEL}")
                    driver: psycopg.Connection = connection.connection.dbapi_connection  # type: ignore[assignment]
                    self._wanted.set()
                    while not self._stopping.is_set():
                        # Without a timeout: `notifies` would wake this thread every 0.1 s.
                        if driver.fileno() in wait([driver.fileno(), self._stop_reader]):
                            for _ in driver.notifies(timeout=0):
                                self._wanted.set()
            except (SQLAlchemyError, psycopg.Error):
                self._stopping.wait(_RECONNECT_SECONDS)
