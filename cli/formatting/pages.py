"""Lists as commands show them: a page of the database may be short although there is more."""

from collections.abc import Callable
from typing import TypeVar

from shared.postgres.pagination import Page, Position

T = TypeVar("T")


def read(listed: Callable[[Position | None, int], Page[T]], limit: int) -> Page[T]:
    """So many items, or all there are. `listed` gives up to so many of those after a position."""
    items: list[T] = []
    after: Position | None = None
    while True:
        page = listed(after, limit - len(items))
        items += page.items
        after = page.next
        if after is None or len(items) >= limit:
            return Page(items, after)
