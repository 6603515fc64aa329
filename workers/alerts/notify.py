"""Telling people: every channel in turn, each at its own pace, so that one that hangs holds up no other.

A channel that something is due for is leased, and what it is to be told is put together and kept before anything is
sent: a worker that takes over from one that died tells the same messages again, by the same ids.
"""

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID, uuid4

import structlog
from sqlalchemy import Connection

from shared.doorbell import TELL
from shared.notifications import channel_store, rendering
from shared.notifications import channels as outlets
from shared.notifications import policy as decisions
from shared.notifications import store as notifications
from shared.notifications.base import Attempt, TellingError
from shared.notifications.channel_store import ChannelRow
from shared.notifications.channels import DEADLINES_SECONDS
from shared.notifications.policy import GIVEN_UP_AFTER, Telling
from workers.context import WorkerContext

LEASE_SECONDS = 90
"""Longer than a turn can take: what it may still begin, and then the longest deadline."""

_TURN_SECONDS = 30.0
_MOST_CHANNELS = 8  # at once: some of them take a process of their own
_MOST_NOTICES = 1000

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Turn:
    """A channel that this worker has leased, and what it is to be told."""

    channel: ChannelRow
    token: UUID
    tellings: Sequence[Telling]


def tell_due(ctx: WorkerContext, *, deadlines_seconds: Mapping[str, float] = DEADLINES_SECONDS) -> int:
    """Tell every channel what is due; return how many channels had their turn."""
    turns = _claim(ctx)
    if not turns:
        return 0
    with ThreadPoolExecutor(len(turns)) as pool:
        done = [pool.submit(_take, ctx, turn, deadlines_seconds[turn.channel.kind]) for turn in turns]
    for future in done:
        future.result()
    if len(turns) == _MOST_CHANNELS:
        ctx.doorbell.ring(TELL)
    return len(turns)


def _claim(ctx: WorkerContext) -> Sequence[_Turn]:
    token = uuid4()
    turns = []
    with ctx.engine_sync_commit.begin() as connection:
        for channel in channel_store.claim(connection, token=token, limit=_MOST_CHANNELS, lease_seconds=LEASE_SECONDS):
            tellings = decisions.compose(notifications.waiting(connection, channel.name, limit=_MOST_NOTICES))
            notifications.begin(connection, tellings)
            turns.append(_Turn(channel=channel, token=token, tellings=tellings))
    return turns


def _take(ctx: WorkerContext, turn: _Turn, deadline_seconds: float) -> None:
    """One channel's turn: one message after the other, until one fails or the time is up."""
    until = time.monotonic() + _TURN_SECONDS
    for number, telling in enumerate(turn.tellings):
        if time.monotonic() > until:
            _rest(ctx, turn, told=number)
            return
        try:
            _tell(ctx, turn.channel, telling, deadline_seconds)
        except TellingError as error:
            _fail(ctx, turn, number, error)
            return
        with _noting(ctx, turn.channel) as connection:
            notifications.sent(connection, telling)
    _rest(ctx, turn, told=len(turn.tellings))


def _tell(ctx: WorkerContext, channel: ChannelRow, telling: Telling, deadline_seconds: float) -> None:
    """Raises TellingError, whatever goes wrong: one channel's fault must not keep it from being released."""
    attempt = Attempt(at=datetime.now(UTC), deadline_seconds=deadline_seconds)
    try:
        outlets.tell(channel, ctx.vault, rendering.render(telling), attempt)
    except TellingError:
        raise
    except Exception as error:
        log.exception("a channel failed", channel=channel.name)
        raise TellingError(f"telling failed with {type(error).__name__}; the log has all of it") from error


def _rest(ctx: WorkerContext, turn: _Turn, *, told: int) -> None:
    """Give back a channel that took what it was told; what there was no time for is put together anew."""
    with _noting(ctx, turn.channel) as connection:
        if left := turn.tellings[told:]:
            notifications.put_back(connection, left, retry_seconds=0)
        rest = decisions.after_success(turn.tellings[:told])
        channel_store.succeeded(connection, turn.channel.name, turn.token, rest_seconds=rest)
    log.info("a channel was told", channel=turn.channel.name, messages=told)


def _fail(ctx: WorkerContext, turn: _Turn, failed: int, error: TellingError) -> None:
    channel, telling = turn.channel, turn.tellings[failed]
    jitter = random.uniform(-1, 1)  # noqa: S311 - nobody gains by guessing it
    pause = decisions.after_failure(channel.failures + 1, retry_after_seconds=error.retry_after_seconds, jitter=jitter)
    with _noting(ctx, channel) as connection:
        dead = notifications.failed(
            connection,
            telling,
            error=str(error),
            permanent=error.permanent,
            retry_seconds=pause.retry_seconds,
            give_up_after=GIVEN_UP_AFTER,
        )
        notifications.put_back(connection, turn.tellings[failed + 1 :], retry_seconds=pause.retry_seconds)
        channel_store.failed(connection, channel.name, turn.token, error=str(error), rest_seconds=pause.rest_seconds)
    log.warning("a channel could not be told", channel=channel.name, error=str(error), failures=channel.failures + 1)
    if dead:
        log.error("alerts are told to a channel no more", channel=channel.name, notices=dead, error=str(error))


@contextmanager
def _noting(ctx: WorkerContext, channel: ChannelRow) -> Iterator[Connection]:
    """A transaction that holds the channel before its notices, as all do: so two that meet do not deadlock."""
    with ctx.engine_sync_commit.begin() as connection:
        channel_store.find(connection, channel.name, lock=True)
        yield connection
