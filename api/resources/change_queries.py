"""What readers of the log ask for, whether page by page or as a stream."""

import re
from typing import Any
from uuid import UUID

from marshmallow import ValidationError, fields

from api.core import pagination
from api.core.errors import ProblemError
from api.core.fields import Problem, Strict, query_text
from shared import targets
from shared.changes import payload as change_payload
from shared.changes.filters import EVERYTHING, ChangeFilter
from shared.changes.log import Cursor, GoneError
from shared.targets import TargetError

_CURSOR = re.compile(r"([0-9]{1,18})-([0-9]{1,18})")

_RETRY_AFTER_SECONDS = 10

GONE = "What follows the cursor is not kept any more; `oldest_cursor` is where reading can begin"


class Gone(Problem):
    """Where one cannot go on from a cursor."""

    oldest_cursor = fields.String(metadata={"description": "Where reading can begin: the oldest that is kept."})


def _require_domain(text: str) -> None:
    try:
        targets.read_domain(text)
    except TargetError as error:
        raise ValidationError(str(error)) from None


class FilterQuery(Strict):
    """Which changes: all that is given must hold."""

    types = query_text("Only these types, separated by commas; `message.*` stands for all of its kind.")
    sources = query_text("Only of these sources, separated by commas.")
    tags = query_text("Only of messages with one of these tags, separated by commas.")
    tenant = query_text("Only of this tenant.")
    recipient_domain = fields.String(
        validate=_require_domain, metadata={"description": "Only where the recipient is of this domain."}
    )
    message_id = fields.UUID(metadata={"description": "Only of this message."})


def wanted(query: dict[str, Any], tenant: str | None) -> ChangeFilter:
    """What a query asks for; `tenant` is the one that the caller may ask for."""
    domain = query.get("recipient_domain")
    message_id: UUID | None = query.get("message_id")
    return ChangeFilter(
        types=_words(query, "types") or EVERYTHING.types,
        sources=_words(query, "sources"),
        tenant=tenant,
        recipient_domains=(targets.read_domain(domain).domain or "",) if domain else (),
        tags=_words(query, "tags"),
        message_id=str(message_id) if message_id else None,
    )


def _words(query: dict[str, Any], name: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in query.get(name, "").split(",") if word.strip())


def position(cursor: str) -> Cursor:
    """The place in the log that a cursor stands for. Raises ProblemError (400)."""
    match = _CURSOR.fullmatch(cursor)
    if match is None:
        raise pagination.invalid_cursor()
    return int(match[1]), int(match[2])


def gone(error: GoneError) -> ProblemError:
    """The answer where one cannot go on from a cursor."""
    return ProblemError(410, str(error), extra={"oldest_cursor": change_payload.identifier(error.oldest)})


def full() -> ProblemError:
    """The answer where nobody else can stay to wait for changes."""
    return ProblemError(
        503,
        "As many as this process can serve wait for changes already.",
        headers={"Retry-After": str(_RETRY_AFTER_SECONDS)},
    )
