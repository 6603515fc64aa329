"""Suppression lists as files: CSV with a header, as people and other systems export them, and as we do.

A file is read line by line, from any line on, so that a long one can be read in parts.
"""

import csv
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import StringIO
from typing import Any

import msgspec

from shared import targets
from shared.errors import TidingsError
from shared.targets import Target, TargetError
from shared.vocabulary import ALL_MAIL, Classification, MailType, SuppressionReason

COLUMNS = ("address", "domain", "types", "reason", "tenant", "expires_at", "note", "classification")

_ALIASES = {
    **{name: name for name in COLUMNS},
    **dict.fromkeys(("email", "e_mail", "email_address", "emailaddress", "recipient", "mail"), "address"),
    **dict.fromkeys(("type", "mail_types", "suppression_types"), "types"),
    **dict.fromkeys(("expires", "until", "expiry"), "expires_at"),
    **dict.fromkeys(("notes", "comment"), "note"),
}
_REASONS = {
    **{str(reason): reason for reason in SuppressionReason},
    **dict.fromkeys(("bounce", "bounced", "hardbounce", "invalid"), SuppressionReason.HARD_BOUNCE),
    **dict.fromkeys(("softbounce",), SuppressionReason.SOFT_BOUNCE),
    **dict.fromkeys(
        ("complained", "spam", "spamcomplaint", "spam_complaint", "spam_report", "abuse"), SuppressionReason.COMPLAINT
    ),
    **dict.fromkeys(("unsubscribed", "optout", "opt_out"), SuppressionReason.UNSUBSCRIBE),
    **dict.fromkeys(("manualsuppression", "manual_suppression"), SuppressionReason.MANUAL),
}
"""What others call them, in lower case and with underscores."""

_DELIMITERS = (",", ";", "\t")
_BETWEEN_TYPES = re.compile(r"[\s|+,;]+")
_BETWEEN_WORDS = re.compile(r"[\s-]+")
LONGEST_TENANT = 512
LONGEST_NOTE = 1000
_MOST_LINES = LONGEST_NOTE + 1
"""Of one record: beyond so many a quotation mark was meant otherwise, and does not swallow the rest of the file."""
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
"""What begins like this gets one apostrophe when it is written, and loses one when it is read."""
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_BOM = "\ufeff"


class ListError(TidingsError):
    """A file of which nothing can be read; the message says what it should be."""


