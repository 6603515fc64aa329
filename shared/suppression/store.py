"""Writes of the suppression list, and the check before mail is sent.

Statements are SQL text where one statement of several CTEs writes entries, history and changes together: three
statements would be three round trips in every batch. `shared.suppression.evidence` and `soft_bounce_store` write the
entries that follow from events. Nothing here commits.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

from psycopg.errors import LockNotAvailable
from sqlalchemy import Connection, Row, func, literal, select, tuple_
from sqlalchemy.exc import OperationalError

from shared import ids
from shared.errors import ConflictError
from shared.postgres.metadata import Timestamp
from shared.suppression.policy import FOR_GOOD
from shared.suppression.sql import ENTRY_JSON, arrays, record_changes, unnest
from shared.suppression.tables import staged_suppressions, suppressions
from shared.vocabulary import MailType, SuppressionAction, SuppressionOrigin, SuppressionReason

IMPORT_WAIT_MS = 3000
_LOCK_CLASS = 0x71D1467
_LOCK_BUCKETS = 16


class Entry(NamedTuple):
    """One entry. `key` is 32 hex digits, `tenant` is '' for all, `expires_at` None for good.

    Either `address` or `domain` is set; neither after erasure. `id` changes whenever the entry is announced.
    `evidence_event_id` is the event that caused it. `level` counts how many times in a row the soft-bounce rule has
    suppressed the address. `expired_at` is when its end was announced.
    """

    id: UUID
    key: str
    tenant: str
    address: str | None
    domain: str | None
    reason: str
    types: list[str]
    classification: str | None
    origin: str
    source: str | None
    since: datetime
    created_at: datetime
    expires_at: datetime | None
    expired_at: datetime | None
    evidence_event_id: UUID | None
    level: int
    actor: str | None
    note: str | None

    def is_active(self, now: datetime) -> bool:
        """Return whether it suppresses mail at that moment."""
        return self.expires_at is None or self.expires_at > now

    def without_evidence(self) -> "Entry":
        """Return what a tenant may see of an entry for all tenants: its evidence may be another tenant's mail."""
        return self._replace(source=None, evidence_event_id=None, actor=None, note=None)


class NewEntry(NamedTuple):
    """An entry that a person, an import or a provider's list asks for. `key` is a recipient hash.

    `since` is when the reason arose. None, where a provider's list does not say, is the time of the write, and earlier
    than any lift. `until` None is for good.
    """

    key: str
    address: str | None
    domain: str | None
    reason: SuppressionReason
    types: frozenset[MailType]
    origin: SuppressionOrigin
    since: datetime | None
    tenant: str = ""
    until: datetime | None = None
    classification: str | None = None
    source_id: int | None = None
    actor: str | None = None
    note: str | None = None


# In the order of Entry's fields. A check may return ten thousand entries: hex digits are read in a third of the time
# that a UUID takes.
_ENTRY_COLUMNS = """{e}.id, encode(uuid_send({e}.key), 'hex'), {e}.tenant, {e}.address, {e}.domain, {e}.reason,
    {e}.types, {e}.classification, {e}.origin, {s}.slug, {e}.since, {e}.created_at, {e}.until, {e}.expired_at,
    {e}.evidence_event_id, {e}.level, {e}.actor, {e}.note"""

_CHANGED_ENTRIES = f"""
SELECT {_ENTRY_COLUMNS.format(e="changed", s="s")} FROM changed LEFT JOIN sources AS s ON s.id = changed.source_id"""

_LASTING = "(s.until IS NULL OR s.until > %(now)s)"
_MERGED = f"%(merge)s AND {_LASTING}"
_TYPES = f"""CASE WHEN {_MERGED} AND NOT excluded.types @> s.types
    THEN ARRAY(SELECT DISTINCT unnest(s.types || excluded.types) ORDER BY 1) ELSE excluded.types END"""
_UNTIL = f"""CASE WHEN NOT ({_MERGED}) THEN excluded.until
    WHEN s.until IS NOT NULL AND excluded.until IS NOT NULL THEN greatest(s.until, excluded.until) END"""
