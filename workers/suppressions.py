"""What is due on the suppression list: recipients to be judged by the rule about soft bounces, and entries that end."""

import time
from datetime import UTC, datetime, timedelta

import structlog

from shared.doorbell import DELIVER
from shared.suppression import soft_bounce_store
from shared.suppression import soft_bounces as suppression_soft_bounces
from shared.suppression import store as suppressions
from workers.context import WorkerContext

_RECIPIENTS_AT_ONCE = 500
_ENDS_AT_ONCE = 1000
_LONGEST_RUN_SECONDS = 4.0
_KEPT_BEYOND_WINDOW = timedelta(days=30)
"""So long a soft bounce or a delivery may come late and still find the others that it stands with."""

log = structlog.get_logger()


def judge_due(ctx: WorkerContext, now: datetime | None = None) -> int:
    """Judge all who are due, unless another worker is at it; return how many entries came or went."""
    changed = 0
    until = time.monotonic() + _LONGEST_RUN_SECONDS
    while time.monotonic() < until:
        moment = now or datetime.now(UTC)
        with ctx.engine.begin() as connection:
            if not soft_bounce_store.alone(connection):
                break
            taken, places = soft_bounce_store.take(connection, moment, _RECIPIENTS_AT_ONCE)
            if places:
                policy = ctx.rules.rules(connection).suppression
                decided = suppression_soft_bounces.decide(connection, policy, ctx.keys, places, moment)
                changed += len(suppression_soft_bounces.carry_out(connection, decided, moment))
        if taken < _RECIPIENTS_AT_ONCE:
            break
    if changed:
        log.info("soft bounces were judged", suppressions_changed=changed)
        ctx.doorbell.ring(DELIVER)
    return changed


def expire_due(ctx: WorkerContext, now: datetime | None = None) -> int:
    """Announce the end of what is over; return how many entries. Two workers at once share the work."""
    ended = 0
    while True:
        with ctx.engine.begin() as connection:
            part = suppressions.expire(connection, now or datetime.now(UTC), _ENDS_AT_ONCE)
        ended += part
        if part < _ENDS_AT_ONCE:
            break
    if ended:
        log.info("suppressions have expired", suppressions=ended)
        ctx.doorbell.ring(DELIVER)
    return ended


def maintain(ctx: WorkerContext, now: datetime | None = None) -> None:
    """By the hour: let go of soft bounces that are too old to count, and look again at whom this rule suppresses."""
    moment = now or datetime.now(UTC)
    with ctx.engine.begin() as connection:
        window = timedelta(days=ctx.rules.rules(connection).suppression.soft_bounce.within_days)
        trimmed = soft_bounce_store.trim(connection, moment - window - _KEPT_BEYOND_WINDOW)
        reviewed = soft_bounce_store.review(connection, moment)
    log.info("soft bounces were maintained", messages_trimmed=trimmed, recipients_to_review=reviewed)
