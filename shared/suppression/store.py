"""The suppression list: whom not to write to. What people, imports and providers say; what is asked of it.

What follows from events is written by `shared.suppression.evidence` and `shared.suppression.soft_bounce_terms`.
Entries of one address stand side by side by tenant, reason and origin, so that neither changes what another says.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

from psycopg.errors import LockNotAvailable
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from shared import ids
from shared.errors import TidingsError
from shared.suppression import locks as suppression_locks
from shared.suppression.history import SHOWN, Action, telling
from shared.suppression.policy import FOR_GOOD
from shared.vocabulary import MailType, SuppressionOrigin, SuppressionReason

_IMPORT_WAIT_MS = 3000


class BeingImportedError(TidingsError):
    """An import that is being written has the same entry, and has it until all of the file is on the list."""


class Entry(NamedTuple):
    """One entry. `key` is 32 hex digits, `tenant` is '' for all, `expires_at` None for good.

    Of `address` and `domain` one is there; neither after erasure. `id` is made anew whenever the entry is announced.
    `evidence_event_id` is the event it follows from, `level` the how manyeth time, where that makes it longer.
    `expired_at` is when its end was noticed.
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
        """Whether it suppresses at that moment."""
        return self.expires_at is None or self.expires_at > now

    def without_evidence(self) -> "Entry":
        """What a tenant may know of an entry that holds for all: it may follow from another tenant's mail."""
        return self._replace(source=None, evidence_event_id=None, actor=None, note=None)


class NewEntry(NamedTuple):
    """What a person, an import or a provider says. `key` is of `shared.suppression.recipient_hashes`.

    `since` is when the reason arose; `until` None for good.
    """

    key: str
    address: str | None
    domain: str | None
    reason: SuppressionReason
    types: frozenset[MailType]
    origin: SuppressionOrigin
    since: datetime
    tenant: str = ""
    until: datetime | None = None
    classification: str | None = None
    source_id: int | None = None
    actor: str | None = None
    note: str | None = None


# A check may find ten thousand entries: hex digits are read in a third of the time that a UUID takes.
_OF_ENTRY = """{e}.id, encode(uuid_send({e}.key), 'hex'), {e}.tenant, {e}.address, {e}.domain, {e}.reason, {e}.types,
    {e}.classification, {e}.origin, {s}.slug, {e}.since, {e}.created_at, {e}.until, {e}.expired_at,
    {e}.evidence_event_id, {e}.level, {e}.actor, {e}.note"""
ENTRIES = f"SELECT {_OF_ENTRY.format(e='e', s='s')} FROM suppressions AS e LEFT JOIN sources AS s ON s.id = e.source_id"
"""Begins a statement that reads entries, `e`."""

_TOLD = f"SELECT {_OF_ENTRY.format(e='told', s='s')} FROM told LEFT JOIN sources AS s ON s.id = told.source_id"

_COLUMN_TYPES = {
    **dict.fromkeys(NewEntry._fields, "text"),
    "id": "uuid",
    "key": "uuid",
    **dict.fromkeys(("since", "until"), "timestamptz"),
    "source_id": "bigint",
}
_INPUT = ", ".join(f"unnest(%({name})b::{type_}[]) AS {name}" for name, type_ in _COLUMN_TYPES.items())

_LASTS = "(s.until IS NULL OR s.until > %(now)s)"
_UNITED = f"%(united)s AND {_LASTS}"
_TYPES = f"""CASE WHEN {_UNITED} AND NOT excluded.types @> s.types
    THEN ARRAY(SELECT DISTINCT unnest(s.types || excluded.types) ORDER BY 1) ELSE excluded.types END"""
_UNTIL = f"""CASE WHEN NOT ({_UNITED}) THEN excluded.until
    WHEN s.until IS NOT NULL AND excluded.until IS NOT NULL THEN greatest(s.until, excluded.until) END"""
_CLASSIFICATION, _NOTE = (
    f"CASE WHEN {_UNITED} THEN coalesce(excluded.{name}, s.{name}) ELSE excluded.{name} END"
    for name in ("classification", "note")
)

