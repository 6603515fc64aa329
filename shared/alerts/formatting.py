"""Numbers, durations and times in the sentences of alerts and notifications."""

from collections.abc import Mapping
from datetime import UTC, datetime

from shared.alerts.policy import Number

_MAX_AS_MINUTES = 120
_MAX_AS_HOURS = 48


def number(value: Number) -> str:
    """Return a number with thousands separators and at most four significant digits; text unchanged."""
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def numbers(values: Mapping[str, Number]) -> str:
    """Return named numbers as a list: `events 73, percent 7.3`."""
    return ", ".join(f"{name.replace('_', ' ')} {number(value)}" for name, value in values.items())


def count(value: Number, noun: str, plural: str = "") -> str:
    """Return a number with its noun: `1 event`, `2 events`."""
    return f"{number(value)} {noun if value == 1 else plural or noun + 's'}"


def minutes(value: Number) -> str:
    """Return a duration given in minutes, in minutes, hours or days."""
    length = float(value)
    if length <= _MAX_AS_MINUTES:
        return f"{number(round(length))} minutes" if round(length) != 1 else "a minute"
    hours = length / 60
    if hours <= _MAX_AS_HOURS:
        return f"{number(round(hours, 1))} hours"
    return f"{number(round(hours / 24, 1))} days"


def time(at: datetime) -> str:
    """Return a time in UTC, to the minute."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
