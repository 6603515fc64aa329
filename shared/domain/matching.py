"""Which of a thousand subscriptions want a change, without asking each of them."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

from shared.domain.subscriptions import ChangeSubject, Wishes, matches

_FILTERS = ("tag", "recipient_domain", "tenant", "source")
"""What subscriptions are found by: each by the first of these that it asks for."""

S = TypeVar("S", bound=Wishes)
_Place = tuple[str, str | None]


class Matcher(Generic[S]):
    """Some subscriptions, laid out by what they ask for."""

    def __init__(self, subscriptions: Sequence[S]) -> None:
        self._places: defaultdict[_Place, list[S]] = defaultdict(list)
        for subscription in subscriptions:
            for place in _places(subscription):
                self._places[place].append(subscription)

    def wanting(self, subject: ChangeSubject) -> list[S]:
        """Those that want such a change, each once."""
        return [candidate for candidate in self._candidates(subject) if matches(candidate, subject)]

    def _candidates(self, subject: ChangeSubject) -> Iterator[S]:
        for name in _FILTERS:
            yield from self._places.get((name, getattr(subject, name)), ())
        yield from self._places.get(("", None), ())


def _places(subscription: Wishes) -> list[_Place]:
    asked: tuple[Sequence[str], ...] = (
        subscription.tags,
        subscription.recipient_domains,
        (subscription.tenant,) if subscription.tenant is not None else (),
        subscription.sources,
    )
    for name, values in zip(_FILTERS, asked, strict=True):
        if values:
            return [(name, value) for value in set(values)]
    return [("", None)]
