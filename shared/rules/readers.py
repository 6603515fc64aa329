"""Readers: each makes a value of a node, or reports what it expected. The tables of fields are made of them."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, TypeVar

from shared.rules.nodes import Node, join
from shared.rules.problems import WRONG, Report, quoted, suggestion

Reader = Callable[[Node, Report], Any]
"""Returns the value, or WRONG when it has reported what is wrong."""

Word = TypeVar("Word", bound=StrEnum)

FOR_GOOD = "for good"
_LONGEST_DAYS = 36_500
_LONGEST_LIST = 1000
_PERCENT = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?) ?%")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def fields(node: Node, report: Report, readers: Mapping[str, Reader], *, required: Sequence[str] = ()) -> Any:
    """The values of a mapping, by name, as far as they are given. WRONG unless it is a mapping."""
    if node.is_refused:
        return WRONG
    if not isinstance(node.value, dict):
        return report.expected("a mapping", node)
    values = {}
    for key, member in node.value.items():
        if key not in readers:
            known = f"one of {', '.join(readers)}"
            report.add(
                f"expected {known}, found the key {quoted(key)}{suggestion(key, readers)}", member, member.key_mark
            )
            continue
        value = WRONG if member.is_refused else readers[key](member, report)
        if value is not WRONG:
            values[key] = value
    for key in required:
        if key not in node.value:
            report.add(
                f"expected {quoted(key)}, found no such key", Node(value=None, path=join(node.path, key)), node.mark
            )
    return values


def items(node: Node, report: Report, read: Reader, *, longest: int = _LONGEST_LIST) -> Any:
    """The values of a list. WRONG unless it is a list, all of whose items are right."""
    if not isinstance(node.value, list):
        return report.expected("a list", node)
    if len(node.value) > longest:
        return report.add(f"expected at most {longest} items, found {len(node.value)}", node)
    values = [WRONG if item.is_refused else read(item, report) for item in node.value]
    return WRONG if any(value is WRONG for value in values) else values


def boolean(node: Node, report: Report) -> Any:
    """True or false."""
    return node.value if isinstance(node.value, bool) else report.expected("true or false", node)


def whole(lowest: int, highest: int) -> Reader:
    """A whole number within bounds."""

    def read(node: Node, report: Report) -> Any:
        if isinstance(node.value, int) and not isinstance(node.value, bool) and lowest <= node.value <= highest:
            return node.value
        return report.expected(f"a whole number from {lowest} to {highest}", node)

    return read


def number(lowest: float, highest: float) -> Reader:
    """A number within bounds."""

    def read(node: Node, report: Report) -> Any:
        is_number = isinstance(node.value, int | float) and not isinstance(node.value, bool)
        if is_number and lowest <= node.value <= highest:  # type: ignore[operator]
            return node.value
        return report.expected(f"a number from {lowest:g} to {highest:g}", node)

    return read


def percent(node: Node, report: Report) -> Any:
    """A share of more than nothing: `5 %`, or the number alone."""
    value = node.value
    if isinstance(value, str) and (match := _PERCENT.fullmatch(value)):
        value = float(match[1])
        value = int(value) if value.is_integer() else value
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 100:
        return value
    return report.expected("a share such as 5 %, above 0 % and up to 100 %", node)


def one_of(words: Iterable[Word]) -> Reader:
    """One of these words."""
    known = {str(word): word for word in words}

    def read(node: Node, report: Report) -> Any:
        if isinstance(node.value, str) and node.value in known:
            return known[node.value]
        return report.expected(f"one of {', '.join(known)}", node, known)

    return read


def some_of(words: Iterable[Word]) -> Reader:
    """A list of these words, at least one, each once."""
    read_one = one_of(words)

    def read(node: Node, report: Report) -> Any:
        values = items(node, report, read_one)
        if values is WRONG:
            return WRONG
        if not values:
            return report.add("expected at least one item, found an empty list", node)
        return _unrepeated(node, report, values)

    return read


def name(node: Node, report: Report) -> Any:
    """A name, as it can stand in a URL."""
    if isinstance(node.value, str) and _NAME.fullmatch(node.value):
        return node.value
    return report.expected("a name of up to 64 letters, digits, dots, dashes and underscores", node)


def names(node: Node, report: Report) -> Any:
    """A list of names, each once; none is as good as no list."""
    values = items(node, report, name)
    return WRONG if values is WRONG else _unrepeated(node, report, values)


def days(node: Node, report: Report) -> Any:
    """How long something holds: a number of days, or None for good."""
    if node.value == FOR_GOOD:
        return None
    if isinstance(node.value, int) and not isinstance(node.value, bool) and 1 <= node.value <= _LONGEST_DAYS:
        return node.value
    return report.expected(f"a whole number of days from 1 to {_LONGEST_DAYS}, or {quoted(FOR_GOOD)}", node)


def several_days(node: Node, report: Report) -> Any:
    """How long something holds the first time, the second, and so on."""
    values = items(node, report, days, longest=20)
    if values is WRONG:
        return WRONG
    return tuple(values) if values else report.add("expected at least one item, found an empty list", node)


def _unrepeated(node: Node, report: Report, values: Sequence[str]) -> Any:
    for position, value in enumerate(values):
        if value in values[:position] and isinstance(node.value, list):
            return report.add(f"expected each item once, found {quoted(value)} again", node.value[position])
    return frozenset(values)
