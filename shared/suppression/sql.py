"""SQL that the stores share: batches as arrays, and the record of what happened to entries."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from shared.postgres.arrays import unnest as unnest_columns
from shared.vocabulary import SuppressionAction

_CHANGE_TYPES = {
    SuppressionAction.ADDED: "suppression.added",
    SuppressionAction.LIFTED: "suppression.removed",
    SuppressionAction.WITHDRAWN: "suppression.removed",
    SuppressionAction.EXPIRED: "suppression.expired",
}


def _rfc3339(column: str) -> str:
    return f"""to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""


ENTRY_JSON = f"""
jsonb_build_object('address', address, 'domain', domain, 'tenant', nullif(tenant, ''), 'reason', reason,
    'types', to_jsonb(types), 'classification', classification, 'origin', origin,
    'source', (SELECT slug FROM sources WHERE sources.id = source_id), 'since', {_rfc3339("since")},
    'created_at', {_rfc3339("created_at")}, 'expires_at', {_rfc3339("until")},
    'evidence_event_id', evidence_event_id, 'level', level, 'actor', actor, 'note', note) AS entry
"""
"""A row of suppressions as subscribers get it."""

ENTRY_ID = (
    "CASE WHEN (s.types, s.until) IS DISTINCT FROM (excluded.types, excluded.until) THEN excluded.id ELSE s.id END"
)
"""The id of an entry `s` that is written again. It changes only if the mail or the end changes, which is announced."""

_SQL_TYPES = {
    **dict.fromkeys(("id", "key", "message_id", "event_id", "event_key"), "uuid"),
    **dict.fromkeys(("at", "since", "until"), "timestamptz"),
    "source_id": "bigint",
    "level": "smallint",
}


def unnest(names: Sequence[str]) -> str:
    """Return SELECT expressions that turn one array for each column into rows, so that one statement serves any batch.

    Columns without a row in `_SQL_TYPES` are text.
    """
    return unnest_columns({name: _SQL_TYPES.get(name, "text") for name in names})


def arrays(rows: Sequence[NamedTuple]) -> dict[str, Any]:
    """Return the columns of these rows as arrays, by name."""
    return dict(zip(rows[0]._fields, map(list, zip(*rows, strict=True)), strict=True))


def record_changes(action: str, *, actor: str = "changed.actor", note: str = "changed.note", event: str = "") -> str:
    """Return CTEs that record what was done at %(now)s to the rows of the CTE `changed` (entries with `ENTRY_JSON`).

    `action` is a `SuppressionAction` or an SQL expression for one. `actor`, `note` and `event` are SQL expressions;
    the event is the entry's evidence if not given.
    """
    name = f"'{action}'" if action in list(SuppressionAction) else action
    event = event or "changed.evidence_event_id"
    change_type = " ".join(f"WHEN '{word}' THEN '{announced}'" for word, announced in _CHANGE_TYPES.items())
    return f"""
recorded AS (
    INSERT INTO suppression_history (key, tenant, at, action, reason, types, classification, origin, source_id, since,
        until, level, event_id, actor, note)
    SELECT changed.key, changed.tenant, %(now)s, {name}, changed.reason, changed.types, changed.classification,
        changed.origin, changed.source_id, changed.since, changed.until, changed.level, {event}, {actor}, {note}
    FROM changed ORDER BY changed.key, changed.tenant, changed.reason
),
announced AS (
    INSERT INTO state_changes (type, source_id, recipient, event_id, data)
    SELECT CASE {name} {change_type} END, changed.source_id, changed.address, {event}, changed.entry
    FROM changed ORDER BY changed.key, changed.tenant, changed.reason
)"""
