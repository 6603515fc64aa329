"""Parameter types of commands: the values of an enumeration, and a time."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Generic, TypeVar

import click

Word = TypeVar("Word", bound=StrEnum)


class OneOf(click.ParamType[Word], Generic[Word]):
    """A value of an enumeration."""

    name = "word"

    def __init__(self, words: type[Word]) -> None:
        self._words = words
        self._choice = click.Choice([str(word) for word in words])

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str | None:
        """Return the allowed values for the help."""
        return self._choice.get_metavar(param, ctx)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Word:
        """Return the member for a value."""
        return self._words(self._choice.convert(value, param, ctx))


class Moment(click.DateTime):
    """A time in UTC: a date, or a date and a time."""

    def __init__(self) -> None:
        super().__init__(["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ"])

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the time with its zone."""
        return super().convert(value, param, ctx).replace(tzinfo=UTC)


MOMENT = Moment()
