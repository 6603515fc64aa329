"""The rules as a document: read from a text, or from a rule of the API, and written back."""

from dataclasses import fields
from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import Any, Final

import yaml

from shared.alerts.policy import AlertRule
from shared.domain.rules import Rules
from shared.rules import alerts, nodes, readers, suppression
from shared.rules.nodes import Mark
from shared.rules.problems import Problem, Report, RulesError

_SECTIONS: Final = {"suppression": suppression.read, "alerts": alerts.read}


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]
    """Writes lists of words on one line."""

    def represent_list(self, data: list[Any]) -> Any:
        """A list, in brackets unless it is one of mappings."""
        words = not any(isinstance(item, dict) for item in data)
        return self.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=words)


_Dumper.add_representer(list, _Dumper.represent_list)


def default_text() -> str:
    """The rules that hold where an operator has said nothing, as a document."""
    return resources.files("shared.rules").joinpath("default.yaml").read_text(encoding="utf-8")


def default() -> Rules:
    """The rules that hold where an operator has said nothing."""
    return _read(default_text(), "default.yaml", Rules())


def read(text: str, name: str) -> Rules:
    """The rules of a document: a section or a field that it does not have is as it is by default.

    The list of alerts is one field: who gives one says all. Raises RulesError, which tells all that is wrong;
    `name` is what it calls the document.
    """
    return _read(text, name, default())


def read_file(path: Path) -> tuple[str, Rules]:
    """The text of a file and its rules. Raises RulesError."""
    text = _load(path)
    return text, read(text, str(path))


def read_rule(definition: Any) -> AlertRule:
    """A rule about alerts of JSON. Raises RulesError, whose problems name fields such as `window_minutes`."""
    report = Report()
    rule = alerts.read_one(nodes.of_json(definition), report)
    report.finish()
    assert isinstance(rule, AlertRule)  # noqa: S101 - or there was a problem
    return rule


def definition(rule: AlertRule) -> dict[str, Any]:
    """A rule as JSON or YAML: every field that it has, so that `read_rule` makes the same rule of it."""
    of_all = [entry.name for entry in fields(AlertRule)]
    of_kind = [entry.name for entry in fields(rule) if entry.name not in of_all]
    values = {name: _plain(getattr(rule, name)) for name in (*of_kind, *of_all)}
    first = {"name": values.pop("name"), "kind": str(rule.kind)}
    return first | {name: value for name, value in values.items() if value is not None and value != []}


def text_of(rules: Rules) -> str:
    """The document that makes these rules."""
    policy = {
        name: {key: _shown(key, getattr(getattr(rules.suppression, name), key)) for key in known}
        for name, known in suppression.FIELDS.items()
    }
    written = {"suppression": policy, "alerts": [definition(rule) for rule in rules.alerts]}
    text: str = yaml.dump(written, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return text


def _read(text: str, name: str, base: Rules) -> Rules:
    report = Report()
    root = nodes.of_yaml(text, report.refuse)
    given = {} if root is None else readers.fields(root, report, _SECTIONS)
    report.finish(name)
    if not given:
        problem = Problem(message=f"expected {' and '.join(_SECTIONS)}, or one of them, found nothing", mark=Mark(1, 1))
        raise RulesError([problem], name)
    return Rules(suppression=given.get("suppression", base.suppression), alerts=given.get("alerts", base.alerts))


def _load(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(nodes.MOST_BYTES + 1)
    except OSError as error:
        raise RulesError([Problem(message=f"expected a file, but {error.strerror or error}")], str(path)) from None
    if len(content) > nodes.MOST_BYTES:
        message = f"expected at most {nodes.MOST_BYTES // 1024} KiB, found more"
        raise RulesError([Problem(message=message)], str(path))
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        mark = Mark(before.count(b"\n") + 1, error.start - before.rfind(b"\n"))
        problem = Problem(message=f"expected UTF-8, found the byte 0x{content[error.start]:02X}", mark=mark)
        raise RulesError([problem], str(path)) from None


def _shown(key: str, value: Any) -> Any:
    if key == "days":
        return [_days(item) for item in value] if isinstance(value, tuple) else _days(value)
    return _plain(value)


def _days(value: int | None) -> int | str:
    return readers.FOR_GOOD if value is None else value


def _plain(value: Any) -> Any:
    if isinstance(value, frozenset):
        return [str(item) for item in sorted(value)]
    return str(value) if isinstance(value, StrEnum) else value