# A provider's list is asked again and again, and still has what a person has lifted here.
_ADD = f"""
WITH input AS (SELECT {_INPUT}, generate_subscripts(%(id)b::uuid[], 1) AS position),
given AS MATERIALIZED (
    SELECT DISTINCT ON (key, tenant, reason, origin) input.* FROM input
    WHERE origin <> '{SuppressionOrigin.PROVIDER}' OR NOT EXISTS (
        SELECT FROM suppression_lifts AS l WHERE l.key = input.key AND (l.tenant IS NULL OR l.tenant = input.tenant)
            AND (l.reason IS NULL OR l.reason = input.reason) AND input.since <= l.lifted_at
    )
    ORDER BY key, tenant, reason, origin, position DESC
),
risen AS (
    INSERT INTO suppressions AS s (key, tenant, reason, origin, id, address, domain, types, classification, source_id,
        since, until, actor, note, created_at)
    SELECT key, tenant, reason, origin, id, address, domain, string_to_array(types, ','), classification, source_id,
        since, until, actor, note, %(now)s
    FROM given ORDER BY key, tenant, reason, origin
    ON CONFLICT (key, tenant, reason, origin) DO UPDATE SET
        id = CASE WHEN (s.types, s.until) IS DISTINCT FROM ({_TYPES}, {_UNTIL}) THEN excluded.id ELSE s.id END,
        since = CASE WHEN {_LASTS} THEN least(s.since, excluded.since) ELSE excluded.since END,
        created_at = CASE WHEN {_LASTS} THEN s.created_at ELSE excluded.created_at END,
        address = excluded.address, domain = excluded.domain, types = {_TYPES}, until = {_UNTIL}, expired_at = NULL,
        classification = {_CLASSIFICATION}, source_id = excluded.source_id, actor = excluded.actor, note = {_NOTE}
    WHERE (s.types, s.until, s.classification, s.source_id, s.note, s.address, s.domain) IS DISTINCT FROM
        ({_TYPES}, {_UNTIL}, {_CLASSIFICATION}, excluded.source_id, {_NOTE}, excluded.address, excluded.domain)
    RETURNING s.*
),
told AS (SELECT *, {SHOWN} FROM risen WHERE id = ANY(%(id)b::uuid[])),
{telling(Action.ADDED)}
{_TOLD}
"""

# Ours and the database's clock may differ: whatever of the two is later.
_NOW = "SELECT greatest(clock_timestamp(), %(now)s::timestamptz)"

_OF_IMPORTS = f"""
SELECT FROM suppressions WHERE key = ANY(%(keys)s::uuid[]) AND origin = '{SuppressionOrigin.IMPORT}'
ORDER BY key, tenant, reason FOR UPDATE
"""

# A receiver's clock may be ahead of this one: what is taken off counts as having happened before.
_LIFT = f"""
WITH named AS (SELECT DISTINCT unnest(%(keys)b::uuid[]) AS key),
gone AS (
    DELETE FROM suppressions AS s USING named
    WHERE s.key = named.key AND (%(tenant)s::text IS NULL OR s.tenant = %(tenant)s)
        AND (%(reason)s::text IS NULL OR s.reason = %(reason)s)
    RETURNING s.*
),
noted AS (
    INSERT INTO suppression_lifts AS l (key, tenant, reason, by_event, lifted_at)
    SELECT named.key, %(tenant)s::text, %(reason)s::text, false, greatest(%(now)s::timestamptz,
        (SELECT max(since) FROM gone WHERE gone.key = named.key AND origin = '{SuppressionOrigin.EVENT}'))
    FROM named ORDER BY named.key
    ON CONFLICT (key, tenant, reason, by_event) DO UPDATE SET lifted_at = greatest(l.lifted_at, excluded.lifted_at)
),
told AS (SELECT *, {SHOWN} FROM gone WHERE expired_at IS NULL),
{telling(Action.LIFTED, actor="%(actor)s::text", note="%(note)s::text", event="NULL::uuid")}
{_TOLD} ORDER BY told.key, told.tenant, told.reason
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
told AS (SELECT *, {SHOWN} FROM ended),
{telling(Action.EXPIRED)}
SELECT count(*) FROM told
"""

_CHECK = f"""
{ENTRIES} JOIN unnest(%(keys)b::uuid[]) AS asked (key) ON asked.key = e.key
WHERE (e.until IS NULL OR e.until > %(now)s) AND (%(type)s::text IS NULL OR %(type)s = ANY(e.types))
    AND (%(tenant)s::text IS NULL OR e.tenant IN (%(tenant)s, ''))
"""


