"""Sending claimed deliveries: requests are built, sent hundreds at a time, and collected when they have ended."""

import resource
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import structlog
from sqlalchemy import Row

from shared import ids
from shared.changes import payload as change_payload
from shared.deliveries import requests, store
from shared.egress.client import EgressClient
from shared.subscriptions.model import Subscription
from workers.context import WorkerContext
from workers.deliveries import outcomes
from workers.deliveries.outcomes import DeliveryOutcome, InFlight, OutcomeRecorder
from workers.deliveries.payload_cache import PayloadCache
from workers.deliveries.subscription_cache import SubscriptionCache

MAX_LAPSES: Final = 5
"""Leases of a delivery that ran out in a row; then it is given up."""
SUSPECT_AFTER_LAPSES: Final = 2
"""From here on a delivery may be what crashes deliverers. It is sent without another suspect beside it."""

_MAX_YOUNG: Final = 400
"""Requests in flight for less than `_YOUNG_SECONDS`. Those that take longer are few for each endpoint."""
_YOUNG_SECONDS: Final = 2.0
_MAX_IN_FLIGHT: Final = 4000
_SPARE_DESCRIPTORS: Final = 200
_UNUSABLE_DELAY_SECONDS: Final = 30.0
_NO_LONGER_STORED: Final = "the change is no longer stored"
_CRASHED: Final = f"the worker crashed {MAX_LAPSES} times during this request; the outcome is unknown"

log = structlog.get_logger()


class Dispatcher:
    """Sends requests from a separate thread, and holds those in flight."""

    def __init__(
        self,
        ctx: WorkerContext,
        subscriptions: SubscriptionCache,
        recorder: OutcomeRecorder,
        suspect_delay_seconds: float,
    ) -> None:
        self._ctx = ctx
        self._subscriptions = subscriptions
        self._recorder = recorder
        self._suspect_delay_seconds = suspect_delay_seconds
        self._payloads = PayloadCache()
        self._sender = EgressClient(ctx.settings.egress_allow)
        self._in_flight: dict[UUID, InFlight] = {}
        self._max_in_flight = _max_in_flight()

    def __len__(self) -> int:
        """Return the number of requests in flight."""
        return len(self._in_flight)

    def capacity(self) -> int:
        """Return how many more requests may be sent now."""
        young_since = time.monotonic() - _YOUNG_SECONDS
        young = sum(request.sent_monotonic > young_since for request in self._in_flight.values())
        return max(0, min(_MAX_YOUNG - young, self._max_in_flight - len(self._in_flight)))

    def dispatch(self, claimed: Sequence[Row[Any]], token: UUID) -> None:
        """Send deliveries that were claimed under `token`, or release them, or give them up. Raises SenderError."""
        claimed = self._without_suspects(claimed, token)
        with self._ctx.engine.begin() as connection:
            self._subscriptions.refresh(connection)
            found = {one.id: self._subscriptions.find(one.subscription_id) for one in claimed}
            views = [(_cursor(one), subscription.tenant) for one in claimed if (subscription := found[one.id])]
            self._payloads.load(connection, views)
        built = [self._build(one, token, found[one.id]) for one in claimed]
        for dead in built:
            if isinstance(dead, DeliveryOutcome):
                self._recorder.add(dead)
        sent = [request for request in built if isinstance(request, InFlight)]
        self._in_flight |= {request.call.key: request for request in sent}
        self._sender.submit([request.call for request in sent])
        unusable = [one.id for one, request in zip(claimed, built, strict=True) if request is None]
        self._release(unusable, token, delay_seconds=_UNUSABLE_DELAY_SECONDS)

    def _without_suspects(self, claimed: Sequence[Row[Any]], token: UUID) -> Sequence[Row[Any]]:
        """Release all suspects but one, and that one too if one is in flight; return the others."""
        suspects = [one for one in claimed if one.lapses >= SUSPECT_AFTER_LAPSES]
        in_flight = any(request.claimed.lapses >= SUSPECT_AFTER_LAPSES for request in self._in_flight.values())
        held_back = {one.id for one in suspects[0 if in_flight else 1 :]}
        self._release(list(held_back), token, delay_seconds=self._suspect_delay_seconds)
        return [one for one in claimed if one.id not in held_back]

    def _build(
        self, claimed: Row[Any], token: UUID, subscription: Subscription | None
    ) -> InFlight | DeliveryOutcome | None:
        """Return the request for a delivery, or that it is dead; None if a person must repair its subscription first.

        It is built from the stored change and the subscription as it is now.
        """
        if subscription is None:
            return None
        body = self._payloads.get((_cursor(claimed), subscription.tenant), subscription.payload)
        if body is None:
            return outcomes.undeliverable(claimed, token, subscription, _NO_LONGER_STORED)
        if claimed.lapses >= MAX_LAPSES:
            return outcomes.undeliverable(claimed, token, subscription, _CRASHED)
        now = datetime.now(UTC)
        webhook_id = change_payload.format_cursor(_cursor(claimed))
        try:
            call = requests.build(subscription, body, key=ids.receipt_id(now), webhook_id=webhook_id, now=now)
        except Exception:  # a fault of one subscription must not stop the others
            log.exception("request cannot be built", subscription=subscription.id)
            return None
        return InFlight(claimed=claimed, token=token, subscription=subscription, call=call, sent_at=now)

    def _release(self, delivery_ids: Sequence[UUID], token: UUID, *, delay_seconds: float = 0.0) -> None:
        """Give up the leases of deliveries without an attempt."""
        if delivery_ids:
            with self._ctx.engine.begin() as connection:
                store.release(connection, delivery_ids, token, delay_seconds=delay_seconds)

    def collect(self, timeout_seconds: float) -> set[UUID]:
        """Wait until a request has ended, and have the outcomes recorded; return the subscriptions concerned.

        Raises SenderError.
        """
        concerned = set()
        for outcome in self._sender.collect(timeout_seconds):
            request = self._in_flight.pop(outcome.key, None)
            if request is not None:
                concerned.add(request.claimed.subscription_id)
                self._recorder.add(outcomes.evaluate(request, outcome))
        return concerned

    def wake(self) -> None:
        """End the waiting of `collect`; from any thread."""
        self._sender.wake()

    def abandon(self) -> None:
        """Break off the requests in flight, and release their deliveries for another process to send."""
        self._sender.abandon()
        for request in self._in_flight.values():
            self._release([request.claimed.id], request.token)
        self._in_flight.clear()

    def reset(self) -> None:
        """Start anew after a SenderError. The outcomes are unknown: the leases run out, and others send again."""
        self._in_flight.clear()
        self._sender.close()
        self._sender = EgressClient(self._ctx.settings.egress_allow)

    def close(self) -> None:
        """Close the connections to endpoints."""
        self._sender.close()


def _cursor(claimed: Row[Any]) -> tuple[int, int]:
    return (claimed.transaction, claimed.change_id)


def _max_in_flight() -> int:
    """Raise the limit of file descriptors, of which each request takes one; return how many requests it allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_IN_FLIGHT + _SPARE_DESCRIPTORS
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _SPARE_DESCRIPTORS
    return max(_MAX_YOUNG // 4, min(_MAX_IN_FLIGHT, allowed))
