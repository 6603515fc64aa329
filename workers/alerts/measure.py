"""Conditions as they are now: what the rules ask for, measured by one statement for each kind of rule."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from shared.alerts.policy import AlertRule, Number, Reading, Subject
from shared.alerts.rules import RulesRefusedRule
from shared.vocabulary import AlertKind
from workers.alerts import (
    count_conditions,
    delivery_conditions,
    measurement,
    queue_conditions,
    reconciliation_conditions,
)
from workers.alerts.measurement import Look, Measured


def read(look: Look, rules: Sequence[AlertRule]) -> list[Measured]:
    """The conditions of these rules, as far as they may hold, and those of all alerts that fire by them."""
    found = [
        measured
        for kinds, reader in _READERS.items()
        if (of_kind := [rule for rule in rules if rule.kind in kinds])
        for measured in reader(look, of_kind)
    ]
    by_name = {rule.name: rule for rule in rules}
    seen = {(rule.name, reading.subject.name) for rule, reading in found}
    for alert in look.firing:
        rule = by_name.get(alert.rule)
        if rule is not None and (alert.rule, alert.subject.name) not in seen:
            found.append(Measured(rule, _UNSEEN[rule.kind](rule, alert.subject)))
    return found


def _refused_file(look: Look, rules: Sequence[RulesRefusedRule]) -> Iterator[Measured]:
    numbers: dict[str, Number] = {"errors": len(look.errors)}
    if look.errors:
        numbers["first"] = look.errors[0]
    for rule in rules:
        yield Measured(rule, Reading(subject=Subject(), value=len(look.errors), numbers=numbers))


def _unknown(_rule: AlertRule, subject: Subject) -> Reading:
    return Reading(subject=subject, value=None)


_READERS: Mapping[tuple[AlertKind, ...], Callable[[Look, Sequence[Any]], Iterator[Measured]]] = {
    (AlertKind.RATE, AlertKind.EVENT): count_conditions.shares,
    (AlertKind.SILENCE,): count_conditions.silences,
    (AlertKind.ANNOUNCED,): queue_conditions.waits,
    (AlertKind.VERIFICATION_FAILURES,): count_conditions.refusals,
    (AlertKind.PENDING_AGE,): queue_conditions.pending,
    (AlertKind.UNVERIFIED_AGE,): queue_conditions.unverified,
    (AlertKind.DEAD_RECEIPTS,): queue_conditions.dead,
    (AlertKind.RECONCILED,): reconciliation_conditions.reconciled,
    (AlertKind.RECONCILIATION_FAILURES,): reconciliation_conditions.unasked,
    (AlertKind.GIVEN_UP,): reconciliation_conditions.given_up,
    (AlertKind.DEAD_DELIVERIES,): delivery_conditions.dead,
    (AlertKind.SUBSCRIPTION_DISABLED,): delivery_conditions.disabled,
    (AlertKind.RULES_REFUSED,): _refused_file,
}

_UNSEEN: Mapping[AlertKind, Callable[[Any, Subject], Reading]] = {
    AlertKind.RATE: _unknown,
    AlertKind.SILENCE: _unknown,
    AlertKind.EVENT: measurement.counted,
    AlertKind.ANNOUNCED: measurement.counted,
    AlertKind.DEAD_RECEIPTS: measurement.counted,
    AlertKind.RECONCILED: measurement.counted,
    AlertKind.RECONCILIATION_FAILURES: measurement.counted,
    AlertKind.GIVEN_UP: measurement.counted,
    AlertKind.DEAD_DELIVERIES: measurement.counted,
    AlertKind.SUBSCRIPTION_DISABLED: measurement.counted,
    AlertKind.VERIFICATION_FAILURES: count_conditions.refusal,
    AlertKind.UNVERIFIED_AGE: queue_conditions.nobody_waits,
}
"""What it means that nothing was found of a subject about which an alert fires. Not here: what is always found."""
