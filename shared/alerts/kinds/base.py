"""What every kind of alert defines: how it is measured, how it is described, and what to do about it."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Generic, TypeVar

import msgspec
from sqlalchemy import Connection, Row

from shared.alerts import formatting
from shared.alerts.policy import AlertRule, FiringAlert, Measurement, Number, Subject
from shared.alerts.rules import SourceRule
from shared.counters import store as counters
from shared.vocabulary import AlertKind

RuleT = TypeVar("RuleT", bound=AlertRule)
SourceRuleT = TypeVar("SourceRuleT", bound=SourceRule)
Numbers = Mapping[str, Number]

ACTIVE_SOURCE = "s.deleted_at IS NULL AND (asked.sources IS NULL OR s.slug = ANY(asked.sources))"
"""Condition of a join of `asked`, the parameters of rules, with sources `s`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The state that one evaluation sees. `rules_errors` are those of a rejected rules file."""

    connection: Connection
    now: datetime
    firing: Sequence[FiringAlert]
    rules_errors: Sequence[str]


class Kind(ABC, Generic[RuleT]):
    """A kind of alert rule. There is one subclass for each member of `AlertKind`."""

    kind: ClassVar[AlertKind]
    next_step: ClassVar[str]
    """What a person should do about an alert of this kind, with places for names (`shared.alerts.kinds.next_step`)."""
    counted: ClassVar[str] = "events"
    """The name under which the measured count is shown in an alert's numbers."""
    unit: ClassVar[str] = "{}"
    """The format of a threshold in a summary."""
    resolved: ClassVar[str | None] = None
    """The summary of a resolved alert; None for the last numbers and the time since when they are calm."""

    @abstractmethod
    def measure(self, snapshot: Snapshot, rules: Sequence[RuleT]) -> Iterator[tuple[RuleT, Measurement]]:
        """Yield the conditions of these rules, as far as they may hold, by one statement for all rules."""

    def measure_absent(self, rule: RuleT, subject: Subject) -> Measurement:  # noqa: ARG002
        """Return the condition of a subject whose alert fires, but of which `measure` found nothing."""
        return self.count(subject, 0)

    @abstractmethod
    def summarize(self, rule: RuleT, subject: Subject, numbers: Numbers) -> str:
        """Return the condition in a sentence without its full stop, with the numbers."""

    def advise(self, numbers: Mapping[str, Any]) -> str:  # noqa: ARG002
        """Return what a person should do about an alert with these numbers."""
        return self.next_step

    def count(self, subject: Subject, count: int, *, evidence: str | None = None, **more: Number) -> Measurement:
        """Return a measured count, and further numbers to show."""
        return Measurement(subject=subject, value=count, numbers={self.counted: count, **more}, evidence=evidence)

    def threshold(self, value: float | None) -> str:
        """Return a threshold with its unit."""
        return "nothing" if value is None else self.unit.format(formatting.number(value))


def select(connection: Connection, statement: str, asked: Any = None, **values: Any) -> Sequence[Row[Any]]:
    """Return the rows of a statement; `asked` is passed as JSON.

    The statements of the kinds are SQL text: most are sets of windows joined with tables of features that depend on
    alerts. None reads events, and each is bounded, by the rows of a window or by a limit.
    """
    if asked is not None:
        values["asked"] = msgspec.json.encode(asked).decode()
    return connection.exec_driver_sql(statement, values).all()


def windows(snapshot: Snapshot, rules: Iterable[Any]) -> list[dict[str, Any]]:
    """Return the start of each rule's window and its sources, for `jsonb_to_recordset`."""
    return [
        {
            "number": number,
            "since": counters.window_start(snapshot.now, rule.window_minutes),
            "sources": sorted(rule.sources) or None,
        }
        for number, rule in enumerate(rules)
    ]


def earliest(asked: Sequence[Mapping[str, Any]]) -> Any:
    """Return the start of the longest window. PostgreSQL chooses a partial index only by one bound for all windows."""
    return min(one["since"] for one in asked)


def about_source(rules: Iterable[SourceRuleT], source: str) -> Iterator[SourceRuleT]:
    """Return the rules that are about this source."""
    return (rule for rule in rules if not rule.sources or source in rule.sources)


def source_subject(row: Row[Any]) -> Subject:
    """Return the source of a row as the subject of an alert."""
    return Subject(name=row.source, source_id=row.source_id, source=row.source)


def subject_words(rule: AlertRule, subject: Subject) -> str:
    """Return the subject with its type: `source main`, `tenant acme`, `all sources`."""
    if not subject.name:
        return "all sources"
    return f"{str(getattr(rule, 'per', 'source')).replace('_', ' ')} {subject.name}"
