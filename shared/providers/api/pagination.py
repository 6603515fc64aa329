"""Reading lists that change while they are read: nothing that was there all the time is missed, nothing comes twice."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from itertools import count
from typing import TypeVar

_OVERLAP = 20
_MOST_STEPS_BACK = 20
_MOST_PASSES = 3
_MOST_STALE = 5
"""So many whole pages in a row that bring nothing new: the provider does not heed what page it is asked for.

One or two may be such, where much has come in at the front meanwhile.
"""

T = TypeVar("T")


def by_offset(read: Callable[[int], Sequence[T]], limit: int, key: Callable[[T], Hashable]) -> Iterator[Sequence[T]]:
    """The pages of a list that is cut by offset.

    Each page overlaps the one before. If nothing in it is known, what lies between has moved up, because
    something before it left the list: then it goes back until it meets something known.
    """
    seen: set[Hashable] = set()
    offset = steps_back = stale = 0
    while True:
        page = read(offset)
        fresh = [item for item in page if key(item) not in seen]
        if offset and len(fresh) == len(page) and steps_back < _MOST_STEPS_BACK:
            steps_back += 1
            offset = max(0, offset - limit // 2)
            continue
        seen.update(map(key, fresh))
        if fresh:
            yield fresh
        stale = 0 if fresh else stale + 1
        if len(page) < limit or stale == _MOST_STALE:
            return
        offset += limit - min(_OVERLAP, limit // 2)


def by_number(
    read: Callable[[int], tuple[Sequence[T], int | None]], limit: int, key: Callable[[T], Hashable]
) -> Iterator[Sequence[T]]:
    """The pages of a list that is cut into numbered pages, from 1; `read` also tells how long the list is, if known.

    Pages cannot overlap, so a list that has become shorter meanwhile is read once more.
    """
    seen: set[Hashable] = set()
    for _ in range(_MOST_PASSES):
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
            # The provider may cut smaller pages than it was asked for.
            is_last = covered >= total if total is not None else len(page) < limit or stale == _MOST_STALE
            if is_last or not page:
                break
        if first_total is None or total is None or total >= first_total:
            return
