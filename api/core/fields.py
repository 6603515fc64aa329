"""Fields and schemas that all resources share."""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import msgspec
from marshmallow import RAISE, Schema, ValidationError, fields, validate

from shared.addresses import AddressError, parse_domain
from shared.errors import suggest
from shared.postgres.pagination import Span
from shared.subscriptions.model import covers
from shared.subscriptions.validation import TYPES, WILDCARDS

MAX_TEXT_LENGTH = 1000
OPTIONAL_MARK = "x-optional"
OPTIONAL = {OPTIONAL_MARK: True}
"""Metadata of a field that is not in every answer."""
_MAX_SUGGESTIONS = 20
"""Comparing a name with all fields takes a millisecond."""


class Instant(fields.DateTime):
    """A time in RFC 3339: written in UTC with a Z, read with any offset."""

    def _serialize(self, value: datetime | None, attr: str | None, obj: Any, **kwargs: Any) -> str | None:  # noqa: ARG002
        return None if value is None else value.astimezone(UTC).isoformat().replace("+00:00", "Z")

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> datetime:  # noqa: ARG002
        try:
            # An unescaped plus sign in a query arrives as a space.
            moment = datetime.fromisoformat(value.replace(" ", "+")) if "T" in value else None
            moment = moment and moment.astimezone(UTC) if moment and moment.tzinfo else None
        except (ValueError, TypeError, OverflowError):
            moment = None
        if moment is None:
            raise ValidationError("Must be a time with an offset (RFC 3339), such as 2026-01-31T12:00:00Z.")
        return moment


class RawJson(fields.Raw):
    """JSON text that is copied into the response."""

    def _serialize(self, value: str | None, attr: str | None, obj: Any, **kwargs: Any) -> msgspec.Raw | None:  # noqa: ARG002
        return None if value is None else msgspec.Raw(value.encode())


def text(description: str | None = None, **kwargs: Any) -> fields.String:
    """Return a field for a text that may be null."""
    return fields.String(allow_none=True, metadata=_metadata(description), **kwargs)


def word(vocabulary: Iterable[str], description: str | None = None, **kwargs: Any) -> fields.String:
    """Return a field for a word of a vocabulary."""
    words: list[str | None] = [str(entry) for entry in vocabulary]
    if kwargs.get("allow_none"):
        words.append(None)
    return fields.String(metadata={**_metadata(description), "enum": words}, **kwargs)


def word_or_null(vocabulary: Iterable[str], description: str | None = None) -> fields.String:
    """Return a field for a word of a vocabulary that may be null."""
    return word(vocabulary, description, allow_none=True)


def integer(description: str | None = None, **kwargs: Any) -> fields.Integer:
    """Return a field for a whole number that may be null."""
    return fields.Integer(allow_none=True, metadata=_metadata(description), **kwargs)


def instant(description: str | None = None) -> Instant:
    """Return a field for a time that may be null."""
    return Instant(allow_none=True, metadata=_metadata(description))


def identifier(description: str | None = None, **kwargs: Any) -> fields.UUID:
    """Return a field for an id."""
    return fields.UUID(metadata=_metadata(description), **kwargs)


def query_text(description: str, **kwargs: Any) -> fields.String:
    """Return a field for a text in a query."""
    checks = [validate.Length(min=1, max=MAX_TEXT_LENGTH), *kwargs.pop("checks", ())]
    return fields.String(validate=checks, metadata=_metadata(description), **kwargs)


def require_known(known: Iterable[str]) -> Callable[[str], None]:
    """Return a check that a text is one of these names."""
    names = list(known)

    def check(text: str) -> None:
        if text not in names:
            raise ValidationError(f"Must be one of {', '.join(names)}.{suggest(text, names)}")

    return check


def _metadata(description: str | None) -> dict[str, str]:
    return {"description": description} if description else {}


class Strict(Schema):
    """The schema of a request: unknown fields are refused."""

    class Meta:
        """Refuse unknown fields by name."""

        unknown = RAISE

    def handle_error(self, error: ValidationError, data: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Name the nearest field with each that is unknown."""
        known = [field.data_key or name for name, field in self.load_fields.items()]
        found = error.messages_dict.items() if isinstance(error.messages, dict) else ()
        for name, messages in islice(found, _MAX_SUGGESTIONS):
            if name not in known and isinstance(messages, list):
                messages[:] = [f"{message}{suggest(str(name), known)}" for message in messages]


def require_change_types(text: str) -> None:
    """Raise ValidationError unless each of these patterns, separated by commas, matches a type of change."""
    for pattern in filter(None, map(str.strip, text.split(","))):
        if not any(covers(pattern, type_) for type_ in TYPES):
            raise ValidationError(f"{pattern!r} is not a type of change.{suggest(pattern, (*WILDCARDS, *TYPES))}")


def require_domain(text: str) -> None:
    """Raise ValidationError unless the text is a domain."""
    try:
        parse_domain(text)
    except AddressError as error:
        raise ValidationError(str(error)) from None


class PageQuery(Strict):
    """The page of a list."""

    limit = fields.Integer(
        load_default=50, validate=validate.Range(1, 500), metadata={"description": "Maximum number of items per page."}
    )
    cursor = fields.String(metadata={"description": "The next_cursor of the previous page."})


class SpanQuery(PageQuery):
    """The page of a list with a time range."""

    since = Instant(metadata={"description": "Only items at or after this time."})
    until = Instant(metadata={"description": "Only items before this time."})


def read_span(query: Mapping[str, Any]) -> Span:
    """Return the time range of a SpanQuery."""
    return Span(since=query.get("since"), until=query.get("until"))


class Problem(Schema):
    """Problem details (RFC 9457)."""

    type = fields.String()
    title = fields.String()
    status = fields.Integer()
    detail = fields.String()
    errors = fields.Dict(
        keys=fields.String(),
        values=fields.List(fields.String()),
        metadata={"description": "Messages by field."},
    )


def page_of(item: type[Schema], name: str) -> type[Schema]:
    """Return the schema of a page of a list."""
    members: dict[str, Any] = {
        "items": fields.List(fields.Nested(item)),
        "next_cursor": text("Send it as `cursor` to get the next page; null on the last page."),
    }
    return type(name, (Schema,), members)
