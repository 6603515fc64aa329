"""Our suppression list beside the provider's own: how they differ, and how one learns from the other."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import groupby
from typing import Final

from sqlalchemy import Engine

from shared import targets
from shared.providers.api.base import ListedSuppression, NewSuppression, ProviderApi
from shared.providers.ark.credentials import Credentials as ArkCredentials
from shared.providers.mailchannels.credentials import Credentials as MailChannelsCredentials
from shared.sources.source import Source
from shared.suppression import queries as suppression_pages
from shared.suppression import store as suppressions
from shared.suppression.queries import Wanted
from shared.suppression.recipient_hashes import RecipientKeys
from shared.suppression.store import Entry, NewEntry
from shared.targets import TargetError
from shared.vocabulary import ALL_MAIL, MailType, SuppressionOrigin, SuppressionReason

PUSH: Final = "push_suppressions"
PULL: Final = "pull_suppressions"

_AT_ONCE = 5000
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)

Types = frozenset[MailType]
Tell = Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Differing:
    """An address that is on both lists, for different mail."""

    address: str
    here: Types
    there: Types


@dataclass(slots=True, kw_only=True)
class Difference:
    """How the lists differ. What is on one only, or there for less mail, is what the other can learn from it.

    `kept_here` are entries of ours that cannot be told the provider: domains, what was erased, and what holds for some
    mail only where the provider suppresses all or nothing. `unreadable` are entries there that are no addresses, or
    hold for one sender only.
    """

    here: int = 0
    there: int = 0
    only_here: list[NewSuppression] = field(default_factory=list)
    only_there: list[ListedSuppression] = field(default_factory=list)
    differing: list[Differing] = field(default_factory=list)
    more_here: list[NewSuppression] = field(default_factory=list)
    more_there: list[ListedSuppression] = field(default_factory=list)
    kept_here: int = 0
    unreadable: int = 0

    @property
    def to_push(self) -> Sequence[NewSuppression]:
        """What the provider does not know."""
        return [*self.only_here, *self.more_here]

    @property
    def to_pull(self) -> Sequence[ListedSuppression]:
        """What we do not know."""
        return [*self.only_there, *self.more_there]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Compares the provider's list with ours, as far as that holds for all tenants or for this source's."""

    engine: Engine
    source: Source
    client: ProviderApi
    keys: RecipientKeys
    now: datetime
    tell: Tell = lambda _: None

    def make(self) -> Difference:
        """Read both lists. Raises ManagementError."""
        found = Difference()
        theirs = self._read_theirs(found)
        self._read_ours(found, theirs)
        return found

    def _read_theirs(self, found: Difference) -> dict[str, Types]:
        theirs: dict[str, Types] = {}
        for page in self.client.suppressions():
            readable = [(key, entry) for entry in page if (key := self._key(entry)) is not None]
            found.unreadable += len(page) - len(readable)
            with self.engine.begin() as connection:
                known = suppressions.check(connection, [key for key, _ in readable], self.now)
            for key, entry in readable:
                here = _types_of(self._concerned(known.get(key, ())))
                if not here:
                    found.only_there.append(entry)
                elif entry.types - here and self.client.TAKES_TYPES:
                    found.more_there.append(entry)
                theirs[key] = theirs.get(key, frozenset()) | entry.types
            self.tell(len(theirs))
        found.there = len(theirs)
        return theirs

    def _read_ours(self, found: Difference, theirs: dict[str, Types]) -> None:
        for key, group in groupby(self._entries(), key=lambda entry: entry.key):
            entries = self._concerned(group)
            if not entries:
                continue
            found.here += 1
            self._judge(found, entries, theirs.get(key))

    def _judge(self, found: Difference, entries: Sequence[Entry], there: Types | None) -> None:
        address, here = entries[0].address, _types_of(entries)
        if there is not None and self.client.TAKES_TYPES and address and there != here:
            found.differing.append(Differing(address=address, here=here, there=there))
        missing = here - there if there is not None else here
        own = [entry for entry in entries if not self._came_from_there(entry)]
        if not own or not missing or (there is not None and not self.client.TAKES_TYPES):
            return
        if address is None or (here != ALL_MAIL and not self.client.TAKES_TYPES):
            found.kept_here += 1
            return
        first = min(own, key=lambda entry: entry.since)
        new = NewSuppression(address=address, types=missing, reason=SuppressionReason(first.reason), note=_note(first))
        (found.only_here if there is None else found.more_here).append(new)

    def _entries(self) -> Iterator[Entry]:
        """All of ours that suppress, those of one key together."""
        after = None
        while True:
            with self.engine.begin() as connection:
                page = suppression_pages.in_order(
                    connection, self.now, Wanted(active=True), after=after, limit=_AT_ONCE
                )
            yield from page.items
            after = page.next
            if after is None:
                return

    def _key(self, entry: ListedSuppression) -> str | None:
        target = _target(entry)
        return None if target is None or entry.sender else self.keys.of_address(target)

    def _concerned(self, entries: Collection[Entry] | Iterator[Entry]) -> Sequence[Entry]:
        tenants = {"", *tenants_of(self.source)}
        return [entry for entry in entries if entry.tenant in tenants]

    def _came_from_there(self, entry: Entry) -> bool:
        """What we have from the provider's list alone, and it no longer has, is not forced upon it again."""
        return entry.origin == SuppressionOrigin.PROVIDER and entry.source == self.source.slug


