"""What may be asked for by a subscription: each wish is checked, and given back in the one form in which it is kept."""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from shared import targets
from shared.domain.deliveries import DEFAULT_SCHEDULE, LONG_SCHEDULE
from shared.domain.subscriptions import ANY, Payload
from shared.errors import TidingsError
from shared.targets import TargetError
from shared.vocabulary import CHANGE_TYPES

TYPES: Final = (
    *dict.fromkeys(CHANGE_TYPES.values()),
    "suppression.added",
    "suppression.removed",
    "suppression.expired",
    "alert.firing",
    "alert.resolved",
)
"""Every type of change that there is."""

WILDCARDS: Final = (ANY, *dict.fromkeys(f"{name.partition('.')[0]}.{ANY}" for name in TYPES))

SCHEDULES: Final[Mapping[str, Sequence[int]]] = {"default": DEFAULT_SCHEDULE, "standard_webhooks": LONG_SCHEDULE}
"""Retry schedules that can be asked for by name."""

TIMEOUTS: Final = range(1, 31)
CONCURRENCIES: Final = range(1, 101)
MOST_PER_SECOND: Final = 10_000.0
LEAST_PER_SECOND: Final = 0.01
MOST_RETRIES: Final = 20
LONGEST_DELAY_SECONDS: Final = 24 * 3600
LONGEST_SCHEDULE_SECONDS: Final = 7 * 24 * 3600
LONGEST_NAME: Final = 200
MOST_VALUES: Final = 100
MOST_HEADERS: Final = 20
_LONGEST_HEADER_NAME = 100
_LONGEST_HEADERS = 4096
_LONGEST_TEXT = 200

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_VALUE = re.compile(r"[!-~]([ \t!-~]*[!-~])?")  # RFC 9110, 5.5, without what only some understand
_OURS = frozenset({"idempotency-key", "user-agent"})
_OF_THE_MESSAGE = frozenset({"host", "date", "expect"})
_HOP_BY_HOP = frozenset(  # RFC 9110, 7.6.1 and 11.7
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_RESERVED = _OURS | _OF_THE_MESSAGE | _HOP_BY_HOP
_RESERVED_BEGINNINGS = ("webhook-", "content-")


class SubscriptionError(TidingsError):
    """Something in a subscription that cannot be used; `field` is where."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def checked(wishes: Mapping[str, Any]) -> dict[str, Any]:
    """These wishes, by the name of the field, as they are kept; fields that nothing is known of stay as they are.

    Raises SubscriptionError.
    """
    return {name: _CHECKS[name](value) if name in _CHECKS else value for name, value in wishes.items()}


def _types(given: Sequence[str]) -> list[str]:
    for name in given:
        if name not in TYPES and name not in WILDCARDS:
            raise SubscriptionError(
                "types", f"{_quoted(name)} is no type of change; there are {', '.join((*WILDCARDS, *TYPES))}"
            )
    if not given:
        raise SubscriptionError("types", f"must name at least one; {ANY} stands for all")
    return _once(given)


def _sources(given: Sequence[str]) -> list[str]:
    return _texts("sources", given)


def _tags(given: Sequence[str]) -> list[str]:
    return _texts("tags", given)


def _recipient_domains(given: Sequence[str]) -> list[str]:
    try:
        return _texts("recipient_domains", [targets.read_domain(domain).domain or "" for domain in given])
    except TargetError as error:
        raise SubscriptionError("recipient_domains", str(error)) from None


def _name(given: str) -> str:
    if not given.strip() or len(given) > LONGEST_NAME:
        raise SubscriptionError("name", f"must have 1 to {LONGEST_NAME} characters")
    return given


def _headers(given: Mapping[str, str]) -> dict[str, str]:
    if len(given) > MOST_HEADERS or sum(len(name) + len(value) for name, value in given.items()) > _LONGEST_HEADERS:
        raise SubscriptionError(
            "headers", f"there may be {MOST_HEADERS}, of {_LONGEST_HEADERS} characters all together"
        )
    seen: set[str] = set()
    for name, value in given.items():
        likeness = name.lower().replace("_", "-")  # CGI and WSGI know no difference (RFC 3875, 4.1.18)
        _check_header(name, likeness, value)
        if likeness in seen:
            raise SubscriptionError(
                "headers", f"{name} is there twice: upper and lower case are the same, and so are _ and -"
            )
        seen.add(likeness)
    return dict(given)


def _check_header(name: str, likeness: str, value: str) -> None:
    if not _TOKEN.fullmatch(name) or len(name) > _LONGEST_HEADER_NAME:
        raise SubscriptionError("headers", f"{_quoted(name)} is no name of a header")
    if likeness in _RESERVED or likeness.startswith(_RESERVED_BEGINNINGS):
        raise SubscriptionError("headers", f"{name} cannot be set: it is Tidings' own, or of the connection")
    if not _VALUE.fullmatch(value):
        raise SubscriptionError("headers", f"the value of {name} must be printable ASCII, without blanks at its ends")


def _retry_schedule(given: object) -> list[int]:
    if isinstance(given, str) and given in SCHEDULES:
        return list(SCHEDULES[given])
    if not isinstance(given, list):
        raise SubscriptionError(
            "retry_schedule", f"must be a list of seconds before each retry, or one of {', '.join(SCHEDULES)}"
        )
    whole = all(type(delay) is int and 0 <= delay <= LONGEST_DELAY_SECONDS for delay in given)
    if not whole or len(given) > MOST_RETRIES or sum(given) > LONGEST_SCHEDULE_SECONDS:
        raise SubscriptionError(
            "retry_schedule",
            f"must be whole seconds before each retry: at most {MOST_RETRIES}, none over {LONGEST_DELAY_SECONDS},"
            f" and {LONGEST_SCHEDULE_SECONDS} all together",
        )
    return list(given)


def _within(field: str, allowed: range) -> Callable[[int], int]:
    def check(given: int) -> int:
        if given not in allowed:
            raise SubscriptionError(field, f"must be from {allowed.start} to {allowed.stop - 1}")
        return given

    return check


def _rate(given: float | None) -> float | None:
    if given is not None and not (math.isfinite(given) and LEAST_PER_SECOND <= given <= MOST_PER_SECOND):
        raise SubscriptionError("rate_per_second", f"must be from {LEAST_PER_SECOND} to {MOST_PER_SECOND:.0f}")
    return given


def _tenant(given: str | None) -> str | None:
    if given is not None and not 0 < len(given) <= _LONGEST_TEXT:
        raise SubscriptionError("tenant", f"must have 1 to {_LONGEST_TEXT} characters; null stands for all")
    return given


def _payload(given: str) -> Payload:
    try:
        return Payload(given)
    except ValueError:
        raise SubscriptionError("payload", f"must be one of {', '.join(Payload)}") from None


_CHECKS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "name": _name,
    "types": _types,
    "sources": _sources,
    "tenant": _tenant,
    "recipient_domains": _recipient_domains,
    "tags": _tags,
    "headers": _headers,
    "payload": _payload,
    "timeout_s": _within("timeout_s", TIMEOUTS),
    "retry_schedule": _retry_schedule,
    "rate_per_second": _rate,
    "concurrency": _within("concurrency", CONCURRENCIES),
}


def _texts(field: str, given: Iterable[str]) -> list[str]:
    found = _once(given)
    if len(found) > MOST_VALUES or not all(0 < len(text) <= _LONGEST_TEXT for text in found):
        raise SubscriptionError(field, f"may hold {MOST_VALUES} texts of 1 to {_LONGEST_TEXT} characters")
    return found


def _once(given: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(given))


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "…")
