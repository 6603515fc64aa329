"""Deliveries: claimed, sent hundreds at a time, and written down; for as long as there is something to do.

One thread goes round: it follows the log, claims, builds requests and writes down what came of them; another makes the
calls. So neither waits for the other, and one endpoint that hangs holds up nothing but its own few calls.
"""

import resource
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final
from uuid import UUID, uuid4

import structlog
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from shared import ids, webhook_requests
from shared.changes import payload as change_payload
from shared.db import deliveries
from shared.db.deliveries import Claimed
from shared.egress.client import Sender, SenderError
from shared.egress.types import Call, Outcome
from workers import context as rims
from workers import fan_out
from workers.context import WorkerContext
from workers.delivering import endings
from workers.delivering.bodies import Bodies, Sight
from workers.delivering.endings import Ending, UnderWay
from workers.delivering.subscribers import Subscribers

_MOST_YOUNG: Final = 400
"""Calls that one deliverer has under way, not counting those that take long: these are few for each endpoint."""
_YOUNG_SECONDS: Final = 2.0
_MOST: Final = 4000
_SPARE_DESCRIPTORS: Final = 200
_LOOK_ROUND_SECONDS: Final = 1.0
"""How often all subscriptions are looked at for what came due; in between only those that something happened to."""
_LONGEST_WAIT_SECONDS: Final = 0.25
_SHORT_WAIT_SECONDS: Final = 0.008
"""For another deliverer that is just claiming or following the log, or for a transaction that is not over yet; doubled
while that goes on."""
_SOON_SECONDS: Final = 5.0
"""For what is due by then it is not worth while to end the round."""
_STOP_SECONDS: Final = 8.0
_UNTIL_MENDED_SECONDS: Final = 30.0
_DEADLOCK_OR_SERIALIZATION: Final = ("40P01", "40001")
_NO_LONGER_KEPT: Final = "the change that it tells of is no longer kept"
_SUSPECT_AFTER: Final = 2
"""Leases that ran out: what may be to blame for the end of deliverers is sent alone, and so takes none along."""
_MOST_LAPSES: Final = 5
_DEADLY: Final = f"deliverers ended {_MOST_LAPSES} times while they made this call, and nobody knows how it went"
_SUSPECT_WAITS_SECONDS: Final = 1.0

log = structlog.get_logger()


