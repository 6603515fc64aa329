"""Rules as text: loaded from YAML or JSON with all errors and their positions, and dumped again."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from math import isfinite
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple, NoReturn

import yaml
from marshmallow import Schema, ValidationError
from marshmallow.exceptions import SCHEMA

from shared.alerts.policy import AlertRule
from shared.errors import TidingsError, suggest
from shared.rules.model import Rules
from shared.rules.schemas import ALERT_SCHEMAS, UNKNOWN_KEY, RulesFileSchema, alert_rule

MAX_BYTES: Final = 256 * 1024
MAX_MEMBERS: Final = 1000
"""Of a list or a mapping. More are refused before the schema checks each of them."""
_MAX_DEPTH: Final = 10
_MAX_SHOWN: Final = 60
_SCHEMA: Final = RulesFileSchema()
_ONE_OF: Final = re.compile("one of:? ")
_OF_API: Final = "Unknown field."
_UNKNOWN_KEYS: Final = (UNKNOWN_KEY, _OF_API)
"""The beginnings of messages about a key: of the schemas of rules, and of those of the API."""

_NAMED_BY_PARSER: Final = re.compile(r"(tag handle|anchor) ['\"].*")

_NO_TEXT: Final = re.compile("[\0\ud800-\udfff]")
"""What neither PostgreSQL nor UTF-8 holds; YAML has escapes for it."""

KeyPath = tuple[str | int, ...]
"""Where a value is: the keys and list indexes that lead to it."""

IsSecret = Callable[[KeyPath], bool]
"""Whether the value at a path may be secret, so that no error quotes it."""


class Position(NamedTuple):
    """A position in a file, counted from 1."""

    line: int
    column: int

    @classmethod
    def of(cls, mark: yaml.Mark) -> "Position":
        """Return the position of a mark of the YAML parser, which counts from 0."""
        return cls(mark.line + 1, mark.column + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One error. `field` is a path such as `alerts[2].window_minutes`, or '' for the document as a whole."""

    message: str
    field: str = ""
    position: Position | None = None


class RulesError(TidingsError):
    """Rules that are not valid. `problems` has all errors; `lines` has them as compilers print them."""

    def __init__(self, problems: list[Problem], name: str = "") -> None:
        self.problems = sorted(problems, key=lambda problem: problem.position or Position(0, 0))
        self.lines: list[str] = []
        for problem in self.problems:
            location = f"{name}:{problem.position.line}:{problem.position.column}" if problem.position else name
            self.lines.append(": ".join(part for part in (location, problem.field, problem.message) if part))
        super().__init__("\n".join(self.lines))


def default_text() -> str:
    """Return the default rules as a document with comments."""
    return resources.files("shared.rules").joinpath("default.yaml").read_text(encoding="utf-8")


@cache
def load_default() -> Rules:
    """Return the default rules."""
    return _load(default_text(), "default.yaml", Rules())


def load(text: str, name: str) -> Rules:
    """Return the rules of a document. A section or a field that it does not have keeps its default.

    The list of alert rules is one field: a document that has it replaces all default ones. `name` is what error
    messages call the document. Raises RulesError with everything that is wrong.
    """
    return _load(text, name, load_default())


def load_file(path: Path) -> tuple[str, Rules]:
    """Return the text of a file, and its rules. Raises RulesError."""
    text = read_text(path)
    return text, load(text, str(path))


