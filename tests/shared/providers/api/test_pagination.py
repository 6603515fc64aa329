"""Lists that change while they are read: an item that was there all the time is returned once."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.providers.api import pagination

LIMIT = 50
Change = st.tuples(st.integers(0, 25), st.integers(0, 18))
"""How many items come in at the front between two pages, and how many leave there."""


class Moving:
    """A list that changes after every page."""

    def __init__(self, length: int, changes: Sequence[tuple[int, int]]) -> None:
        self.items = list(range(length))
        self.steady = set(self.items)
        self._changes = iter(changes)
        self._next = length

    def change(self) -> None:
        come, go = next(self._changes, (0, 0))
        self.steady -= set(self.items[:go])
        del self.items[:go]
        self.items[:0] = range(self._next, self._next + come)
        self._next += come

    def by_offset(self, offset: int) -> Sequence[int]:
        page = self.items[offset : offset + LIMIT]
        self.change()
        return page

    def by_number(self, number: int) -> tuple[Sequence[int], int | None]:
        page, total = self.items[(number - 1) * LIMIT : number * LIMIT], len(self.items)
        self.change()
        return page, total


@settings(deadline=None)
@given(length=st.integers(0, 400), changes=st.lists(Change, max_size=8))
def test_by_offset_nothing_that_stays_is_missed_and_nothing_comes_twice(
    length: int, changes: list[tuple[int, int]]
) -> None:
    moving = Moving(length, changes)
    found = [item for page in pagination.by_offset(moving.by_offset, LIMIT, lambda one: one) for item in page]
    assert moving.steady <= set(found)
    assert len(found) == len(set(found))


def test_by_offset_a_list_that_loses_more_than_the_overlap_is_gone_back_in() -> None:
    moving = Moving(300, [(0, 40), (0, 45), (0, 30)])
    found = [item for page in pagination.by_offset(moving.by_offset, LIMIT, lambda one: one) for item in page]
    assert moving.steady <= set(found)


@settings(deadline=None)
@given(length=st.integers(0, 400), changes=st.lists(Change, max_size=2))
def test_by_number_nothing_that_stays_is_missed_and_nothing_comes_twice(
    length: int, changes: list[tuple[int, int]]
) -> None:
    shrinking = [(0, go) for _, go in changes]
    moving = Moving(length, shrinking)
    found = [item for page in pagination.by_number(moving.by_number, LIMIT, lambda one: one) for item in page]
    assert moving.steady <= set(found)
    assert len(found) == len(set(found))


@given(length=st.integers(0, 130), size=st.integers(1, 60))
def test_by_number_a_provider_may_cut_smaller_pages_than_it_was_asked_for(length: int, size: int) -> None:
    items = list(range(length))

    def read(number: int) -> tuple[Sequence[int], int | None]:
        return items[(number - 1) * size : number * size], length

    found = [item for page in pagination.by_number(read, LIMIT, lambda one: one) for item in page]
    assert found == items


@pytest.mark.parametrize("length", [0, 1, LIMIT - 1, LIMIT, LIMIT + 1, 5 * LIMIT])
def test_a_list_that_stands_still_is_read_in_its_order(length: int) -> None:
    items = list(range(length))

    def by_offset(offset: int) -> Sequence[int]:
        return items[offset : offset + LIMIT]

    def by_number(number: int) -> tuple[Sequence[int], int | None]:
        return by_offset((number - 1) * LIMIT), None

    for pages in (
        pagination.by_offset(by_offset, LIMIT, lambda one: one),
        pagination.by_number(by_number, LIMIT, lambda one: one),
    ):
        assert [item for page in pages for item in page] == items


def test_a_provider_that_ignores_the_page_number_is_not_asked_for_ever() -> None:
    items = list(range(LIMIT))
    for pages in (
        pagination.by_offset(lambda _: items, LIMIT, lambda one: one),
        pagination.by_number(lambda _: (items, None), LIMIT, lambda one: one),
    ):
        assert [item for page in pages for item in page] == items


def test_by_offset_a_list_that_grows_by_pages_meanwhile_is_read_to_its_end() -> None:
    moving = Moving(300, [(LIMIT, 0), (LIMIT, 0), (LIMIT, 0)])
    found = [item for page in pagination.by_offset(moving.by_offset, LIMIT, lambda one: one) for item in page]
    assert moving.steady <= set(found)


def test_a_list_that_never_stands_still_comes_to_an_end_all_the_same() -> None:
    numbers = iter(range(10**6))

    def by_offset(offset: int) -> Sequence[int]:
        return [next(numbers) for _ in range(LIMIT)] if offset < 20 * LIMIT else []

    assert sum(len(page) for page in pagination.by_offset(by_offset, LIMIT, lambda one: one)) > 0