class LineError(TidingsError):
    """A line that cannot be used; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """What holds where a line says nothing. The tenant '' stands for all.

    `only_tenant` is the only one that a line may name, None any.
    """

    types: frozenset[MailType] = ALL_MAIL
    reason: SuppressionReason = SuppressionReason.MANUAL
    tenant: str = ""
    only_tenant: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """What one line says: whom not to write to, and until when; None for good."""

    target: Target
    types: frozenset[MailType]
    reason: SuppressionReason
    tenant: str
    until: datetime | None
    note: str | None
    classification: Classification | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How the file is made: what stands between values, and which column has what. `ignored` are of no meaning here."""

    delimiter: str
    columns: Sequence[str | None]
    ignored: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One line, or several where a quoted value goes on, `number` being the first. `lines` is how many."""

    number: int
    lines: int
    text: str


def read_header(line: bytes) -> Layout:
    """What the first line says of the others. Raises ListError."""
    if line.startswith(_UTF_16):
        raise ListError("The file is UTF-16; save it as CSV in UTF-8.")
    try:
        text = line.decode().removeprefix(_BOM).strip("\r\n")
    except UnicodeDecodeError:
        raise ListError("The file is not UTF-8; save it as CSV in UTF-8.") from None
    names = max((_split(text, delimiter) for delimiter in _DELIMITERS), key=_known)
    columns = [_ALIASES.get(_word(name)) for name in names]
    if "address" not in columns and "domain" not in columns:
        raise ListError(
            "The first line must name the columns, and one of them must be `address` (or `email`, `recipient`)"
            f" or `domain`; it is {text[:200]!r}."
        )
    doubled = {name for name in columns if name and columns.count(name) > 1}
    if doubled:
        raise ListError(f"The first line names {' and '.join(sorted(doubled))} more than once.")
    delimiter = next(mark for mark in _DELIMITERS if _split(text, mark) == names)
    strange = [name for name, column in zip(names, columns, strict=True) if column is None and name.strip()]
    return Layout(delimiter=delimiter, columns=columns, ignored=list(map(without_nul, strange)))


def records(lines: Iterable[bytes], first: int, layout: Layout) -> Iterator[Record]:
    """The records of these lines, of which the first one has this number. Each line ends as it did in the file."""
    waiting: deque[str] = deque()
    source = map(_decoded, lines)
    opening = re.compile(rf'(?:^|{re.escape(layout.delimiter)}) *"')
    number = first
    while (text := _next(waiting, source)) is not None:
        taken = [text]
        is_open = _is_odd(text) and opening.search(text) is not None
        while is_open and len(taken) < _MOST_LINES and (following := _next(waiting, source)) is not None:
            taken.append(following)
            is_open = not _is_odd(following)
        if is_open:
            waiting.extendleft(reversed(taken[1:]))
            taken = [text]
        if "".join(taken).strip():
            yield Record(number=number, lines=len(taken), text="".join(taken))
        number += len(taken)


def read_record(record: Record, layout: Layout, defaults: Defaults) -> Listed:
    """What a record says. Raises LineError."""
    if "\ufffd" in record.text:
        raise LineError("it is not UTF-8")
    try:
        (values,) = csv.reader(StringIO(record.text, newline=""), delimiter=layout.delimiter, strict=True)
    except (csv.Error, ValueError):
        raise LineError("its quotation marks do not match") from None
    if len(values) > len(layout.columns):
        raise LineError(f"it has {len(values)} values, and the first line names {len(layout.columns)}")
    return read_values(
        {name: _meant(value) for name, value in zip(layout.columns, values, strict=False) if name is not None},
        defaults,
    )


def read_row(text: bytes, defaults: Defaults) -> Listed:
    """What a row says that was given as a JSON object. Raises LineError."""
    try:
        row = msgspec.json.decode(text, type=dict[str, str | list[str] | None])
    except msgspec.MsgspecError:
        raise LineError("it must be an object of texts") from None
    unknown = row.keys() - set(COLUMNS)
    if unknown:
        raise LineError(f"{', '.join(sorted(unknown))} is not known; there are {', '.join(COLUMNS)}")
    return read_values(
        {name: " ".join(value) if isinstance(value, list) else value or "" for name, value in row.items()}, defaults
    )


def read_values(values: Mapping[str, str], defaults: Defaults) -> Listed:
    """What these values say, by column. Raises LineError."""
    given = {name: value.strip() for name, value in values.items()}
    if any("\0" in value for value in given.values()):
        raise LineError("it contains NUL")
    note = given.get("note", "")
    if len(note) > LONGEST_NOTE:
        raise LineError(f"its note is longer than {LONGEST_NOTE} characters")
    tenant = given.get("tenant") or defaults.tenant
    if len(tenant) > LONGEST_TENANT:
        raise LineError(f"its tenant is longer than {LONGEST_TENANT} characters")
    if defaults.only_tenant not in (None, tenant):
        raise LineError("its tenant is not that of the key that the list was sent with")
    return Listed(
        target=_target(given.get("address", ""), given.get("domain", "")),
        types=read_types(given.get("types", "")) or defaults.types,
        reason=_reason(given.get("reason", "")) or defaults.reason,
        tenant=tenant,
        until=_moment(given.get("expires_at", "")),
        note=note or None,
        classification=_classification(given.get("classification", "")),
    )


def read_types(text: str) -> frozenset[MailType] | None:
    """The types of mail that are named, in words with any separator; None where there are none. Raises LineError."""
    words = [word for word in _BETWEEN_TYPES.split(text.lower().replace("non-", "non_")) if word]
    if words == ["all"]:
        return ALL_MAIL
    try:
        return frozenset(map(MailType, words)) or None
    except ValueError:
        raise LineError(f"its types must be {' or '.join(MailType)}, not {text[:60]!r}") from None


def without_nul(text: str) -> str:
    """The text as PostgreSQL can keep it."""
    return text.replace("\0", "\ufffd")


@dataclass(slots=True)
class Sheet:
    """Writes CSV with the given columns. What a spreadsheet would take for a formula has an apostrophe before it."""

    columns: Sequence[str]
    _buffer: StringIO = field(default_factory=StringIO)

    def header(self) -> None:
        """The first line."""
        self.line(dict(zip(self.columns, self.columns, strict=True)))

    def line(self, values: Mapping[str, Any]) -> None:
        """One more line; what is missing or None is empty, times are RFC 3339, several words have | between them."""
        csv.writer(self._buffer).writerow([_guarded(_cell(values.get(name))) for name in self.columns])

    def take(self) -> bytes:
        """What was written since the last time, in UTF-8."""
        written = self._buffer.getvalue()
        self._buffer = StringIO()
        return written.encode("utf-8", "replace")


def _next(waiting: deque[str], source: Iterator[str]) -> str | None:
    return waiting.popleft() if waiting else next(source, None)


def _decoded(line: bytes) -> str:
    return line.decode("utf-8", "replace")


def _is_odd(line: str) -> bool:
    """Whether a quoted value begins in it or ends in it: the marks within one are doubled."""
    return '"' in line and line.count('"') % 2 == 1


def _split(text: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([text], delimiter=delimiter), [])
    except csv.Error:
        return [text]


def _known(names: Sequence[str]) -> int:
    return sum(_word(name) in _ALIASES for name in names)


def _word(text: str) -> str:
    return _BETWEEN_WORDS.sub("_", text.strip().lower())


def _target(address: str, domain: str) -> Target:
    if address and domain:
        raise LineError("it has both an address and a domain")
    if not (address or domain):
        raise LineError("it has neither an address nor a domain")
    try:
        return targets.read_listed(address) if address else targets.read_domain(domain)
    except TargetError as error:
        raise LineError(str(error)) from None


def _reason(text: str) -> SuppressionReason | None:
    if not text:
        return None
    found = _REASONS.get(_word(text))
    if found is None:
        raise LineError(f"its reason must be one of {', '.join(SuppressionReason)}, not {text[:60]!r}")
    return found


def _classification(text: str) -> Classification | None:
    if not text:
        return None
    try:
        return Classification(_word(text))
    except ValueError:
        raise LineError(f"its classification is not known: {text[:60]!r}") from None


def _moment(text: str) -> datetime | None:
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise LineError(
            f"its expires_at must be a time such as 2026-01-31 or 2026-01-31T12:00:00Z, not {text[:60]!r}"
        ) from None


def _guarded(text: str) -> str:
    return f"'{text}" if _FORMULA.match(text) else text


def _meant(text: str) -> str:
    text = text.strip()
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return "|".join(sorted(value)) if isinstance(value, frozenset | list | tuple) else str(value)
