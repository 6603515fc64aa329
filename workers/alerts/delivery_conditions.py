"""Conditions of what is delivered to subscriptions."""

from collections.abc import Iterator, Sequence

from shared.alerts import delivery_conditions
from shared.alerts.delivery_conditions import Concerned
from shared.alerts.policy import Subject
from shared.alerts.rules import DeadDeliveriesRule, SubscriptionDisabledRule
from shared.counters import store as counts
from workers.alerts.measurement import Look, Measured, counted


def dead(look: Look, rules: Sequence[DeadDeliveriesRule]) -> Iterator[Measured]:
    """How many deliveries are dead, to which subscriptions."""
    for rule in rules:
        since = counts.begin(look.now, rule.window_minutes)
        for found in delivery_conditions.dead(look.connection, since):
            count = counted(rule, _subscription(found), found.deliveries, subscription=found.name)
            yield Measured(rule, count)


def disabled(look: Look, rules: Sequence[SubscriptionDisabledRule]) -> Iterator[Measured]:
    """Which subscriptions are disabled."""
    for found in delivery_conditions.disabled(look.connection):
        for rule in rules:
            count = counted(rule, _subscription(found), 1, subscription=found.name, reason=found.reason or "")
            yield Measured(rule, count)


def _subscription(found: Concerned) -> Subject:
    return Subject(name=str(found.subscription_id), tenant=found.tenant)
