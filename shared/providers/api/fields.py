"""What the providers' JSON has in common: values within the bounds of what can be kept, and times."""

from datetime import UTC, datetime
from typing import Annotated

import msgspec

UNREADABLE = (ValueError, RecursionError)
"""What reading JSON raises: for what is none, and for what is nested too deeply."""

Count = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
StatusCode = Annotated[int, msgspec.Meta(ge=0, le=999)]
Text = Annotated[str, msgspec.Meta(max_length=8192, pattern="^[^\0]*$")]


def read_instant(text: str) -> datetime:
    """A time of RFC 3339, also with nanoseconds, which are rounded; UTC where it names no zone. Raises ValueError."""
    try:
        moment = msgspec.convert(text, datetime)
    except msgspec.ValidationError:
        raise ValueError(f"{text[:40]!r} is no time") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def read_instant_if_any(text: str | None) -> datetime | None:
    """The same where nothing depends on it: None for what is no time."""
    try:
        return read_instant(text) if text else None
    except ValueError:
        return None


def from_seconds(seconds: object) -> datetime | None:
    """A time given in Unix seconds; None if it is none."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None
