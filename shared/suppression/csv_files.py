"""Suppression lists as CSV files with a header: ours, and those that other products export.

A file is read line by line from any line on, so that a long one can be read in parts. What cannot be used raises
InvalidFieldError with the column, its value and what is allowed.
"""

import csv
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from io import StringIO
from typing import Any, TypeVar

import msgspec

from shared import json_text
from shared.addresses import AddressError, Target, parse_domain, parse_target
from shared.classification.classify import Hardness, classify, find_codes, hardness
from shared.errors import InvalidFieldError
from shared.foreign_text import read_cell, show_cell
from shared.providers.webhooks import payload
from shared.vocabulary import ALL_MAIL, Classification, EventType, MailType, SuppressionReason

COLUMNS = ("address", "domain", "types", "reason", "tenant", "expires_at", "note", "classification")

_ALIASES = {
    **{name: name for name in COLUMNS},
    **dict.fromkeys(
        (
            *("email", "e_mail", "email_address", "emailaddress", "recipient", "mail", "recipient_email"),
            *("contact_email", "subscriber", "email_id"),
        ),
        "address",
    ),
    **dict.fromkeys(("type", "mail_types", "suppression_types"), "types"),
    **dict.fromkeys(("expires", "until", "expiry", "expire_at"), "expires_at"),
    **dict.fromkeys(("notes", "comment"), "note"),
    **dict.fromkeys(("suppressionreason", "suppression_reason", "bounce_type", "suppression_type"), "reason"),
    **dict.fromkeys(("subaccount",), "tenant"),
    # Not columns of ours: they decide about the reason, or whether the line names a suppressed address at all.
    **dict.fromkeys(("subscription_status", "email_status", "member_status", "code"), "status"),
    **dict.fromkeys(
        (
            *("isunsubscribed", "is_unsubscribed", "unsubscribed", "blocklisted", "blacklisted", "email_blacklisted"),
            *("emailblacklisted", "isexcludedfromcampaigns", "is_excluded_from_campaigns", "suppressed"),
        ),
        "is_suppressed",
    ),
    **dict.fromkeys(("error", "details", "smtp_response", "diagnostic_code", "unsub_reason"), "detail"),
    **dict.fromkeys(("unsubscribed_at", "unsubscribe_time"), "unsub_time"),
    **{name: name for name in ("status", "detail", "expired", "origin", "unsub_time", "clean_time")},
}
"""Columns of SendGrid, Postmark, Mailgun, SES, Mailchimp and Mandrill, Brevo, and Mailjet too."""
_REPEATABLE = frozenset({"status", "is_suppressed", "detail"})
_REASONS = {
    **{str(reason): reason for reason in SuppressionReason},
    **dict.fromkeys(
        ("bounce", "bounced", "hardbounce", "hardbounced", "hard_bounced", "invalid", "invalid_email", "cleaned"),
        SuppressionReason.HARD_BOUNCE,
    ),
    **dict.fromkeys(("softbounce", "softbounced", "soft_bounced"), SuppressionReason.SOFT_BOUNCE),
    **dict.fromkeys(
        ("complained", "spam", "spamcomplaint", "spam_complaint", "spam_report", "abuse", "contactflaggedasspam"),
        SuppressionReason.COMPLAINT,
    ),
    **dict.fromkeys(
        (
            *("unsubscribed", "unsub", "optout", "opt_out", "opted_out"),
            *("unsubscribedviama", "unsubscribedviaemail", "unsubscribedviaapi"),
        ),
        SuppressionReason.UNSUBSCRIBE,
    ),
    **dict.fromkeys(
        ("manualsuppression", "manual_suppression", "custom", "rule", "blocked", "blocklisted", "adminblocked"),
        SuppressionReason.MANUAL,
    ),
}
"""Other products' words, in lower case and with underscores."""
_BY_HARDNESS = {Hardness.HARD: SuppressionReason.HARD_BOUNCE, Hardness.SOFT: SuppressionReason.SOFT_BOUNCE}
_SUBSCRIBED = frozenset({"subscribed", "active", "confirmed", "valid", "deliverable", "opted_in"})
_YES, _NO = frozenset({"true", "yes", "y", "1"}), frozenset({"false", "no", "n", "0"})
_NO_VALUE = frozenset({"null", "none", "n/a", "nan", "\\n"})
_TIME_FORMATS = tuple(
    f"{date}{time}"
    for date in ("%m/%d/%Y", "%d.%m.%Y")
    for time in ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p")
)
"""Slashes are American dates, points are European ones. ISO 8601 and others are read by `read_time`."""

