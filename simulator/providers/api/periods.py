"""The time filters of MailChannels' lists."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus

from simulator.providers.api.routes import RefusedError

_FORMATS = {
    re.compile(r"\d{4}-\d\d-\d\d"): "%Y-%m-%d",
    re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"): "%Y-%m-%dT%H:%M:%SZ",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """From `after`, which is part of it, to `before`, which is not. None leaves that end open."""

    after: datetime | None
    before: datetime | None

    def __contains__(self, at: datetime) -> bool:
        return (self.after is None or self.after <= at) and (self.before is None or at < self.before)


def read(query: Mapping[str, str]) -> Period:
    """Parse `created_after` and `created_before`. Raises RefusedError with 400."""
    period = Period(after=_read_instant(query, "created_after"), before=_read_instant(query, "created_before"))
    if period.after and period.before and period.after >= period.before:
        raise RefusedError(HTTPStatus.BAD_REQUEST, "created_after must be before created_before")
    return period


def read_bounded(query: Mapping[str, str], now: datetime, *, default: timedelta, longest: timedelta) -> Period:
    """Return the period of a query, beginning `default` before its end if it names no beginning.

    Raises RefusedError with 400 if it is longer than `longest`.
    """
    asked = read(query)
    end = asked.before or now
    after = asked.after or end - default  # documented for no bounds at all; with an end alone it is a guess
    if end - after > longest:
        raise RefusedError(HTTPStatus.BAD_REQUEST, f"the date range must not exceed {longest.days} days")
    return Period(after=after, before=asked.before)


def _read_instant(query: Mapping[str, str], name: str) -> datetime | None:
    text = query.get(name)
    if text is None:
        return None
    for form, pattern in _FORMATS.items():
        if form.fullmatch(text):
            try:
                return datetime.strptime(text, pattern).replace(tzinfo=UTC)
            except ValueError:
                break
    raise RefusedError(HTTPStatus.BAD_REQUEST, f"{name} must be YYYY-MM-DD or YYYY-MM-DDTHH:MM:SSZ")
