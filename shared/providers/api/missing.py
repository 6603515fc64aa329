"""What the management APIs of some providers do not have. A client inherits the methods that its provider lacks.

Callers look at `Provider.lists_failed` and `Provider.sends_tests` first; the errors are for those that do not.
"""

from collections.abc import Collection, Iterator, Sequence

from shared.providers.api.base import (
    Contents,
    FailedDelivery,
    ProviderApiError,
    ResendResult,
    Span,
    Validation,
    Webhook,
)
from shared.providers.api.client import ApiClient


class WithoutFailedDeliveries:
    """For an API that does not list the requests that failed, and cannot have them sent again."""

    http: ApiClient

    def failed(self, _span: Span) -> Iterator[Sequence[FailedDelivery]]:
        """Raise ProviderApiError."""
        raise self._lacking()

    def sent(self, _delivery: FailedDelivery) -> bytes | None:
        """Raise ProviderApiError."""
        raise self._lacking()

    def resend(self, _delivery: FailedDelivery) -> ResendResult:
        """Raise ProviderApiError."""
        raise self._lacking()

    def contents(self, _body: bytes) -> Contents | None:
        """Return None: no body was ever resent."""
        return None

    def _lacking(self) -> ProviderApiError:
        return ProviderApiError(f"The API of {self.http.provider} does not list failed webhooks.")


class WithoutTest:
    """For an API that posts no test to a webhook, or does not return the result."""

    http: ApiClient

    def validate(self, _webhooks: Collection[Webhook]) -> Sequence[Validation]:
        """Raise ProviderApiError."""
        raise ProviderApiError(
            f"The API of {self.http.provider} sends no test. Send one from its dashboard, then run: "
            f"tidings sources check {self.http.slug}"
        )
