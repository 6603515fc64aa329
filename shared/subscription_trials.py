"""Trying a subscription out: one request as all others are, but of nothing that happened, and at once."""

import threading
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import uuid4

import msgspec

from shared import webhook_requests
from shared.db.subscriptions import SubscriptionRow
from shared.domain import deliveries
from shared.domain.deliveries import Advice, Answer, AttemptStatus
from shared.egress import captures
from shared.egress.client import Sender
from shared.egress.ssrf import Network
from shared.egress.types import Call, Outcome
from shared.encryption import Vault
from shared.errors import TidingsError
from shared.subscriptions import open_subscription

TYPE: Final = "test"
_MOST_AT_ONCE = 4
_SPARE_SECONDS = 5.0

_turns = threading.BoundedSemaphore(_MOST_AT_ONCE)  # an endpoint that hangs takes a thread of its caller's


class BusyError(TidingsError):
    """Others are being tried out; try again in a moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What came back, what that usually means, and what to do."""

    status: AttemptStatus
    http_status: int
    latency_ms: int
    created_at: datetime
    request_capture: Mapping[str, Any]
    response_capture: Mapping[str, Any]
    advice: Advice


def try_out(row: SubscriptionRow, vault: Vault, allow: Sequence[Network], now: datetime) -> Trial:
    """Send a subscription a message that says that it is a test; waits for the answer. Nothing is kept of it.

    Raises BusyError, or SecretsError.
    """
    subscription = open_subscription(row, vault)
    webhook_id = f"{TYPE}-{uuid4().hex}"
    payload = {"id": webhook_id, "type": TYPE, "timestamp": now, "data": {"subscription": row.id}}
    body = webhook_requests.encode(payload, subscription.payload)
    call = webhook_requests.build(subscription, body, key=uuid4(), webhook_id=webhook_id, now=now)
    outcome = _send(call, allow)
    accepted = deliveries.answer(outcome.http_status) is Answer.YES
    return Trial(
        status=AttemptStatus.SUCCESS if accepted else AttemptStatus.FAILED,
        http_status=outcome.http_status,
        latency_ms=outcome.latency_ms,
        created_at=now,
        request_capture=msgspec.json.decode(captures.of_request(call, subscription.headers)),
        response_capture=msgspec.json.decode(captures.of_response(outcome, subscription.headers)),
        advice=deliveries.advise(outcome.http_status),
    )


def _send(call: Call, allow: Sequence[Network]) -> Outcome:
    if not _turns.acquire(blocking=False):
        raise BusyError("Other subscriptions are being tried out; try again in a moment.")
    try:
        with closing(Sender(allow)) as sender:
            sender.submit([call])
            outcomes = sender.collect(call.timeout_seconds + _SPARE_SECONDS)
    finally:
        _turns.release()
    return outcomes[0] if outcomes else _unheard(call)


def _unheard(call: Call) -> Outcome:
    return Outcome(key=call.key, http_status=0, latency_ms=0, network_error="nothing was heard within the deadline")
