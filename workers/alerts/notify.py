"""Sends notifications: all channels at once, each at its own pace, so that one that hangs delays no other.

A worker leases a channel with due notices, and stores the composed notifications before it sends anything. A worker
that takes over from one that died sends the same notifications with the same ids.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import structlog
from sqlalchemy import Connection, Row

from shared import backoff
from shared.broker import SEND_NOTIFICATIONS
from shared.notifications import channels, policy, rendering, store
from shared.notifications.base import NotificationError
from shared.notifications.channels import DEADLINES_SECONDS
from shared.notifications.policy import GIVE_UP_AFTER, Notification
from workers.context import WorkerContext

LEASE_SECONDS = 90
"""Longer than a channel can take: the time in which an attempt may begin, and the longest deadline."""

_BEGIN_WITHIN_SECONDS = 30.0
_MAX_CHANNELS = 8  # at the same time: apprise needs a process for each
_MAX_NOTICES = 1000

log = structlog.get_logger()


def send_due(ctx: WorkerContext, *, deadlines_seconds: Mapping[str, float] = DEADLINES_SECONDS) -> int:
    """Send due notifications to up to `_MAX_CHANNELS` channels; return the number of channels."""
    token = uuid4()
    claimed: list[tuple[Row[Any], Sequence[Notification]]] = []
    with ctx.engine_sync_commit.begin() as connection:
        for channel in store.claim_channels(connection, token=token, limit=_MAX_CHANNELS, lease_seconds=LEASE_SECONDS):
            notifications = policy.compose(store.list_pending(connection, channel.name, limit=_MAX_NOTICES))
            store.begin(connection, notifications)
            claimed.append((channel, notifications))
    if not claimed:
        return 0
    with ThreadPoolExecutor(len(claimed)) as pool:
        futures = [
            pool.submit(_send_all, ctx, channel, token, notifications, deadlines_seconds[channel.kind])
            for channel, notifications in claimed
        ]
    for future in futures:
        future.result()
    if len(claimed) == _MAX_CHANNELS:
        ctx.notifier.notify(SEND_NOTIFICATIONS)
    return len(claimed)


def _send_all(
    ctx: WorkerContext, channel: Row[Any], token: UUID, notifications: Sequence[Notification], deadline_seconds: float
) -> None:
    """Send one notification after the other, until one fails or the time is up; then release the channel."""
    until = time.monotonic() + _BEGIN_WITHIN_SECONDS
    for number, notification in enumerate(notifications):
        if time.monotonic() > until:
            _release(ctx, channel, token, sent=notifications[:number], left=notifications[number:])
            return
        try:
            message = rendering.render(notification)
            channels.send(channel, ctx.vault, message, now=datetime.now(UTC), deadline_seconds=deadline_seconds)
        except Exception as error:  # whatever failed, the channel must be released
            if not isinstance(error, NotificationError):
                log.exception("notification failed unexpectedly", channel=channel.name)
                error = NotificationError(f"failed with {type(error).__name__}; see the workers' log")
            _release_failing(ctx, channel, token, error, failed=notification, left=notifications[number + 1 :])
            return
        with _locked(ctx, channel) as connection:
            store.finish(connection, notification)
    _release(ctx, channel, token, sent=notifications, left=())


def _release(
    ctx: WorkerContext, channel: Row[Any], token: UUID, *, sent: Sequence[Notification], left: Sequence[Notification]
) -> None:
    with _locked(ctx, channel) as connection:
        if left:
            store.postpone(connection, left, retry_seconds=0)
        rest_seconds = policy.rest_after_success(sent)
        store.release_channel(connection, channel.name, token, rest_seconds=rest_seconds)
    log.info("notifications sent", channel=channel.name, notifications=len(sent))


def _release_failing(
    ctx: WorkerContext,
    channel: Row[Any],
    token: UUID,
    error: NotificationError,
    *,
    failed: Notification,
    left: Sequence[Notification],
) -> None:
    retry_seconds, rest_seconds = policy.delays_after_failure(
        channel.failures + 1, retry_after_seconds=error.retry_after_seconds, jitter=backoff.jitter()
    )
    with _locked(ctx, channel) as connection:
        dead = store.fail(
            connection,
            failed,
            error=str(error),
            permanent=error.permanent,
            retry_seconds=retry_seconds,
            give_up_after=GIVE_UP_AFTER,
        )
        store.postpone(connection, left, retry_seconds=retry_seconds)
        store.release_failing_channel(connection, channel.name, token, error=str(error), rest_seconds=rest_seconds)
    log.warning("notification failed", channel=channel.name, error=str(error), failures=channel.failures + 1)
    if dead:
        log.error("notices given up", channel=channel.name, notices=dead, error=str(error))


@contextmanager
def _locked(ctx: WorkerContext, channel: Row[Any]) -> Iterator[Connection]:
    """Open a transaction that locks the channel before its notices. One order everywhere prevents deadlocks."""
    with ctx.engine_sync_commit.begin() as connection:
        store.get_channel(connection, channel.name, lock=True)
        yield connection
