"""Our suppression list and a provider's: how they differ, and copying entries in either direction."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any, Final

from sqlalchemy import Connection, Engine, select

from shared import backoff
from shared.addresses import AddressError, drop_invisible, parse_target
from shared.jobs import store as jobs
from shared.jobs.store import Job
from shared.jobs.tables import jobs as job_table
from shared.providers.api.base import ApiErrorKind, ListedSuppression, NewSuppression, ProviderApi, ProviderApiError
from shared.providers.ark.credentials import Credentials as ArkCredentials
from shared.providers.mailchannels.credentials import Credentials as MailChannelsCredentials
from shared.sources import store as source_store
from shared.sources.source import Source
from shared.sources.tables import sources
from shared.suppression import queries, store
from shared.suppression.queries import SuppressionFilters
from shared.suppression.recipient_hashes import RecipientHasher
from shared.suppression.store import Entry, NewEntry
from shared.vocabulary import ALL_MAIL, JobState, MailType, SuppressionOrigin, SuppressionReason

PUSH: Final = "push_suppressions"
PULL: Final = "pull_suppressions"
SCHEDULE: Final = "the schedule"
"""Who asks for the pulls that no person asked for."""

_BATCH_SIZE = 5000
_EVERY = timedelta(days=1)
_MANY_FAILURES = 3
_MAX_JOBS_READ = 5000

Types = frozenset[MailType]
ReportProgress = Callable[[int], None]
"""Gets the number of entries that are done."""


@dataclass(slots=True, kw_only=True)
class Difference:
    """How the lists differ.

    `only_here` and `only_there` are on one list only; `more_here` and `more_there` suppress more mail on that list.
    `differing` are addresses on both lists with the types of mail here and there. `kept_here` counts our entries that
    the provider's list cannot hold: domains, erased addresses, and entries for some mail where the provider suppresses
    all mail or none. `removed_there` counts our entries that came from the provider's list, which no longer has them.
    `unreadable` counts entries there that are not addresses, or are for one sender only.
    """

    here: int = 0
    there: int = 0
    only_here: list[NewSuppression] = field(default_factory=list)
    only_there: list[ListedSuppression] = field(default_factory=list)
    differing: list[tuple[str, Types, Types]] = field(default_factory=list)
    more_here: list[NewSuppression] = field(default_factory=list)
    more_there: list[ListedSuppression] = field(default_factory=list)
    kept_here: int = 0
    removed_there: int = 0
    unreadable: int = 0

    @property
    def to_push(self) -> Sequence[NewSuppression]:
        """Return the entries that the provider's list lacks."""
        return [*self.only_here, *self.more_here]

    @property
    def to_pull(self) -> Sequence[ListedSuppression]:
        """Return the entries that our list lacks."""
        return [*self.only_there, *self.more_there]

    def counts(self) -> dict[str, int]:
        """Return how many entries each field has."""
        return {
            "here": self.here,
            "there": self.there,
            "only_here": len(self.only_here),
            "only_there": len(self.only_there),
            "differing": len(self.differing),
            "kept_here": self.kept_here,
            "removed_there": self.removed_there,
            "unreadable": self.unreadable,
        }


def compare(
    engine: Engine,
    source: Source,
    client: ProviderApi,
    hasher: RecipientHasher,
    now: datetime,
    report_progress: ReportProgress,
) -> Difference:
    """Compare the provider's list with our entries for all tenants and for the source's. Raises ProviderApiError."""
    found = Difference()
    tenants = {"", *tenants_of(source)}
    theirs: dict[str, Types] = {}
    for page in client.suppressions():
        readable = [
            (hasher.hash_address(address), entry)
            for entry in page
            if not entry.sender and (address := _address(entry)) is not None
        ]
        found.unreadable += len(page) - len(readable)
        with engine.begin() as connection:
            known = store.check(connection, [key for key, _ in readable], now)
        for key, entry in readable:
            here = _types_of(ours for ours in known.get(key, ()) if ours.tenant in tenants)
            if not here:
                found.only_there.append(entry)
            elif entry.types - here and client.TAKES_TYPES:
                found.more_there.append(entry)
            theirs[key] = theirs.get(key, frozenset()) | entry.types
        report_progress(len(theirs))
    found.there = len(theirs)
    for key, group in groupby(_active_entries(engine, now), key=lambda entry: entry.key):
        entries = [entry for entry in group if entry.tenant in tenants]
        if entries:
            found.here += 1
            _compare_address(found, entries, theirs.get(key), source, client)
    return found


