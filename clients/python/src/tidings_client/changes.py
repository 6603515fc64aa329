"""Changes, and following the feed with a cursor that is committed together with the work."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from tidings_client.api import Client

_WAIT_SECONDS = 20


class TakenOverError(Exception):
    """Another program follows the feed under the same name, and has moved its cursor."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change. `data` has `message`, `recipient`, `status`, `version`, `event`, or `suppression` or `alert`."""

    id: str
    type: str
    timestamp: str
    data: dict[str, Any]


def read_change(document: dict[str, Any]) -> Change:
    """Return the change of a document. Raises KeyError if it is none."""
    return Change(document["id"], document["type"], document["timestamp"], document["data"])


class CursorStore:
    """Cursors in a table `tidings_cursors` of the database that `connection` (DB-API) leads to.

    `placeholder` is that of the driver: `?` for sqlite3, `%s` for psycopg. The connection must not commit by itself.
    """

    def __init__(self, connection: Any, *, placeholder: str = "?") -> None:
        self._connection = connection
        self._placeholder = placeholder
        self._run("CREATE TABLE IF NOT EXISTS tidings_cursors (name VARCHAR(200) PRIMARY KEY, position VARCHAR(64))")
        connection.commit()

    def load(self, name: str) -> str | None:
        """Return the cursor; None at the beginning."""
        with closing(self._connection.cursor()) as cursor:
            cursor.execute(self._sql("SELECT position FROM tidings_cursors WHERE name = ?"), (name,))
            row = cursor.fetchone()
        if row is None:
            self._run("INSERT INTO tidings_cursors (name, position) VALUES (?, NULL)", name)
            self.commit()
            return None
        self.commit()  # no transaction stays open while the feed is waited for
        position: str | None = row[0]
        return position

    def move(self, name: str, before: str | None, after: str) -> None:
        """Move the cursor in the open transaction. Raises TakenOverError if it is not where it was."""
        values = (after, name) if before is None else (after, name, before)
        condition = "position IS NULL" if before is None else "position = ?"
        if self._run(f"UPDATE tidings_cursors SET position = ? WHERE name = ? AND {condition}", *values) != 1:
            raise TakenOverError(f"The cursor {name!r} was moved by another program.")

    def commit(self) -> None:
        """Commit the open transaction."""
        self._connection.commit()

    def rollback(self) -> None:
        """Roll the open transaction back."""
        self._connection.rollback()

    def _run(self, statement: str, *values: str) -> int:
        with closing(self._connection.cursor()) as cursor:
            cursor.execute(self._sql(statement), values)
            return int(cursor.rowcount)

    def _sql(self, statement: str) -> str:
        return statement.replace("?", self._placeholder)


def consume(
    client: Client, name: str, store: CursorStore, *, types: Sequence[str] = (), wait: float = _WAIT_SECONDS
) -> Iterator[Change]:
    """Yield each change once, for ever, in the order of the change log, beginning with the oldest one that is kept.

    While the caller has a change, a transaction of the store's connection is open, which moves the cursor behind it.
    Asking for the next change commits it, with what the caller wrote; an exception in the caller's loop, or its end
    by `break`, rolls it back, and the change is yielded again by the next `consume` with this name.

    Raises ApiError with status 410 if the cursor is older than what is kept: `problem["oldest_cursor"]` is where to
    begin. Raises TakenOverError if another program uses the name.
    """
    cursor = store.load(name)
    while True:
        query: dict[str, Any] = {"wait": wait, "limit": 500}
        if types:
            query["types"] = ",".join(types)
        if cursor is not None:
            query["cursor"] = cursor
        page = client.call("GET", f"/v1/changes?{urlencode(query)}")
        try:
            for document in page["items"]:
                change = read_change(document)
                store.move(name, cursor, change.id)
                yield change
                store.commit()
                cursor = change.id
            if page["next_cursor"] != cursor:
                store.move(name, cursor, page["next_cursor"])
                store.commit()
                cursor = page["next_cursor"]
        except BaseException:  # GeneratorExit, where the caller's loop has ended
            store.rollback()
            raise
