"""Changes as they are sent: each is put together once for all subscribers of a tenant, and kept for a moment."""

import time
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection

from shared import webhook_requests
from shared.changes import log as change_log
from shared.changes import payload as change_payload
from shared.changes.log import Cursor
from shared.domain.subscriptions import Payload

_LIFE_SECONDS = 10.0  # what is erased meanwhile is sent no longer than this
_MOST_KEPT = 2000

Sight = tuple[Cursor, str | None]
"""A change, and the tenant of who is told of it: None is told everything."""


class Bodies:
    """Reads changes and encodes them."""

    def __init__(self) -> None:
        self._read: dict[Sight, tuple[float, dict[str, Any]]] = {}
        self._encoded: dict[tuple[Sight, Payload], bytes] = {}

    def prepare(self, connection: Connection, sights: Iterable[Sight]) -> None:
        """Have these at hand for `of`."""
        now = time.monotonic()
        if len(self._read) > _MOST_KEPT or any(now - read > _LIFE_SECONDS for read, _ in list(self._read.values())[:1]):
            self._read.clear()
            self._encoded.clear()
        missing = {sight for sight in sights if sight not in self._read}
        if not missing:
            return
        found = {change.cursor: change for change in change_log.at(connection, list({cursor for cursor, _ in missing}))}
        asked = [(found[cursor], tenant) for cursor, tenant in missing if cursor in found]
        self._read |= {
            sight: (now, payload) for sight, payload in change_payload.payloads_for(connection, asked).items()
        }

    def of(self, sight: Sight, form: Payload) -> bytes | None:
        """A change in this form; None if it is no longer kept, or not this tenant's."""
        if (sight, form) not in self._encoded:
            if sight not in self._read:
                return None
            self._encoded[sight, form] = webhook_requests.encode(self._read[sight][1], form)
        return self._encoded[sight, form]
