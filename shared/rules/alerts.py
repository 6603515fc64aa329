"""Rules about alerts: the section `alerts` of the file, and what is made over the API."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from shared.alerts.rules import CLASSES, Per, Rate, usual_rate
from shared.rules import readers
from shared.rules.nodes import Node, join
from shared.rules.problems import WRONG, Report, quoted
from shared.rules.readers import Reader
from shared.vocabulary import AlertKind, EventType

MOST_RULES: Final = 200
_MOST: Final = 1_000_000_000
_WEEK_MINUTES: Final = 7 * 24 * 60  # counts are kept for a day more

_OF_ALL: Mapping[str, Reader] = {
    "name": readers.name,
    "kind": readers.one_of(AlertKind),
    "enabled": readers.boolean,
    "resolve_after_minutes": readers.whole(0, 24 * 60),
    "cool_down_minutes": readers.whole(0, _WEEK_MINUTES),
}
_SOURCES: Mapping[str, Reader] = {"sources": readers.names}
_WINDOW: Mapping[str, Reader] = {"window_minutes": readers.whole(1, _WEEK_MINUTES)}
_PER: Mapping[str, Reader] = {"per": readers.one_of(Per)}


def _thresholds(reader: Reader) -> Mapping[str, Reader]:
    return {"warning": reader, "critical": reader}


_COUNTED = _thresholds(readers.whole(1, _MOST))
_SECONDS = readers.whole(10, 7 * 24 * 3600)

FIELDS: Mapping[AlertKind, Mapping[str, Reader]] = {
    AlertKind.RATE: {
        "rate": readers.one_of(Rate),
        **_PER,
        **_SOURCES,
        **_WINDOW,
        "minimum_volume": readers.whole(1, _MOST),
        "minimum_events": readers.whole(1, _MOST),
        **_thresholds(readers.percent),
    },
    AlertKind.EVENT: {"types": readers.some_of(EventType), **_PER, **_SOURCES, **_WINDOW, **_COUNTED},
    AlertKind.SILENCE: {
        **_SOURCES,
        "minimum_events": readers.whole(1, _MOST),
        **_thresholds(readers.whole(5, _WEEK_MINUTES)),
    },
    AlertKind.ANNOUNCED: {
        **_SOURCES,
        "after_minutes": readers.whole(1, _WEEK_MINUTES),
        "within_hours": readers.whole(1, 30 * 24),
        **_thresholds(readers.whole(1, 1000)),
    },
    AlertKind.VERIFICATION_FAILURES: {**_SOURCES, **_WINDOW, "factor": readers.number(1, 10_000), **_COUNTED},
    AlertKind.PENDING_AGE: _thresholds(_SECONDS),
    AlertKind.UNVERIFIED_AGE: {**_SOURCES, **_thresholds(_SECONDS)},
    AlertKind.DEAD_RECEIPTS: {**_SOURCES, **_WINDOW, **_COUNTED},
    AlertKind.RECONCILED: {**_SOURCES, **_WINDOW, **_COUNTED},
    AlertKind.RECONCILIATION_FAILURES: {**_SOURCES, **_thresholds(readers.whole(1, 1000))},
    AlertKind.GIVEN_UP: {**_SOURCES, **_WINDOW, **_COUNTED},
    AlertKind.DEAD_DELIVERIES: {**_WINDOW, **_COUNTED},
    AlertKind.SUBSCRIPTION_DISABLED: _COUNTED,
    AlertKind.RULES_REFUSED: _COUNTED,
}
"""What can be said of a rule of each kind, besides what can be said of all."""

_REQUIRED: Mapping[AlertKind, tuple[str, ...]] = {AlertKind.RATE: ("rate",), AlertKind.EVENT: ("types",)}


def read(node: Node, report: Report) -> Any:
    """The rules of a list, no two of one name. WRONG unless it is a list of rules that are right."""
    rules = readers.items(node, report, read_one, longest=MOST_RULES)
    if isinstance(node.value, list):
        _check_names(node.value, report)
    return WRONG if rules is WRONG else tuple(rules)


def read_one(node: Node, report: Report) -> Any:
    """One rule: what is not said has the default of its kind."""
    if not isinstance(node.value, dict):
        return report.expected("a mapping", node)
    kind = _kind(node, report)
    if kind is WRONG:
        return WRONG
    before = len(report.problems)
    fields = {**_OF_ALL, **FIELDS[kind]}
    values = readers.fields(node, report, fields, required=("name", *_REQUIRED.get(kind, ())))
    if values is WRONG or len(report.problems) > before:
        return WRONG
    values.pop("kind")
    return _checked(node, report, _made(kind, values))


def _kind(node: Node, report: Report) -> Any:
    """The kind comes first: it says which other fields there may be."""
    assert isinstance(node.value, dict)  # noqa: S101 - the caller has seen to it
    member = node.value.get("kind")
    if member is None:
        missing = Node(value=None, path=join(node.path, "kind"), mark=node.mark)
        return report.add(f"expected one of {', '.join(AlertKind)}, found no such key", missing)
    return WRONG if member.is_refused else _OF_ALL["kind"](member, report)


def _made(kind: AlertKind, values: dict[str, Any]) -> Any:
    if "warning" in values or "critical" in values:
        values = {"warning": None, "critical": None, **values}  # whoever sets one does not mean the other's default
    if kind is AlertKind.RATE:
        return replace(usual_rate(values["name"], values["rate"]), **values)
    return CLASSES[kind](**values)


def _checked(node: Node, report: Report, rule: Any) -> Any:
    assert isinstance(node.value, dict)  # noqa: S101
    if rule.warning is not None and rule.critical is not None and rule.critical <= rule.warning:
        return report.expected(f"more than the warning of {rule.warning:g}", node.value["critical"])
    if rule.kind is AlertKind.ANNOUNCED and rule.after_minutes >= rule.within_hours * 60:
        place = node.value.get("after_minutes") or node.value["within_hours"]
        return report.add("expected after_minutes to be less than within_hours, found it is not", place)
    return rule


def _check_names(rules: list[Node], report: Report) -> None:
    seen: dict[Any, Node] = {}
    for rule in rules:
        member = rule.value.get("name") if isinstance(rule.value, dict) else None
        if member is None or not isinstance(member.value, str):
            continue
        if member.value in seen:
            report.add(
                f"expected a name of its own, found {quoted(member.value)}, as {seen[member.value].path} has", member
            )
        seen.setdefault(member.value, rule)
