"""Evaluates alert rules, stores the changes of alerts, and enqueues notifications.

One worker evaluates at a time, in one transaction. If it dies, the transaction rolls back and the next one repeats it.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import structlog

from shared import ids
from shared.alerts import kinds
from shared.alerts import store as alerts
from shared.alerts.kinds import Snapshot
from shared.alerts.policy import (
    AlertRule,
    Escalate,
    Fire,
    FiringAlert,
    KeepFiring,
    Measurement,
    Resolve,
    Step,
    decide,
    last_digest_time,
)
from shared.alerts.store import Transition
from shared.broker import SEND_NOTIFICATIONS
from shared.counters import store as counters
from shared.notifications import store as notifications
from workers.context import WorkerContext

MAX_NEW_ALERTS = 1000
"""Alerts that may begin in one run. Further ones begin in the next run."""

log = structlog.get_logger()


def evaluate(ctx: WorkerContext, now: datetime | None = None, *, max_new_alerts: int = MAX_NEW_ALERTS) -> int:
    """Evaluate all rules, unless another worker is evaluating; return the number of alerts that changed."""
    now = now or datetime.now(UTC)
    with ctx.engine_sync_commit.begin() as connection:
        if not alerts.try_lock(connection):
            return 0
        rules = {rule.name: rule for rule in ctx.rules.rules(connection, max_age_seconds=0).alerts if rule.enabled}
        ctx.rules.record(connection)
        firing: list[FiringAlert] = []
        transitions: list[Transition] = []
        for alert in alerts.list_firing(connection):
            if alert.rule in rules and rules[alert.rule].kind == alert.kind:
                firing.append(alert)
            else:  # the rule was removed or disabled, or has become another
                transitions.append(_transition(alert, Step.RESOLVED, kinds.summarize_withdrawn(alert.rule)))
        snapshot = Snapshot(connection=connection, now=now, firing=firing, rules_errors=ctx.rules.errors)
        changed, kept = _evaluate_rules(snapshot, list(rules.values()), max_new_alerts)
        transitions += changed
        alerts.keep_firing(connection, kept, now)
        steps = alerts.record(connection, transitions, now)
        steps += alerts.remind(connection, last_digest_time(now), now)
        enqueued = notifications.enqueue(connection, steps, now)
    for one in transitions:
        log.warning("alert", step=one.step, rule=one.rule, severity=one.severity, summary=one.summary)
    if enqueued:
        ctx.notifier.notify(SEND_NOTIFICATIONS)
    return len(transitions)


def maintain_counters(ctx: WorkerContext, now: datetime | None = None) -> None:
    """Merge old counters into hours, and delete those that no rule reads any more."""
    now = now or datetime.now(UTC)
    with ctx.engine.begin() as connection:
        merged = counters.merge(connection, now)
        deleted = counters.delete_expired(connection, now)
    log.debug("counters merged", hours_written=merged, rows_deleted=deleted)


def _evaluate_rules(
    snapshot: Snapshot, rules: Sequence[AlertRule], max_new_alerts: int
) -> tuple[list[Transition], list[dict[str, Any]]]:
    """Return the transitions that follow from what the rules measure, and the alerts that go on firing."""
    current = {(alert.rule, alert.subject.name): alert for alert in snapshot.firing}
    measured = [(rule, found, (rule.name, found.subject.name)) for rule, found in kinds.measure(snapshot, rules)]
    may_fire = {key for rule, found, key in measured if key not in current and rule.severity_of(found.value)}
    last = alerts.list_last_resolved(snapshot.connection, may_fire)
    transitions: list[Transition] = []
    kept: list[dict[str, Any]] = []
    new_alerts = 0
    for rule, measurement, key in measured:
        alert = current.get(key)
        match decide(rule, measurement, alert, last.get(key), snapshot.now):
            case Fire(severity):
                new_alerts += 1
                if new_alerts > max_new_alerts:
                    continue
                alert = FiringAlert(
                    id=str(ids.receipt_id(snapshot.now)),
                    rule=rule.name,
                    kind=rule.kind,
                    subject=measurement.subject,
                    severity=severity,
                    started_at=snapshot.now,
                    evaluated_at=snapshot.now,
                )
                summary = kinds.summarize_firing(rule, measurement, severity)
                transitions.append(_transition(alert, Step.FIRED, summary, measurement))
            case Escalate(severity) if alert is not None:
                summary = kinds.summarize_firing(rule, measurement, severity)
                escalated = replace(alert, severity=severity)
                transitions.append(_transition(escalated, Step.ESCALATED, summary, measurement))
            case Resolve(stale) if alert is not None:
                since = alert.keep_firing_since
                summary = kinds.summarize_resolved(rule, measurement, below_since=since, stale=stale)
                transitions.append(_transition(alert, Step.RESOLVED, summary, measurement))
            case KeepFiring(since) if alert is not None:
                one: dict[str, Any] = {"id": alert.id, "calm_since": since}
                if since is None:
                    summary = kinds.summarize_firing(rule, measurement, alert.severity)
                    one.update(summary=summary, numbers=measurement.numbers)
                kept.append(one)
    if new_alerts > max_new_alerts:
        log.warning("too many new alerts for one run", alerts=new_alerts, limit=max_new_alerts)
    return transitions, kept


def _transition(alert: FiringAlert, step: Step, summary: str, measurement: Measurement | None = None) -> Transition:
    return Transition(
        alert_id=alert.id,
        step=step,
        rule=alert.rule,
        kind=alert.kind,
        subject=alert.subject,
        severity=alert.severity,
        summary=summary,
        numbers=measurement.numbers if measurement else {},
        evidence_event_id=measurement.evidence if measurement else None,
    )
