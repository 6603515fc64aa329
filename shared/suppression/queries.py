"""The suppression list in pages, as people look at it, and as jobs go through it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection

from shared.postgres.pagination import Page, Position, Walk
from shared.suppression.store import ENTRIES, Entry, entries_of
from shared.vocabulary import MailType, SuppressionOrigin, SuppressionReason

_BY_PLACES = f"""
{ENTRIES} JOIN unnest(%(keys)s::uuid[], %(tenants)s::text[], %(reasons)s::text[], %(origins)s::text[])
    AS asked (key, tenant, reason, origin) USING (key, tenant, reason, origin)
ORDER BY e.key, e.tenant, e.reason, e.origin
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which entries: all that is given must hold. `domain` is that of an entry or of the address that it is about."""

    key: str | None = None
    domain: str | None = None
    reason: SuppressionReason | None = None
    origin: SuppressionOrigin | None = None
    tenant: str | None = None
    source: str | None = None
    type: MailType | None = None
    active: bool | None = None


def listed(
    connection: Connection, now: datetime, wanted: Wanted, *, after: Position | None = None, limit: int = 50
) -> Page[Entry]:
    """Entries, those announced last first."""
    walk = Walk(table="suppressions AS e", keys=("e.id",))
    _cut(walk, wanted, now)
    walk.after(after)
    page = walk.page(connection, limit)
    return Page(_by_ids(connection, [position[0] for position in page.items]), page.next)


def in_order(
    connection: Connection, now: datetime, wanted: Wanted, *, after: Position | None = None, limit: int = 50
) -> Page[Entry]:
    """Entries in an order that never changes, so that who reads all of them misses none."""
    walk = Walk(table="suppressions AS e", keys=("e.key", "e.tenant", "e.reason", "e.origin"), ascending=True)
    _cut(walk, wanted, now)
    walk.after(after)
    page = walk.page(connection, limit)
    columns = [list(column) for column in zip(*page.items, strict=True)] or [[], [], [], []]
    places = dict(zip(("keys", "tenants", "reasons", "origins"), columns, strict=True))
    return Page(entries_of(connection, _BY_PLACES, places), page.next)


def _cut(walk: Walk, wanted: Wanted, now: datetime) -> None:
    if wanted.key is not None:
        walk.bound("e.key = %(key)s", key=wanted.key)
    if wanted.domain is not None:
        walk.pick("%(domain)s IN (e.domain, split_part(e.address, '@', -1))", domain=wanted.domain)
    for column in ("reason", "origin", "tenant"):
        if (value := getattr(wanted, column)) is not None:
            walk.pick(f"e.{column} = %({column})s", **{column: value})
    if wanted.source is not None:
        walk.pick("e.source_id = (SELECT id FROM sources WHERE slug = %(source)s)", source=wanted.source)
    if wanted.type is not None:
        walk.pick("%(type)s = ANY(e.types)", type=wanted.type)
    if wanted.active is not None:
        walk.pick("(e.until IS NULL OR e.until > %(now)s) = %(active)s", now=now, active=wanted.active)


def _by_ids(connection: Connection, wanted: Sequence[UUID]) -> list[Entry]:
    found = {
        entry.id: entry for entry in entries_of(connection, f"{ENTRIES} WHERE e.id = ANY(%(ids)s)", {"ids": wanted})
    }
    return [found[id_] for id_ in wanted if id_ in found]
