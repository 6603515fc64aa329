"""Lists of commands have the length that was asked for, however short the pages of the database are."""

import pytest

from cli.formatting import read_page
from shared.postgres.pagination import Page, Position

STORED = {1: "a", 4: "b", 5: "c", 9: "d"}
"""What fits, by its position; the others do not."""


def two_rows(after: Position | None, limit: int) -> Page[str]:
    """A page that reads two rows, and ends where it has found enough."""
    begin = after[0] if after else 0
    found = [number for number in (begin + 1, begin + 2) if number in STORED][:limit]
    end = found[-1] if len(found) == limit else begin + 2
    return Page([STORED[number] for number in found], (end,) if end < 10 else None)


@pytest.mark.parametrize(
    ("limit", "items", "goes_on"),
    [(1, "a", True), (2, "ab", True), (3, "abc", True), (4, "abcd", True), (5, "abcd", False), (99, "abcd", False)],
)
def test_a_list_is_read_until_it_is_long_enough_or_over(limit: int, items: str, goes_on: bool) -> None:
    page = read_page(two_rows, limit)
    assert ("".join(page.items), page.next is not None) == (items, goes_on)
