"""For how long a server wants to be left alone (RFC 9110, 10.2.3)."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def read(text: str, now: datetime) -> float | None:
    """The seconds of a Retry-After, which is a number of them or a date; None where it cannot be read."""
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    try:
        return (date.replace(tzinfo=date.tzinfo or UTC) - now).total_seconds()
    except OverflowError:
        return None
