"""Sources by id, for the processes that work on what was received: kept for a moment, deleted ones included."""

import time
from collections.abc import Iterable, Mapping

from sqlalchemy import Connection

from shared.encryption import Vault
from shared.errors import TidingsError
from shared.sources import store as sources
from shared.sources.source import Source, open_source

_LIFE_SECONDS = 2.0


class SourceCache:
    """Opens sources, and each again when two seconds have passed."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._opened: dict[int, tuple[float, Source | TidingsError]] = {}

    def of(self, connection: Connection, ids: Iterable[int]) -> Mapping[int, Source | TidingsError]:
        """These sources, or the error that says why one cannot be used."""
        wanted = set(ids)
        now = time.monotonic()
        missing = [id_ for id_ in wanted if id_ not in self._opened or now - self._opened[id_][0] > _LIFE_SECONDS]
        for row in sources.by_ids(connection, missing) if missing else ():
            try:
                self._opened[row.id] = (now, open_source(row, self._vault))
            except TidingsError as error:
                self._opened[row.id] = (now, error)
        return {id_: self._opened[id_][1] for id_ in wanted if id_ in self._opened}

    def forget(self, source_id: int) -> None:
        """Have a source that was changed opened anew."""
        self._opened.pop(source_id, None)