def read_text(path: Path) -> str:
    """Return the text of a file in UTF-8. Raises RulesError."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise RulesError([Problem(message=f"expected a file, but {error.strerror or error}")], str(path)) from None
    if len(content) > MAX_BYTES:
        raise RulesError([Problem(message=f"expected at most {MAX_BYTES // 1024} KiB, found more")], str(path))
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        position = Position(before.count(b"\n") + 1, error.start - before.rfind(b"\n"))
        message = f"expected UTF-8, found the byte 0x{content[error.start]:02X}"
        raise RulesError([Problem(message=message, position=position)], str(path)) from None


def load_alert_rule(definition: Any) -> AlertRule:
    """Return an alert rule from JSON. Raises RulesError, whose problems name fields such as `types[0]`."""
    try:
        rule: AlertRule = alert_rule().deserialize(definition)
    except ValidationError as error:
        raise RulesError(
            [
                Problem(message=_explain(message, path, definition), field=_format_path(path))
                for path, message in _flatten(error.messages)
            ]
        ) from None
    return rule


def dump_alert_rule(rule: AlertRule) -> dict[str, Any]:
    """Return an alert rule as JSON with every field that is set: `load_alert_rule` makes the same rule of it."""
    dumped: dict[str, Any] = ALERT_SCHEMAS[rule.kind].dump(rule)
    return dumped


def dump(rules: Rules) -> str:
    """Return the document that makes these rules."""
    text: str = yaml.dump(_SCHEMA.dump(rules), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return text


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]
    """Writes a list of words on one line."""

    def represent_list(self, data: list[Any]) -> Any:
        """Return a list in brackets, unless its items are mappings."""
        in_brackets = not any(isinstance(item, dict) for item in data)
        return self.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=in_brackets)


_Dumper.add_representer(list, _Dumper.represent_list)


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """Composes nodes, and makes plain values of them.

    Only the types of YAML's core schema exist: `no` and `12:30` are text. Anchors, aliases and tags are refused, so
    that a small file cannot become a large one.
    """

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}

    def __init__(self, text: str, document_name: str, is_secret: IsSecret) -> None:
        super().__init__(text)
        self._document_name = document_name
        self._is_secret = is_secret
        self.problems: list[Problem] = []
        self.positions: dict[KeyPath, Position] = {}
        self.key_positions: dict[KeyPath, Position] = {}
        self.refused: set[KeyPath] = set()
        """The values that schemas must not check again, because `problems` already has their errors."""
        self._path: list[str | int] = []
        self._keys: dict[tuple[int, str], Position] = {}

    def load_document(self) -> Any:
        """Return the values of the only document, an empty mapping if there is none."""
        if not self.check_node():
            return {}
        root = self.get_node()
        if self.check_node():
            self._report("expected one document, found another", (), self.peek_event().start_mark)
        return self._build(root, ())

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Return the next node; report what nodes do not show or rules must not have, even if the rest is not YAML."""
        if index is not None:  # a member of a mapping, whose key it is, or of a list
            self._path.append(index if isinstance(index, int) else str(index.value))
        event = self.peek_event()
        is_key = parent is not None and index is None
        if (is_key or isinstance(index, int)) and len(parent.value) >= MAX_MEMBERS:
            container = self._path if is_key else self._path[:-1]
            self._stop(f"expected at most {MAX_MEMBERS} items, found more", container, event)
        if is_key and isinstance(event, yaml.ScalarEvent):
            path, position = (*self._path, event.value), Position.of(event.start_mark)
            first = self._keys.setdefault((id(parent), event.value), position)
            if first is not position:
                message = f"expected each key once, found this one again; line {first.line} has it"
                self._report(message, path, event.start_mark)
            self.key_positions.setdefault(path, position)
        elif is_key:
            self._report("expected a name, found something else as a key", self._path, event.start_mark)
        self._check_event(event, is_key=is_key)
        if isinstance(event, yaml.AliasEvent):
            self.get_event()
            node = yaml.SequenceNode("", [], event.start_mark, event.end_mark)
        else:
            node = super().compose_node(parent, index)
        if index is not None:
            self._path.pop()
        return node

    def _check_event(self, event: Any, *, is_key: bool) -> None:
        if len(self._path) > _MAX_DEPTH:
            self._stop(f"expected at most {_MAX_DEPTH} levels, found more", self._path, event)
        if isinstance(event, yaml.AliasEvent):
            found = f"the alias *{event.anchor}: write out what it stands for"
        elif event.anchor is not None:
            found = f"the anchor &{event.anchor}: anchors and aliases are not supported"
        elif event.tag is not None:
            found = f"the tag {event.tag}: tags are not supported"
        else:
            return
        if self._is_secret(tuple(self._path)):
            found = "an alias, an anchor or a tag: put a text that begins with *, & or ! in quotes"
        self._report(f"expected a value, found {found}", self._path, event.start_mark)
        if not is_key:
            self.refused.add(tuple(self._path))

    def _stop(self, message: str, path: Sequence[str | int], event: Any) -> NoReturn:
        self._report(message, path, event.start_mark)
        raise RulesError(self.problems, self._document_name)

    def _build(self, node: Any, path: KeyPath) -> Any:
        self.positions[path] = Position.of(node.start_mark)
        if isinstance(node, yaml.SequenceNode):
            return [self._build(item, (*path, number)) for number, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode):
            self._check_text(node, path)
            return _SCALARS.get(node.tag, str)(node.value)
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:  # a key that is repeated or not a name was reported
            if isinstance(key_node, yaml.ScalarNode) and key_node.value not in values:
                self._check_text(key_node, (*path, key_node.value))
                values[key_node.value] = self._build(value_node, (*path, key_node.value))
        return values

    def _check_text(self, node: yaml.ScalarNode, path: KeyPath) -> None:
        if found := _NO_TEXT.search(node.value):
            self._report(f"expected text, found the character U+{ord(found[0]):04X}", path, node.start_mark)

    def _report(self, message: str, path: Sequence[str | int], mark: Any) -> None:
        self.problems.append(Problem(message=message, field=_format_path(path), position=Position.of(mark)))


