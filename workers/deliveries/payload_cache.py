"""Cache of request bodies: each change is built once for all subscribers of a tenant."""

import time
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection

from shared.changes import log as change_log
from shared.changes import payload as change_payload
from shared.changes.log import Cursor
from shared.deliveries import requests
from shared.vocabulary import PayloadFormat

TTL_SECONDS: Final = 10.0
"""Limits how long erased data can still be sent."""
_MAX_CHANGES: Final = 2000
_MAX_BYTES: Final = 16 * 1024 * 1024

View = tuple[Cursor, str | None, bool]
"""A change, the tenant that may see it (None sees everything), and whether the text of inbound mail is included."""


class PayloadCache:
    """Reads changes and encodes them."""

    def __init__(self) -> None:
        self._payloads: dict[View, dict[str, Any]] = {}
        self._encoded: dict[tuple[View, PayloadFormat], bytes] = {}
        self._bytes = 0
        self._oldest_at = 0.0

    def load(self, connection: Connection, views: Iterable[View]) -> None:
        """Load missing changes, so that `get` finds them."""
        now = time.monotonic()
        is_full = len(self._payloads) > _MAX_CHANGES or self._bytes > _MAX_BYTES
        if is_full or (self._payloads and now - self._oldest_at > TTL_SECONDS):
            self._payloads.clear()
            self._encoded.clear()
            self._bytes = 0
        missing = {view for view in views if view not in self._payloads}
        if not missing:
            return
        if not self._payloads:
            self._oldest_at = now
        found = {
            change.cursor: change
            for change in change_log.get_changes(connection, list({cursor for cursor, *_ in missing}))
        }
        for with_text in {with_text for *_, with_text in missing}:
            asked = [(found[view[0]], view[1]) for view in missing if view[0] in found and view[2] is with_text]
            built = change_payload.build_payloads_by_tenant(connection, asked, include_body_text=with_text)
            self._payloads |= {(cursor, tenant, with_text): payload for (cursor, tenant), payload in built.items()}

    def changed_at(self, view: View) -> datetime | None:
        """Return when a change happened; None if it is no longer stored, or not the tenant's."""
        payload = self._payloads.get(view)
        return None if payload is None else payload["timestamp"]

    def get(self, view: View, form: PayloadFormat) -> bytes | None:
        """Return a change in this format; None if it is no longer stored, or not the tenant's."""
        if (view, form) not in self._encoded:
            if view not in self._payloads:
                return None
            self._encoded[view, form] = requests.encode(self._payloads[view], form)
            self._bytes += len(self._encoded[view, form])
        return self._encoded[view, form]
