"""Conditions as they are now: what the rules ask for, measured by one statement for each kind of rule."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from shared.domain.alert_rules import RulesRefusedRule
from shared.domain.alerts import AlertRule, Kind, Number, Reading, Subject
from workers.measuring import counts, deliveries, looks, queues, recoveries
from workers.measuring.looks import Look, Measured


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


_READERS: Mapping[tuple[Kind, ...], Callable[[Look, Sequence[Any]], Iterator[Measured]]] = {
    (Kind.RATE, Kind.EVENT): counts.shares,
    (Kind.SILENCE,): counts.silences,
    (Kind.ANNOUNCED,): queues.waits,
    (Kind.VERIFICATION_FAILURES,): counts.refusals,
    (Kind.PENDING_AGE,): queues.pending,
    (Kind.UNVERIFIED_AGE,): queues.unverified,
    (Kind.DEAD_RECEIPTS,): queues.dead,
    (Kind.RECONCILED,): recoveries.reconciled,
    (Kind.RECONCILIATION_FAILURES,): recoveries.unasked,
    (Kind.GIVEN_UP,): recoveries.given_up,
    (Kind.DEAD_DELIVERIES,): deliveries.dead,
    (Kind.SUBSCRIPTION_DISABLED,): deliveries.disabled,
    (Kind.RULES_REFUSED,): _refused_file,
}

_UNSEEN: Mapping[Kind, Callable[[Any, Subject], Reading]] = {
    Kind.RATE: _unknown,
    Kind.SILENCE: _unknown,
    Kind.EVENT: looks.counted,
    Kind.ANNOUNCED: looks.counted,
    Kind.DEAD_RECEIPTS: looks.counted,
    Kind.RECONCILED: looks.counted,
    Kind.RECONCILIATION_FAILURES: looks.counted,
    Kind.GIVEN_UP: looks.counted,
    Kind.DEAD_DELIVERIES: looks.counted,
    Kind.SUBSCRIPTION_DISABLED: looks.counted,
    Kind.VERIFICATION_FAILURES: counts.refusal,
    Kind.UNVERIFIED_AGE: queues.nobody_waits,
}
"""What it means that nothing was found of a subject about which an alert fires. Not here: what is always found."""
