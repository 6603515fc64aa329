"""Outcomes of requests: decides and records the state of each delivery and the health of its endpoint."""

import time
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import structlog
from sqlalchemy import Connection, Engine, Row

from shared import backoff, ids
from shared.counters.metric_store import Metric, Observations
from shared.counters.store import DELIVERIES
from shared.deliveries import policy, store
from shared.deliveries.policy import Decision, ResponseClass
from shared.egress import captures
from shared.egress.types import Call, Outcome
from shared.http.client import parse_retry_after
from shared.postgres.engine import STATEMENT_ERRORS, is_conflict, is_database_fault
from shared.subscriptions import circuit_breaker, endpoint_health
from shared.subscriptions import store as subscriptions
from shared.subscriptions.endpoint_health import HealthUpdate
from shared.subscriptions.model import Subscription
from shared.vocabulary import DeliveryStatus

_SUCCESS_RECORDED_EVERY: Final = timedelta(seconds=10)
_GONE: Final = "the endpoint answered 410: it is gone for good"
_ONLY_FAILURES: Final = "every request to the endpoint failed for {days} days; last error: {error}"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class InFlight:
    """A request for a delivery that was claimed under `token`. `changed_at` is the time of its change, if known."""

    claimed: Row[Any]
    token: UUID
    subscription: Subscription
    call: Call
    sent_at: datetime
    changed_at: datetime | None = None
    sent_monotonic: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryOutcome:
    """The outcome of a delivery's request. `response` is None if no request was sent.

    `attempt` has the keys that `store.record_attempts` expects.
    """

    request: InFlight
    decision: Decision
    response: ResponseClass | None
    attempt: Mapping[str, Any]


def evaluate(request: InFlight, outcome: Outcome) -> DeliveryOutcome:
    """Decide about a delivery after its request."""
    decision = policy.decide(
        outcome.http_status,
        attempts=request.claimed.attempts + 1,
        schedule=request.subscription.retry_schedule,
        retry_after_seconds=parse_retry_after(outcome.headers.get("retry-after", ""), datetime.now(UTC)),
        jitter=backoff.jitter(),
    )
    response = policy.classify_response(outcome.http_status)
    return DeliveryOutcome(
        request=request, decision=decision, response=response, attempt=_attempt(request, outcome, decision)
    )


def undeliverable(claimed: Row[Any], token: UUID, subscription: Subscription, reason: str) -> DeliveryOutcome:
    """Return the outcome of a delivery that is dead without a request."""
    now = datetime.now(UTC)
    call = Call(
        key=ids.receipt_id(now), url=subscription.url, headers=(), body=b"", timeout_seconds=subscription.timeout_s
    )
    request = InFlight(claimed=claimed, token=token, subscription=subscription, call=call, sent_at=now)
    outcome = Outcome(key=call.key, http_status=0, latency_ms=0, network_error=reason)
    decision = Decision(status=DeliveryStatus.DEAD)
    return DeliveryOutcome(
        request=request, decision=decision, response=None, attempt=_attempt(request, outcome, decision)
    )


def _attempt(request: InFlight, outcome: Outcome, decision: Decision) -> dict[str, Any]:
    delivered = decision.status is DeliveryStatus.DELIVERED
    return {
        "id": request.call.key,
        "delivery_id": request.claimed.id,
        "token": request.token,
        "status": decision.status.value,
        "delay_seconds": decision.delay_seconds,
        "attempt_status": decision.attempt_status.value,
        "http_status": outcome.http_status,
        "latency_ms": outcome.latency_ms,
        "error": None if delivered else outcome.network_error or f"answered {outcome.http_status}",
        "begun_at": request.sent_at,
        "request_capture": captures.of_request(request.call, request.subscription.headers),
        "response_capture": captures.of_response(outcome, request.subscription.headers),
        "ordered": request.claimed.ordered,
    }


