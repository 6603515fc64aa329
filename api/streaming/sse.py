"""Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html), as bytes."""

import secrets
from collections.abc import Mapping
from typing import Any

import msgspec

from shared.changes import payload as change_payload
from shared.changes.log import Cursor

CONTENT_TYPE = "text/event-stream"
HEADERS = {"X-Accel-Buffering": "no"}  # nginx would buffer the events

_RETRY_MILLISECONDS = range(1000, 5000)


def beginning(at: Cursor) -> bytes:
    """Return the start of a stream: its cursor, so that a client that is disconnected at once misses nothing either.

    The delay before reconnecting is random, because many clients are disconnected at the same time.
    """
    return f"retry: {secrets.choice(_RETRY_MILLISECONDS)}\n".encode() + cursor(at)


def change(payload: Mapping[str, Any]) -> bytes:
    """Return the event of one change."""
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (
        payload["id"].encode(),
        payload["type"].encode(),
        msgspec.json.encode(payload),
    )


def cursor(at: Cursor) -> bytes:
    """Return the current cursor, which becomes the client's Last-Event-ID without an event."""
    return f"id: {change_payload.format_cursor(at)}\n\n".encode()


def heartbeat(at: Cursor) -> bytes:
    """Return a comment that keeps proxies from timing out, with the current cursor."""
    return b":\n" + cursor(at)


def comment(text: str) -> bytes:
    """Return a comment for people who read the stream."""
    return f": {text}\n\n".encode()