def _active_entries(engine: Engine, now: datetime) -> Iterator[Entry]:
    """Yield our active entries, those of one key together."""
    filters, after = SuppressionFilters(active=True), None
    while True:
        with engine.begin() as connection:
            page = queries.list_by_key(connection, now, filters, after=after, limit=_BATCH_SIZE)
        yield from page.items
        after = page.next
        if after is None:
            return


def _compare_address(
    found: Difference, entries: Sequence[Entry], there: Types | None, source: Source, client: ProviderApi
) -> None:
    """Add to the difference what our entries of one address or domain lack at the provider."""
    address, here = entries[0].address, _types_of(entries)
    if there is not None and client.TAKES_TYPES and address and there != here:
        found.differing.append((address, here, there))
    missing = here - there if there is not None else here
    # An entry that we have only from the provider's list is not sent back after the provider removed it.
    own = [entry for entry in entries if entry.origin != SuppressionOrigin.PROVIDER or entry.source != source.slug]
    if not own and there is None:
        found.removed_there += 1
    if not own or not missing or (there is not None and not client.TAKES_TYPES):
        return
    if address is None or (here != ALL_MAIL and not client.TAKES_TYPES):
        found.kept_here += 1
        return
    first = min(own, key=lambda entry: entry.since)
    note = f"Tidings: {first.reason.replace('_', ' ')} since {first.since:%Y-%m-%d}"
    note += f"; {first.note}" if first.note else ""
    new = NewSuppression(address=address, types=missing, reason=SuppressionReason(first.reason), note=note)
    (found.only_here if there is None else found.more_here).append(new)


def tenants_of(source: Source) -> frozenset[str]:
    """Return the tenants whose mail the provider sends for this source."""
    match source.credentials:
        case MailChannelsCredentials(customer_handles=handles):
            return handles
        case ArkCredentials(tenant_id=str(tenant_id)):
            return frozenset({tenant_id})
    return frozenset()


def pull(
    engine: Engine,
    source: Source,
    hasher: RecipientHasher,
    entries: Sequence[ListedSuppression],
    now: datetime,
    report_progress: ReportProgress,
) -> int:
    """Add the provider's entries to our list; return how many are new. Entries that a person lifted stay lifted."""
    merged: dict[tuple[str, SuppressionReason], ListedSuppression] = {}
    for entry in entries:  # two of the provider's reasons may be one of ours
        known = merged.setdefault((entry.address, entry.reason), entry)
        merged[entry.address, entry.reason] = replace(known, types=known.types | entry.types)
    entries, tenants = list(merged.values()), tenants_of(source)
    tenant = next(iter(tenants)) if len(tenants) == 1 else ""
    added = 0
    for first in range(0, len(entries), _BATCH_SIZE):
        part = entries[first : first + _BATCH_SIZE]
        new = [
            NewEntry(
                key=hasher.hash_address(address),
                address=address,
                domain=None,
                reason=entry.reason,
                types=entry.types,
                origin=SuppressionOrigin.PROVIDER,
                since=entry.created_at,
                tenant=tenant,
                source_id=source.id,
                note=entry.note or entry.word or None,
            )
            for entry in part
            if (address := _address(entry))
        ]
        with engine.begin() as connection:
            added += len(store.add(connection, new, now, merge=True))
        report_progress(first + len(part))
    return added


def next_pull(last: Job | None, failures: int, changed_at: datetime) -> datetime | None:
    """Return when to pull again after the last pull; None while it is not over. A source without one is due at once.

    `failures` are those in a row since the source was changed, at `changed_at`. A change makes a failed pull due.
    """
    if last is None:
        return datetime.min.replace(tzinfo=UTC)
    if last.finished_at is None:
        return None
    if last.state is not JobState.FAILED:
        return last.finished_at + _EVERY
    if not failures:
        return changed_at
    return last.finished_at + timedelta(seconds=backoff.SUPPRESSION_PULLS.delay_seconds(failures))


