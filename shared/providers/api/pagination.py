"""Pagination of lists that change meanwhile: an entry present throughout is found, and none is yielded twice."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from itertools import count
from typing import TypeVar

_OVERLAP = 20
_MAX_STEPS_BACK = 20
_MAX_PASSES = 3
_MAX_STALE = 5
"""Full pages in a row without a new entry, after which the provider evidently ignores the page parameter.

One or two such pages are normal if many entries were added at the front meanwhile.
"""

T = TypeVar("T")


def by_offset(read: Callable[[int], Sequence[T]], limit: int, key: Callable[[T], Hashable]) -> Iterator[Sequence[T]]:
    """Yield the pages of a list with offset pagination.

    Each page overlaps the previous one. A page without any known entry means that entries before it were removed, so
    that later entries moved up. The offset then goes back until a page has a known entry.
    """
    seen: set[Hashable] = set()
    offset = steps_back = stale = 0
    while True:
        page = read(offset)
        fresh = [item for item in page if key(item) not in seen]
        if offset and len(fresh) == len(page) and steps_back < _MAX_STEPS_BACK:
            steps_back += 1
            offset = max(0, offset - limit // 2)
            continue
        seen.update(map(key, fresh))
        if fresh:
            yield fresh
        stale = 0 if fresh else stale + 1
        if len(page) < limit or stale == _MAX_STALE:
            return
        offset += limit - min(_OVERLAP, limit // 2)


def by_number(
    read: Callable[[int], tuple[Sequence[T], int | None]], limit: int, key: Callable[[T], Hashable]
) -> Iterator[Sequence[T]]:
    """Yield the pages of a list with page numbers from 1; `read` also returns the length of the list, if known.

    Pages cannot overlap, so a list that became shorter meanwhile is read again.
    """
    seen: set[Hashable] = set()
    for _ in range(_MAX_PASSES):
        first_total = total = None
        covered = stale = 0
        for number in count(1):
            page, total = read(number)
            first_total = total if number == 1 else first_total
            covered += len(page)
            fresh = [item for item in page if key(item) not in seen]
            seen.update(map(key, fresh))
            if fresh:
                yield fresh
            stale = 0 if fresh else stale + 1
            # The provider may return smaller pages than requested.
            is_last = covered >= total if total is not None else len(page) < limit or stale == _MAX_STALE
            if is_last or not page:
                break
        if first_total is None or total is None or total >= first_total:
            return
