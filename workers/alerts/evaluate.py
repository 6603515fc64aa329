"""Judging: the rules about alerts are compared with how things are, and what follows is written and told.

One worker judges at a time, in one transaction. If it dies in the middle nothing has happened, and the next one
finds the same.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import structlog

from shared import ids
from shared.alerts import store as alerts
from shared.alerts import summaries
from shared.alerts.policy import AlertRule, Decision, Escalate, Fire, Firing, Hold, Reading, Resolve, Step, decide
from shared.alerts.store import Held, Taken
from shared.counters import store as counts
from shared.doorbell import TELL
from shared.notifications import store as notifications
from workers.alerts import measure
from workers.alerts.measurement import Look, Measured
from workers.context import WorkerContext

_MOST_AT_ONCE = 1000
"""So many alerts begin in one run at most; those that are left follow in the next."""

log = structlog.get_logger()


class _Judged(NamedTuple):
    """A condition, the alert that fires for it, and what follows."""

    rule: AlertRule
    reading: Reading
    current: Firing | None
    decision: Decision


def evaluate(ctx: WorkerContext, now: datetime | None = None) -> int:
    """Judge all rules, unless another worker is at it; return how many steps alerts took."""
    now = now or datetime.now(UTC)
    with ctx.engine_sync_commit.begin() as connection:
        if not alerts.be_the_only_one(connection):
            return 0
        rules = {rule.name: rule for rule in ctx.rules.rules(connection).alerts if rule.enabled}
        ctx.rules.record(connection)
        standing, left = _parted(alerts.firing(connection), rules)
        look = Look(connection=connection, now=now, firing=standing, errors=ctx.rules.errors)
        judged = _judge(look, measure.read(look, list(rules.values())))
        taken = [_withdraw(alert) for alert in left]
        taken += filter(None, (_step(one, now) for one in _bounded(judged)))
        alerts.hold(connection, list(filter(None, map(_hold, judged))), now)
        told = notifications.enqueue(connection, alerts.take(connection, taken, now))
    for step in taken:
        log.warning("an alert", step=step.step, rule=step.rule, severity=step.severity, summary=step.summary)
    if told:
        ctx.doorbell.ring(TELL)
    return len(taken)


def tidy(ctx: WorkerContext, now: datetime | None = None) -> None:
    """Add old counts up by the hour, and let go of those that no rule looks at any more."""
    now = now or datetime.now(UTC)
    with ctx.engine.begin() as connection:
        merged = counts.merge(connection, now)
        forgotten = counts.forget(connection, now)
    log.debug("counts are tidied", hours_written=merged, rows_forgotten=forgotten)


def _parted(firing: Sequence[Firing], rules: Mapping[str, AlertRule]) -> tuple[list[Firing], list[Firing]]:
    """The alerts whose rules are in force, and those whose rules are not any more."""
    parts: tuple[list[Firing], list[Firing]] = ([], [])
    for alert in firing:
        rule = rules.get(alert.rule)
        parts[rule is None or rule.kind != alert.kind].append(alert)
    return parts


def _judge(look: Look, measured: Sequence[Measured]) -> list[_Judged]:
    current = {(alert.rule, alert.subject.name): alert for alert in look.firing}
    past = alerts.past(look.connection, [_place(one) for one in measured if _place(one) not in current and _holds(one)])
    judged = []
    for one in measured:
        alert, last = current.get(_place(one)), past.get(_place(one))
        judged.append(_Judged(one.rule, one.reading, alert, decide(one.rule, one.reading, alert, last, look.now)))
    return judged


def _place(measured: Measured) -> tuple[str, str]:
    return measured.rule.name, measured.reading.subject.name


def _holds(measured: Measured) -> bool:
    value = measured.reading.value
    return value is not None and measured.rule.severity_of(value) is not None


def _bounded(judged: Sequence[_Judged]) -> Iterator[_Judged]:
    begun = 0
    for one in judged:
        begun += isinstance(one.decision, Fire)
        if begun <= _MOST_AT_ONCE or not isinstance(one.decision, Fire):
            yield one
    if begun > _MOST_AT_ONCE:
        log.warning("more alerts begin than are written at once", alerts=begun, at_once=_MOST_AT_ONCE)


def _step(judged: _Judged, now: datetime) -> Taken | None:
    rule, reading, current = judged.rule, judged.reading, judged.current
    taken = functools.partial(
        Taken,
        rule=rule.name,
        kind=rule.kind,
        subject=reading.subject,
        numbers=reading.numbers,
        evidence_event_id=reading.evidence,
    )
    match judged.decision:
        case Fire(severity):
            summary = summaries.firing(rule, reading, severity)
            return taken(alert_id=str(ids.receipt_id(now)), step=Step.FIRED, severity=severity, summary=summary)
        case Escalate(severity) if current:
            summary = summaries.firing(rule, reading, severity)
            return taken(alert_id=current.id, step=Step.ESCALATED, severity=severity, summary=summary)
        case Resolve(ending) if current:
            summary = summaries.resolved(rule, reading, ending, current.calm_since)
            return taken(alert_id=current.id, step=Step.RESOLVED, severity=current.severity, summary=summary)
    return None


def _withdraw(alert: Firing) -> Taken:
    return Taken(
        alert_id=alert.id,
        step=Step.RESOLVED,
        rule=alert.rule,
        kind=alert.kind,
        subject=alert.subject,
        severity=alert.severity,
        summary=summaries.withdrawn(alert.rule),
        numbers={},
    )


def _hold(judged: _Judged) -> Held | None:
    rule, reading, current = judged.rule, judged.reading, judged.current
    if current is None or not isinstance(judged.decision, Hold):
        return None
    if (calm_since := judged.decision.calm_since) is not None:
        return Held(alert_id=current.id, calm_since=calm_since)
    summary = summaries.firing(rule, reading, current.severity)
    return Held(alert_id=current.id, calm_since=None, summary=summary, numbers=reading.numbers)
