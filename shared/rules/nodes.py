"""Rules as they were written: a tree whose every value knows its place, made of YAML or of JSON.

Of YAML only what the rules need is taken: mappings, lists, and plain values as its core schema has them (`no` is text,
and so is `12:30`). Anchors, aliases and tags are refused, so that a small file cannot become a large one.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import isfinite
from typing import Any, NamedTuple

import yaml

MOST_BYTES = 256 * 1024
_DEEPEST = 10
_LONGEST_KEY = 60


class Mark(NamedTuple):
    """A place in a file, counted from 1."""

    line: int
    column: int


Scalar = str | int | float | bool | None
Value = Scalar | dict[str, "Node"] | list["Node"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A value, the path that leads to it, where it stands, and where its key does."""

    value: Value
    path: str = ""
    mark: Mark | None = None
    key_mark: Mark | None = None
    is_refused: bool = False
    """It is no value that can be used, and that was said."""


Refuse = Callable[[str, str, Mark | None], None]
"""Is told what is wrong: message, path, place."""

_TYPED: tuple[tuple[re.Pattern[str], Callable[[str], Scalar]], ...] = (
    (re.compile(r"|~|null|Null|NULL"), lambda _text: None),
    (re.compile(r"true|True|TRUE"), lambda _text: True),
    (re.compile(r"false|False|FALSE"), lambda _text: False),
    (re.compile(r"[-+]?[0-9]{1,18}"), int),
    (re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,3})?"), float),
)


class _Stop(Exception):  # noqa: N818 - it is caught where it was made
    """The text cannot be read any further."""


def of_yaml(text: str, refuse: Refuse) -> Node | None:
    """The tree of a YAML document; None where there is none, or none that can be read to its end."""
    try:
        return _Builder(yaml.parse(text, Loader=yaml.SafeLoader), refuse).document()
    except _Stop:
        return None
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        mark = Mark(before.count("\n") + 1, len(before) - before.rfind("\n"))
        refuse(f"expected text, found the character U+{error.character:04X}", "", mark)
        return None
    except yaml.MarkedYAMLError as error:
        found = error.problem_mark or error.context_mark
        said = ": ".join(part for part in (error.context, error.problem) if part)
        refuse(f"expected YAML, but {said}", "", found and Mark(found.line + 1, found.column + 1))
        return None
    except (ValueError, OverflowError):
        refuse("expected YAML, but there is an escape for a character that does not exist", "", None)
        return None


def of_json(value: Any, path: str = "") -> Node:
    """The tree of a JSON value."""
    if isinstance(value, dict):
        return Node(value={str(key): of_json(item, join(path, str(key))) for key, item in value.items()}, path=path)
    if isinstance(value, list | tuple):
        return Node(value=[of_json(item, f"{path}[{number}]") for number, item in enumerate(value)], path=path)
    return Node(value=value, path=path)


def join(path: str, key: str) -> str:
    """The path of a member of a mapping; the key may be anything that somebody has written."""
    if len(key) > _LONGEST_KEY or not key.isprintable():
        key = json.dumps(key[:_LONGEST_KEY])
    return f"{path}.{key}" if path else key


class _Builder:
    """Makes nodes of the parser's events."""

    def __init__(self, events: Iterator[Any], refuse: Refuse) -> None:
        self._events = events
        self._refuse = refuse

    def document(self) -> Node | None:
        """The only document."""
        next(self._events)  # the stream begins
        if isinstance(next(self._events), yaml.StreamEndEvent):
            return None
        root = self._node(next(self._events), "", 0)
        next(self._events)  # the document ends
        more = next(self._events)
        if not isinstance(more, yaml.StreamEndEvent):
            self._refuse("expected one document, found another", "", _mark(more))
        return root

    def _node(self, event: Any, path: str, depth: int, key_mark: Mark | None = None) -> Node:
        mark = _mark(event)
        if depth > _DEEPEST:
            self._stop(f"expected at most {_DEEPEST} levels, found more", path, mark)
        refused = self._is_refused(event, path)
        if isinstance(event, yaml.MappingStartEvent):
            value: Value = self._mapping(path, depth)
        elif isinstance(event, yaml.SequenceStartEvent):
            value = self._sequence(path, depth)
        elif isinstance(event, yaml.ScalarEvent):
            value = _typed(event.value) if event.style is None else event.value
        else:
            value = None
        return Node(value=value, path=path, mark=mark, key_mark=key_mark, is_refused=refused)

    def _is_refused(self, event: Any, path: str) -> bool:
        if isinstance(event, yaml.AliasEvent):
            message = f"expected a value, found the alias *{event.anchor}: write out what it stands for"
        elif event.anchor is not None:
            message = f"expected a value, found the anchor &{event.anchor}: anchors and aliases are not taken"
        elif event.tag is not None:
            message = f"expected a value, found the tag {event.tag}: tags are not taken"
        else:
            return False
        self._refuse(message, path, _mark(event))
        return True

    def _mapping(self, path: str, depth: int) -> dict[str, Node]:
        members: dict[str, Node] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            mark = _mark(event)
            if not isinstance(event, yaml.ScalarEvent):
                self._stop("expected a name, found something else as a key", path, mark)
            self._is_refused(event, path)
            key = event.value
            member = self._node(next(self._events), join(path, key), depth + 1, mark)
            if key in members:
                first = members[key].key_mark
                line = f"; line {first.line} has it" if first else ""
                self._refuse(f"expected each key once, found this one again{line}", join(path, key), mark)
            else:
                members[key] = member
        return members

    def _sequence(self, path: str, depth: int) -> list[Node]:
        items: list[Node] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._node(event, f"{path}[{len(items)}]", depth + 1))
        return items

    def _stop(self, message: str, path: str, mark: Mark) -> None:
        self._refuse(message, path, mark)
        raise _Stop


def _mark(event: Any) -> Mark:
    return Mark(event.start_mark.line + 1, event.start_mark.column + 1)


def _typed(text: str) -> Scalar:
    for pattern, read in _TYPED:
        if pattern.fullmatch(text):
            value = read(text)
            return value if not isinstance(value, float) or isfinite(value) else text
    return text
