"""What every kind of channel is: how its target is read, shown and told."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from shared.errors import TidingsError
from shared.notifications.rendering import Message

HIDDEN = "••••"

Target = Mapping[str, Any]
"""Where a channel goes, with its secrets: what is kept sealed. `url` is always there."""


class TargetError(TidingsError):
    """A target that cannot be used; the message says what it should be."""


class TellingError(TidingsError):
    """A message that was not taken. `permanent`: asking again is no use; else, maybe, when to (in seconds)."""

    def __init__(self, message: str, *, permanent: bool = False, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.permanent = permanent
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What a channel works under: the time of the attempt, and how long it may take."""

    at: datetime
    deadline_seconds: float


class ChannelKind(Protocol):
    """A kind of channel."""

    def check(self, url: str) -> None:
        """Raise TargetError unless this is a URL that this kind can tell."""

    def shown(self, url: str) -> str:
        """The URL without anything that must not be seen."""

    def tell(self, target: Target, message: Message, attempt: Attempt) -> str:
        """Tell, and return what came back in a few words. Raises TellingError within the deadline."""
