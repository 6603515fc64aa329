"""Output of commands."""

import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

import click
import msgspec
from rich import markup
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from shared.foreign_text import show
from shared.postgres.pagination import Page, Position

T = TypeVar("T")
_MIN_WIDTH = 20


def escape(text: str) -> str:
    """Return foreign text for a table or a line of the console: one line, without controls, without markup."""
    return markup.escape(show(text))


def echo(text: str, *, err: bool = False) -> None:
    """Print a line that contains foreign text."""
    click.echo(show(text), err=err)


def coloured(word: str, colours: Mapping[str, str]) -> str:
    """Return a word as markup in its colour; as it is without one."""
    return f"[{colours[word]}]{markup.escape(word)}[/]" if word in colours else markup.escape(word)


def print_line(console: Console, beginning: str, text: str) -> None:
    """Print markup and a foreign text after it; further lines of the text are indented as its first."""
    indent = " " * Text.from_markup(beginning).cell_len
    width = max(console.width - len(indent), _MIN_WIDTH)
    # Words are never cut: an id or a URL that is longer than a line overflows it, so that it can be copied whole.
    lines = textwrap.wrap(show(text), width, break_long_words=False, break_on_hyphens=False) or [""]
    for number, line in enumerate(lines):
        console.print((indent if number else beginning) + markup.escape(line), highlight=False, soft_wrap=True)


def print_json_rows(rows: Iterable[Any], names: Sequence[str]) -> None:
    """Print rows as one JSON list of objects with these columns."""
    click.echo(msgspec.json.encode([{name: getattr(row, name) for name in names} for row in rows]).decode())


def print_access(console: Console, tenant: str | None, times: Mapping[str, datetime | None]) -> None:
    """Print the tenant of a key or a user, and when things happened to it; times that are missing are left out."""
    said = [f"{word} {at:%Y-%m-%d %H:%M}" for word, at in times.items() if at]
    print_line(console, "    ", f"tenant {tenant or 'all'}; {', '.join(said)}")


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
