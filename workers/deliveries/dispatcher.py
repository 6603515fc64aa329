"""Sends claimed deliveries: builds their requests, sends hundreds concurrently, and collects the outcomes."""

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
from workers.deliveries.payload_cache import PayloadCache, View
from workers.deliveries.subscription_cache import SubscriptionCache

MAX_LAPSES: Final = 5
"""After this many expired leases in a row, a delivery is dead."""
SUSPECT_AFTER_LAPSES: Final = 2
"""After this many, a delivery is suspected of crashing deliverers. Only one suspect is in flight at a time."""

_MAX_YOUNG: Final = 400
"""Limit on requests that are younger than `_YOUNG_SECONDS`. Slower ones are few for each endpoint."""
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
        """Send, release or mark as dead the deliveries claimed under `token`. Raises EgressClientError."""
        claimed = self._without_suspects(claimed, token)
        with self._ctx.engine.begin() as connection:
            self._subscriptions.refresh(connection)
            found = {one.id: self._subscriptions.find(one.subscription_id) for one in claimed}
            self._payloads.load(
                connection, [_view(one, subscription) for one in claimed if (subscription := found[one.id])]
            )
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
        """Return the deliveries to send now. All suspects but one are released; if one is in flight, all."""
        suspects = [one for one in claimed if one.lapses >= SUSPECT_AFTER_LAPSES]
        in_flight = any(request.claimed.lapses >= SUSPECT_AFTER_LAPSES for request in self._in_flight.values())
        held_back = {one.id for one in suspects[0 if in_flight else 1 :]}
        self._release(list(held_back), token, delay_seconds=self._suspect_delay_seconds)
        return [one for one in claimed if one.id not in held_back]

    def _build(
        self, claimed: Row[Any], token: UUID, subscription: Subscription | None
    ) -> InFlight | DeliveryOutcome | None:
        """Return the request for a delivery, or the outcome that it is dead; None if its subscription cannot be used.

        The request is built from the stored change and the current subscription.
        """
        if subscription is None:
            return None
        view = _view(claimed, subscription)
        body = self._payloads.get(view, subscription.payload)
        if body is None:
            return outcomes.undeliverable(claimed, token, subscription, _NO_LONGER_STORED)
        if claimed.lapses >= MAX_LAPSES:
            return outcomes.undeliverable(claimed, token, subscription, _CRASHED)
        now = datetime.now(UTC)
        webhook_id = change_payload.format_cursor(_cursor(claimed))
        try:
            call = requests.build(subscription, body, key=ids.receipt_id(now), webhook_id=webhook_id, now=now)
        except Exception:  # a bug with one subscription must not stop the others
            log.exception("request cannot be built", delivery=str(claimed.id), subscription=str(subscription.id))
            return None
        return InFlight(
            claimed=claimed,
            token=token,
            subscription=subscription,
            call=call,
            sent_at=now,
            changed_at=self._payloads.changed_at(view),
        )

    def _release(self, delivery_ids: Sequence[UUID], token: UUID, *, delay_seconds: float = 0.0) -> None:
        """Release the leases of deliveries; no attempt counts."""
        if delivery_ids:
            with self._ctx.engine.begin() as connection:
                store.release(connection, delivery_ids, token, delay_seconds=delay_seconds)

    def collect(self, timeout_seconds: float) -> set[UUID]:
        """Wait until requests end, and queue their outcomes for recording; return their subscriptions.

        Raises EgressClientError.
        """
        concerned = set()
        for outcome in self._sender.collect(timeout_seconds):
            request = self._in_flight.pop(outcome.key, None)
            if request is not None:
                concerned.add(request.claimed.subscription_id)
                self._recorder.add(outcomes.evaluate(request, outcome))
        return concerned

    def wake(self) -> None:
        """Make `collect` return. Any thread may call this."""
        self._sender.wake()

    def abandon(self) -> None:
        """Abort the requests in flight, and release their deliveries, so that another process sends them."""
        self._sender.abandon()
        for request in self._in_flight.values():
            self._release([request.claimed.id], request.token)
        self._in_flight.clear()

    def reset(self) -> None:
        """Restart the sender after an EgressClientError. Outcomes are unknown: leases expire, calls are repeated."""
        self._in_flight.clear()
        self._sender.close()
        self._sender = EgressClient(self._ctx.settings.egress_allow)

    def close(self) -> None:
        """Close the connections to endpoints."""
        self._sender.close()


def _view(claimed: Row[Any], subscription: Subscription) -> View:
    return (_cursor(claimed), subscription.tenant, subscription.include_body_text)


def _cursor(claimed: Row[Any]) -> tuple[int, int]:
    return (claimed.transaction, claimed.change_id)


def _max_in_flight() -> int:
    """Raise the limit on file descriptors; return how many requests it allows. Each request needs one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_IN_FLIGHT + _SPARE_DESCRIPTORS
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _SPARE_DESCRIPTORS
    return max(_MAX_YOUNG // 4, min(_MAX_IN_FLIGHT, allowed))
