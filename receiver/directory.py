"""The sources, as a receiver knows them: kept in memory, and looked at again when told, or every two seconds.

No request asks the database for its source, so a database that is slow or down slows no request that is refused
anyway, and the cost of a lookup is that of a dict.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from functools import partial

import psycopg
import structlog

from receiver.database import Database, Line
from shared.encryption import Vault
from shared.errors import TidingsError
from shared.sources import store as sources
from shared.sources.source import Source, open_source

_LIFE_SECONDS = 2.0
_LEAST_INTERVAL_SECONDS = 0.05
_REFRESH_SECONDS = 1.0
_LISTEN_SECONDS = 0.5  # at a time, so that the thread sees that it is to stop
_LISTEN_AGAIN_SECONDS = 1.0

log = structlog.get_logger()


class Directory:
    """Sources by slug."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._line = Line(database)
        self._vault = vault
        self._by_slug: Mapping[str, Source] = {}
        self._unusable: frozenset[str] = frozenset()
        self._loaded_at = 0.0
        self._wanted = threading.Event()
        self._stopping = threading.Event()
        self._asking: dict[Callable[[], object], int] = {}
        self._begun = 0
        self._lock = threading.Lock()
        runs = {"directory": self._run, "listener": self._listen}
        self._threads = [threading.Thread(target=run, name=name, daemon=True) for name, run in runs.items()]
        for thread in self._threads:
            thread.start()

    def get(self, slug: str) -> Source | None:
        """The source of that name, as far as is known here."""
        return self._by_slug.get(slug)

    def is_unusable(self, slug: str) -> bool:
        """Whether there is such a source, but with credentials or settings that this process cannot use."""
        return slug in self._unusable

    @property
    def age_seconds(self) -> float:
        """How long ago the database was last asked."""
        return time.monotonic() - self._loaded_at

    async def refresh(self) -> bool:
        """Have the database asked now; False if it did not answer in time. Those who ask at once share one answer."""
        answered = asyncio.Event()
        answer = partial(asyncio.get_running_loop().call_soon_threadsafe, answered.set)
        with self._lock:
            self._asking[answer] = self._begun
        self._wanted.set()
        try:
            async with asyncio.timeout(_REFRESH_SECONDS):
                await answered.wait()
        except TimeoutError:
            return False
        finally:
            with self._lock:
                self._asking.pop(answer, None)
        return True

    def close(self) -> None:
        """Stop both threads."""
        self._stopping.set()
        self._wanted.set()
        for thread in self._threads:
            thread.join(timeout=2)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wanted.clear()
            try:
                self._load()
            except psycopg.Error as error:
                self._line.give_up()
                log.warning("sources could not be loaded", error=str(error).partition("\n")[0])
                self._stopping.wait(_LEAST_INTERVAL_SECONDS)
            self._stopping.wait(_LEAST_INTERVAL_SECONDS)
            self._wanted.wait(_LIFE_SECONDS)
        self._line.give_up()

    def _load(self) -> None:
        with self._lock:
            self._begun += 1
            begun = self._begun
        self._ask()
        with self._lock:
            # Not who asked since it began: it may have missed what they look for.
            answered = [answer for answer, since in self._asking.items() if since < begun]
            for answer in answered:
                del self._asking[answer]
        for answer in answered:
            with suppress(RuntimeError):  # the event loop has ended: nobody waits any more
                answer()

    def _ask(self) -> None:
        connection = self._line.connection()
        current = sources.versions(connection)
        known = {source.id: source for source in self._by_slug.values()}
        changed = [id_ for id_, version in current.items() if id_ not in known or known[id_].version != version]
        rows = sources.by_ids(connection, changed) if changed else []
        kept = {id_: source for id_, source in known.items() if id_ in current}
        unusable = set()
        for row in rows:
            try:
                kept[row.id] = open_source(row, self._vault)
            except TidingsError as error:
                kept.pop(row.id, None)  # rather no source than one that is checked by old rules
                unusable.add(row.slug)
                log.warning("a source cannot be used", source=row.slug, error=str(error))
        self._by_slug = {source.slug: source for source in kept.values()}
        self._unusable = frozenset(unusable)
        self._loaded_at = time.monotonic()

    def _listen(self) -> None:
        """Wake the other thread whenever a source changes. If that fails its two seconds still hold."""
        while not self._stopping.is_set():
            try:
                with closing(self._database.connect()) as connection:
                    connection.exec_driver_sql(f"LISTEN {sources.CHANNEL}")
                    self._wanted.set()
                    while not self._stopping.is_set():
                        for _ in connection.notifies(timeout=_LISTEN_SECONDS, stop_after=1):
                            self._wanted.set()
            except psycopg.Error:
                self._stopping.wait(_LISTEN_AGAIN_SECONDS)
