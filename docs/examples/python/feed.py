"""Read the change feed, and store each change once.

TIDINGS_KEY=… python feed.py DATABASE
"""

import sqlite3
import sys
import time
import urllib.error
from urllib.parse import urlencode

from tidings import call, open_store, store

NAME = "main"


def main(path: str) -> None:
    """Follow the feed for ever."""
    database = open_store(path)
    while True:
        row = database.execute("SELECT cursor FROM cursors WHERE name = ?", (NAME,)).fetchone()
        query = {"types": "message.*,suppression.*", "limit": 500, "wait": 25}
        if row:
            query["cursor"] = row[0]
        try:
            page = call("GET", f"/v1/changes?{urlencode(query)}")
        except urllib.error.HTTPError as error:
            if error.code == 410:  # older than what is kept: start with the oldest, and look the rest up by hand
                print(f"changes were missed: {error.problem['detail']}", flush=True)
                save(database, error.problem["oldest_cursor"])
                continue
            if error.code not in (429, 500, 502, 503, 504):
                raise
            time.sleep(float(error.headers.get("Retry-After", 5)))
            continue
        except OSError as error:  # no connection, or it broke: the cursor is unchanged, so nothing is lost
            print(f"tried again in 5 s: {error}", flush=True)
            time.sleep(5)
            continue
        # The changes and the cursor are committed together: after a crash, the page is read again as a whole.
        database.execute("BEGIN IMMEDIATE")
        new = [change for change in page["items"] if store(database, change)]
        save(database, page["next_cursor"])
        database.execute("COMMIT")
        for change in new:
            print(f"{change['id']} {change['type']} {change['data'].get('recipient') or ''}", flush=True)


def save(database: sqlite3.Connection, cursor: str) -> None:
    """Store where to continue."""
    database.execute(
        "INSERT INTO cursors VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET cursor = excluded.cursor", (NAME, cursor)
    )


if __name__ == "__main__":
    main(sys.argv[1])
