"""The kinds of alert rules: one class per kind, with its query, its summary and what to do about an alert.

A new kind is a class in one of these modules, listed in `KINDS`, with its rule in `shared.alerts.rules`.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from shared.alerts import formatting
from shared.alerts.kinds.base import Kind, Snapshot, subject_words
from shared.alerts.kinds.configuration import BrokerUnusable, DeadDeliveries, RulesRefused, SubscriptionDisabled
from shared.alerts.kinds.events import Announced, Event, MassFailures, Rate, Silence
from shared.alerts.kinds.receipts import DeadReceipts, PendingAge, SetAside, UnverifiedAge, VerificationFailures
from shared.alerts.kinds.reconciliation import GivenUp, Reconciled, ReconciliationFailures
from shared.alerts.policy import AlertRule, Measurement
from shared.vocabulary import AlertKind, Severity

__all__ = ["KINDS", "Snapshot", "measure", "next_step", "summarize_firing", "summarize_resolved", "summarize_withdrawn"]

_CLASSES: Final[Sequence[type[Kind[Any]]]] = (
    Rate,
    Event,
    Silence,
    Announced,
    MassFailures,
    VerificationFailures,
    PendingAge,
    UnverifiedAge,
    DeadReceipts,
    SetAside,
    Reconciled,
    ReconciliationFailures,
    GivenUp,
    DeadDeliveries,
    SubscriptionDisabled,
    RulesRefused,
    BrokerUnusable,
)

KINDS: Final[Mapping[str, Kind[Any]]] = {found.kind: found() for found in _CLASSES}
"""The kinds by their names, the members of `AlertKind`."""


def measure(snapshot: Snapshot, rules: Sequence[AlertRule]) -> Iterator[tuple[AlertRule, Measurement]]:
    """Yield the conditions of these rules, as far as they may hold, and those of all alerts that fire for them."""
    found: set[tuple[str, str]] = set()
    for kind in AlertKind:
        of_kind = [rule for rule in rules if rule.kind is kind]
        for rule, measurement in KINDS[kind].measure(snapshot, of_kind) if of_kind else ():
            found.add((rule.name, measurement.subject.name))
            yield rule, measurement
    by_name = {rule.name: rule for rule in rules}
    for alert in snapshot.firing:
        absent = by_name.get(alert.rule)
        if absent is not None and (alert.rule, alert.subject.name) not in found:
            yield absent, KINDS[absent.kind].measure_absent(absent, alert.subject)


def next_step(
    kind: str, *, subject: str = "", source: str | None = None, numbers: Mapping[str, Any] | None = None
) -> str:
    """Return what a person should do about an alert of this kind, with the names of what it is about.

    Commands run as they are. Without a name they are about all sources or subscriptions.
    """
    if kind not in KINDS:
        return "Check the alert's numbers, and the log of the workers."
    given = numbers or {}
    named = str(source or given.get("source") or "")
    about = {
        "source": f" {named}" if named else "",
        "of_source": f" --source {named}" if named else "",
        "subject": subject or "all",
        "message": str(given.get("oldest_message") or "ID"),
    }
    return KINDS[kind].advise(given).format_map(about)


def summarize_firing(rule: AlertRule, measurement: Measurement, severity: Severity) -> str:
    """Return why an alert fires, or has become more severe."""
    kind = KINDS[rule.kind]
    condition = kind.summarize(rule, measurement.subject, measurement.numbers)
    return f"{condition}; {severity} at {kind.threshold(rule.threshold(severity))}."


def summarize_resolved(
    rule: AlertRule, measurement: Measurement, *, below_since: datetime | None, stale: bool = False
) -> str:
    """Return why an alert is over."""
    kind, subject = KINDS[rule.kind], measurement.subject
    if stale:
        return f"There was too little data to evaluate {rule.name} for a day: {subject_words(rule, subject)}."
    if kind.resolved is not None:
        return kind.resolved.format(subject.name)
    condition = kind.summarize(rule, subject, measurement.numbers)
    if below_since is None:
        return f"{condition}."
    return f"{condition}; below {kind.threshold(rule.min_threshold)} since {formatting.time(below_since)}."


def summarize_withdrawn(rule: str) -> str:
    """Return why an alert is over whose rule was removed or disabled."""
    return f"The rule {rule} is no longer in force."