class OutcomeRecorder:
    """Records outcomes in batches. Those that cannot be recorded are kept, so that their deliveries are not resent."""

    def __init__(self, engine: Engine, observations: Observations) -> None:
        self._engine = engine
        self._observations = observations
        self._unrecorded: list[DeliveryOutcome] = []

    def __len__(self) -> int:
        """Return the number of outcomes that are not recorded yet."""
        return len(self._unrecorded)

    def add(self, outcome: DeliveryOutcome) -> None:
        """Record an outcome with the next `flush`."""
        self._unrecorded.append(outcome)

    def flush(self) -> None:
        """Record all outcomes. After a deadlock, the next call retries."""
        if not self._unrecorded:
            return
        try:
            with self._engine.begin() as connection:
                recorded = record(connection, self._unrecorded)
        except STATEMENT_ERRORS as error:
            if is_conflict(error):
                return
            if is_database_fault(error):
                raise
            log.exception("recording attempts one by one", attempts=len(self._unrecorded))
            for outcome in self._unrecorded:
                self._record_alone(outcome)
        else:
            self.observe(self._unrecorded, recorded)
        self._unrecorded.clear()

    def observe(self, outcomes: Sequence[DeliveryOutcome], recorded: Container[UUID]) -> None:
        """Count the outcomes that were recorded, and how long after their changes the successful ones were."""
        counted = [outcome for outcome in outcomes if outcome.request.claimed.id in recorded]
        results = Counter((0, outcome.decision.status.value) for outcome in counted)
        self._observations.count(Metric.DELIVERIES, results)
        self._observations.count_by_minute(DELIVERIES, results)
        now = time.time()
        changed = [
            outcome.request.changed_at
            for outcome in counted
            if outcome.request.changed_at and outcome.decision.status is DeliveryStatus.DELIVERED
        ]
        self._observations.observe(Metric.DELIVERY_LATENCY, [now - at.timestamp() for at in changed])
        for outcome in counted:
            if outcome.decision.status is not DeliveryStatus.DELIVERED:
                claimed = outcome.request.claimed
                log.info(
                    "delivery failed",
                    delivery=str(claimed.id),
                    message=claimed.message_id and str(claimed.message_id),
                    subscription=str(claimed.subscription_id),
                    status=outcome.decision.status.value,
                    http_status=outcome.attempt["http_status"],
                )

    def _record_alone(self, outcome: DeliveryOutcome) -> None:
        try:
            with self._engine.begin() as connection:
                recorded = record(connection, [outcome])
        except STATEMENT_ERRORS:
            log.exception("attempt cannot be recorded", delivery=str(outcome.request.claimed.id))
            bare = {**outcome.attempt, "request_capture": "{}", "response_capture": "{}"}
            with self._engine.begin() as connection:
                recorded = record(connection, [replace(outcome, attempt=bare)])
        self.observe([outcome], recorded)


def record(connection: Connection, outcomes: Sequence[DeliveryOutcome]) -> Container[UUID]:
    """Record attempts whose lease is still held, the new states of their deliveries, and their endpoints' health.

    Returns the ids of these deliveries.
    """
    recorded = store.record_attempts(connection, [outcome.attempt for outcome in outcomes])
    if lost := len(outcomes) - len(recorded):
        log.warning("attempts not recorded: another deliverer has taken over", attempts=lost)
    by_endpoint: dict[UUID, list[DeliveryOutcome]] = {}
    for outcome in outcomes:
        if outcome.request.claimed.id in recorded and outcome.response is not None:
            by_endpoint.setdefault(outcome.request.claimed.subscription_id, []).append(outcome)
    if not by_endpoint:
        return recorded
    now = endpoint_health.get_time(connection)
    by_endpoint = {id_: ended for id_, ended in by_endpoint.items() if _concerns_health(ended, now)}
    if by_endpoint:
        _update_health(connection, by_endpoint, now)
    return recorded


def _concerns_health(ended: Sequence[DeliveryOutcome], now: datetime) -> bool:
    """Return whether to write health. A success of a healthy endpoint is written at most every ten seconds."""
    claims = [outcome.request.claimed for outcome in ended]
    latest = max((claimed.last_success_at for claimed in claims if claimed.last_success_at), default=None)
    return (
        latest is None
        or now - latest > _SUCCESS_RECORDED_EVERY
        or any(claimed.failing for claimed in claims)
        or any(outcome.response is not ResponseClass.SUCCESS for outcome in ended)
    )


def _update_health(
    connection: Connection, by_endpoint: Mapping[UUID, Sequence[DeliveryOutcome]], now: datetime
) -> None:
    before = endpoint_health.lock(connection, sorted(by_endpoint))
    updates = []
    to_disable = []
    for id_, ended in by_endpoint.items():
        responses = Counter(outcome.response for outcome in ended)
        pauses = [outcome.decision.pause_seconds for outcome in ended if outcome.decision.pause_seconds is not None]
        health = circuit_breaker.next_state(
            before[id_],
            now,
            successes=responses[ResponseClass.SUCCESS],
            rejections=responses[ResponseClass.REJECTED],
            endpoint_failures=responses[ResponseClass.NO_RESPONSE] + responses[ResponseClass.RETRYABLE],
            pause_seconds=max(pauses, default=None),
            jitter=backoff.jitter(),
        )
        if health.trip_count > before[id_].trip_count:
            log.warning("circuit breaker opened", subscription=str(id_), until=str(health.open_until))
        errors = [outcome.attempt["error"] for outcome in ended if outcome.response is not ResponseClass.SUCCESS]
        error = errors[-1] if errors else None
        succeeded_at = now if responses[ResponseClass.SUCCESS] else None
        updates.append(HealthUpdate(id_, health, succeeded_at, now if errors else None, error))
        url = ended[-1].request.subscription.url
        if any(outcome.decision.gone for outcome in ended):
            to_disable.append((id_, url, _GONE))
        elif circuit_breaker.should_disable(health, now):
            to_disable.append((id_, url, _ONLY_FAILURES.format(days=circuit_breaker.DISABLE_AFTER.days, error=error)))
    endpoint_health.store(connection, updates)
    for id_, url, reason in to_disable:
        if subscriptions.disable(connection, id_, url, reason, now):
            log.error("subscription disabled", subscription=str(id_), reason=reason)
