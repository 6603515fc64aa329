"""Cursors: where the next page of a list begins, in a form that nobody needs to understand."""

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec

from api.core.errors import ProblemError
from shared.postgres.pagination import Position

BY_ID = tuple[UUID]
BY_TIME = tuple[datetime, UUID]
BY_NUMBER = tuple[Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]]
BY_NAME = tuple[str]
_Place = Annotated[str, msgspec.Meta(pattern="^[0-9]{1,18}$")]
BY_PLACE = tuple[_Place, Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)], UUID]


def encode(position: Position | None) -> str | None:
    """The cursor of a position; None at the end of a list."""
    return None if position is None else urlsafe_b64encode(msgspec.json.encode(position)).decode().rstrip("=")


def decode(cursor: str | None, kind: Any) -> Position | None:
    """The position of a cursor; `kind` is what this list is sorted by. Raises ProblemError (400)."""
    if cursor is None:
        return None
    try:
        text = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        position: Position = msgspec.json.decode(text, type=kind)
    except (ValueError, binascii.Error, msgspec.MsgspecError):
        raise unreadable() from None
    if not all(map(_is_usable, position)):
        raise unreadable()
    return position


def _is_usable(part: Any) -> bool:
    """Whether the database can compare with it."""
    if isinstance(part, datetime):
        return part.tzinfo is not None
    return not isinstance(part, str) or "\0" not in part


def unreadable() -> ProblemError:
    """The answer to a cursor that is none of this list's."""
    return ProblemError(
        400, "The cursor is none of this list's: use the next_cursor of a page as it is, or begin without one."
    )
