"""Field types and times that the JSON of several providers shares."""

from datetime import UTC, datetime
from typing import Annotated

import msgspec

UNREADABLE = (ValueError, RecursionError)
"""The errors of the JSON decoder: invalid JSON, and nesting that is too deep."""

Count = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
StatusCode = Annotated[int, msgspec.Meta(ge=0, le=999)]
Text = Annotated[str, msgspec.Meta(max_length=8192, pattern="^[^\0]*$")]


def read_instant(text: str) -> datetime:
    """Parse an RFC 3339 time. Nanoseconds are rounded; a time without a zone is UTC. Raises ValueError."""
    try:
        moment = msgspec.convert(text, datetime)
    except msgspec.ValidationError:
        raise ValueError(f"{text[:40]!r} is not an RFC 3339 time") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def read_instant_if_any(text: str | None) -> datetime | None:
    """Parse an optional RFC 3339 time; return None if it is missing or invalid."""
    try:
        return read_instant(text) if text else None
    except ValueError:
        return None


def from_seconds(seconds: object) -> datetime | None:
    """Convert Unix seconds to a time; return None if the value is not a valid number of seconds."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None
