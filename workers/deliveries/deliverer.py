"""The deliverer: creates deliveries from the change log, claims due ones, sends them, and records the outcomes.

One thread runs the loop below; the dispatcher sends the HTTP requests in another. So neither waits for the other, and
an endpoint that hangs delays only its own requests.
"""

import math
import threading
import time
from typing import Final
from uuid import UUID, uuid4

from shared.deliveries import store
from shared.egress.client import EgressClientError
from workers import context
from workers.context import WorkerContext
from workers.deliveries import fan_out
from workers.deliveries.dispatcher import Dispatcher
from workers.deliveries.fan_out import FanOutResult
from workers.deliveries.outcomes import OutcomeRecorder
from workers.deliveries.subscription_cache import SubscriptionCache

_CLAIM_ALL_SECONDS: Final = 1.0
"""How often due deliveries of all subscriptions are claimed. In between, only those of `_touched` subscriptions."""
_MIN_POLL_SECONDS: Final = 0.008
"""The first wait while another process holds the cursor or the claim lock, or a transaction is open; then doubled."""
_MAX_POLL_SECONDS: Final = 0.25
_MAX_DOUBLINGS: Final = 5
_DUE_SOON_SECONDS: Final = 8.0
"""The loop continues if a delivery is due within this time, in which the periodic task comes."""


class Deliverer:
    """Sends the deliveries of one process."""

    def __init__(self, ctx: WorkerContext, *, stop_seconds: float = 8.0, suspect_delay_seconds: float = 1.0) -> None:
        self._ctx = ctx
        self._stop_seconds = stop_seconds
        self._subscriptions = SubscriptionCache(ctx.vault)
        self._recorder = OutcomeRecorder(ctx.engine, ctx.observations)
        self._dispatcher = Dispatcher(ctx, self._subscriptions, self._recorder, suspect_delay_seconds)
        self._fan_out = FanOutResult()
        self._fanned_out_at = -math.inf
        self._blocked_fan_outs = 0
        self._touched: set[UUID] = set()
        self._claimed_all_at = -math.inf
        self._other_is_claiming = False
        self._turn = threading.Lock()
        self._woken = threading.Event()
        self._stopping = threading.Event()

    def deliver(self) -> None:
        """Deliver until nothing is left to do. If another thread is delivering, wake it instead."""
        self._woken.set()
        while self._woken.is_set() and not self._stopping.is_set():
            if not self._turn.acquire(blocking=False):
                self._dispatcher.wake()
                return
            try:
                self._run_loop()
            except EgressClientError:
                self._dispatcher.reset()
                raise
            finally:
                self._turn.release()

    def stop(self) -> None:
        """Stop claiming. Requests in flight get some seconds to end."""
        self._stopping.set()
        self._dispatcher.wake()

    def close(self) -> None:
        """Stop, and close the connections to endpoints."""
        self.stop()
        with self._turn:
            self._dispatcher.close()

    def _run_loop(self) -> None:
        self._claimed_all_at = -math.inf
        while not self._stopping.is_set():
            self._recorder.flush()
            if self._woken.is_set() or self._fan_out.has_more:
                self._follow_log()
            if not self._claim() and not self._has_work() and not self._is_due_soon():
                return
            self._touched |= self._dispatcher.collect(self._poll_timeout())
        until = time.monotonic() + self._stop_seconds
        while self._dispatcher and (left := until - time.monotonic()) > 0:
            self._dispatcher.collect(left)
        self._dispatcher.abandon()
        self._recorder.flush()

    def _follow_log(self) -> None:
        if self._fan_out.has_no_subscribers:  # every batch of changes sends a wake-up, but no subscription wants them
            self._stopping.wait(max(0.0, self._fanned_out_at + _MAX_POLL_SECONDS - time.monotonic()))
        self._woken.clear()
        self._fan_out = fan_out.advance(self._ctx, self._subscriptions)
        self._fanned_out_at = time.monotonic()
        self._touched |= self._fan_out.subscription_ids
        has_waited = self._fan_out.is_blocked and not self._fan_out.changes
        self._blocked_fan_outs = self._blocked_fan_outs + 1 if has_waited else 0
        if self._fan_out.is_blocked:
            self._woken.set()

    def _claim(self) -> int:
        """Claim and send due deliveries up to the capacity; return how many were claimed."""
        if self._fan_out.has_no_subscribers:
            self._touched.clear()
            self._other_is_claiming = False
            return 0
        capacity = self._dispatcher.capacity()
        now = time.monotonic()
        claims_all = now - self._claimed_all_at >= _CLAIM_ALL_SECONDS
        if not capacity or not (claims_all or self._touched):
            return 0
        token = uuid4()
        among = None if claims_all else list(self._touched)
        with self._ctx.engine_sync_commit.begin() as connection:
            claimed = store.claim(connection, token=token, limit=capacity, among=among)
        self._other_is_claiming = claimed is None
        if claimed is None:
            return 0
        if claims_all:
            self._claimed_all_at = now
        if len(claimed) < capacity:
            self._touched.clear()
        if claimed:
            self._dispatcher.dispatch(claimed, token)
        return len(claimed)

    def _has_work(self) -> bool:
        working = self._dispatcher or self._recorder or self._touched
        return bool(working or self._fan_out.has_more or self._other_is_claiming or self._woken.is_set())

    def _is_due_soon(self) -> bool:
        if self._fan_out.has_no_subscribers:
            return False
        with self._ctx.engine.begin() as connection:
            seconds = store.next_due_seconds(connection)
        return seconds is not None and seconds < _DUE_SOON_SECONDS

    def _poll_timeout(self) -> float:
        """Return how long to wait for outcomes before the next round of the loop."""
        has_capacity = self._dispatcher.capacity() > 0
        if self._fan_out.has_more and has_capacity:
            return 0.0
        if self._woken.is_set() or self._other_is_claiming or (self._touched and has_capacity):
            return min(_MIN_POLL_SECONDS * 2.0 ** min(self._blocked_fan_outs, _MAX_DOUBLINGS), _MAX_POLL_SECONDS)
        return _MAX_POLL_SECONDS


_lock = threading.Lock()
_current: list[Deliverer] = []


def current() -> Deliverer:
    """Return the deliverer of this process, created on first use: connections must not cross a fork."""
    with _lock:
        if not _current:
            _current.append(Deliverer(context.current()))
        return _current[0]


def stop() -> None:
    """Stop the deliverer of this process, if there is one."""
    with _lock:
        for deliverer in _current:
            deliverer.stop()
