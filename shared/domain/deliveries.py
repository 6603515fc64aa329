"""What an attempt to deliver a change means, and what comes next: decided here, carried out elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

DEFAULT_SCHEDULE = (0, 30, 120, 600, 1800)
"""Seconds before each retry: six attempts, of which the second follows at once."""
LONG_SCHEDULE = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""Over three days: the example of the Standard Webhooks specification 1.0.0."""
LONGEST_RETRY_AFTER_SECONDS = 3600.0
"""A receiver that asks to be left alone for longer is tried again after this."""

_JITTER = 0.2
_RETRYABLE = frozenset({408, 409, 425, 429})
_GONE = 410
_BUSY = frozenset({429, 503})
"""With one of these a Retry-After is about the endpoint, and not about this one request (RFC 9110, 10.2.3)."""


class DeliveryStatus(StrEnum):
    """Where the delivery of one change to one subscription stands."""

    PENDING = "pending"
    DELIVERED = "delivered"
    RETRY = "retry"
    DEAD = "dead"
    QUARANTINED = "quarantined"


class AttemptStatus(StrEnum):
    """How one attempt ended."""

    SUCCESS = "success"
    FAILED = "failed"


class Answer(StrEnum):
    """What an attempt says of the endpoint: the four kinds that all else follows from."""

    NONE = "none"
    LATER = "later"
    NO = "no"
    YES = "yes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What becomes of a delivery after an attempt.

    `delay_seconds` is for a retry. `rest_seconds`: the endpoint asked to be left alone for so long. `gone`: it asked
    never to be called again, so its subscription is to be disabled.
    """

    status: DeliveryStatus
    delay_seconds: float | None = None
    rest_seconds: float | None = None
    gone: bool = False

    @property
    def attempt(self) -> AttemptStatus:
        """How the attempt ended."""
        return AttemptStatus.SUCCESS if self.status is DeliveryStatus.DELIVERED else AttemptStatus.FAILED


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """What the latest attempt shows, what it usually means, and what to do next."""

    shows: str
    meaning: str
    action: str


_ADVICE = {
    Answer.NONE: Advice(
        shows="`http_status` is 0, or the response has a network error",
        meaning="Tidings did not receive an HTTP response.",
        action="Check DNS, TLS, firewall, public routing, and endpoint timeout.",
    ),
    Answer.LATER: Advice(
        shows="5xx, 408, 409, 425, or 429",
        meaning="Temporary receiver failure.",
        action="Fix the receiver and wait for the retry, or replay after the delivery is dead.",
    ),
    Answer.NO: Advice(
        shows="Another non-2xx status, such as 400, 401, 403, 404, 410, or 422",
        meaning="Permanent receiver rejection.",
        action="Fix URL, auth, signature verification, or payload handling, then replay.",
    ),
    Answer.YES: Advice(
        shows="2xx",
        meaning="The receiver accepted the delivery as successful.",
        action="Check the receiver's internal queue, idempotency, and downstream processing.",
    ),
}


def answer(http_status: int) -> Answer:
    """What a status says; 0 stands for no response. Redirects are not followed, so 3xx is a No like any other."""
    if http_status == 0:
        return Answer.NONE
    if 200 <= http_status < 300:
        return Answer.YES
    return Answer.LATER if http_status >= 500 or http_status in _RETRYABLE else Answer.NO


def decide(
    http_status: int,
    *,
    attempts: int,
    schedule: Sequence[float],
    retry_after_seconds: float | None = None,
    jitter: float = 0.0,
) -> Decision:
    """What follows on the latest of `attempts` attempts. `jitter` is from -1 to 1.

    `retry_after_seconds` is what the response asked for: it can put a retry off by up to an hour, never forward.
    """
    said = answer(http_status)
    if said is Answer.YES:
        return Decision(status=DeliveryStatus.DELIVERED)
    if said is Answer.NO:
        return Decision(status=DeliveryStatus.DEAD, gone=http_status == _GONE)
    asked = min(max(retry_after_seconds or 0.0, 0.0), LONGEST_RETRY_AFTER_SECONDS)
    rest = asked if asked and http_status in _BUSY else None
    if attempts > len(schedule):
        return Decision(status=DeliveryStatus.DEAD, rest_seconds=rest)
    delay = schedule[attempts - 1] * (1 + _JITTER * jitter)
    return Decision(status=DeliveryStatus.RETRY, delay_seconds=max(delay, asked), rest_seconds=rest)


def advise(http_status: int) -> Advice:
    """What to tell whoever looks at an attempt that ended with this status; 0 stands for no response."""
    return _ADVICE[answer(http_status)]
