"""When an alert fires, escalates and is resolved. `workers.alerts.evaluate` carries the decisions out.

A rule's condition is measured for each subject (a `Measurement`) and compared with the rule's thresholds. An alert
fires once. While it fires it may escalate from warning to critical, but never goes back. It is resolved once its
condition has been false for `resolve_after_minutes`, as `keep_firing_for` in Prometheus.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import ClassVar

from shared.vocabulary import AlertKind, Severity

STALE_AFTER = timedelta(days=1)
"""An alert whose condition has been unknown for this long is resolved; until then it stays as it is."""

MAX_EVALUATION_GAP = timedelta(minutes=5)
"""After a longer gap without evaluation, the time for which a condition was false starts again."""

DIGEST_HOUR = 8
"""The hour (UTC) of the daily digest of what still fires: the beginning of the working day in most of Europe."""

Number = int | float | str


class Step(StrEnum):
    """An entry in the history of an alert."""

    FIRED = "fired"
    ESCALATED = "escalated"
    ACKNOWLEDGED = "acknowledged"
    MUTED = "muted"
    UNMUTED = "unmuted"
    REMINDED = "reminded"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRule:
    """The fields of every rule. At least one of the two thresholds is set.

    Thresholds have the unit of the kind's measured value: percent, events, minutes or seconds. For `cool_down_minutes`
    after an alert was resolved, it fires again only with a higher severity.
    """

    kind: ClassVar[AlertKind]

    name: str
    enabled: bool = True
    warning: float | None = None
    critical: float | None = None
    resolve_after_minutes: int = 5
    cool_down_minutes: int = 15

    @property
    def min_threshold(self) -> float:
        """The lower of the thresholds."""
        return min(threshold for threshold in (self.warning, self.critical) if threshold is not None)

    def threshold(self, severity: Severity) -> float | None:
        """Return the value from which on alerts have this severity; None if they never have it."""
        return self.critical if severity is Severity.CRITICAL else self.warning

    def severity_of(self, value: float | None) -> Severity | None:
        """Return the severity of a measured value; None if it is unknown or below the thresholds."""
        for severity in reversed(Severity):
            threshold = self.threshold(severity)
            if value is not None and threshold is not None and value >= threshold:
                return severity
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What an alert is about. `name` is unique among the subjects of a rule; '' if the rule has only one."""

    name: str = ""
    source_id: int | None = None
    source: str | None = None
    tenant: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """The measured condition of one subject. `value` is None if there is too little data; `evidence` is an event id."""

    subject: Subject
    value: float | None
    numbers: Mapping[str, Number] = field(default_factory=dict)
    evidence: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FiringAlert:
    """An alert that fires. `keep_firing_since` is the time since when its condition has been false.

    `kind` is the kind of its rule when it began. An older version of Tidings may not know that kind.
    """

    id: str
    rule: str
    kind: str
    subject: Subject
    severity: Severity
    started_at: datetime
    evaluated_at: datetime
    keep_firing_since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedAlert:
    """The alert about a subject that was resolved last."""

    severity: Severity
    resolved_at: datetime


@dataclass(frozen=True, slots=True)
class Fire:
    """A new alert fires; notify people."""

    severity: Severity


@dataclass(frozen=True, slots=True)
class Escalate:
    """The alert has become more severe; notify people again, even if somebody has acknowledged it."""

    severity: Severity


@dataclass(frozen=True, slots=True)
class KeepFiring:
    """The alert goes on firing. `since` is set while its condition is false."""

    since: datetime | None


@dataclass(frozen=True, slots=True)
class Resolve:
    """The alert is over. `stale`: because its condition has been unknown for `STALE_AFTER`."""

    stale: bool = False


def last_digest_time(now: datetime) -> datetime:
    """Return the last time at which the daily digest was due. An alert that began later is not in it."""
    due = now.astimezone(UTC).replace(hour=DIGEST_HOUR, minute=0, second=0, microsecond=0)
    return due if due <= now else due - timedelta(days=1)


Decision = Fire | Escalate | KeepFiring | Resolve


def decide(
    rule: AlertRule, measurement: Measurement, current: FiringAlert | None, last: ResolvedAlert | None, now: datetime
) -> Decision | None:
    """Return what follows from a measurement; None if nothing changes.

    `current` is the alert that fires about the subject, `last` the one that was resolved last.
    """
    severity = rule.severity_of(measurement.value)
    if current is None:
        if severity is None:
            return None
        is_cooling_down = last is not None and now - last.resolved_at < timedelta(minutes=rule.cool_down_minutes)
        # People see a flapping alert as one incident. A higher severity is reported all the same.
        return None if last and is_cooling_down and not severity.exceeds(last.severity) else Fire(severity)
    since_evaluation = now - current.evaluated_at
    if measurement.value is None:
        return Resolve(stale=True) if since_evaluation >= STALE_AFTER else None
    if severity is not None:
        return Escalate(severity) if severity.exceeds(current.severity) else KeepFiring(None)
    since = current.keep_firing_since
    if since is None or since_evaluation > MAX_EVALUATION_GAP:
        since = now
    return Resolve() if now - since >= timedelta(minutes=rule.resolve_after_minutes) else KeepFiring(since)
