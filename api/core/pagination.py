"""Opaque cursors for the pages of a list."""

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
_LogPosition = Annotated[str, msgspec.Meta(pattern="^[0-9]{1,18}$")]
BY_LOG_POSITION = tuple[_LogPosition, Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)], UUID]


def encode(position: Position | None) -> str | None:
    """Return the cursor of a position; None on the last page."""
    return None if position is None else urlsafe_b64encode(msgspec.json.encode(position)).decode().rstrip("=")


def decode(cursor: str | None, kind: Any) -> Position | None:
    """Return the position of a cursor; `kind` is the type of the sort key. Raises ProblemError (400)."""
    if cursor is None:
        return None
    try:
        text = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        position: Position = msgspec.json.decode(text, type=kind)
    except (ValueError, binascii.Error, msgspec.MsgspecError):
        raise invalid_cursor() from None
    if not all(map(_is_comparable, position)):
        raise invalid_cursor()
    return position


def _is_comparable(part: Any) -> bool:
    """Return whether the database can compare a key with this value."""
    if isinstance(part, datetime):
        return part.tzinfo is not None
    return not isinstance(part, str) or "\0" not in part


def invalid_cursor() -> ProblemError:
    """Return the error for a cursor of another list or format."""
    return ProblemError(
        400,
        "The cursor is not valid for this list. Send the next_cursor of a page unchanged, or none for the first page.",
    )
