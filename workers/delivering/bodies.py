"""Changes as they are sent: each is put together once for all its subscribers, and kept for a moment."""

import time
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection

from shared import feed, webhook_requests
from shared.db import changes
from shared.db.changes import Cursor
from shared.domain.subscriptions import Payload

_LIFE_SECONDS = 10.0  # what is erased meanwhile is sent no longer than this
_MOST_KEPT = 2000


class Bodies:
    """Reads changes and encodes them."""

    def __init__(self) -> None:
        self._read: dict[Cursor, tuple[float, dict[str, Any]]] = {}
        self._encoded: dict[tuple[Cursor, Payload], bytes] = {}

    def prepare(self, connection: Connection, cursors: Iterable[Cursor]) -> None:
        """Have these at hand for `of`."""
        now = time.monotonic()
        if len(self._read) > _MOST_KEPT or any(now - read > _LIFE_SECONDS for read, _ in list(self._read.values())[:1]):
            self._read.clear()
            self._encoded.clear()
        missing = [cursor for cursor in set(cursors) if cursor not in self._read]
        found = changes.at(connection, missing) if missing else []
        for change, payload in zip(found, feed.payloads(connection, found), strict=True):
            self._read[change.cursor] = (now, payload)

    def of(self, cursor: Cursor, form: Payload) -> bytes | None:
        """A change in this form; None if it is no longer kept."""
        if (cursor, form) not in self._encoded:
            if cursor not in self._read:
                return None
            self._encoded[cursor, form] = webhook_requests.encode(self._read[cursor][1], form)
        return self._encoded[cursor, form]
