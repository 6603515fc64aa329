"""The interface of a channel kind: how it validates, redacts and uses a target."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol

from shared.errors import TidingsError
from shared.notifications.rendering import Message

HIDDEN = "••••"

Target = Mapping[str, Any]
"""Where a channel sends to, with its secrets; stored encrypted. Every kind has `url`."""


class NotificationError(TidingsError):
    """A message that a channel did not take.

    If the failure is `permanent`, a retry is useless. `retry_after_seconds` is the delay that the channel asked for.
    """

    def __init__(self, message: str, *, permanent: bool = False, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.permanent = permanent
        self.retry_after_seconds = retry_after_seconds


class ChannelKind(Protocol):
    """A kind of channel."""

    def validate_url(self, url: str) -> None:
        """Raise InvalidFieldError if this kind cannot send to this URL."""

    def redact_url(self, url: str) -> str:
        """Return the URL without secrets."""

    def send(self, target: Target, message: Message, *, now: datetime, deadline_seconds: float) -> str:
        """Send a message, and return the response in a few words. Raises NotificationError within the deadline."""
