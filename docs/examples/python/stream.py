"""Follow the change stream (server-sent events), and store each change once.

TIDINGS_KEY=… python stream.py DATABASE
"""

import http.client
import json
import sqlite3
import sys
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

from tidings import KEY, URL, open_store, store

NAME = "stream"
SILENCE_SECONDS = 60  # the server sends a comment every few seconds, so silence means a broken connection


def main(path: str) -> None:
    """Follow the stream for ever, connecting again whenever it ends."""
    database = open_store(path)
    while True:
        row = database.execute("SELECT cursor FROM cursors WHERE name = ?", (NAME,)).fetchone()
        try:
            for cursor, text in events(row[0] if row else None):
                change = json.loads(text) if text else None
                # The change and the place are committed together: after a crash, the stream continues from here.
                database.execute("BEGIN IMMEDIATE")
                is_new = change is not None and store(database, change)
                save(database, cursor)
                database.execute("COMMIT")
                if change is not None and is_new:
                    print(f"{cursor} {change['type']} {change['data'].get('recipient') or ''}", flush=True)
        except (OSError, http.client.HTTPException) as error:
            print(f"connecting again in 2 s: {error}", flush=True)
        time.sleep(2)


def events(last: str | None) -> Iterator[tuple[str, str]]:
    """Yield the id and the data of each event after the last one; the data is empty where there is only a place."""
    parts = urlsplit(URL)
    connect = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = connect(parts.netloc, timeout=SILENCE_SECONDS)
    try:
        # The header, not `cursor`: without either, the stream begins at the end of the log.
        place = {"Last-Event-ID": last} if last else {}
        connection.request("GET", "/v1/changes/stream", headers={"Authorization": f"Bearer {KEY}", **place})
        response = connection.getresponse()
        if response.status != 200:
            raise OSError(f"{response.status}: {response.read().decode()}")
        identifier, data = "", []
        for line in response:
            field, _, value = line.decode().rstrip("\n").partition(": ")
            if field == "id":
                identifier = value
            elif field == "data":
                data.append(value)
            elif not field and identifier:  # an empty line ends an event
                yield identifier, "\n".join(data)
                identifier, data = "", []
    finally:
        connection.close()


def save(database: sqlite3.Connection, cursor: str) -> None:
    """Store where to continue."""
    database.execute(
        "INSERT INTO cursors VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET cursor = excluded.cursor", (NAME, cursor)
    )


if __name__ == "__main__":
    main(sys.argv[1])