def tenants_of(source: Source) -> frozenset[str]:
    """The tenants whose mail the provider sends for this source."""
    match source.credentials:
        case MailChannelsCredentials(customer_handles=handles):
            return handles
        case ArkCredentials(tenant_id=str(tenant_id)):
            return frozenset({tenant_id})
    return frozenset()


def pull(
    engine: Engine, source: Source, keys: RecipientKeys, entries: Sequence[ListedSuppression], now: datetime, tell: Tell
) -> int:
    """Put what the provider suppresses on our list; return how many entries are new. What a person lifted stays so."""
    entries, tenants = _united(entries), tenants_of(source)
    tenant = next(iter(tenants)) if len(tenants) == 1 else ""
    added = 0
    for first in range(0, len(entries), _AT_ONCE):
        part = entries[first : first + _AT_ONCE]
        new = [_new_entry(source, keys, address, entry, tenant) for entry in part if (address := _target(entry))]
        with engine.begin() as connection:
            added += len(suppressions.add(connection, new, now))
        tell(first + len(part))
    return added


def _new_entry(source: Source, keys: RecipientKeys, address: str, entry: ListedSuppression, tenant: str) -> NewEntry:
    return NewEntry(
        key=keys.of_address(address),
        address=address,
        domain=None,
        reason=entry.reason,
        types=entry.types,
        origin=SuppressionOrigin.PROVIDER,
        since=entry.created_at or _LONG_AGO,  # of unknown age: then any lift is later
        tenant=tenant,
        source_id=source.id,
        note=entry.note or entry.word or None,
    )


def push(client: ProviderApi, entries: Sequence[NewSuppression], tell: Tell) -> int:
    """Put ours on the provider's list; return how many it took. Raises ManagementError."""
    added = 0
    for step in client.suppress(entries):
        added += step.added
        tell(step.done)
    return added


def delete(client: ProviderApi, entries: Sequence[ListedSuppression], tell: Tell) -> int:
    """Take off the provider's list what is not on ours; return how many addresses. Raises ManagementError."""
    addresses = sorted({entry.address for entry in entries})
    for done, address in enumerate(addresses, start=1):
        client.unsuppress(address)
        tell(done)
    return len(addresses)


def _united(entries: Sequence[ListedSuppression]) -> Sequence[ListedSuppression]:
    """One for each address and reason: two words of theirs may be one of ours."""
    found: dict[tuple[str, SuppressionReason], ListedSuppression] = {}
    for entry in entries:
        known = found.setdefault((entry.address, entry.reason), entry)
        found[entry.address, entry.reason] = replace(known, types=known.types | entry.types)
    return list(found.values())


def _target(entry: ListedSuppression) -> str | None:
    try:
        return targets.read(entry.address).address
    except TargetError:
        return None


def _types_of(entries: Collection[Entry]) -> Types:
    return frozenset(MailType(one) for entry in entries for one in entry.types)


def _note(entry: Entry) -> str:
    return f"Tidings: {entry.reason.replace('_', ' ')} since {entry.since:%Y-%m-%d}" + (
        f"; {entry.note}" if entry.note else ""
    )