MAX_TENANT_LENGTH = 512
MAX_NOTE_LENGTH = 1000
_MAX_VALUE_SHOWN = 60
_MAX_WORDS_OF_A_REASON = 2
"""A longer text is the reply of a server."""
_MAX_RECORD_LINES = MAX_NOTE_LENGTH + 1
"""A quotation mark that is open for longer is a stray one; it must not swallow the rest of the file."""
_DELIMITERS = (",", ";", "\t", "|")
_SEPARATOR_LINE = re.compile(r"sep=(.)", re.IGNORECASE)
"""A first line by which Excel names the delimiter."""
_BETWEEN_TYPES = re.compile(r"[\s|+,;]+")
_BETWEEN_WORDS = re.compile(r"[\s-]+")
_BOM = "\ufeff"
_MULTIBYTE = re.compile(rb"[\xc2-\xf4][\x80-\xbf]")
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """Values for what a line leaves empty. The tenant '' is all tenants.

    A line may name any tenant if `only_tenant` is None, otherwise only that one.
    """

    types: frozenset[MailType] = ALL_MAIL
    reason: SuppressionReason = SuppressionReason.MANUAL
    tenant: str = ""
    only_tenant: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of a list. `until` None is for good. With `skipped`, which says why, it names nothing to suppress."""

    target: Target
    types: frozenset[MailType]
    reason: SuppressionReason
    tenant: str
    until: datetime | None
    note: str | None
    classification: Classification | None
    skipped: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The form of a file: `columns` has None for columns that are `ignored`. The header ends at line `lines`."""

    lines: int
    delimiter: str
    columns: Sequence[str | None]
    ignored: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The text of one record, which begins at line `number` and spans `lines` lines."""

    number: int
    lines: int
    text: str


def to_utf8(content: bytes) -> bytes:
    """Return a file in UTF-8, which may be in UTF-16 or Windows-1252, with lines that end with a line feed."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        content = content.decode("utf-16", "replace").encode()
    elif b"\0" in content[1:2] or b"\0" in content[:1]:  # UTF-16 without a mark: its first character is ASCII
        content = content.decode("utf-16-le" if content[1:2] == b"\0" else "utf-16-be", "replace").encode()
    elif not content.isascii():
        try:
            content.decode()
        except UnicodeDecodeError:
            if not _MULTIBYTE.search(content):  # otherwise it is UTF-8 with a few bad lines
                content = content.decode("cp1252", "replace").encode()
    return content if b"\n" in content else content.replace(b"\r", b"\n")