def add(connection: Connection, entries: Sequence[NewEntry], now: datetime, *, united: bool = False) -> list[Entry]:
    """Put these on the list, each instead of what the same origin said of the same reason before.

    If `united`, what suppresses stays as wide as it is: for the mail of both, until the later end. Returns those that
    are new (created now), or that now hold for other mail or another time; the others were there already. What a
    provider's list has from before a person's lift is passed over.
    """
    if not entries:
        return []
    # Only these depend on what was lifted. A long import does without, so that nobody's lift waits for its end.
    suppression_locks.share(connection, (entry.key for entry in entries if entry.origin is SuppressionOrigin.PROVIDER))
    columns = dict(zip(NewEntry._fields, map(list, zip(*entries, strict=True)), strict=True))
    columns["types"] = [",".join(sorted(types)) for types in columns["types"]]
    columns["id"] = [ids.receipt_id(now) for _ in entries]
    return entries_of(connection, _ADD, {**columns, "now": now, "united": united})


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
    """Take these off the list, and let nothing that happened or was received until now put them on it again.

    `tenant` None is every tenant's entries, '' those that hold for all; `reason` None every reason. `now` None is the
    moment at which nobody can add any more: whoever had to wait for that lifts what was added meanwhile, too. Returns
    the entries that suppressed until now. Raises BeingImportedError.
    """
    if not keys:
        return []
    # Before the lock: whoever had it and waited for an import would have all batches wait.
    _hold_imported(connection, keys)
    suppression_locks.hold(connection, keys)
    now = now or connection.exec_driver_sql(_NOW, {"now": datetime.now(UTC)}).scalar_one()
    values = {"keys": list(keys), "tenant": tenant, "reason": reason, "actor": actor, "note": note, "now": now}
    return entries_of(connection, _LIFT, values)


def _hold_imported(connection: Connection, keys: Sequence[str]) -> None:
    """Keep imports from what they said of these. Raises BeingImportedError where one is at it, and for long."""
    limit = "SELECT set_config('lock_timeout', %(ms)s, true)"
    connection.exec_driver_sql(limit, {"ms": str(_IMPORT_WAIT_MS)})
    try:
        connection.exec_driver_sql(_OF_IMPORTS, {"keys": list(keys)})
    except OperationalError as error:
        if not isinstance(error.orig, LockNotAvailable):
            raise
        raise BeingImportedError(
            "An import that is being written just now has it on its list, so it cannot be lifted yet. Nothing was"
            " lifted; try again in a minute."
        ) from None
    connection.exec_driver_sql(limit, {"ms": "0"})


def expire(connection: Connection, now: datetime, limit: int = 1000) -> int:
    """Announce the end of up to so many entries whose time is over; return how many. Any number may do so at once."""
    return int(connection.exec_driver_sql(_EXPIRE, {"now": now, "limit": limit}).scalar_one())


def check(
    connection: Connection,
    keys: Sequence[str],
    now: datetime,
    *,
    tenant: str | None = None,
    type: MailType | None = None,  # noqa: A002 - the word of the contract
) -> Mapping[str, list[Entry]]:
    """The entries that suppress, by the key of address or domain; those that hold the longest first.

    `type` None asks for any mail, `tenant` None for any tenant's; '' asks for mail of none.
    """
    values = {"keys": list(set(keys)), "now": now, "tenant": tenant, "type": type}
    found: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries_of(connection, _CHECK, values):
        found[entry.key].append(entry)
    for entries in found.values():
        if len(entries) > 1:
            entries.sort(key=lambda entry: entry.expires_at or FOR_GOOD, reverse=True)
    return found


def find(connection: Connection, key: str) -> list[Entry]:
    """All entries of an address or a domain, also those that are over."""
    return entries_of(
        connection, f"{ENTRIES} WHERE e.key = %(key)s ORDER BY e.tenant, e.reason, e.origin", {"key": key}
    )


def entries_of(connection: Connection, statement: str, values: Mapping[str, object]) -> list[Entry]:
    """The entries that a statement gives, which begins with ENTRIES or gives the same columns."""
    return [Entry(*row) for row in connection.exec_driver_sql(statement, dict(values)).all()]
