"""What is wrong with rules: all of it at once, each with its place, what was expected and what was found."""

import difflib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from shared.errors import TidingsError
from shared.rules.nodes import Mark, Node, Value

_LONGEST_SHOWN = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong. `field` is a path such as `alerts[2].window_minutes`; '' where it is no field's."""

    message: str
    field: str = ""
    mark: Mark | None = None

    def told(self, name: str = "") -> str:
        """A line as compilers write them; `name` is the file's."""
        place = f"{name}:{self.mark.line}:{self.mark.column}" if self.mark else name
        return ": ".join(part for part in (place, self.field, self.message) if part)


class RulesError(TidingsError):
    """Rules that cannot be in force; the message has a line for each problem."""

    def __init__(self, problems: Sequence[Problem], name: str = "") -> None:
        super().__init__("\n".join(problem.told(name) for problem in problems))
        self.problems = tuple(problems)
        self.name = name

    @property
    def lines(self) -> list[str]:
        """The problems, a line each."""
        return [problem.told(self.name) for problem in self.problems]


class _Wrong(NamedTuple):
    """What a reader returns instead of a value when it has reported a problem."""


WRONG = _Wrong()


@dataclass(slots=True)
class Report:
    """Gathers problems while rules are read."""

    problems: list[Problem] = field(default_factory=list)

    def expected(self, what: str, node: Node, among: Iterable[str] = ()) -> _Wrong:
        """A value is not what it should be; `among` are the words that may have been meant."""
        hint = suggestion(node.value, among) if isinstance(node.value, str) else ""
        return self.add(f"expected {what}, found {shown(node.value)}{hint}", node)

    def refuse(self, message: str, path: str, mark: Mark | None) -> None:
        """The text itself is wrong there (`shared.rules.nodes.Refuse`)."""
        self.problems.append(Problem(message=message, field=path, mark=mark))

    def add(self, message: str, node: Node, mark: Mark | None = None) -> _Wrong:
        """Something is wrong there."""
        self.problems.append(Problem(message=message, field=node.path, mark=mark or node.mark))
        return WRONG

    def finish(self, name: str = "") -> None:
        """Raise RulesError if anything was wrong; the problems come in the order of their places."""
        if self.problems:
            raise RulesError(sorted(self.problems, key=lambda problem: problem.mark or Mark(0, 0)), name)


def shown(value: Value) -> str:
    """A value, as a message shows it."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "nothing"
    return quoted(value)


def quoted(value: str | float | bool) -> str:
    """A text in quotes, or a number; not much of a long one."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"


def suggestion(word: str, known: Iterable[str]) -> str:
    """A hint at what may have been meant; '' where nothing is near."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {quoted(near[0])}?" if near else ""
