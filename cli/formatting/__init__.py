"""Output of commands."""

from collections.abc import Callable
from typing import TypeVar

from shared.postgres.pagination import Page, Position

T = TypeVar("T")


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
