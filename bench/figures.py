"""What is measured, as values: numbers of rounds, and what they should be."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

_LARGE = 100
_MIDDLE = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the table: a number for each round, of Tidings and where it is a comparison of the usual way.

    `at_least_times` is how many times the usual way's number Tidings' should be; `at_most` and `at_least` bound
    Tidings' own.
    """

    what: str
    unit: str
    tidings: Sequence[float]
    usual: Sequence[float] = ()
    at_least_times: float | None = None
    at_most: float | None = None

    @property
    def ratio(self) -> float | None:
        """Median by median."""
        return _divided(statistics.median(self.tidings), statistics.median(self.usual)) if self.usual else None

    @property
    def least_ratio(self) -> float | None:
        """Tidings' worst round by the usual way's best: as the noise could have had it."""
        return _divided(min(self.tidings), max(self.usual)) if self.usual else None

    @property
    def target(self) -> str:
        """What should be, in a few signs; empty where nothing was asked for."""
        if self.at_least_times is not None:
            return f"≥ {self.at_least_times:g}x"
        return "" if self.at_most is None else f"≤ {self.at_most:g} {self.unit}"

    @property
    def passed(self) -> bool | None:
        """Whether it is as it should be; None where nothing was asked for."""
        if self.at_least_times is not None:
            return self.ratio is not None and self.ratio >= self.at_least_times
        return None if self.at_most is None else statistics.median(self.tidings) <= self.at_most

    @property
    def verdict(self) -> str:
        """The same in a word."""
        return {True: "pass", False: "fail", None: ""}[self.passed]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Details, below the figures."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(slots=True, kw_only=True)
class Findings:
    """What one scenario found. Notes are sentences; `wrong` are those that put the figures in doubt."""

    figures: list[Figure] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def shown(value: float) -> str:
    """Return a number with its significant digits."""
    if abs(value) >= _LARGE:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= _MIDDLE else f"{value:.2f}"


def summary(values: Sequence[float], unit: str) -> str:
    """Return the median of the rounds, and their range where there are several."""
    if not values:
        return ""
    middle = f"{shown(statistics.median(values))} {unit}".strip()
    return middle if len(values) == 1 else f"{middle} ({shown(min(values))} to {shown(max(values))})"


def _divided(one: float, other: float) -> float | None:
    return one / other if other else None