_SCALAR_NAMES: Final = {str: "a text", bool: "true or false", int: "a number", float: "a number"}

_SCALARS: Final[Mapping[str, Any]] = {
    "null": lambda _text: None,
    "bool": lambda text: text[0] in "tT",
    "int": int,
    "float": lambda text: value if isfinite(value := float(text)) else text,
}
for _tag, _pattern, _first in (
    ("null", r"(~|null|Null|NULL|)\Z", ["~", "n", "N", ""]),
    ("bool", r"(true|True|TRUE|false|False|FALSE)\Z", list("tTfF")),
    ("int", r"[-+]?[0-9]{1,18}\Z", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,3})?\Z", list("-+.0123456789")),
):
    _Loader.add_implicit_resolver(_tag, re.compile(_pattern), _first)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A document that a schema has checked: its plain values, and what the schema made of them."""

    name: str
    values: Any
    loaded: Any
    positions: Mapping[KeyPath, Position]

    def describe(self, message: str, path: KeyPath) -> Problem:
        """Return a problem with a value that the schema accepts, at the nearest position that is known."""
        known = next(path[:length] for length in range(len(path), -1, -1) if path[:length] in self.positions)
        return Problem(message=message, field=_format_path(path), position=self.positions[known])


def check(text: str, name: str, schema: Schema, is_secret: IsSecret = lambda _path: False) -> Document:
    """Return the values of a YAML or JSON document, checked by a schema. Raises RulesError with all errors.

    `name` is what error messages call the document. They quote no value that is secret.
    """
    loader, data = _compose(text, name, is_secret)
    problems, loaded = loader.problems, {}
    try:
        loaded = schema.load(data)
    except ValidationError as error:
        for named, message in _flatten(error.messages):
            path = _drop_part(named, data)
            if message.startswith(_UNKNOWN_KEYS):
                found_at = loader.key_positions[path]
            elif any(path[:length] in loader.refused for length in range(len(path) + 1)):
                continue
            else:
                found_at = loader.positions.get(path) or loader.positions[path[:-1]]  # a missing key: its mapping
            explained = _explain(message, path, data, is_secret=is_secret(path))
            problems.append(Problem(message=explained, field=_format_path(path), position=found_at))
    if problems:
        raise RulesError(problems, name)
    return Document(name=name, values=data, loaded=loaded, positions=loader.positions)


def _load(text: str, name: str, base: Rules) -> Rules:
    found = check(text, name, _SCHEMA).loaded
    if not found:
        message = "expected suppression and alerts, or one of them, found nothing"
        raise RulesError([Problem(message=message, position=Position(1, 1))], name)
    return Rules(suppression=found.get("suppression", base.suppression), alerts=tuple(found.get("alerts", base.alerts)))


def _compose(text: str, name: str, is_secret: IsSecret) -> tuple[_Loader, Any]:
    """Return the values of a YAML text, and the loader with their positions. Raises RulesError."""
    try:
        loader = _Loader(text, name, is_secret)
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        position = Position(before.count("\n") + 1, len(before) - before.rfind("\n"))
        message = f"expected text, found the character U+{error.character:04X}"
        raise RulesError([Problem(message=message, position=position)], name) from None
    try:
        return loader, loader.load_document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        explained = ": ".join(part for part in (error.context, error.problem) if part)
        explained = _NAMED_BY_PARSER.sub(r"\1", explained)  # it may be a part of a secret
        message = f"expected YAML, but {explained}"
        loader.problems.append(Problem(message=message, position=mark and Position.of(mark)))
    except (ValueError, OverflowError):
        message = "expected YAML, but there is an escape for a character that does not exist"
        loader.problems.append(Problem(message=message))
    raise RulesError(loader.problems, name)


def _flatten(messages: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, str]]:
    """Yield the messages of a ValidationError with their paths."""
    if isinstance(messages, dict):
        for key, inner in messages.items():
            yield from _flatten(inner, path if key == SCHEMA else (*path, key))
    elif isinstance(messages, list):
        for message in messages:
            yield from _flatten(message, path)
    else:
        yield path, messages


def _drop_part(path: KeyPath, data: Any) -> KeyPath:
    """Return the path without the last key, if marshmallow added it to say which part of a Dict's member is wrong."""
    if not path or path[-1] not in ("key", "value"):
        return path
    value = data
    for key in path[:-1]:
        value = value[key]
    return path if isinstance(value, dict) and path[-1] in value else path[:-1]


