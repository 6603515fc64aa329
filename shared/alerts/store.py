"""Alerts, their history, and the rules about them that were made over the API."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Connection

from shared.alerts.policy import Firing, Past, Step, Subject
from shared.postgres.pagination import Page, Position, Walk
from shared.vocabulary import Severity

_LOCK = 0x71D1467


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertFacts:
    """One alert, as the API shows it. `subject` tells it from the others of its rule; `source` is a name.

    `summary` and `numbers` are of the last time at which its condition held.
    """

    id: UUID
    rule: str
    kind: str
    subject: str
    severity: str
    state: str
    source: str | None
    tenant: str | None
    summary: str
    numbers: Mapping[str, Any]
    evidence_event_id: UUID | None
    started_at: datetime
    judged_at: datetime
    resolved_at: datetime | None
    acknowledged_at: datetime | None
    acknowledged_by: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFacts:
    """One entry of an alert's history, with the numbers of that moment."""

    id: int
    at: datetime
    step: str
    severity: str
    summary: str
    numbers: Mapping[str, Any]
    actor: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiRule:
    """A rule that was made over the API; `definition` is what `shared.rules.document.load_alert_rule` reads."""

    name: str
    definition: Mapping[str, Any]
    created_at: datetime
    updated_at: datetime
    created_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A step that an alert takes: it fires, escalates or is resolved."""

    alert_id: str
    step: Step
    rule: str
    kind: str
    subject: Subject
    severity: Severity
    summary: str
    numbers: Mapping[str, Any]
    evidence_event_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """An alert that goes on firing, judged anew. Without `summary` and `numbers` it keeps those it has."""

    alert_id: str
    calm_since: datetime | None
    summary: str | None = None
    numbers: Mapping[str, Any] | None = None


_FACTS = """
SELECT a.id, rule, kind, subject, severity, state, s.slug AS source, tenant, summary, numbers, evidence_event_id,
    started_at, judged_at, resolved_at, acknowledged_at, acknowledged_by
FROM alerts AS a LEFT JOIN sources AS s ON s.id = a.source_id
WHERE a.id = ANY(%(ids)s) ORDER BY a.id DESC
"""

_TAKEN = """jsonb_to_recordset(%(taken)s::jsonb) AS t (alert_id uuid, step text, rule text, kind text, subject jsonb,
    severity text, summary text, numbers jsonb, evidence_event_id uuid)"""

_FIRE = f"""
INSERT INTO alerts (id, rule, kind, subject, severity, state, source_id, tenant, summary, numbers, evidence_event_id,
    started_at, judged_at)
SELECT alert_id, rule, kind, subject->>'name', severity, 'firing', (subject->>'source_id')::bigint,
    subject->>'tenant', summary, numbers, evidence_event_id, %(now)s, %(now)s
FROM {_TAKEN} WHERE step = '{Step.FIRED}'
"""

_GO_ON = f"""
UPDATE alerts AS a SET severity = t.severity, judged_at = %(now)s,
    numbers = CASE step WHEN '{Step.ESCALATED}' THEN t.numbers ELSE a.numbers END,
    evidence_event_id = coalesce(t.evidence_event_id, a.evidence_event_id),
    summary = CASE step WHEN '{Step.ESCALATED}' THEN t.summary ELSE a.summary END,
    state = CASE step WHEN '{Step.RESOLVED}' THEN 'resolved' ELSE 'firing' END,
    calm_since = CASE step WHEN '{Step.RESOLVED}' THEN calm_since END,
    resolved_at = CASE step WHEN '{Step.RESOLVED}' THEN %(now)s::timestamptz END
