"""Reads the change log for streams. Runs in threads; each call is a transaction."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqlalchemy import Engine

from api.streaming import sse
from api.streaming.deferred import View
from shared.changes import log as change_log
from shared.changes import payload as change_payload
from shared.changes.filters import matches
from shared.changes.log import Change, Cursor
from shared.subscriptions.model import ChangeSubject

_MAX_CHANGES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A change in the live log.

    `events` are its bytes by tenant (None: for keys without one), for the tenants that had a stream when it was read.
    """

    cursor: Cursor
    subject: ChangeSubject
    message_id: str | None
    events: Mapping[str | None, bytes]

    @property
    def size(self) -> int:
        """The number of bytes of its events."""
        return sum(map(len, self.events.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of the log as a client sees it, and the cursor of its end."""

    data: bytes
    end: Cursor


class LogReader:
    """The change log in the database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def end(self) -> Cursor:
        """Return the cursor of the log's end."""
        with self._engine.begin() as connection:
            return change_log.get_end(connection)

    def part(self, after: Cursor, view: View) -> Part:
        """Return the next part of a view. Raises CursorGoneError."""
        with self._engine.begin() as connection:
            reading = change_log.read(connection, after=after, wanted=view.wanted, limit=_MAX_CHANGES)
            payloads = change_payload.build_payloads(connection, reading.changes, tenant=view.tenant)
        return Part(data=b"".join(map(sse.change, payloads)), end=reading.next)

    def entries(self, after: Cursor, views: Collection[View], limit: int) -> tuple[list[Entry], Cursor]:
        """Return the next changes, their bytes for these views, and the cursor of their end. Raises CursorGoneError."""
        events: dict[Cursor, dict[str | None, bytes]] = defaultdict(dict)
        with self._engine.begin() as connection:
            reading = change_log.read(connection, after=after, limit=limit)
            for tenant in {view.tenant for view in views}:
                filters = [view.wanted for view in views if view.tenant == tenant]
                matching = [
                    c for c in reading.changes if any(matches(each, c.subject, _message_id(c)) for each in filters)
                ]
                payloads = change_payload.build_payloads(connection, matching, tenant=tenant) if matching else []
                for change, payload in zip(matching, payloads, strict=True):
                    events[change.cursor][tenant] = sse.change(payload)
        entries = [
            Entry(
                cursor=change.cursor,
                subject=change.subject,
                message_id=_message_id(change),
                events=events.get(change.cursor, {}),
            )
            for change in reading.changes
        ]
        return entries, reading.next


def _message_id(change: Change) -> str | None:
    return str(change.message_id) if change.message_id else None
