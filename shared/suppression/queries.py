"""Reads of the suppression list: pages, checks of many addresses, and why an address is suppressed or is not."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, ColumnElement, Connection, Row, Uuid, any_, func, literal, or_, select

from shared.addresses import AddressError, Target, normalize, parse_target
from shared.errors import InvalidFieldError
from shared.messages import event_queries
from shared.messages.event_queries import StoredEvent
from shared.postgres.pagination import KeysetQuery, Page, Position
from shared.sources.tables import sources
from shared.suppression import soft_bounce_store, store
from shared.suppression.recipient_hashes import RecipientHasher
from shared.suppression.store import Entry
from shared.suppression.tables import suppression_history, suppression_lifts, suppressions
from shared.vocabulary import MailType, SuppressionOrigin, SuppressionReason

_USUAL = re.compile(r"[\w.+-]+@[\w-]+(\.[\w-]+)+", re.ASCII)
"""Matches nearly every address, so that a check of thousands need not parse them."""
_MAX_EVENTS = 200
_MAX_HISTORY_ROWS = 1000

_s = suppressions.c
_ENTRY_ORDER = (_s.key, _s.tenant, _s.reason, _s.origin)

# In the order of Entry's fields.
_ENTRIES = select(
    _s.id,
    func.encode(func.uuid_send(_s.key), "hex"),
    _s.tenant,
    _s.address,
    _s.domain,
    _s.reason,
    _s.types,
    _s.classification,
    _s.origin,
    sources.c.slug,
    _s.since,
    _s.created_at,
    _s.until,
    _s.expired_at,
    _s.evidence_event_id,
    _s.level,
    _s.actor,
    _s.note,
).outerjoin_from(suppressions, sources, sources.c.id == _s.source_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class SuppressionFilters:
    """Selects entries; all conditions that are given must hold. `domain` is an entry's, or that of its address."""

    key: str | None = None
    domain: str | None = None
    reason: SuppressionReason | None = None
    origin: SuppressionOrigin | None = None
    tenant: str | None = None
    source: str | None = None
    type: MailType | None = None
    active: bool | None = None


def list_newest(
    connection: Connection,
    now: datetime,
    filters: SuppressionFilters,
    *,
    after: Position | None = None,
    limit: int = 50,
) -> Page[Entry]:
    """Return a page of entries, the most recently announced first."""
    page = _select(KeysetQuery(_s.id), filters, now).fetch(connection, after=after, limit=limit)
    found = {entry.id: entry for entry in _entries(connection, _s.id.in_([id_ for (id_,) in page.items]))}
    return Page([found[id_] for (id_,) in page.items if id_ in found], page.next)


def list_by_key(
    connection: Connection,
    now: datetime,
    filters: SuppressionFilters,
    *,
    after: Position | None = None,
    limit: int = 50,
) -> Page[Entry]:
    """Return a page of entries in an order that never changes, so that a reader of all pages misses none."""
    page = _select(KeysetQuery(*_ENTRY_ORDER, ascending=True), filters, now).fetch(connection, after=after, limit=limit)
    wanted = {(key.hex, *rest) for key, *rest in page.items}
    # One array instead of thousands of parameters.
    of_keys = _s.key == any_(literal([position[0] for position in page.items], ARRAY(Uuid)))
    found = _entries(connection, of_keys)
    return Page([e for e in found if (e.key, e.tenant, e.reason, e.origin) in wanted], page.next)


def _select(query: KeysetQuery, filters: SuppressionFilters, now: datetime) -> KeysetQuery:
    if filters.key is not None:
        query.where(_s.key == UUID(filters.key))
    if filters.domain is not None:
        query.filter(or_(_s.domain == filters.domain, func.split_part(_s.address, "@", -1) == filters.domain))
    for name in ("reason", "origin", "tenant"):
        if (value := getattr(filters, name)) is not None:
            query.filter(_s[name] == value)
    if filters.source is not None:
        query.filter(_s.source_id == select(sources.c.id).where(sources.c.slug == filters.source).scalar_subquery())
    if filters.type is not None:
        query.filter(_s.types.contains([filters.type]))
    if filters.active is not None:
        query.filter(or_(_s.until.is_(None), _s.until > now) if filters.active else _s.until <= now)
    return query


def get_entries(connection: Connection, key: str) -> list[Entry]:
    """Return all entries of an address or a domain, expired ones included."""
    return _entries(connection, _s.key == UUID(key))


def _entries(connection: Connection, condition: ColumnElement[bool]) -> list[Entry]:
    return [Entry._make(row) for row in connection.execute(_ENTRIES.where(condition).order_by(*_ENTRY_ORDER))]


