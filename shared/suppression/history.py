"""What happened to suppressions: each step is kept for people, and announced in the log of changes."""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import Connection


class Action(StrEnum):
    """What was done to an entry."""

    ADDED = "added"
    LIFTED = "lifted"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"
    ERASED = "erased"


_CHANGES = {
    Action.ADDED: "suppression.added",
    Action.LIFTED: "suppression.removed",
    Action.WITHDRAWN: "suppression.removed",
    Action.EXPIRED: "suppression.expired",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step in the history of an address or a domain. `tenant` is '' for all, `expires_at` None for good.

    `event_id` is the event for which it was added, lifted or withdrawn; `actor` is the person who did it.
    """

    id: int
    at: datetime
    action: str
    tenant: str
    reason: str
    types: list[str]
    classification: str | None
    origin: str
    source: str | None
    since: datetime | None
    expires_at: datetime | None
    level: int
    event_id: UUID | None
    actor: str | None
    note: str | None

    def without_evidence(self) -> "Step":
        """What a tenant may know of a step of an entry that holds for all."""
        return replace(self, source=None, event_id=None, actor=None, note=None)


def _instant(column: str) -> str:
    return f"""to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""


SHOWN = f"""
jsonb_build_object('address', address, 'domain', domain, 'tenant', nullif(tenant, ''), 'reason', reason,
    'types', to_jsonb(types), 'classification', classification, 'origin', origin,
    'source', (SELECT slug FROM sources WHERE sources.id = source_id), 'since', {_instant("since")},
    'created_at', {_instant("created_at")}, 'expires_at', {_instant("until")},
    'evidence_event_id', evidence_event_id, 'level', level, 'actor', actor, 'note', note) AS shown
"""
"""An entry, a row of suppressions, as subscribers get it."""


ID = """CASE WHEN (s.types, s.until) IS DISTINCT FROM (excluded.types, excluded.until) THEN excluded.id ELSE s.id END"""
"""The id of an entry `s` that is written again: a new one, by which it is known to be told, only if it holds anew."""


def telling(action: str, *, actor: str = "told.actor", note: str = "told.note", event: str = "") -> str:
    """CTEs that keep and announce what was done to the rows of `told` (entries with `SHOWN`), at %(now)s.

    `action` is an SQL expression that gives the action, or one of `Action`; so are those who did it and the event
    that was the reason, which otherwise is the evidence of the entry.
    """
    name = f"'{action}'" if action in list(Action) else action
    event = event or "told.evidence_event_id"
    change = " ".join(f"WHEN '{word}' THEN '{announced}'" for word, announced in _CHANGES.items())
    return f"""
kept_step AS (
    INSERT INTO suppression_history (key, tenant, at, action, reason, types, classification, origin, source_id, since,
        until, level, event_id, actor, note)
    SELECT told.key, told.tenant, %(now)s, {name}, told.reason, told.types, told.classification, told.origin,
        told.source_id, told.since, told.until, told.level, {event}, {actor}, {note}
    FROM told ORDER BY told.key, told.tenant, told.reason
),
announced AS (
    INSERT INTO state_changes (type, source_id, recipient, event_id, data)
    SELECT CASE {name} {change} END, told.source_id, told.address, {event}, told.shown
    FROM told ORDER BY told.key, told.tenant, told.reason
)"""


_MOST = 1000

_HISTORY = """
SELECT * FROM (
    SELECT h.id, h.at, h.action, h.tenant, h.reason, h.types, h.classification, h.origin, s.slug AS source, h.since,
        h.until AS expires_at, h.level, h.event_id, h.actor, h.note
    FROM suppression_history AS h LEFT JOIN sources AS s ON s.id = h.source_id
    WHERE h.key = %(key)s ORDER BY h.id DESC LIMIT %(most)s
) AS latest ORDER BY id
"""


def history(connection: Connection, key: str) -> list[Step]:
    """What happened to the suppressions of an address or a domain, the oldest first; of very many the last."""
    rows = connection.exec_driver_sql(_HISTORY, {"key": key, "most": _MOST}).mappings()
    return [Step(**row) for row in rows]
