"""Fields and schemas that all resources share."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from marshmallow import RAISE, Schema, ValidationError, fields, validate

LONGEST_TEXT = 1000


class Instant(fields.DateTime):
    """A time: RFC 3339, answered in UTC with a Z, taken with any zone."""

    def _serialize(self, value: datetime | None, attr: str | None, obj: Any, **kwargs: Any) -> str | None:  # noqa: ARG002
        return None if value is None else value.astimezone(UTC).isoformat().replace("+00:00", "Z")

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> datetime:  # noqa: ARG002
        try:
            # A plus sign that was not escaped in a query has become a blank.
            moment = datetime.fromisoformat(value.replace(" ", "+")) if "T" in value else None
            moment = moment and moment.astimezone(UTC) if moment and moment.tzinfo else None
        except (ValueError, TypeError, OverflowError):
            moment = None
        if moment is None:
            raise ValidationError("Must be a time with its zone (RFC 3339), such as 2026-01-31T12:00:00Z.")
        return moment


class Verbatim(fields.Raw):
    """JSON text that is part of the answer as it stands."""

    def _serialize(self, value: str | None, attr: str | None, obj: Any, **kwargs: Any) -> msgspec.Raw | None:  # noqa: ARG002
        return None if value is None else msgspec.Raw(value.encode())


def text(description: str | None = None, **kwargs: Any) -> fields.String:
    """A text that may be null in an answer."""
    return fields.String(allow_none=True, metadata=_metadata(description), **kwargs)


def number(description: str | None = None, **kwargs: Any) -> fields.Integer:
    """A whole number that may be null in an answer."""
    return fields.Integer(allow_none=True, metadata=_metadata(description), **kwargs)


def instant(description: str | None = None) -> Instant:
    """A time that may be null in an answer."""
    return Instant(allow_none=True, metadata=_metadata(description))


def identifier(description: str | None = None, **kwargs: Any) -> fields.UUID:
    """An id."""
    return fields.UUID(metadata=_metadata(description), **kwargs)


def asked(description: str, **kwargs: Any) -> fields.String:
    """A text in a query."""
    length = validate.Length(min=1, max=LONGEST_TEXT)
    return fields.String(validate=length, metadata=_metadata(description), **kwargs)


def _metadata(description: str | None) -> dict[str, str]:
    return {"description": description} if description else {}


class Strict(Schema):
    """What a request may hold: nothing that is not known."""

    class Meta:
        """Unknown fields are refused by name."""

        unknown = RAISE


class PageQuery(Strict):
    """Which part of a list."""

    limit = fields.Integer(
        load_default=50, validate=validate.Range(1, 500), metadata={"description": "At most so many items."}
    )
    cursor = fields.String(metadata={"description": "The next_cursor of the page before."})


class SpanQuery(PageQuery):
    """A list that can be cut by time."""

    since = Instant(metadata={"description": "From this time on."})
    until = Instant(metadata={"description": "Until before this time."})


class Problem(Schema):
    """Problem details (RFC 9457)."""

    type = fields.String()
    title = fields.String()
    status = fields.Integer()
    detail = fields.String()
    errors = fields.Dict(
        keys=fields.String(),
        values=fields.List(fields.String()),
        metadata={"description": "Sentences by the field that they are about."},
    )


def page_of(item: type[Schema], name: str) -> type[Schema]:
    """The schema of a page of a list."""
    members: dict[str, Any] = {
        "items": fields.List(fields.Nested(item)),
        "next_cursor": text("Give it as `cursor` to get the next page; null at the end."),
    }
    return type(name, (Schema,), members)
