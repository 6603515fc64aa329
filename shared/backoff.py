"""Every back-off policy: the delay before a failed operation is tried again."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

_MINUTE: Final = 60.0
_HOUR: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Backoff:
    """Seconds to wait after the first failure in a row, after the second, and so on; the last one applies from there.

    `spread` is the part by which a delay may be longer or shorter, so that what failed together does not come back
    together.
    """

    delays_seconds: Sequence[float]
    spread: float = 0.0

    def delay_seconds(self, failures: int, *, jitter: float = 0.0) -> float:
        """Return the delay after this many failures in a row. `jitter` is random, from -1 to 1."""
        delay = self.delays_seconds[min(max(failures, 1), len(self.delays_seconds)) - 1]
        return delay * (1 + self.spread * jitter)


def jitter() -> float:
    """Return a random number from -1 to 1, by which delays are spread."""
    return random.uniform(-1, 1)  # noqa: S311 - not a secret


RECEIPTS: Final = Backoff((2, 4, 8, 16, 32, 60))
"""A receipt that could not be processed."""

JOBS: Final = Backoff((2, 4, 8, 16, 32, 60))
"""A job that ended with an error."""

KEY_LOOKUPS: Final = Backoff((10, 20, 40, 80, 160, 320, 600))
"""A receipt in quarantine whose key could not be fetched."""

CIRCUIT_BREAKER: Final = Backoff((10, 20, 40, 80, 160, 320, 600), spread=0.2)
"""An endpoint that keeps failing: how long its breaker stays open."""

NOTIFICATIONS: Final = Backoff((10, 30, 120, 600, 1800, 3600), spread=0.2)
"""A notification that a channel did not take."""

PROVIDER_API: Final = Backoff((0.5, 1, 2, 4, 8, 16, 32, 60))
"""A request to a provider's API, within its `RetryBudget`."""

QUEUE_POLLS: Final = Backoff((5, 10, 20, 40, 80, 160, 300))
"""A queue of a source that could not be polled."""

QUEUE_MESSAGES: Final = Backoff([minutes * _MINUTE for minutes in (1, 2, 5, 15, 60)])
"""A message of a queue that was refused: it stays in the queue, invisible for this time."""

RECONCILIATION_RUNS: Final = Backoff([minutes * _MINUTE for minutes in (2, 4, 8, 16, 32, 64, 128, 240)])
"""A source whose provider could not be asked for failed deliveries."""

RESENDS: Final = Backoff([hours * _HOUR for hours in (0.25, 0.5, 1, 2, 4, 8, 12)])
"""A failed delivery whose resend failed too."""

SUPPRESSION_PULLS: Final = Backoff([hours * _HOUR for hours in (0.25, 0.25, 0.25, 0.5, 1, 2, 4, 8, 16, 24)])
"""A provider's suppression list that could not be pulled."""

PROCESSES: Final = Backoff((0.2, 0.4, 0.8, 1.6, 3.2, 5))
"""A process that died and is started again."""

DELIVERY_SCHEDULES: Final[Mapping[str, Sequence[int]]] = {
    "default": (0, 30, 120, 600, 1800),
    # Over three days: the example of the Standard Webhooks specification 1.0.0.
    "standard_webhooks": (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400),
}
"""Deliveries: seconds before each retry, by the name of the schedule. After the last retry a delivery is dead."""

DELIVERY_SPREAD: Final = 0.2
"""As `Backoff.spread`, for deliveries, whose schedule is the subscription's."""

MAX_RETRY_AFTER_SECONDS: Final = 3600.0
"""The longest Retry-After that is respected, of endpoints and of notification channels."""
