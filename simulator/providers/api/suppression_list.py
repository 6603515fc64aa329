"""MailChannels' list of recipients that are not written to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from threading import Lock
from typing import Any, Literal

from simulator.providers.api import periods
from simulator.providers.api.routes import RefusedError, read_number

SOURCES = ("api", "unsubscribe_link", "list_unsubscribe", "hard_bounce", "spam_complaint")
TYPES = ("transactional", "non-transactional")

_OLDEST = datetime.min.replace(tzinfo=UTC)
_MAX_ENTRIES = 1000
_LONGEST_RECIPIENT = 255
_LONGEST_NOTES = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One recipient, as one source put it on the list."""

    recipient: str
    source: str
    types: tuple[str, ...]
    notes: str | None
    created_at: datetime | None

    def document(self) -> dict[str, Any]:
        """Return the entry as the list shows it."""
        return {
            "recipient": self.recipient,
            "source": self.source,
            "suppression_types": list(self.types),
            "sender": None,
            "notes": self.notes,
            "created_at": self.created_at and self.created_at.replace(microsecond=0, tzinfo=None).isoformat() + "Z",
        }


class SuppressionList:
    """The entries of one account, one for each recipient and source, oldest first. For many threads."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str], Entry] = {}
        self._lock = Lock()

    def put(
        self,
        recipient: str,
        source: str = "hard_bounce",
        types: Sequence[str] = TYPES,
        *,
        created_at: datetime | Literal["now"] | None = "now",
    ) -> None:
        """Add an entry, as the provider does after a bounce, complaint or unsubscribe."""
        at = datetime.now(UTC) if created_at == "now" else created_at
        entry = Entry(recipient=recipient, source=source, types=tuple(types), notes=None, created_at=at)
        with self._lock:
            self._entries[recipient, source] = entry

    def recipients(self) -> set[str]:
        """Return everybody who is on the list."""
        with self._lock:
            return {recipient for recipient, _ in self._entries}

    def select(self, query: Mapping[str, str]) -> list[dict[str, Any]]:
        """Return the page that a query of the list asks for. Raises RefusedError with 400."""
        recipient, source = query.get("recipient"), query.get("source")
        if recipient is not None and len(recipient) > _LONGEST_RECIPIENT:
            raise RefusedError(HTTPStatus.BAD_REQUEST, "recipient is too long")
        if source is not None and source not in SOURCES:
            raise RefusedError(HTTPStatus.BAD_REQUEST, f"source must be one of {', '.join(SOURCES)}")
        period = periods.read(query)
        limit = read_number(query, "limit", 1000, range(1, 1001), HTTPStatus.BAD_REQUEST)
        offset = read_number(query, "offset", 0, range(1 << 31), HTTPStatus.BAD_REQUEST)
        with self._lock:
            entries = list(self._entries.values())
        found = [
            entry.document()
            for entry in entries
            if recipient in (None, entry.recipient)
            and source in (None, entry.source)
            and (entry.created_at or _OLDEST) in period
        ]
        return found[offset : offset + limit]

    def add(self, document: Mapping[str, Any]) -> None:
        """Add all entries of a request, or none. Raises RefusedError with 400, 409 or 413."""
        given = document.get("suppression_entries")
        if not isinstance(given, list) or not given:
            raise RefusedError(HTTPStatus.BAD_REQUEST, "suppression_entries must be a list that is not empty")
        if not isinstance(document.get("add_to_sub_accounts", False), bool):
            raise RefusedError(HTTPStatus.BAD_REQUEST, "add_to_sub_accounts must be a boolean")
        if len(given) > _MAX_ENTRIES:
            raise RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {_MAX_ENTRIES} entries")
        self._insert([_read_entry(entry) for entry in given])

    def _insert(self, entries: Sequence[Entry]) -> None:
        new = {(entry.recipient, entry.source): entry for entry in entries}
        with self._lock:
            if len(new) < len(entries) or new.keys() & self._entries.keys():
                raise RefusedError(HTTPStatus.CONFLICT, "some of the entries exist already")
            self._entries |= new

    def remove(self, recipient: str, source: str) -> None:
        """Remove what one source, or `all`, put there, if anything. Raises RefusedError with 400."""
        if source not in (*SOURCES, "all"):
            raise RefusedError(HTTPStatus.BAD_REQUEST, f"source must be one of {', '.join(SOURCES)}, all")
        with self._lock:
            for one in SOURCES if source == "all" else (source,):
                self._entries.pop((recipient, one), None)


def _read_entry(given: Any) -> Entry:
    if not isinstance(given, dict):
        raise RefusedError(HTTPStatus.BAD_REQUEST, "an entry must be an object")
    recipient, notes = given.get("recipient"), given.get("notes")
    if not isinstance(recipient, str) or "@" not in recipient or len(recipient) > _LONGEST_RECIPIENT:
        raise RefusedError(
            HTTPStatus.BAD_REQUEST, f"recipient must be an address of at most {_LONGEST_RECIPIENT} letters"
        )
    if notes is not None and (not isinstance(notes, str) or len(notes) > _LONGEST_NOTES):
        raise RefusedError(HTTPStatus.BAD_REQUEST, f"notes must be a text of at most {_LONGEST_NOTES} letters")
    types = given.get("suppression_types", ["non-transactional"])
    if not isinstance(types, list) or not types or not all(one in TYPES for one in types):
        raise RefusedError(HTTPStatus.BAD_REQUEST, f"suppression_types must be some of {', '.join(TYPES)}")
    return Entry(recipient=recipient, source="api", types=tuple(types), notes=notes, created_at=datetime.now(UTC))