def _explain(message: str, path: KeyPath, data: Any, *, is_secret: bool = False) -> str:
    """Add to a schema's message what was found, and which of the words it names may have been meant."""
    words = _ONE_OF.split(message)[-1].rstrip(".").split(", ")
    if message.startswith(_OF_API):  # it names the nearest field
        return message
    message = message.rstrip(".")
    if message.startswith(UNKNOWN_KEY):
        hint = suggest(str(path[-1]), words)
        return f"{message}{hint and '.'}{hint}"
    value = data
    for key in path:
        if isinstance(value, dict) and key not in value:
            return f"{message}, found no such key"
        value = value[key]
    if value is None:
        found = "nothing"
    elif isinstance(value, dict):
        found = "a mapping"
    elif isinstance(value, list):
        found = "an empty list" if not value else f"a list of {len(value)} item{'s' if len(value) > 1 else ''}"
    elif is_secret:
        found = _SCALAR_NAMES[type(value)]
    else:
        found = json.dumps(value, ensure_ascii=False)
        found = found if len(found) <= _MAX_SHOWN else f"{found[:_MAX_SHOWN]}…"
    hint = suggest(value, words) if isinstance(value, str) else ""
    return f"{message}, found {found}{hint and '.'}{hint}"


def _format_path(path: Sequence[str | int]) -> str:
    """Return a path as in `alerts[2].types`. A key can be any text."""
    text = ""
    for key in path:
        if isinstance(key, int):
            text += f"[{key}]"
        else:
            is_plain = len(key) <= _MAX_SHOWN and key.isprintable()
            text += ("." if text else "") + (key if is_plain else json.dumps(key[:_MAX_SHOWN]))
    return text
