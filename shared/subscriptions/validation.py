"""Validation and normalization of a subscription's fields."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from shared import backoff
from shared.addresses import AddressError, parse_domain
from shared.errors import InvalidFieldError, suggest
from shared.subscriptions.model import ANY
from shared.vocabulary import CHANGE_TYPES, PayloadFormat

TYPES: Final = (
    *dict.fromkeys(CHANGE_TYPES.values()),
    "suppression.added",
    "suppression.removed",
    "suppression.expired",
    "alert.firing",
    "alert.resolved",
)
"""Every type of change."""

WILDCARDS: Final = (ANY, *dict.fromkeys(f"{name.partition('.')[0]}.{ANY}" for name in TYPES))

MAX_RATE: Final = 10_000.0
MIN_RATE: Final = 0.01
MAX_RETRIES: Final = 20
MAX_DELAY_SECONDS: Final = 24 * 3600
MAX_SCHEDULE_SECONDS: Final = 7 * 24 * 3600
MAX_NAME_LENGTH: Final = 200
MAX_VALUES: Final = 100
MAX_HEADERS: Final = 20
MAX_TIMEOUT_SECONDS: Final = 30
MAX_CONCURRENCY: Final = 100
_MAX_HEADER_NAME_LENGTH: Final = 100
_MAX_HEADERS_LENGTH: Final = 4096
_MAX_TEXT_LENGTH: Final = 200

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_VALUE = re.compile(r"[!-~]([ \t!-~]*[!-~])?")  # RFC 9110, 5.5, printable ASCII only
_RESERVED_HEADERS: Final = frozenset(
    {
        "idempotency-key", "user-agent",  # set by us
        "host", "date", "expect",
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
        "transfer-encoding", "upgrade",  # hop by hop: RFC 9110, 7.6.1 and 11.7
    }
)  # fmt: skip
_RESERVED_PREFIXES: Final = ("webhook-", "content-")


_RULES: Final[Mapping[str, tuple[Callable[[Any], bool], str]]] = {
    "name": (
        lambda value: bool(value.strip()) and len(value) <= MAX_NAME_LENGTH,
        f"have 1 to {MAX_NAME_LENGTH} characters",
    ),
    "tenant": (
        lambda value: value is None or 0 < len(value) <= _MAX_TEXT_LENGTH,
        f"have 1 to {_MAX_TEXT_LENGTH} characters, or be null for all tenants",
    ),
    "payload": (lambda value: value in list(PayloadFormat), f"be one of {', '.join(PayloadFormat)}"),
    "timeout_s": (lambda value: 1 <= value <= MAX_TIMEOUT_SECONDS, f"be between 1 and {MAX_TIMEOUT_SECONDS}"),
    "concurrency": (lambda value: 1 <= value <= MAX_CONCURRENCY, f"be between 1 and {MAX_CONCURRENCY}"),
    "rate_per_second": (
        lambda value: value is None or (math.isfinite(value) and MIN_RATE <= value <= MAX_RATE),
        f"be between {MIN_RATE} and {MAX_RATE:.0f}, or null for no limit",
    ),
}
"""Fields that are stored unchanged: a check of the value, and the end of the message `<field> must …`."""


def validate(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return these fields, by name, as they are stored; unknown ones unchanged. Raises InvalidFieldError."""
    for name, value in fields.items():
        if name in _RULES and not _RULES[name][0](value):
            raise InvalidFieldError(name, value, f"{name} is {_quote(value)}; it must {_RULES[name][1]}.")
    normalized: Mapping[str, Callable[[Any], Any]] = {
        "types": _validate_types,
        "sources": partial(_validate_texts, "sources"),
        "tags": partial(_validate_texts, "tags"),
        "recipient_domains": _validate_domains,
        "headers": _validate_headers,
        "retry_schedule": _validate_schedule,
    }
    return {name: normalized[name](value) if name in normalized else value for name, value in fields.items()}


def _validate_types(names: Sequence[str]) -> list[str]:
    if not names:
        raise InvalidFieldError("types", names, f"types must name at least one type of change; {ANY} stands for all.")
    for name in names:
        if name not in TYPES and name not in WILDCARDS:
            raise InvalidFieldError(
                "types",
                name,
                f"{_quote(name)} is not a type of change.{suggest(name, (*WILDCARDS, *TYPES))}"
                f" The types are {', '.join((*WILDCARDS, *TYPES))}.",
            )
    return list(dict.fromkeys(names))


def _validate_texts(field: str, texts: Sequence[str]) -> list[str]:
    found = list(dict.fromkeys(texts))
    if len(found) > MAX_VALUES or not all(0 < len(text) <= _MAX_TEXT_LENGTH for text in found):
        raise InvalidFieldError(
            field, found, f"{field} may hold up to {MAX_VALUES} texts of 1 to {_MAX_TEXT_LENGTH} characters."
        )
    return found


def _validate_domains(domains: Sequence[str]) -> list[str]:
    try:
        read = [parse_domain(domain).domain or "" for domain in domains]
    except AddressError as error:
        raise InvalidFieldError("recipient_domains", domains, str(error)) from None
    return _validate_texts("recipient_domains", read)


def _validate_headers(headers: Mapping[str, str]) -> dict[str, str]:
    length = sum(len(name) + len(value) for name, value in headers.items())
    if len(headers) > MAX_HEADERS or length > _MAX_HEADERS_LENGTH:
        raise InvalidFieldError(
            "headers", None, f"There may be up to {MAX_HEADERS} headers, of {_MAX_HEADERS_LENGTH} characters in total."
        )
    seen: set[str] = set()
    for name, value in headers.items():
        folded = name.lower().replace("_", "-")  # CGI and WSGI do not distinguish them (RFC 3875, 4.1.18)
        if not _TOKEN.fullmatch(name) or len(name) > _MAX_HEADER_NAME_LENGTH:
            raise InvalidFieldError("headers", name, f"{_quote(name)} is not the name of a header.")
        if folded in _RESERVED_HEADERS or folded.startswith(_RESERVED_PREFIXES):
            raise InvalidFieldError(
                "headers", name, f"{name} cannot be set: Tidings or the connection sets it. Choose another name."
            )
        if not _VALUE.fullmatch(value):
            raise InvalidFieldError(
                "headers", None, f"The value of {name} must be printable ASCII, without leading or trailing spaces."
            )
        if folded in seen:
            raise InvalidFieldError(
                "headers", name, f"{name} is given twice. Case does not matter, and _ is the same as -."
            )
        seen.add(folded)
    return dict(headers)


def _validate_schedule(schedule: object) -> list[int]:
    if isinstance(schedule, str) and schedule in backoff.DELIVERY_SCHEDULES:
        return list(backoff.DELIVERY_SCHEDULES[schedule])
    if not isinstance(schedule, list):
        raise InvalidFieldError(
            "retry_schedule",
            schedule,
            "retry_schedule must be a list of seconds before each retry, or one of"
            f" {', '.join(backoff.DELIVERY_SCHEDULES)}.",
        )
    whole = all(type(delay) is int and 0 <= delay <= MAX_DELAY_SECONDS for delay in schedule)
    if not whole or len(schedule) > MAX_RETRIES or sum(schedule) > MAX_SCHEDULE_SECONDS:
        raise InvalidFieldError(
            "retry_schedule",
            schedule,
            f"retry_schedule must be whole seconds before each retry: up to {MAX_RETRIES} retries, no delay over"
            f" {MAX_DELAY_SECONDS} s, and {MAX_SCHEDULE_SECONDS} s in total.",
        )
    return list(schedule)


def _quote(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