# An entry that two providers list stays with the one that listed it first.
_SOURCE = f"CASE WHEN {_MERGED} THEN coalesce(s.source_id, excluded.source_id) ELSE excluded.source_id END"
_CLASSIFICATION, _NOTE = (
    f"CASE WHEN {_MERGED} THEN coalesce(excluded.{name}, s.{name}) ELSE excluded.{name} END"
    for name in ("classification", "note")
)

# A provider's list is read again and again and still has entries that a person has lifted here: the lift wins.
_ADD = f"""
WITH input AS (SELECT {unnest(("id", *NewEntry._fields))}, generate_subscripts(%(id)b::uuid[], 1) AS position),
given AS MATERIALIZED (
    SELECT DISTINCT ON (key, tenant, reason, origin) input.* FROM input
    WHERE origin <> '{SuppressionOrigin.PROVIDER}' OR NOT EXISTS (
        SELECT FROM suppression_lifts AS l WHERE l.key = input.key AND (l.tenant IS NULL OR l.tenant = input.tenant)
            AND (l.reason IS NULL OR l.reason = input.reason) AND coalesce(input.since, '-infinity') <= l.lifted_at
    )
    ORDER BY key, tenant, reason, origin, position DESC
),
written AS (
    INSERT INTO suppressions AS s (key, tenant, reason, origin, id, address, domain, types, classification, source_id,
        since, until, actor, note, created_at)
    SELECT key, tenant, reason, origin, id, address, domain, string_to_array(types, ','), classification, source_id,
        coalesce(since, %(now)s), until, actor, note, %(now)s
    FROM given ORDER BY key, tenant, reason, origin
    ON CONFLICT (key, tenant, reason, origin) DO UPDATE SET
        id = CASE WHEN (s.types, s.until) IS DISTINCT FROM ({_TYPES}, {_UNTIL}) THEN excluded.id ELSE s.id END,
        since = CASE WHEN {_LASTING} THEN least(s.since, excluded.since) ELSE excluded.since END,
        created_at = CASE WHEN {_LASTING} THEN s.created_at ELSE excluded.created_at END,
        address = excluded.address, domain = excluded.domain, types = {_TYPES}, until = {_UNTIL}, expired_at = NULL,
        classification = {_CLASSIFICATION}, source_id = {_SOURCE}, actor = excluded.actor, note = {_NOTE}
    WHERE (s.types, s.until, s.classification, s.source_id, s.note, s.address, s.domain) IS DISTINCT FROM
        ({_TYPES}, {_UNTIL}, {_CLASSIFICATION}, {_SOURCE}, {_NOTE}, excluded.address, excluded.domain)
    RETURNING s.*
),
changed AS (SELECT *, {ENTRY_JSON} FROM written WHERE id = ANY(%(id)b::uuid[])),
{record_changes(SuppressionAction.ADDED)}
{_CHANGED_ENTRIES}
"""

# A receiver's clock may be ahead of this one: an entry that is lifted counts as having happened before the lift.
_LIFT = f"""
WITH named AS (SELECT DISTINCT unnest(%(keys)b::uuid[]) AS key),
lifted AS (
    DELETE FROM suppressions AS s USING named
    WHERE s.key = named.key AND (%(tenant)s::text IS NULL OR s.tenant = %(tenant)s)
        AND (%(reason)s::text IS NULL OR s.reason = %(reason)s)
    RETURNING s.*
),
remembered AS (
    INSERT INTO suppression_lifts AS l (key, tenant, reason, by_event, lifted_at)
    SELECT named.key, %(tenant)s::text, %(reason)s::text, false, greatest(%(now)s::timestamptz,
        (SELECT max(since) FROM lifted WHERE lifted.key = named.key AND origin = '{SuppressionOrigin.EVENT}'))
    FROM named ORDER BY named.key
    ON CONFLICT (key, tenant, reason, by_event) DO UPDATE SET lifted_at = greatest(l.lifted_at, excluded.lifted_at)
),
changed AS (SELECT *, {ENTRY_JSON} FROM lifted WHERE expired_at IS NULL),
{record_changes(SuppressionAction.LIFTED, actor="%(actor)s::text", note="%(note)s::text", event="NULL::uuid")}
{_CHANGED_ENTRIES} ORDER BY changed.key, changed.tenant, changed.reason
"""

