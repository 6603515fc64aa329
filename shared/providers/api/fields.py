"""Field types and times that the JSON of several providers shares."""

from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import urlsplit
from uuid import UUID

import msgspec

_YEAR_2000 = datetime(2000, 1, 1, tzinfo=UTC)

UNREADABLE = (ValueError, RecursionError)
"""The errors of the JSON decoder: invalid JSON, and nesting that is too deep."""


class _Receipt(msgspec.Struct):
    receipt: UUID


_receipt = msgspec.json.Decoder(_Receipt).decode

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
    """Parse an optional RFC 3339 time; return None if it is missing or invalid.

    A time before 2000 is missing: programs write the first moment of their calendar, year 1 or 1970, for none.
    """
    try:
        moment = read_instant(text) if text else None
    except (ValueError, OverflowError):
        return None
    return moment if moment is None or moment >= _YEAR_2000 else None


def from_seconds(seconds: object) -> datetime | None:
    """Convert Unix seconds to a time; return None if the value is not a valid number of seconds since 2000."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return None
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return moment if moment >= _YEAR_2000 else None


def read_receipt_id(answered: object) -> UUID | None:
    """Return the receipt that our receiver named in its answer, as the provider shows that: as text, or as JSON."""
    try:
        return _receipt(answered if isinstance(answered, str) else msgspec.json.encode(answered)).receipt
    except (*UNREADABLE, TypeError):
        return None


def without_password(url: str) -> str:
    """Return a webhook's URL without the user and password in it: URLs are stored and shown."""
    try:
        address = urlsplit(url)
    except ValueError:
        return url.rpartition("@")[2]
    return address._replace(netloc=address.netloc.rpartition("@")[2]).geturl()
