"""The counters: pairs of a dimension and an event type."""

from typing import NamedTuple

from shared.vocabulary import EventType, Per

EVERYTHING = ""
"""The dimension of all events of a source. They are always counted."""


class Tally(NamedTuple):
    """A counter: events of one type, for each value of a dimension ('' or one of `Per`)."""

    dimension: str
    type: EventType


def dimension_of(per: Per) -> str:
    """Return the dimension by which events are counted for a rule."""
    return EVERYTHING if per in (Per.ALL, Per.SOURCE) else str(per)