def check_addresses(
    connection: Connection,
    addresses: Sequence[str],
    hasher: RecipientHasher,
    now: datetime,
    *,
    type: MailType | None = None,  # noqa: A002 - the word of the contract
    tenant: str | None = None,
) -> list[Entry | None]:
    """Return for each address, in the given order, the entry that suppresses it, or None.

    An entry of the address comes before one of its domain, then the one with the latest end. Raises InvalidFieldError
    for a text that is not an address and is not on the list.
    """
    by_domain: dict[str, str] = {}
    keys = []
    for address in addresses:
        normalized = normalize(address)
        domain = normalized.rpartition("@")[2]
        if domain not in by_domain:
            by_domain[domain] = hasher.hash_domain(domain)
        keys.append((hasher.hash_normalized(normalized), by_domain[domain]))
    found = store.check(connection, [key for pair in keys for key in pair], now, tenant=tenant, type=type)
    entries = [next((found[key][0] for key in pair if key in found), None) for pair in keys]
    for index, (address, entry) in enumerate(zip(addresses, entries, strict=True)):
        if entry is None and not _USUAL.fullmatch(address):
            require_address(address, f"addresses[{index}]")
    return entries


def require_address(address: str, field: str = "address") -> None:
    """Raise InvalidFieldError unless this is an address. An entry of the list need not be one: events add any text."""
    try:
        parse_target(address)
    except AddressError as error:
        raise InvalidFieldError(field, address, str(error)) from None


def list_lifts(connection: Connection, keys: Sequence[str]) -> Sequence[Row[Any]]:
    """Return the remembered lifts of these addresses and domains, the oldest first.

    `tenant` and `reason` None are all; `by_event` is true where the recipient subscribed again.
    """
    lifts = suppression_lifts.c
    statement = select(suppression_lifts).where(lifts.key.in_([UUID(key) for key in keys]))
    return connection.execute(statement.order_by(lifts.lifted_at)).all()


def list_history(connection: Connection, key: str) -> Sequence[Row[Any]]:
    """Return what happened to the entries of an address or a domain, the oldest first; only the last 1,000 rows."""
    history = suppression_history.c
    latest = (
        select(
            history.id,
            history.at,
            history.action,
            history.tenant,
            history.reason,
            history.types,
            history.classification,
            history.origin,
            sources.c.slug.label("source"),
            history.since,
            history.until.label("expires_at"),
            history.level,
            history.event_id,
            history.actor,
            history.note,
        )
        .outerjoin_from(suppression_history, sources, sources.c.id == history.source_id)
        .where(history.key == UUID(key))
        .order_by(history.id.desc())
        .limit(_MAX_HISTORY_ROWS)
    )
    return list(reversed(connection.execute(latest).all()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why a target is suppressed, or is not; an address's domain is included.

    `entries` suppress it now, `ended` did so earlier. `history` has rows of `list_history` with `address` and `domain`.
    `events` are the evidence in the order in which they happened, as far as they are still stored.
    """

    target: Target
    entries: Sequence[Entry]
    ended: Sequence[Entry]
    history: Sequence[dict[str, Any]]
    lifts: Sequence[Row[Any]]
    events: Sequence[StoredEvent]

    @property
    def is_suppressed(self) -> bool:
        """Return whether any mail to it is suppressed."""
        return bool(self.entries)


def explain(
    connection: Connection, target: Target, hasher: RecipientHasher, now: datetime, *, tenant: str | None = None
) -> Explanation:
    """Return everything known about a target.

    A tenant gets its own entries, and entries for all tenants without their evidence.
    """
    concerned = [target]
    if target.address is not None and "@" in target.address:
        concerned.append(Target(domain=target.address.rpartition("@")[2]))
    keys = {hasher.hash_target(about): about for about in concerned}
    entries: list[Entry] = []
    history: list[dict[str, Any]] = []
    for key, about in keys.items():
        for entry in get_entries(connection, key):
            if tenant is None or entry.tenant == tenant:
                entries.append(entry)
            elif not entry.tenant:
                entries.append(entry.without_evidence())
        for row in list_history(connection, key):
            step = {"address": about.address, "domain": about.domain, **row._asdict()}
            if tenant is not None and not row.tenant:
                step |= dict.fromkeys(("source", "event_id", "actor", "note"))
            if tenant is None or row.tenant in ("", tenant):
                history.append(step)
    event_ids = [entry.evidence_event_id for entry in entries] + [step["event_id"] for step in history]
    if target.address is not None:
        event_ids += soft_bounce_store.list_event_ids(connection, target.address, _MAX_EVENTS)
    wanted = list(dict.fromkeys(event_id for event_id in event_ids if event_id))[:_MAX_EVENTS]
    events = event_queries.list_by_ids(connection, wanted, tenant=tenant)
    lifts = list_lifts(connection, list(keys))
    return Explanation(
        target=target,
        entries=[entry for entry in entries if entry.is_active(now)],
        ended=[entry for entry in entries if not entry.is_active(now)],
        history=sorted(history, key=lambda step: step["id"]),
        lifts=[lift for lift in lifts if tenant is None or lift.tenant in (None, "", tenant)],
        events=sorted(events, key=lambda event: (event.occurred_at, event.id)),
    )
