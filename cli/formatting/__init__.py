"""Output of commands."""

from collections.abc import Callable, Iterable
from typing import TypeVar

import click
from rich import markup
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from shared.foreign_text import show
from shared.postgres.pagination import Page, Position

T = TypeVar("T")


def escape(text: str) -> str:
    """Return foreign text for a table or a line of the console: one line, without controls, without markup."""
    return markup.escape(show(text))


def echo(text: str, *, err: bool = False) -> None:
    """Print a line that contains foreign text."""
    click.echo(show(text), err=err)


class SafeConsole(Console):
    """A console that shows controls in any text, also where a caller has not used `escape`."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Return the segments of a renderable."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(show(segment.text, lines=True), segment.style)


def read_page(listed: Callable[[Position | None, int], Page[T]], limit: int) -> Page[T]:
    """Return the first `limit` items of a list: a page of the database may be short although more items follow.

    `listed` returns up to that many items after a position.
    """
    items: list[T] = []
    after: Position | None = None
    while True:
        page = listed(after, limit - len(items))
        items += page.items
        after = page.next
        if after is None or len(items) >= limit:
            return Page(items, after)
