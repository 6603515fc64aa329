"""Tests an endpoint by a real request with a `test` event or a sample change, sent at once and not recorded."""

import threading
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final
from uuid import uuid4

import msgspec
from sqlalchemy import Row

from shared.changes import samples
from shared.deliveries import policy, requests
from shared.deliveries.policy import ResponseClass
from shared.egress import captures
from shared.egress.client import EgressClient
from shared.egress.ssrf import Network
from shared.egress.types import Outcome
from shared.encryption import Vault
from shared.errors import ConflictError
from shared.subscriptions.secrets import open_subscription
from shared.vocabulary import AttemptStatus

TYPE: Final = "test"
_MAX_AT_ONCE: Final = 4
_SPARE_SECONDS: Final = 5.0

# A test blocks a thread of the API until the endpoint answers, so endpoints that hang must not take all threads.
_turns = threading.BoundedSemaphore(_MAX_AT_ONCE)


def send_test(
    row: Row[Any], vault: Vault, allow: Sequence[Network], now: datetime, type_: str = TYPE
) -> dict[str, Any]:
    """Send a subscription a `test` event or a sample change of another type, and wait for the response.

    The `webhook-id` of both begins with `test-`. Returns `status`, `http_status`, `latency_ms`, `created_at`, the
    captures, and what the response usually means. Raises ConflictError, or SecretsError.
    """
    subscription = open_subscription(row, vault)
    webhook_id = f"{TYPE}-{uuid4().hex}"
    data = {"subscription": row.id} if type_ == TYPE else samples.make_data(type_)
    payload = {"id": webhook_id, "type": type_, "timestamp": now, "data": data}
    body = requests.encode(payload, subscription.payload)
    call = requests.build(subscription, body, key=uuid4(), webhook_id=webhook_id, now=now)
    if not _turns.acquire(blocking=False):
        raise ConflictError("Other subscriptions are being tested; try again in a moment.")
    try:
        with closing(EgressClient(allow)) as sender:
            sender.submit([call])
            outcomes = sender.collect(call.timeout_seconds + _SPARE_SECONDS)
    finally:
        _turns.release()
    no_outcome = Outcome(key=call.key, http_status=0, latency_ms=0, network_error="no response within the timeout")
    outcome = outcomes[0] if outcomes else no_outcome
    accepted = policy.classify_response(outcome.http_status) is ResponseClass.SUCCESS
    return {
        "status": AttemptStatus.SUCCESS if accepted else AttemptStatus.FAILED,
        "http_status": outcome.http_status,
        "latency_ms": outcome.latency_ms,
        "created_at": now,
        "request_capture": msgspec.json.decode(captures.of_request(call, subscription.headers)),
        "response_capture": msgspec.json.decode(captures.of_response(outcome, subscription.headers)),
        **asdict(policy.recommend_for_status(outcome.http_status)),
    }
