"""Reading the log for streams. Runs in threads: each call is a transaction of its own, and holds nothing afterwards."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, Engine

from api.streaming import frames
from api.streaming.handover import Sight
from shared.changes import log as change_log
from shared.changes import payload as change_payload
from shared.changes.filters import fits
from shared.changes.log import Change, Cursor
from shared.subscriptions.model import ChangeSubject

_CHANGES_AT_ONCE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A change as the live end of the log holds it.

    `frames` are its bytes by the tenant whose keys they are shown to (None: keys of no tenant): for those only who
    were there to see it when it was read.
    """

    cursor: Cursor
    subject: ChangeSubject
    message_id: str | None
    frames: Mapping[str | None, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of the log as somebody sees it, in bytes, and where it ends."""

    data: bytes
    end: Cursor


class LogReader:
    """The log, for the streams of this process."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def end(self) -> Cursor:
        """Where the log ends now."""
        with self._engine.begin() as connection:
            return change_log.end(connection)

    def part(self, after: Cursor, sight: Sight) -> Part:
        """What one who sees this is shown next. Raises GoneError."""
        with self._engine.begin() as connection:
            reading = change_log.read(connection, after=after, wanted=sight.wanted, limit=_CHANGES_AT_ONCE)
            shown = change_payload.payloads(connection, reading.changes, tenant=sight.tenant)
        return Part(data=b"".join(map(frames.change, shown)), end=reading.next)

    def entries(self, after: Cursor, sights: Collection[Sight], limit: int) -> tuple[list[Entry], Cursor]:
        """What follows, for all who see the one or the other, and where it ends. Raises GoneError."""
        with self._engine.begin() as connection:
            reading = change_log.read(connection, after=after, limit=limit)
            shown = _shown(connection, reading.changes, sights)
        found = [
            Entry(
                cursor=change.cursor,
                subject=change.subject,
                message_id=_message_id(change),
                frames=shown.get(change.cursor, {}),
            )
            for change in reading.changes
        ]
        return found, reading.next


def _shown(
    connection: Connection, found: Collection[Change], sights: Collection[Sight]
) -> Mapping[Cursor, Mapping[str | None, bytes]]:
    """The bytes of each change for each tenant to whose keys it is shown."""
    shown: dict[Cursor, dict[str | None, bytes]] = defaultdict(dict)
    for tenant in {sight.tenant for sight in sights}:
        wanted = [sight.wanted for sight in sights if sight.tenant == tenant]
        fitting = [c for c in found if any(fits(each, c.subject, _message_id(c)) for each in wanted)]
        if not fitting:
            continue
        for change, payload in zip(fitting, change_payload.payloads(connection, fitting, tenant=tenant), strict=True):
            shown[change.cursor][tenant] = frames.change(payload)
    return shown


def _message_id(change: Change) -> str | None:
    return str(change.message_id) if change.message_id else None
