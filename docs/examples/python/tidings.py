"""What the examples share: one request to the API, and a store that takes each change once."""

import json
import os
import sqlite3
import urllib.error
import urllib.request
from typing import Any

URL = os.environ.get("TIDINGS_URL", "http://127.0.0.1:8081")
KEY = os.environ.get("TIDINGS_KEY", "")


def call(method: str, path: str, body: Any = None, *, timeout: float = 60) -> Any:
    """Send one request and return its document. Raises urllib.error.HTTPError with the API's explanation."""
    request = urllib.request.Request(
        URL + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        # RFC 9457: `detail` says what is wrong, `errors` names the fields.
        error.problem = json.load(error)
        error.msg = str(error.problem)
        raise


def open_store(path: str) -> sqlite3.Connection:
    """Open the database of this application; a real one has its own tables instead."""
    database = sqlite3.connect(path, timeout=30, isolation_level=None)
    database.executescript(
        """
        PRAGMA journal_mode = WAL;
        CREATE TABLE IF NOT EXISTS changes (id TEXT PRIMARY KEY, type TEXT NOT NULL, body TEXT NOT NULL);
        CREATE TABLE IF NOT EXISTS cursors (name TEXT PRIMARY KEY, cursor TEXT NOT NULL);
        CREATE TABLE IF NOT EXISTS recipients (
            message TEXT, recipient TEXT, status TEXT, version INTEGER NOT NULL, PRIMARY KEY (message, recipient)
        );
        """
    )
    return database


def store(database: sqlite3.Connection, change: dict[str, Any]) -> bool:
    """Store a change within the caller's transaction. Return False if it was stored before.

    The insert decides: asking first and inserting then would let two requests both pass.
    """
    row = (change["id"], change["type"], json.dumps(change))
    if not database.execute("INSERT INTO changes VALUES (?, ?, ?) ON CONFLICT DO NOTHING", row).rowcount:
        return False
    data = change["data"]
    if data.get("message") and data.get("recipient") and data.get("version") is not None:
        # Changes may arrive in any order: a smaller version is older, and must not replace what is known.
        database.execute(
            "INSERT INTO recipients VALUES (?, ?, ?, ?) ON CONFLICT (message, recipient) DO UPDATE"
            " SET status = excluded.status, version = excluded.version WHERE excluded.version > recipients.version",
            (data["message"]["id"], data["recipient"], data["status"], data["version"]),
        )
    return True