class Deliverer:
    """What one process delivers with: its connections to endpoints, and what it has under way."""

    def __init__(self, ctx: WorkerContext) -> None:
        self._rim = ctx
        self._subscribers = Subscribers(ctx.vault)
        self._bodies = Bodies()
        self._sender = Sender(ctx.settings.egress_allow)
        self._most = _descriptors()
        self._under_way: dict[UUID, UnderWay] = {}
        self._unwritten: list[Ending] = []
        self._touched: set[UUID] = set()
        self._looked_round_at = -_LOOK_ROUND_SECONDS
        self._more_to_fan_out = False
        self._waits = 0
        self._another_claims = False
        self._turn = threading.Lock()
        self._rung = threading.Event()
        self._stopping = threading.Event()

    def deliver(self) -> None:
        """Deliver until there is nothing left. While another thread does, it is told to look again."""
        self._rung.set()
        while self._rung.is_set() and not self._stopping.is_set():
            if not self._turn.acquire(blocking=False):
                self._sender.wake()
                return
            try:
                self._go_round()
            except SenderError:
                self._begin_anew()
                raise
            finally:
                self._turn.release()

    def stop(self) -> None:
        """Claim nothing more; what is under way gets some seconds to end."""
        self._stopping.set()
        self._sender.wake()

    def close(self) -> None:
        """Stop, and let go of the connections."""
        self.stop()
        with self._turn:
            self._sender.close()

    def _begin_anew(self) -> None:
        """Nobody knows what became of what was under way: their leases run out, and another attempt is made then."""
        self._under_way.clear()
        self._sender.close()
        self._sender = Sender(self._rim.settings.egress_allow)

    def _go_round(self) -> None:
        self._looked_round_at = -_LOOK_ROUND_SECONDS
        while not self._stopping.is_set():
            self._write()
            claimed = self._look()
            if not claimed and not self._has_more() and not self._has_something_soon():
                return
            self._finish(self._sender.collect(self._patience()))
        self._wind_up()

    def _look(self) -> int:
        """See what there is to do, and begin it; return how many deliveries were claimed."""
        if self._rung.is_set() or self._more_to_fan_out:
            self._rung.clear()
            step = fan_out.advance(self._rim, self._subscribers)
            self._touched |= step.subscription_ids
            self._more_to_fan_out = step.more
            self._waits = self._waits + 1 if step.waits and not step.changes else 0
            if step.waits:
                self._rung.set()
        room = self._room()
        now = time.monotonic()
        everywhere = now - self._looked_round_at >= _LOOK_ROUND_SECONDS
        if not room or not (everywhere or self._touched):
            return 0
        claimed, token = self._claim(room, None if everywhere else list(self._touched))
        self._another_claims = claimed is None
        if claimed is None:
            return 0
        if everywhere:
            self._looked_round_at = now
        if len(claimed) < room:
            self._touched.clear()
        self._begin(claimed, token)
        return len(claimed)

    def _claim(self, room: int, among: Sequence[UUID] | None) -> tuple[list[Claimed] | None, UUID]:
        token = uuid4()
        with self._rim.engine_sync_commit.begin() as connection:
            return deliveries.claim(connection, token=token, room=room, among=among), token

    def _begin(self, claimed: Sequence[Claimed], token: UUID) -> None:
        """Build the requests, of the stored changes and the subscriptions as they are now, and send them."""
        if not claimed:
            return
        with self._rim.engine.begin() as connection:
            self._subscribers.refresh(connection)
            self._bodies.prepare(connection, self._sights(claimed))
        claimed = self._without_suspects(claimed, token)
        begun = [self._under_way_with(one, token) for one in claimed]
        sent = [one for one in begun if isinstance(one, UnderWay)]
        self._under_way |= {one.call.key: one for one in sent}
        self._sender.submit([one.call for one in sent])
        if unusable := [one.id for one in begun if isinstance(one, Claimed)]:
            with self._rim.engine.begin() as connection:
                deliveries.release(connection, unusable, token, delay_seconds=_UNTIL_MENDED_SECONDS)

    def _sights(self, claimed: Iterable[Claimed]) -> list[Sight]:
        told = ((one, self._subscribers.find(one.subscription_id)) for one in claimed)
        return [(_cursor(one), subscription.tenant) for one, subscription in told if subscription]

    def _without_suspects(self, claimed: Sequence[Claimed], token: UUID) -> Sequence[Claimed]:
        """These, with at most one among all under way that may be to blame for the end of deliverers; others wait."""
        suspects = [one for one in claimed if one.lapses >= _SUSPECT_AFTER]
        if not suspects:
            return claimed
        busy = any(one.claimed.lapses >= _SUSPECT_AFTER for one in self._under_way.values())
        waiting = {one.id for one in suspects[0 if busy else 1 :]}
        if waiting:
            with self._rim.engine.begin() as connection:
                deliveries.release(connection, list(waiting), token, delay_seconds=_SUSPECT_WAITS_SECONDS)
        return [one for one in claimed if one.id not in waiting]

    def _under_way_with(self, claimed: Claimed, token: UUID) -> UnderWay | Claimed | None:
        """The call for a delivery; the delivery itself where it has to wait until somebody mends something."""
        subscription = self._subscribers.find(claimed.subscription_id)
        if subscription is None:
            return claimed
        now = datetime.now(UTC)
        body = self._bodies.of((_cursor(claimed), subscription.tenant), subscription.payload)
        call = Call(
            key=ids.receipt_id(now), url=subscription.url, headers=(), body=b"", timeout_seconds=subscription.timeout_s
        )
        begun = UnderWay(claimed=claimed, token=token, subscription=subscription, call=call, begun_at=now)
        if body is None or claimed.lapses >= _MOST_LAPSES:
            self._unwritten.append(endings.of_nothing(begun, _NO_LONGER_KEPT if body is None else _DEADLY))
            return None
        webhook_id = change_payload.identifier(_cursor(claimed))
        try:
            return replace(
                begun, call=webhook_requests.build(subscription, body, key=call.key, webhook_id=webhook_id, now=now)
            )
        except Exception:  # one subscription's fault must not hold up the others
            log.exception("a request cannot be built", subscription=subscription.id)
            return claimed

    def _finish(self, outcomes: Iterable[Outcome]) -> None:
        for outcome in outcomes:
            under_way = self._under_way.pop(outcome.key, None)
            if under_way is not None:
                self._touched.add(under_way.claimed.subscription_id)
                self._unwritten.append(endings.of_call(under_way, outcome))

    def _write(self) -> None:
        """Write down what ended. What cannot be written now is kept, and never sent again at once."""
        if not self._unwritten:
            return
        try:
            with self._rim.engine.begin() as connection:
                endings.write(connection, self._unwritten)
        except (DBAPIError, ValueError) as error:
            if isinstance(error, OperationalError | InterfaceError):
                if getattr(error.orig, "sqlstate", None) in _DEADLOCK_OR_SERIALIZATION:
                    return  # another is through by the next round, which begins with these
                raise
            log.exception("attempts are written one by one", attempts=len(self._unwritten))
            self._write_one_by_one()
        self._unwritten.clear()

    def _write_one_by_one(self) -> None:
        for ending in self._unwritten:
            try:
                with self._rim.engine.begin() as connection:
                    endings.write(connection, [ending])
            except (DBAPIError, ValueError):
                log.exception("an attempt cannot be written", delivery=str(ending.claimed.id))
                with self._rim.engine.begin() as connection:
                    endings.write(connection, [endings.without_captures(ending)])

    def _wind_up(self) -> None:
        """Let what is under way come to its end, but not for long; what has not is another's to begin anew."""
        until = time.monotonic() + _STOP_SECONDS
        while self._under_way and (left := until - time.monotonic()) > 0:
            self._finish(self._sender.collect(left))
        self._sender.abandon()
        self._write()
        with self._rim.engine.begin() as connection:
            for one in self._under_way.values():
                deliveries.release(connection, [one.claimed.id], one.token)
        self._under_way.clear()

    def _room(self) -> int:
        young_since = time.monotonic() - _YOUNG_SECONDS
        young = sum(one.began > young_since for one in self._under_way.values())
        return max(0, min(_MOST_YOUNG - young, self._most - len(self._under_way)))

    def _has_more(self) -> bool:
        return bool(self._under_way or self._unwritten or self._touched) or (
            self._more_to_fan_out or self._another_claims or self._rung.is_set()
        )

    def _has_something_soon(self) -> bool:
        with self._rim.engine.begin() as connection:
            seconds = deliveries.next_due_seconds(connection)
        return seconds is not None and seconds < _SOON_SECONDS

    def _patience(self) -> float:
        """How long to wait for something to end before looking again."""
        if self._more_to_fan_out and self._room():
            return 0.0
        if self._rung.is_set() or self._another_claims or (self._touched and self._room()):
            return min(_SHORT_WAIT_SECONDS * 2.0**self._waits, _LONGEST_WAIT_SECONDS)
        return _LONGEST_WAIT_SECONDS


def _cursor(claimed: Claimed) -> tuple[int, int]:
    return (claimed.transaction, claimed.change_id)


def _descriptors() -> int:
    """How many calls may be under way at most: each takes a file descriptor."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST + _SPARE_DESCRIPTORS
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(_MOST_YOUNG // 4, min(_MOST, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _SPARE_DESCRIPTORS))


_lock = threading.Lock()
_current: list[Deliverer] = []


def current() -> Deliverer:
    """The deliverer of this process, made when it is first asked for: connections must not cross a fork."""
    with _lock:
        if not _current:
            _current.append(Deliverer(rims.current()))
        return _current[0]


def stop() -> None:
    """Have the deliverer of this process stop, if there is one."""
    with _lock:
        for deliverer in _current:
            deliverer.stop()
