"""Decisions about deliveries: whether to retry after an attempt, and which action to recommend to people."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from shared import backoff
from shared.vocabulary import AttemptStatus, DeliveryStatus, SubscriptionState


class ResponseClass(StrEnum):
    """The four kinds of response. Retries, the circuit breaker and recommendations depend on them."""

    NO_RESPONSE = "no_response"
    RETRYABLE = "retryable"
    REJECTED = "rejected"
    SUCCESS = "success"


_RETRYABLE_STATUSES: Final = frozenset({408, 409, 425, 429})
_GONE: Final = 410
_BUSY_STATUSES: Final = frozenset({429, 503})
"""With these, a Retry-After applies to the whole endpoint, not only to this request (RFC 9110, 10.2.3)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The decision about a delivery after an attempt.

    `delay_seconds` is the delay before a retry, `pause_seconds` the length of a pause that the endpoint requested.
    `gone`: the endpoint no longer exists, so its subscription must be disabled.
    """

    status: DeliveryStatus
    delay_seconds: float | None = None
    pause_seconds: float | None = None
    gone: bool = False

    @property
    def attempt_status(self) -> AttemptStatus:
        """The result of the attempt."""
        return AttemptStatus.SUCCESS if self.status is DeliveryStatus.DELIVERED else AttemptStatus.FAILED


def classify_response(http_status: int) -> ResponseClass:
    """Return the class of a status; 0 stands for no response. Redirects are not followed, so 3xx is a rejection."""
    if http_status == 0:
        return ResponseClass.NO_RESPONSE
    if 200 <= http_status < 300:
        return ResponseClass.SUCCESS
    if http_status >= 500 or http_status in _RETRYABLE_STATUSES:
        return ResponseClass.RETRYABLE
    return ResponseClass.REJECTED


def decide(
    http_status: int,
    *,
    attempts: int,
    schedule: Sequence[float],
    retry_after_seconds: float | None = None,
    jitter: float = 0.0,
) -> Decision:
    """Return the decision after an attempt. `attempts` includes it; `jitter` is random, from -1 to 1.

    A Retry-After delays a retry by up to an hour; it never brings one forward.
    """
    response = classify_response(http_status)
    if response is ResponseClass.SUCCESS:
        return Decision(status=DeliveryStatus.DELIVERED)
    if response is ResponseClass.REJECTED:
        return Decision(status=DeliveryStatus.DEAD, gone=http_status == _GONE)
    asked = min(max(retry_after_seconds or 0.0, 0.0), backoff.MAX_RETRY_AFTER_SECONDS)
    rest = asked if asked and http_status in _BUSY_STATUSES else None
    if attempts > len(schedule):
        return Decision(status=DeliveryStatus.DEAD, pause_seconds=rest)
    delay = schedule[attempts - 1] * (1 + backoff.DELIVERY_SPREAD * jitter)
    return Decision(status=DeliveryStatus.RETRY, delay_seconds=max(delay, asked), pause_seconds=rest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """What the latest attempt shows, what that usually means, and what to do next. Named as in the API."""

    latest_attempt_shows: str
    usually_means: str
    next_action: str


_BY_RESPONSE: Final[Mapping[ResponseClass, Recommendation]] = {
    ResponseClass.NO_RESPONSE: Recommendation(
        latest_attempt_shows="`http_status` is 0, or the response has a network error",
        usually_means="Tidings did not receive an HTTP response.",
        next_action="Check DNS, TLS, firewall, public routing, and endpoint timeout.",
    ),
    ResponseClass.RETRYABLE: Recommendation(
        latest_attempt_shows="5xx, 408, 409, 425, or 429",
        usually_means="Temporary receiver failure.",
        next_action="Fix the receiver and wait for the retry, or replay after the delivery is dead.",
    ),
    ResponseClass.REJECTED: Recommendation(
        latest_attempt_shows="Another non-2xx status, such as 400, 401, 403, 404, 410, or 422",
        usually_means="Permanent receiver rejection.",
        next_action="Fix URL, auth, signature verification, or payload handling, then replay.",
    ),
    ResponseClass.SUCCESS: Recommendation(
        latest_attempt_shows="2xx",
        usually_means="The receiver accepted the delivery as successful.",
        next_action="Check the receiver's internal queue, idempotency, and downstream processing.",
    ),
}
_NO_ATTEMPT: Final = "no attempt yet"
_QUARANTINED: Final = Recommendation(
    latest_attempt_shows=_NO_ATTEMPT,
    usually_means="The spam score of the inbound mail is over the limit, so a person must review it first.",
    next_action="Look at the change; replay the delivery to release it, or leave it.",
)
_BEFORE_FIRST_ATTEMPT: Final[Mapping[SubscriptionState, Recommendation]] = {
    SubscriptionState.ACTIVE: Recommendation(
        latest_attempt_shows=_NO_ATTEMPT,
        usually_means="It will be sent soon, or waits until its endpoint may be called again (see `waits_for`).",
        next_action="Wait, or replay it: that is tried at once. If nothing happens, check whether a deliverer runs.",
    ),
    SubscriptionState.PAUSED: Recommendation(
        latest_attempt_shows=_NO_ATTEMPT,
        usually_means="The subscription is paused.",
        next_action="Resume the subscription.",
    ),
    SubscriptionState.DISABLED: Recommendation(
        latest_attempt_shows=_NO_ATTEMPT,
        usually_means="The subscription is disabled.",
        next_action="See why it is disabled, fix that, and resume the subscription.",
    ),
}


def explain_wait(
    status: DeliveryStatus,
    *,
    subscription_state: SubscriptionState,
    is_held_back: bool | None,
    is_in_flight: bool | None,
    is_breaker_open: bool | None,
    due_at: datetime | None,
    resting_until: datetime | None,
) -> tuple[str | None, datetime | None]:
    """Return what a delivery waits for, and until when, if that is known; None for one that does not wait.

    `due_at` and `resting_until` (of its endpoint) are None where they have passed.
    """
    if status in (DeliveryStatus.DELIVERED, DeliveryStatus.DEAD):
        return None, None
    if status is DeliveryStatus.QUARANTINED:
        return "a person: a replay releases it", None
    if subscription_state is not SubscriptionState.ACTIVE:
        return f"its subscription, which is {subscription_state}: resume it", None
    if is_in_flight:
        return "the answer to the attempt in flight", None
    if is_held_back:
        return "an earlier delivery of the same message", None
    if resting_until is not None and (due_at is None or due_at <= resting_until):
        cause = "the circuit breaker of its endpoint" if is_breaker_open else "the pause that its endpoint asked for"
        return f"{cause}; a replay of this delivery alone is tried at once", resting_until
    if due_at is not None:
        return "its retry schedule", due_at
    return "a deliverer, which sends it within seconds", None


def recommend_for_status(http_status: int) -> Recommendation:
    """Return the recommendation for the HTTP status of an attempt; 0 stands for no response."""
    return _BY_RESPONSE[classify_response(http_status)]


def recommend(
    status: DeliveryStatus, *, last_http_status: int | None, subscription_state: SubscriptionState, removed: bool
) -> Recommendation:
    """Return the recommendation for a delivery.

    `last_http_status` is None before the first attempt; `removed`: its subscription was deleted.
    """
    if status is DeliveryStatus.QUARANTINED:
        found = _QUARANTINED
    elif last_http_status is None:
        found = _BEFORE_FIRST_ATTEMPT[subscription_state]
    else:
        found = recommend_for_status(last_http_status)
        if status is not DeliveryStatus.DELIVERED and subscription_state is not SubscriptionState.ACTIVE:
            action = f"{found.next_action} The subscription is {subscription_state}: resume it."
            found = replace(found, next_action=action)
    return replace(found, next_action="Nothing: its subscription was removed.") if removed else found