_EXPIRE = f"""
WITH due AS MATERIALIZED (
    SELECT key, tenant, reason, origin FROM suppressions WHERE until <= %(now)s AND expired_at IS NULL
    ORDER BY until LIMIT %(limit)s FOR UPDATE SKIP LOCKED
),
ended AS (
    UPDATE suppressions AS s SET expired_at = %(now)s FROM due
    WHERE (s.key, s.tenant, s.reason, s.origin) = (due.key, due.tenant, due.reason, due.origin)
    RETURNING s.*
),
changed AS (SELECT *, {ENTRY_JSON} FROM ended),
{record_changes(SuppressionAction.EXPIRED)}
SELECT count(*) FROM changed
"""

_CHECK = f"""
SELECT {_ENTRY_COLUMNS.format(e="e", s="s")} FROM suppressions AS e LEFT JOIN sources AS s ON s.id = e.source_id
JOIN unnest(%(keys)b::uuid[]) AS wanted (key) ON wanted.key = e.key
WHERE (e.until IS NULL OR e.until > %(now)s) AND (%(type)s::text IS NULL OR %(type)s = ANY(e.types))
    AND (%(tenant)s::text IS NULL OR e.tenant IN (%(tenant)s, ''))
"""


def lock_shared(connection: Connection, keys: Iterable[str]) -> None:
    """Lock these keys before adding entries that lifts may cancel: no lift of them is in progress afterwards.

    Several transactions may hold the shared lock. The keys are spread over a few buckets, so that a lift delays
    hardly any batch. Locks are taken in one order and held until the transaction ends; statements after this one see
    everything that was committed before. A lift waits for all holders and makes newcomers wait behind it, so hold the
    shared lock no longer than a batch takes.
    """
    _lock(connection, "pg_advisory_xact_lock_shared", keys)


def lock_exclusive(connection: Connection, keys: Iterable[str]) -> None:
    """Lock these keys before a lift: no entry that depends on it is being added afterwards."""
    _lock(connection, "pg_advisory_xact_lock", keys)


def _lock(connection: Connection, function: str, keys: Iterable[str]) -> None:
    buckets = sorted({int(key[:4], 16) % _LOCK_BUCKETS for key in keys})
    if buckets:  # text: part of every batch
        connection.exec_driver_sql(
            f"SELECT {function}({_LOCK_CLASS}, bucket) FROM unnest(%(buckets)s::int[]) AS bucket", {"buckets": buckets}
        )


def add(connection: Connection, entries: Sequence[NewEntry], now: datetime, *, merge: bool = False) -> list[Entry]:
    """Add entries, each in place of the one with the same tenant, reason and origin.

    With `merge` an active entry keeps its width: it then suppresses the mail of both, until the later end. Returns the
    entries that are new (created now) or now suppress other mail or another time; unchanged ones are left out. An
    entry of a provider's list that is older than a person's lift is ignored.
    """
    if not entries:
        return []
    # Only these depend on lifts. A long import must not take the lock: all lifts would wait for its end.
    lock_shared(connection, (entry.key for entry in entries if entry.origin is SuppressionOrigin.PROVIDER))
    columns = arrays(entries)
    columns["types"] = [",".join(sorted(types)) for types in columns["types"]]
    columns["id"] = [ids.receipt_id(now) for _ in entries]
    rows = connection.exec_driver_sql(_ADD, {**columns, "now": now, "merge": merge})
    return [Entry(*row) for row in rows]


def lift(
    connection: Connection,
    *,
    keys: Sequence[str],
    tenant: str | None,
    reason: SuppressionReason | None,
    actor: str | None,
    note: str | None,
    now: datetime | None = None,
) -> list[Entry]:
    """Remove these entries, and let nothing that happened or was received until now add them again.

    `tenant` None is every tenant's entries, '' those for all tenants; `reason` None is every reason. `now` None is the
    moment after all locks are held, so that entries added while this waited are lifted too. Returns the entries that
    suppressed mail until now. Raises ConflictError while an import writes one of them.
    """
    if not keys:
        return []
    # Before the advisory lock: a lift that held it while it waits for an import would make all batches wait.
    _lock_imported(connection, keys)
    lock_exclusive(connection, keys)
    # The database's clock and ours may differ: the later one counts.
    now = (
        now
        or connection.execute(
            select(func.greatest(func.clock_timestamp(), literal(datetime.now(UTC), Timestamp)))
        ).scalar_one()
    )
    values = {"keys": list(keys), "tenant": tenant, "reason": reason, "actor": actor, "note": note, "now": now}
    return [Entry(*row) for row in connection.exec_driver_sql(_LIFT, values)]


