"""Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html), as bytes."""

import secrets
from collections.abc import Mapping
from typing import Any

import msgspec

from shared.changes import payload as change_payload
from shared.changes.log import Cursor

CONTENT_TYPE = "text/event-stream"
HEADERS = {"X-Accel-Buffering": "no"}  # nginx would collect the events first

_RETRY_MILLISECONDS = range(1000, 5000)


def beginning(at: Cursor) -> bytes:
    """How a stream begins: with the place, so that who is cut off before the first change misses none either.

    And with how long to wait before connecting again: everybody differently, because they are cut off together.
    """
    return f"retry: {secrets.choice(_RETRY_MILLISECONDS)}\n".encode() + place(at)


def change(payload: Mapping[str, Any]) -> bytes:
    """One change."""
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (
        payload["id"].encode(),
        payload["type"].encode(),
        msgspec.json.encode(payload),
    )


def place(at: Cursor) -> bytes:
    """How far the log was looked through. No event: it only becomes the Last-Event-ID."""
    return f"id: {change_payload.identifier(at)}\n\n".encode()


def heartbeat(at: Cursor) -> bytes:
    """That there is life, for whoever is in between, and how far the log was looked through."""
    return b":\n" + place(at)


def comment(words: str) -> bytes:
    """What is no event either, for people to read."""
    return f": {words}\n\n".encode()