def read_header(beginning: bytes) -> Layout:
    """Return the layout that the first line gives; empty lines and `sep=` may precede it. Raises InvalidFieldError."""
    text, delimiter, number = "", None, 0
    for number, line in enumerate(beginning.splitlines(), 1):  # noqa: B007 - the number of the header's line is used
        try:
            text = line.decode().removeprefix(_BOM).strip("\r\n")
        except UnicodeDecodeError:
            raise InvalidFieldError(
                "file", None, "The first line is not UTF-8; save the file as CSV in UTF-8."
            ) from None
        if separator := _SEPARATOR_LINE.fullmatch(text.strip().strip('"')):
            delimiter = separator[1]
        elif text.strip():
            break
    split = {mark: _split(text, mark) for mark in ((delimiter,) if delimiter else _DELIMITERS)}
    delimiter = max(split, key=lambda mark: sum(_word(name) in _ALIASES for name in split[mark]))
    names = split[delimiter]
    first = split.get(",", [])
    # Lists for Amazon SES have no header, but begin with an entry: `address,BOUNCE`.
    if len(first) == 2 and "@" in first[0] and _word(first[1]) in _REASONS:
        return Layout(lines=0, delimiter=",", columns=("address", "reason"), ignored=())
    columns = [_ALIASES.get(_word(name)) for name in names]
    if "address" not in columns and "domain" not in columns:
        raise InvalidFieldError(
            "file",
            text,
            "The first line must name the columns, and one of them must be `address` (or `email`, `recipient`)"
            f" or `domain`; it is {text[:200]!r}.",
        )
    doubled = {name for name in columns if name and name not in _REPEATABLE and columns.count(name) > 1}
    if doubled:
        message = f"The first line names {' and '.join(sorted(doubled))} more than once."
        raise InvalidFieldError("file", text, message)
    ignored = [
        replace_nul(name) for name, column in zip(names, columns, strict=True) if column is None and name.strip()
    ]
    return Layout(lines=number, delimiter=delimiter, columns=columns, ignored=ignored)


def _split(text: str, delimiter: str) -> list[str]:
    """Return the values of a line; the whole line if it is not CSV."""
    try:
        return next(csv.reader([text], delimiter=delimiter), [])
    except csv.Error:
        return [text]


def _word(text: str) -> str:
    """Return a word as `_ALIASES` and `_REASONS` have it: in lower case, with underscores for spaces and dashes."""
    return _BETWEEN_WORDS.sub("_", text.strip().lower())


def read_records(lines: Iterable[bytes], first: int, layout: Layout) -> Iterator[Record]:
    """Yield the records of these lines, which include their line ends; `first` is the number of the first line."""
    pushed_back: deque[str] = deque()
    source = (line.decode("utf-8", "replace") for line in lines)
    opening = re.compile(rf'(?:^|{re.escape(layout.delimiter)}) *"')

    def next_line() -> str | None:
        return pushed_back.popleft() if pushed_back else next(source, None)

    def has_odd_quotes(line: str) -> bool:
        """Return whether a quoted value begins or ends in the line: quotation marks within one are doubled."""
        return line.count('"') % 2 == 1

    number = first
    while (text := next_line()) is not None:
        taken = [text]
        is_open = has_odd_quotes(text) and opening.search(text) is not None
        while is_open and len(taken) < _MAX_RECORD_LINES and (following := next_line()) is not None:
            taken.append(following)
            is_open = not has_odd_quotes(following)
        if is_open:
            pushed_back.extendleft(reversed(taken[1:]))
            taken = [text]
        if "".join(taken).strip():
            yield Record(number=number, lines=len(taken), text="".join(taken))
        number += len(taken)


def read_record(record: Record, layout: Layout, defaults: Defaults) -> Row:
    """Return the row of a record. Raises InvalidFieldError."""
    if "\ufffd" in record.text:
        raise InvalidFieldError("line", None, "it is not UTF-8")
    try:
        (values,) = csv.reader(StringIO(record.text, newline=""), delimiter=layout.delimiter, strict=True)
    except (csv.Error, ValueError):
        raise InvalidFieldError("line", None, "its quotation marks do not match") from None
    while len(values) > len(layout.columns) and not values[-1].strip():
        values.pop()
    if len(values) > len(layout.columns):
        message = f"it has {len(values)} values, and the first line names {len(layout.columns)} columns"
        raise InvalidFieldError("line", None, message)
    given: dict[str, str] = {}
    for name, value in zip(layout.columns, values, strict=False):
        text = read_cell(value.strip())
        if name is not None and text and not (text.lower() in _NO_VALUE and name != "note"):
            given[name] = f"{given[name]} {text}" if name in given else text
    return read_values(given, defaults)


