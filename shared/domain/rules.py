"""The rules in force, as values, and what has to be counted for their sake."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from shared.alerts.policy import AlertRule
from shared.alerts.rules import RATES, EventRule, Per, RateRule
from shared.suppression.policy import SuppressionPolicy
from shared.vocabulary import EventType

EVERYTHING = ""
"""The dimension of all events of a source, which are always counted."""


class Tally(NamedTuple):
    """Events of one type, counted for each value of a dimension ('' or one of `Per`)."""

    dimension: str
    type: EventType


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """All that an operator can decide about suppression and alerts."""

    suppression: SuppressionPolicy = field(default_factory=SuppressionPolicy)
    alerts: tuple[AlertRule, ...] = ()


def dimension_of(per: Per) -> str:
    """The dimension by which events are counted for a rule."""
    return EVERYTHING if per in (Per.ALL, Per.SOURCE) else str(per)


def tallies(rules: Iterable[AlertRule]) -> tuple[Tally, ...]:
    """What is to be counted: every type for each source, and by tenants and domains only what a rule asks for."""
    wanted = {Tally(EVERYTHING, kind) for kind in EventType}
    for rule in rules:
        if isinstance(rule, RateRule | EventRule) and rule.enabled:
            wanted |= {Tally(dimension_of(rule.per), kind) for kind in types_of(rule)}
    return tuple(sorted(wanted))


def types_of(rule: RateRule | EventRule) -> frozenset[EventType]:
    """The types of events that a rule is judged by."""
    if isinstance(rule, EventRule):
        return rule.types
    share = RATES[rule.rate]
    return share.events | share.volume
