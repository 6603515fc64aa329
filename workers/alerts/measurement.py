"""A look at how things are, and what all conditions are measured with."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Connection

from shared.alerts.conditions import Asked
from shared.alerts.policy import AlertRule, Firing, Number, Reading, Subject
from shared.alerts.rules import DeadReceiptsRule, GivenUpRule, ReconciledRule, SourceRule
from shared.counters import store as counts
from shared.vocabulary import AlertKind

OfSources = TypeVar("OfSources", bound=SourceRule)

_COUNTED = {
    AlertKind.EVENT: "events",
    AlertKind.ANNOUNCED: "messages",
    AlertKind.DEAD_RECEIPTS: "receipts",
    AlertKind.RECONCILED: "events",
    AlertKind.RECONCILIATION_FAILURES: "failures",
    AlertKind.GIVEN_UP: "deliveries",
    AlertKind.DEAD_DELIVERIES: "deliveries",
    AlertKind.SUBSCRIPTION_DISABLED: "subscriptions",
}


class Measured(NamedTuple):
    """A rule and one of its conditions."""

    rule: AlertRule
    reading: Reading


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a look is taken with. `errors` are those of a rules file that was refused."""

    connection: Connection
    now: datetime
    firing: Sequence[Firing]
    errors: Sequence[str]


def asked_since(look: Look, rules: Sequence[DeadReceiptsRule | ReconciledRule | GivenUpRule]) -> list[Asked]:
    """What these rules want to know, each since its window began."""
    return [
        Asked(number=number, since=counts.begin(look.now, rule.window_minutes), sources=names(rule))
        for number, rule in enumerate(rules)
    ]


def about(rules: Iterable[OfSources], source: str) -> Iterator[OfSources]:
    """Those of the rules that are about this source."""
    return (rule for rule in rules if not rule.sources or source in rule.sources)


def names(rule: SourceRule) -> list[str] | None:
    """The names of the sources that a rule is about; None for all."""
    return sorted(rule.sources) or None


def of_source(found: Any) -> Subject:
    """The source that something was found of, as what an alert is about."""
    return Subject(name=found.source, source_id=found.source_id, source=found.source)


def counted(rule: AlertRule, subject: Subject, count: int = 0, evidence: str | None = None, **more: Number) -> Reading:
    """So many there are of what the rule's kind counts, and more numbers to tell."""
    return Reading(subject=subject, value=count, numbers={_COUNTED[rule.kind]: count, **more}, evidence=evidence)