FROM {_TAKEN} WHERE a.id = t.alert_id AND step <> '{Step.FIRED}'
"""

_KEEP_STEPS = f"""
INSERT INTO alert_steps (alert_id, at, step, severity, summary, numbers)
SELECT alert_id, %(now)s, step, severity, summary, numbers FROM {_TAKEN} RETURNING id
"""

_LOG = """
INSERT INTO state_changes (type, source_id, event_id, data)
SELECT CASE state WHEN 'resolved' THEN 'alert.resolved' ELSE 'alert.firing' END, source_id, evidence_event_id,
    given.data::jsonb
FROM unnest(%(ids)s::uuid[], %(data)s::text[]) AS given (id, data) JOIN alerts USING (id) ORDER BY id
"""


def be_the_only_one(connection: Connection) -> bool:
    """Keep others from judging until the transaction ends. False if another is at it."""
    return bool(connection.exec_driver_sql("SELECT pg_try_advisory_xact_lock(%(lock)s)", {"lock": _LOCK}).scalar())


def firing(connection: Connection) -> list[Firing]:
    """Every alert that fires."""
    rows = connection.exec_driver_sql(
        "SELECT a.id, rule, kind, subject, source_id, s.slug, tenant, severity, started_at, judged_at, calm_since"
        " FROM alerts AS a LEFT JOIN sources AS s ON s.id = a.source_id WHERE state = 'firing' ORDER BY a.id"
    )
    return [
        Firing(
            id=str(row[0]),
            rule=row[1],
            kind=row[2],
            subject=Subject(name=row[3], source_id=row[4], source=row[5], tenant=row[6]),
            severity=Severity(row[7]),
            started_at=row[8],
            judged_at=row[9],
            calm_since=row[10],
        )
        for row in rows
    ]


def past(connection: Connection, wanted: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Past]:
    """The last alert that was resolved, of each of these rules and subjects."""
    pairs = sorted(set(wanted))
    if not pairs:
        return {}
    rows = connection.exec_driver_sql(
        "SELECT w.rule, w.subject, severity, resolved_at"
        " FROM unnest(%(rules)s::text[], %(subjects)s::text[]) AS w (rule, subject) CROSS JOIN LATERAL ("
        " SELECT severity, resolved_at FROM alerts AS a WHERE a.rule = w.rule AND a.subject = w.subject"
        " AND state = 'resolved' ORDER BY id DESC LIMIT 1) AS last",
        {"rules": [rule for rule, _ in pairs], "subjects": [subject for _, subject in pairs]},
    )
    return {(row[0], row[1]): Past(severity=Severity(row[2]), resolved_at=row[3]) for row in rows}


def take(connection: Connection, steps: Sequence[Taken], now: datetime) -> list[int]:
    """Have alerts take these steps, and log what changed; return the ids of the steps, in their order.

    Raises IntegrityError if one fires about what another fires about already.
    """
    if not steps:
        return []
    values = {"taken": msgspec.json.encode(steps).decode(), "now": now}
    connection.exec_driver_sql(_FIRE, values)
    connection.exec_driver_sql(_GO_ON, values)
    taken = [row[0] for row in connection.exec_driver_sql(_KEEP_STEPS, values)]
    changed = _facts(connection, [UUID(step.alert_id) for step in steps])
    data = [msgspec.json.encode(alert).decode() for alert in changed]
    connection.exec_driver_sql(_LOG, {"ids": [alert.id for alert in changed], "data": data})
    return taken


def hold(connection: Connection, held: Sequence[Held], now: datetime) -> None:
    """Note that these alerts were judged, and how it stands."""
    if held:
        connection.exec_driver_sql(
            "UPDATE alerts AS a SET judged_at = %(now)s, calm_since = h.calm_since,"
            " summary = coalesce(h.summary, a.summary), numbers = coalesce(h.numbers, a.numbers)"
            " FROM jsonb_to_recordset(%(held)s::jsonb)"
            " AS h (alert_id uuid, calm_since timestamptz, summary text, numbers jsonb) WHERE a.id = h.alert_id",
            {"held": msgspec.json.encode(held).decode(), "now": now},
        )


def listed(
    connection: Connection,
    *,
    state: str | None = None,
    rule: str | None = None,
    source: str | None = None,
    severity: str | None = None,
    after: Position | None = None,
    limit: int = 50,
) -> Page[AlertFacts]:
    """Alerts, the newest first. `source` is a name; `state` is `firing` or `resolved`."""
    walk = Walk(table="alerts", keys=("id",))
    if state == "firing":
        walk.bound("state = 'firing'")
    elif state is not None:
        walk.pick("state = %(state)s", state=state)
    for name, value in (("rule", rule), ("severity", severity)):
        if value is not None:
            walk.pick(f"{name} = %({name})s", **{name: value})
    if source is not None:
        walk.pick("source_id = (SELECT id FROM sources WHERE slug = %(source)s)", source=source)
    walk.after(after)
    found = walk.page(connection, limit)
    return Page(_facts(connection, [position[0] for position in found.items]), found.next)


def find(connection: Connection, alert_id: UUID) -> AlertFacts | None:
    """One alert."""
    found = _facts(connection, [alert_id])
    return found[0] if found else None


def steps(connection: Connection, alert_id: UUID) -> list[StepFacts]:
    """What has happened to an alert, in its order."""
    rows = connection.exec_driver_sql(
        "SELECT id, at, step, severity, summary, numbers, actor FROM alert_steps WHERE alert_id = %(id)s ORDER BY id",
        {"id": alert_id},
    ).mappings()
    return [StepFacts(**row) for row in rows]


def acknowledge(connection: Connection, alert_id: UUID, actor: str, now: datetime) -> AlertFacts | None:
    """Note that somebody knows of an alert that fires; None if there is no such alert.

    The first one stays; of what is resolved nothing is noted.
    """
    connection.exec_driver_sql(
        "WITH known AS ("
        " UPDATE alerts SET acknowledged_at = %(now)s, acknowledged_by = %(actor)s"
        " WHERE id = %(id)s AND state = 'firing' AND acknowledged_at IS NULL RETURNING *"
        ") INSERT INTO alert_steps (alert_id, at, step, severity, summary, numbers, actor)"
        f" SELECT id, %(now)s, '{Step.ACKNOWLEDGED}', severity, summary, numbers, %(actor)s FROM known",
        {"id": alert_id, "actor": actor, "now": now},
    )
    return find(connection, alert_id)


def rules_of_api(connection: Connection) -> list[ApiRule]:
    """The rules that were made over the API, by name."""
    rows = connection.exec_driver_sql(
        "SELECT name, definition, created_at, updated_at, created_by FROM alert_rules ORDER BY name"
    ).mappings()
    return [ApiRule(**row) for row in rows]


def put_rule(connection: Connection, name: str, definition: Mapping[str, Any], actor: str, now: datetime) -> bool:
    """Make a rule, or change it; whether it is new. The definition must have been read by `shared.rules`."""
    return bool(
        connection.exec_driver_sql(
            "INSERT INTO alert_rules (name, definition, created_at, updated_at, created_by)"
            " VALUES (%(name)s, %(definition)s::jsonb, %(now)s, %(now)s, %(actor)s)"
            " ON CONFLICT (name) DO UPDATE SET definition = excluded.definition, updated_at = excluded.updated_at"
            " RETURNING xmax = 0",
            {"name": name, "definition": msgspec.json.encode(definition).decode(), "now": now, "actor": actor},
        ).scalar_one()
    )


def remove_rule(connection: Connection, name: str) -> bool:
    """Remove a rule that was made over the API; False if there is none. What it fires is resolved soon."""
    return bool(connection.exec_driver_sql("DELETE FROM alert_rules WHERE name = %(name)s", {"name": name}).rowcount)


def _facts(connection: Connection, ids: Sequence[UUID]) -> list[AlertFacts]:
    rows = connection.exec_driver_sql(_FACTS, {"ids": list(ids)}).mappings()
    return [AlertFacts(**row) for row in rows]
