"""What alert rules are judged by, read from counts and queues: one statement for all rules of a kind.

How they ask is here; what they ask for is in the neighbours. None looks at events, and each is bounded: by the rows
of a window, or by a limit of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

IN_SERVICE = "s.deleted_at IS NULL AND (asked.sources IS NULL OR s.slug = ANY(asked.sources))"
"""For a join of what is `asked` with sources `s`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a rule wants to know. `number` tells it from the others; `sources` are names, None for all."""

    number: int
    since: datetime
    sources: Sequence[str] | None = None


class Counted(NamedTuple):
    """How many there are of something, for a source, and the latest of them."""

    number: int
    source_id: int
    source: str
    amount: int
    last_id: UUID


def parameters(asked: Sequence[Asked]) -> dict[str, str]:
    """What is asked, as `%(asked)s::jsonb`."""
    return {"asked": msgspec.json.encode(asked).decode()}


def bounded_parameters(asked: Sequence[Asked]) -> dict[str, Any]:
    """What is asked, and a bound on all of it: only by a value of its own is a narrow index chosen."""
    return {**parameters(asked), "earliest": min(one.since for one in asked)}
