"""Subscriptions: where and how to notify of which changes."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Generic, Protocol, TypeVar

from shared.vocabulary import PayloadFormat

ANY: Final = "*"


class Filters(Protocol):
    """The filters of a subscription: a `Subscription` or a row of the table. An empty filter matches all changes."""

    @property
    def types(self) -> Sequence[str]:
        """Such as `message.*` and `alert.firing`."""

    @property
    def sources(self) -> Sequence[str]:
        """Slugs."""

    @property
    def tenant(self) -> str | None:
        """None matches every tenant."""

    @property
    def recipient_domains(self) -> Sequence[str]:
        """Domains of recipients' addresses."""

    @property
    def tags(self) -> Sequence[str]:
        """Tags of messages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningSecret:
    """A secret that signs requests until `expires_at`; None: without an end."""

    value: str
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """A subscription with its secrets and headers decrypted. `retry_schedule` is in seconds before each retry."""

    id: str
    url: str
    types: Sequence[str]
    sources: Sequence[str] = ()
    tenant: str | None = None
    recipient_domains: Sequence[str] = ()
    tags: Sequence[str] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    secrets: Sequence[SigningSecret]
    payload: PayloadFormat = PayloadFormat.TIDINGS
    include_body_text: bool = False
    timeout_s: int
    retry_schedule: Sequence[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeSubject:
    """The fields of a change that filters compare."""

    type: str
    source: str | None = None
    tenant: str | None = None
    recipient_domain: str | None = None
    tag: str | None = None


def matches(filters: Filters, subject: ChangeSubject) -> bool:
    """Return whether a change passes all filters."""
    return (
        any(covers(pattern, subject.type) for pattern in filters.types)
        and (not filters.sources or subject.source in filters.sources)
        and (filters.tenant is None or filters.tenant == subject.tenant)
        and (not filters.recipient_domains or subject.recipient_domain in filters.recipient_domains)
        and (not filters.tags or subject.tag in filters.tags)
    )


def covers(pattern: str, type_: str) -> bool:
    """Return whether a pattern such as `message.*`, `*` or `alert.firing` includes this type."""
    return pattern == type_ or (pattern.endswith(ANY) and type_.startswith(pattern.removesuffix(ANY)))


S = TypeVar("S", bound=Filters)


class Matcher(Generic[S]):
    """Finds which of a thousand subscriptions want a change without checking each of them.

    Each is indexed by the values of the first filter that it sets, the most selective one first.
    """

    def __init__(self, subscriptions: Sequence[S]) -> None:
        self._index: defaultdict[tuple[str, str | None], list[S]] = defaultdict(list)
        for subscription in subscriptions:
            for key in _index_keys(subscription):
                self._index[key].append(subscription)

    def subscribers_for(self, subject: ChangeSubject) -> list[S]:
        """Return the subscriptions that match a change, each once."""
        candidates = [
            *self._index.get(("tag", subject.tag), ()),
            *self._index.get(("recipient_domain", subject.recipient_domain), ()),
            *self._index.get(("tenant", subject.tenant), ()),
            *self._index.get(("source", subject.source), ()),
            *self._index.get(("", None), ()),
        ]
        return [candidate for candidate in candidates if matches(candidate, subject)]


def _index_keys(filters: Filters) -> Iterator[tuple[str, str | None]]:
    values: dict[str, Sequence[Any]] = {
        "tag": filters.tags,
        "recipient_domain": filters.recipient_domains,
        "tenant": () if filters.tenant is None else (filters.tenant,),
        "source": filters.sources,
    }
    for name, wanted in values.items():
        if wanted:
            yield from ((name, value) for value in dict.fromkeys(wanted))
            return
    yield ("", None)