def read_row(text: bytes, defaults: Defaults) -> Row:
    """Return the row that a JSON object gives. Raises InvalidFieldError."""
    try:
        row = msgspec.json.decode(text, type=dict[str, str | list[str] | None])
    except msgspec.MsgspecError:
        raise InvalidFieldError("line", None, "it must be a JSON object whose values are texts") from None
    for name in json_text.list_repeated(text, limit=1):
        raise InvalidFieldError(name, None, f"{name} is given more than once")
    unknown = row.keys() - set(COLUMNS)
    if unknown:
        names = ", ".join(sorted(unknown))
        raise InvalidFieldError(names, None, f"{names} is not a column; the columns are {', '.join(COLUMNS)}")
    return read_values(
        {name: " ".join(value) if isinstance(value, list) else value or "" for name, value in row.items()}, defaults
    )


def read_values(values: Mapping[str, str], defaults: Defaults) -> Row:
    """Return the row of these values, which are given by column. Raises InvalidFieldError."""
    given = {name: value.strip() for name, value in values.items()}
    for name, value in given.items():
        if "\0" in value:
            raise InvalidFieldError(name, value, "it contains NUL")
    note, tenant = given.get("note", ""), given.get("tenant") or defaults.tenant
    for name, text, limit in (("note", note, MAX_NOTE_LENGTH), ("tenant", tenant, MAX_TENANT_LENGTH)):
        if len(text) > limit:
            raise InvalidFieldError(name, text, f"{name} has {len(text)} characters; at most {limit} are allowed")
    if defaults.only_tenant not in (None, tenant):
        message = f"tenant is {tenant[:_MAX_VALUE_SHOWN]!r}, but your API key is for another tenant"
        raise InvalidFieldError("tenant", tenant, message)
    address, domain = given.get("address", ""), given.get("domain", "")
    skipped = _find_why_skipped(given)
    if skipped is None and bool(address) is bool(domain):
        has = "both an address and a domain" if address else "neither an address nor a domain"
        raise InvalidFieldError("address", address, f"it has {has}; give one of them")
    try:
        target = Target() if skipped else parse_target(address) if address else parse_domain(domain)
    except AddressError as error:
        raise InvalidFieldError("address" if address else "domain", address or domain, str(error)) from None
    types = given.get("types", "")
    if _word(types) in _REASONS:  # other products call the reason a type
        given.setdefault("reason", types)
        types = ""
    classification = _convert(
        "classification",
        given.get("classification", ""),
        lambda text: Classification(_word(text)),
        "docs/classification.md lists the allowed ones",
    )
    reason, of_reason, detail = _read_reason(given)
    return Row(
        target=target,
        types=read_types(types) or defaults.types,
        reason=reason or defaults.reason,
        tenant=tenant,
        until=_convert(
            "expires_at",
            given.get("expires_at", ""),
            _read_time,
            "it must be a time such as 2026-01-31 or 2026-01-31T12:00:00Z",
        ),
        note=note or detail[:MAX_NOTE_LENGTH] or None,
        classification=classification or of_reason,
        skipped=skipped,
    )


def _find_why_skipped(given: Mapping[str, str]) -> str | None:
    """Return why a line names nothing to suppress; None if it does."""
    if not any(given.values()):
        return "without values"
    flags = set(given.get("is_suppressed", "").lower().split())
    if _word(given.get("status", "")) in _SUBSCRIBED or (flags and flags <= _NO):
        return "not suppressed, as the line says"
    return "expired" if given.get("expired", "").lower() in _YES else None


