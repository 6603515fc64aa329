"""From the outcome of a call to what is written down: of the delivery, and of how its endpoint fares."""

import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import structlog
from sqlalchemy import Connection

from shared.db import delivery_attempts, endpoint_health, subscriptions
from shared.db.deliveries import Claimed
from shared.db.delivery_attempts import Ended
from shared.db.endpoint_health import Faring
from shared.domain import deliveries as decisions
from shared.domain import endpoints
from shared.domain.deliveries import Answer, Decision, DeliveryStatus
from shared.domain.endpoints import Health, Tally
from shared.domain.subscriptions import Subscription
from shared.egress import captures
from shared.egress.types import Call, Outcome
from shared.http import retry_after

_SUCCESS_NOTED_EVERY = timedelta(seconds=10)
_GONE = "the endpoint answered 410: it is gone for good"
_HOPELESS = "for {days} days nothing but failure came from the endpoint; last: {error}"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class UnderWay:
    """A call that was begun for a delivery."""

    claimed: Claimed
    token: UUID
    subscription: Subscription
    call: Call
    begun_at: datetime
    began: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a call ended, decided and ready to be written down. `answer` is None where nothing was asked."""

    claimed: Claimed
    url: str
    decision: Decision
    answer: Answer | None
    ended: Ended


def of_call(under_way: UnderWay, outcome: Outcome) -> Ending:
    """What becomes of a delivery after this outcome."""
    decision = decisions.decide(
        outcome.http_status,
        attempts=under_way.claimed.attempts + 1,
        schedule=under_way.subscription.retry_schedule,
        retry_after_seconds=retry_after.read(outcome.headers.get("retry-after", ""), datetime.now(UTC)),
        jitter=_jitter(),
    )
    return _ending(under_way, outcome, decision)


def of_nothing(under_way: UnderWay, reason: str) -> Ending:
    """There is nothing left to send, now or ever."""
    outcome = Outcome(key=under_way.call.key, http_status=0, latency_ms=0, network_error=reason)
    ending = _ending(under_way, outcome, Decision(status=DeliveryStatus.DEAD))
    return replace(ending, answer=None)


def without_captures(ending: Ending) -> Ending:
    """What is left where the captures are what cannot be written."""
    return replace(ending, ended=ending.ended._replace(request_capture="{}", response_capture="{}"))


def _ending(under_way: UnderWay, outcome: Outcome, decision: Decision) -> Ending:
    ended = Ended(
        id=under_way.call.key,
        delivery_id=under_way.claimed.id,
        token=under_way.token,
        status=decision.status.value,
        delay_seconds=decision.delay_seconds,
        attempt_status=decision.attempt.value,
        http_status=outcome.http_status,
        latency_ms=outcome.latency_ms,
        error=_error(outcome),
        begun_at=under_way.begun_at,
        request_capture=captures.of_request(under_way.call, under_way.subscription.headers),
        response_capture=captures.of_response(outcome, under_way.subscription.headers),
        ordered=under_way.claimed.ordered,
    )
    return Ending(
        claimed=under_way.claimed,
        url=under_way.subscription.url,
        decision=decision,
        answer=decisions.answer(outcome.http_status),
        ended=ended,
    )


def write(connection: Connection, endings: Sequence[Ending]) -> None:
    """Write down what became of these deliveries, as far as their leases still hold, and of their endpoints."""
    held = delivery_attempts.record(connection, [ending.ended for ending in endings])
    if lost := len(endings) - len(held):
        log.warning("attempts were not written: others have taken over their deliveries", attempts=lost)
    _judge(connection, [ending for ending in endings if ending.claimed.id in held and ending.answer])


def _judge(connection: Connection, endings: Iterable[Ending]) -> None:
    now = datetime.now(UTC)
    by_endpoint: dict[UUID, list[Ending]] = {}
    for ending in endings:
        by_endpoint.setdefault(ending.claimed.subscription_id, []).append(ending)
    concerned = {id_: heard for id_, heard in by_endpoint.items() if _says_something(heard, now)}
    if not concerned:
        return
    before = endpoint_health.lock(connection, sorted(concerned))
    farings = [_faring(id_, heard, before[id_], now) for id_, heard in concerned.items()]
    endpoint_health.keep(connection, farings)
    for faring in farings:
        if reason := _reason_to_disable(faring, concerned[faring.subscription_id], now):
            _disable(connection, faring.subscription_id, concerned[faring.subscription_id][-1].url, reason, now)


def _says_something(heard: Sequence[Ending], now: datetime) -> bool:
    """A success of an endpoint that fares well is no news, except now and then."""
    latest = max((ending.claimed.last_success_at for ending in heard if ending.claimed.last_success_at), default=None)
    return (
        latest is None
        or now - latest > _SUCCESS_NOTED_EVERY
        or any(ending.claimed.failing or ending.answer is not Answer.YES for ending in heard)
    )


def _faring(subscription_id: UUID, heard: Sequence[Ending], before: Health, now: datetime) -> Faring:
    tally = Tally()
    for ending in heard:
        tally = tally.plus(
            success=ending.answer is Answer.YES,
            setback=ending.answer in (Answer.NONE, Answer.LATER),
            rest_seconds=ending.decision.rest_seconds,
        )
    health = endpoints.fare(before, tally, now, jitter=_jitter())
    if health.openings > before.openings:
        log.warning("an endpoint is left alone", subscription=str(subscription_id), until=str(health.open_until))
    errors = [ending.ended.error for ending in heard if ending.answer is not Answer.YES]
    return Faring(
        subscription_id=subscription_id,
        health=health,
        succeeded_at=now if tally.successes else None,
        failed_at=now if errors else None,
        error=errors[-1] if errors else None,
    )


def _reason_to_disable(faring: Faring, heard: Sequence[Ending], now: datetime) -> str | None:
    if any(ending.decision.gone for ending in heard):
        return _GONE
    if endpoints.is_hopeless(faring.health, now):
        return _HOPELESS.format(days=endpoints.DISABLED_AFTER.days, error=faring.error)
    return None


def _disable(connection: Connection, subscription_id: UUID, url: str, reason: str, now: datetime) -> None:
    if subscriptions.disable(connection, subscription_id, url, reason, now):
        log.error("a subscription is disabled", subscription=str(subscription_id), reason=reason)


def _error(outcome: Outcome) -> str | None:
    if decisions.answer(outcome.http_status) is Answer.YES:
        return None
    return outcome.network_error or f"answered {outcome.http_status}"


def _jitter() -> float:
    return random.uniform(-1, 1)  # noqa: S311 - it need not be unguessable
