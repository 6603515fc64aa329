"""Alerts: when a person is told, when again, and when it is over. Decided here; `workers.alerts.evaluate` performs it.

A condition is measured (a `Reading`), and compared with the thresholds of its rule. An alert fires once, rises from
warning to critical and never back while it fires, and is resolved when its condition has not held for a while.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import ClassVar

from shared.vocabulary import AlertKind, Severity

FORGOTTEN_AFTER = timedelta(days=1)
"""So long an alert stays as it is while too little is known to judge its condition; then it is resolved."""


LONGEST_BREAK = timedelta(minutes=5)
"""A condition that was not judged for longer was not calm meanwhile: nobody knows how it was."""


class Step(StrEnum):
    """What can happen to an alert: the entries of its history."""

    FIRED = "fired"
    ESCALATED = "escalated"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"


class Ending(StrEnum):
    """Why an alert is resolved."""

    CALM = "calm"
    """Its condition has not held for a while."""
    FORGOTTEN = "forgotten"
    """There was too little to judge it by for a day."""
    WITHDRAWN = "withdrawn"
    """Its rule is in force no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRule:
    """What all rules have: from which values on a person is told. At least one of the two thresholds is set.

    Their unit is that of the kind's reading: percent, events, minutes, seconds. An alert is resolved when its value
    has been below the lower threshold for `resolve_after_minutes`; for `cool_down_minutes` after that it fires again
    only if it has become worse.
    """

    kind: ClassVar[AlertKind]

    name: str
    enabled: bool = True
    warning: float | None = None
    critical: float | None = None
    resolve_after_minutes: int = 5
    cool_down_minutes: int = 15

    @property
    def least(self) -> float:
        """The lower of its thresholds."""
        return min(threshold for threshold in (self.warning, self.critical) if threshold is not None)

    def threshold(self, severity: Severity) -> float | None:
        """From which value on it is so urgent; None if it never is."""
        return self.critical if severity is Severity.CRITICAL else self.warning

    def severity_of(self, value: float) -> Severity | None:
        """How urgent this value is; None if its condition does not hold."""
        for severity in reversed(Severity):
            threshold = self.threshold(severity)
            if threshold is not None and value >= threshold:
                return severity
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What an alert is about. `name` tells it from the others of its rule; '' where there is only one."""

    name: str = ""
    source_id: int | None = None
    source: str | None = None
    tenant: str | None = None


Number = int | float | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A condition as it was measured. `value` is None where there is too little to judge it by.

    `evidence` is the id of an event.
    """

    subject: Subject
    value: float | None
    numbers: Mapping[str, Number] = field(default_factory=dict)
    evidence: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Firing:
    """An alert that fires. `judged_at` is when its condition was judged last, `calm_since` since when it fails.

    `kind` is that of its rule when it began; a version that is older than the alert may not know it.
    """

    id: str
    rule: str
    kind: str
    subject: Subject
    severity: Severity
    started_at: datetime
    judged_at: datetime
    calm_since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """The last alert about the same that was resolved."""

    severity: Severity
    resolved_at: datetime


@dataclass(frozen=True, slots=True)
class Nothing:
    """All stays as it is."""


@dataclass(frozen=True, slots=True)
class Fire:
    """A person is told."""

    severity: Severity


@dataclass(frozen=True, slots=True)
class Escalate:
    """It has become worse: a person is told again, whether they knew or not."""

    severity: Severity


@dataclass(frozen=True, slots=True)
class Hold:
    """It goes on firing, judged anew."""

    calm_since: datetime | None


@dataclass(frozen=True, slots=True)
class Resolve:
    """It is over."""

    ending: Ending


Decision = Nothing | Fire | Escalate | Hold | Resolve


def decide(rule: AlertRule, reading: Reading, current: Firing | None, past: Past | None, now: datetime) -> Decision:
    """What follows from a reading, given the alert that fires about the same and the last one that did."""
    if current is None:
        return _begin(rule, reading, past, now)
    if reading.value is None:
        forgotten = now - current.judged_at >= FORGOTTEN_AFTER
        return Resolve(Ending.FORGOTTEN) if forgotten else Nothing()
    severity = rule.severity_of(reading.value)
    if severity is None:
        calm_since = _calm_since(current, now)
        is_over = now - calm_since >= timedelta(minutes=rule.resolve_after_minutes)
        return Resolve(Ending.CALM) if is_over else Hold(calm_since)
    return Escalate(severity) if severity.exceeds(current.severity) else Hold(None)


def _calm_since(current: Firing, now: datetime) -> datetime:
    """Since when it has been judged to be calm without a break."""
    is_unbroken = now - current.judged_at <= LONGEST_BREAK
    return current.calm_since if current.calm_since is not None and is_unbroken else now


def _begin(rule: AlertRule, reading: Reading, past: Past | None, now: datetime) -> Decision:
    severity = None if reading.value is None else rule.severity_of(reading.value)
    if severity is None:
        return Nothing()
    if past is not None and now - past.resolved_at < timedelta(minutes=rule.cool_down_minutes):
        # Flapping is one episode to whoever is woken by it; that it became worse is news all the same.
        return Fire(severity) if severity.exceeds(past.severity) else Nothing()
    return Fire(severity)