def _read_reason(given: Mapping[str, str]) -> tuple[SuppressionReason | None, Classification | None, str]:
    """Return the reason that a line names or that its codes give, the classification, and the rest of its explanation.

    Raises InvalidFieldError.
    """
    text, detail = given.get("reason", ""), given.get("detail", "")
    found = _REASONS.get(_word(text)) or _REASONS.get(_word(given.get("status", "")))
    if text and _word(text) not in _REASONS:
        if len(text.split()) <= _MAX_WORDS_OF_A_REASON and not any(map(str.isdigit, text)):
            message = f"reason is {text[:_MAX_VALUE_SHOWN]!r}; it must be one of {', '.join(SuppressionReason)}"
            raise InvalidFieldError("reason", text, message)
        detail = f"{text} {detail}".strip()
    if found is None and given.get("clean_time"):
        found = SuppressionReason.HARD_BOUNCE
    if found is None and given.get("unsub_time"):
        found = SuppressionReason.UNSUBSCRIBE
    if found is SuppressionReason.MANUAL and given.get("origin", "").lower() == "recipient":  # Postmark
        found = SuppressionReason.UNSUBSCRIBE
    codes = " ".join(filter(None, (given.get("status"), detail)))
    if found is not None or not codes:
        return found, None, detail
    smtp_status, enhanced_code = find_codes(codes)
    classification = classify(smtp_status=smtp_status, enhanced_code=enhanced_code, text=detail)
    if classification is Classification.UNCLASSIFIED:
        return None, None, detail
    return _BY_HARDNESS.get(hardness(EventType.BOUNCED, classification)), classification, detail


def read_types(text: str) -> frozenset[MailType] | None:
    """Return the types of mail that a text names, with any separators; None for none. Raises InvalidFieldError."""
    words = [word for word in _BETWEEN_TYPES.split(text.lower().replace("non-", "non_")) if word]
    if words == ["all"]:
        return ALL_MAIL
    expected = f"it must be {' or '.join(MailType)}, several separated by |, or all"
    return _convert("types", text if words else "", lambda _: frozenset(map(MailType, words)), expected)


def _read_time(text: str) -> datetime | None:
    if _word(text) in ("never", "permanent"):
        return None
    for form in _TIME_FORMATS:
        with suppress(ValueError):
            return datetime.strptime(text, form).replace(tzinfo=UTC)
    with suppress(ValueError):
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    if found := payload.read_time(text):
        return found
    raise ValueError(text)


def _convert(column: str, text: str, convert: Callable[[str], T | None], expected: str) -> T | None:
    """Return the converted value, None for an empty one. Raises InvalidFieldError."""
    try:
        return convert(text) if text else None
    except (ValueError, KeyError, OverflowError):
        message = f"{column} is {text[:_MAX_VALUE_SHOWN]!r}; {expected}"
        raise InvalidFieldError(column, text, message) from None


def replace_nul(text: str) -> str:
    """Return the text as PostgreSQL can store it."""
    return text.replace("\0", "\ufffd")


class CsvWriter:
    """Writes CSV with the given columns, in parts. Values that a spreadsheet would run as formulas are escaped."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = columns
        self._buffer = StringIO()

    def write_header(self) -> None:
        """Write the names of the columns."""
        csv.writer(self._buffer).writerow(self._columns)

    def write_row(self, values: Mapping[str, Any]) -> None:
        """Write one line. None is empty, times are RFC 3339, several words are separated by |."""
        cells = []
        for name in self._columns:
            value = values.get(name)
            if isinstance(value, datetime):
                text = value.astimezone(UTC).isoformat().replace("+00:00", "Z")
            elif isinstance(value, frozenset | list | tuple):
                text = "|".join(sorted(value))
            else:
                text = "" if value is None else str(value)
            cells.append(show_cell(text))
        csv.writer(self._buffer).writerow(cells)

    def take(self) -> bytes:
        """Return what was written since the last call, in UTF-8."""
        written = self._buffer.getvalue()
        self._buffer = StringIO()
        return written.encode("utf-8", "replace")
