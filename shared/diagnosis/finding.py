"""What a step of a diagnosis comes to."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Mark(StrEnum):
    """How a finding is meant."""

    GOOD = "good"
    NOTE = "note"
    FAULT = "fault"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at, what was found, and what to do about it. `evidence` are ids."""

    code: str
    mark: Mark
    text: str
    next_step: str | None = None
    evidence: tuple[str, ...] = ()


def shown(at: datetime | None) -> str:
    """A time, as sentences say it."""
    return f"{at:%Y-%m-%d %H:%M:%S} UTC" if at else "an unknown time"