def last_pulls(connection: Connection, slug: str) -> tuple[Job | None, Job | None]:
    """Return the last job that pulled a source's list, and the last one that was done; None where there is none."""
    about = {"source": slug, "dry_run": False}
    return (
        jobs.find_newest(connection, kind=PULL, parameters=about),
        jobs.find_newest(connection, kind=PULL, parameters=about, state=JobState.DONE),
    )


def count_failures(connection: Connection, slug: str | None = None) -> dict[str, tuple[int, str]]:
    """Return for each source, or for one, how many pulls in a row failed since it was changed, and the last error.

    Sources whose last pull was done are left out. Reads at most the newest 5,000 jobs that pulled a list.
    """
    source = job_table.c.parameters["source"].astext
    ended = (
        select(sources.c.slug, job_table.c.state, job_table.c.error)
        .join(sources, (sources.c.slug == source) & sources.c.deleted_at.is_(None))
        .where(
            job_table.c.kind == PULL,
            job_table.c.parameters.contains({"dry_run": False} | ({} if slug is None else {"source": slug})),
            job_table.c.state.in_([JobState.DONE, JobState.FAILED]),
            job_table.c.finished_at > sources.c.updated_at,
        )
        .order_by(job_table.c.id.desc())
        .limit(_MAX_JOBS_READ)
    )
    failed: dict[str, tuple[int, str]] = {}
    is_over: set[str] = set()
    for row in connection.execute(ended):
        if row.state == JobState.DONE:
            is_over.add(row.slug)
        elif row.slug not in is_over:
            count, error = failed.get(row.slug, (0, row.error or "no reason was stored"))
            failed[row.slug] = (count + 1, error)
    return failed


def list_failing(connection: Connection) -> Iterator[tuple[str, int, str]]:
    """Yield the sources whose list could not be pulled several times in a row: the slug, how often, and the error."""
    for slug, (count, error) in sorted(count_failures(connection).items()):
        if count >= _MANY_FAILURES:
            yield slug, count, error


def describe_pulls(connection: Connection, slug: str) -> dict[str, Any] | None:
    """Return how our list and a provider's differed at the last pull, why a later one failed, and when the next is due.

    `difference` is the report of the job that was done; None if no job has been done. None if there was no job.
    """
    last, done = last_pulls(connection, slug)
    row = source_store.find(connection, slug)
    if last is None or row is None:
        return None
    failures, _ = count_failures(connection, slug).get(slug, (0, ""))
    return {
        "pulled_at": done and done.finished_at,
        "job_id": last.id,
        "error": last.error,
        "failures": failures,
        "next_at": next_pull(last, failures, row.updated_at),
        "difference": done and done.report,
    }


def push(client: ProviderApi, entries: Sequence[NewSuppression], report_progress: ReportProgress) -> int:
    """Add our entries to the provider's list; return how many it accepted. Raises ProviderApiError."""
    added = 0
    for step in client.suppress(entries):
        added += step.added
        report_progress(step.done)
    return added


def delete(client: ProviderApi, entries: Sequence[ListedSuppression], report_progress: ReportProgress) -> int:
    """Remove entries from the provider's list; return how many addresses.

    An address that the provider keeps on its list does not stop the others. Raises ProviderApiError.
    """
    addresses = sorted({entry.address for entry in entries})
    kept: list[ProviderApiError] = []
    for done, address in enumerate(addresses, start=1):
        try:
            client.unsuppress(address)
        except ProviderApiError as error:
            if error.kind is not ApiErrorKind.OTHER:
                raise
            kept.append(error)
        report_progress(done)
    if kept:
        raise ProviderApiError(f"{len(kept)} of {len(addresses)} addresses could not be removed. The first: {kept[0]}")
    return len(addresses)


def _address(entry: ListedSuppression) -> str | None:
    try:
        return parse_target(drop_invisible(entry.address)).address
    except AddressError:
        return None


def _types_of(entries: Iterable[Entry]) -> Types:
    return frozenset(MailType(one) for entry in entries for one in entry.types)
