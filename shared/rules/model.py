"""The rules in force, and the events that are counted for them."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from shared.alerts.policy import AlertRule
from shared.alerts.rules import RATES, EventRule, RateRule
from shared.counters.store import EVERYTHING, SET_ASIDE, Tally, dimension_of
from shared.suppression.policy import SuppressionPolicy
from shared.vocabulary import EventType


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Everything that an operator can set about suppression and alerts."""

    suppression: SuppressionPolicy = field(default_factory=SuppressionPolicy)
    alerts: tuple[AlertRule, ...] = ()


def tallies(rules: Iterable[AlertRule]) -> tuple[Tally, ...]:
    """Return what to count.

    Every type per source, and what was set aside by its reason; per tenant and domain only what a rule needs.
    """
    wanted = {Tally(EVERYTHING, kind) for kind in EventType} | {Tally(SET_ASIDE, EventType.UNKNOWN)}
    for rule in rules:
        if isinstance(rule, RateRule | EventRule) and rule.enabled:
            wanted |= {Tally(dimension_of(rule.per), kind) for kind in types_of(rule)}
    return tuple(sorted(wanted))


def types_of(rule: RateRule | EventRule) -> frozenset[EventType]:
    """Return the types of events that a rule is evaluated by."""
    if isinstance(rule, EventRule):
        return rule.types
    share = RATES[rule.rate]
    return share.events | share.volume