def _lock_imported(connection: Connection, keys: Sequence[str]) -> None:
    """Lock the imported entries of these keys, waiting up to `IMPORT_WAIT_MS` for an import that is writing them."""
    imported = (
        select(suppressions.c.key)
        .where(suppressions.c.key.in_([UUID(key) for key in keys]), suppressions.c.origin == SuppressionOrigin.IMPORT)
        .order_by(suppressions.c.key, suppressions.c.tenant, suppressions.c.reason)
        .with_for_update()
    )
    connection.execute(select(func.set_config("lock_timeout", str(IMPORT_WAIT_MS), True)))
    try:
        connection.execute(imported)
    except OperationalError as error:
        if not isinstance(error.orig, LockNotAvailable):
            raise
        raise ConflictError(
            "An import is writing this entry right now, so it cannot be lifted yet. Nothing was lifted; try again in a"
            " minute."
        ) from None
    connection.execute(select(func.set_config("lock_timeout", "0", True)))


def expire(connection: Connection, now: datetime, limit: int = 1000) -> int:
    """Announce the end of up to `limit` entries that are over; return how many. Workers may do so concurrently."""
    return int(connection.exec_driver_sql(_EXPIRE, {"now": now, "limit": limit}).scalar_one())


def check(
    connection: Connection,
    keys: Sequence[str],
    now: datetime,
    *,
    tenant: str | None = None,
    type: MailType | None = None,  # noqa: A002 - the word of the contract
) -> Mapping[str, list[Entry]]:
    """Return the active entries by the key of their address or domain; those with the latest end come first.

    `type` None is any mail, `tenant` None any tenant's mail; '' is mail of no tenant. The statement is SQL text: it is
    asked before mail is sent, with up to 20,000 keys in one array.
    """
    values = {"keys": list(set(keys)), "now": now, "tenant": tenant, "type": type}
    found: dict[str, list[Entry]] = defaultdict(list)
    for row in connection.exec_driver_sql(_CHECK, values).all():
        entry = Entry(*row)
        found[entry.key].append(entry)
    for entries in found.values():
        if len(entries) > 1:
            entries.sort(key=lambda entry: entry.expires_at or FOR_GOOD, reverse=True)
    return found


_STAGED = ("key", "tenant", "reason", "address", "domain", "types", "classification", "until", "note")

# Text: one array for each column writes 2,000 lines in one statement.
_STAGE = f"""
WITH input AS (SELECT {unnest(_STAGED)})
INSERT INTO staged_suppressions (job_id, {", ".join(_STAGED)})
SELECT %(job_id)s, key, tenant, reason, address, domain, string_to_array(types, ','), classification, until, note
FROM input ORDER BY key, tenant, reason
ON CONFLICT (job_id, key, tenant, reason) DO UPDATE SET
    {", ".join(f"{name} = excluded.{name}" for name in _STAGED[3:])}
"""


def stage(connection: Connection, job_id: UUID, lines: Sequence[Mapping[str, Any]]) -> None:
    """Store checked lines of an import (by column) until all are checked; of several for one entry the last counts."""
    last = {(line["key"], line["tenant"], line["reason"]): line for line in lines}
    if last:
        columns = {name: [line[name] for line in last.values()] for name in _STAGED}
        columns["types"] = [",".join(sorted(types)) for types in columns["types"]]
        connection.exec_driver_sql(_STAGE, {**columns, "job_id": job_id})


def list_staged(connection: Connection, job_id: UUID, limit: int) -> Iterator[Sequence[Row[Any]]]:
    """Yield the staged lines, `limit` at a time, by key: imports that write in one order cannot deadlock."""
    staged = staged_suppressions.c
    order = (staged.key, staged.tenant, staged.reason)
    statement = select(staged_suppressions).where(staged.job_id == job_id).order_by(*order).limit(limit)
    rows = connection.execute(statement).all()
    while rows:
        yield rows
        after = (rows[-1].key, rows[-1].tenant, rows[-1].reason)
        rows = connection.execute(statement.where(tuple_(*order) > after)).all()
