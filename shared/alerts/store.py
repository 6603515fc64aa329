"""Alerts, their history, and the rules that were created through the API."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import (
    Boolean,
    ColumnElement,
    Connection,
    Row,
    Select,
    Text,
    Uuid,
    and_,
    bindparam,
    case,
    column,
    delete,
    func,
    insert,
    literal,
    literal_column,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.sql.selectable import TableValuedAlias
from sqlalchemy.types import TypeEngine

from shared.alerts.policy import FiringAlert, ResolvedAlert, Step, Subject
from shared.alerts.tables import alert_rules, alert_steps, alerts
from shared.postgres.metadata import Timestamp
from shared.postgres.pagination import KeysetQuery, Page, Position
from shared.sources.tables import sources
from shared.vocabulary import Severity

_LOCK = 0x71D1467

_IS_FIRING = alerts.c.state == literal_column("'firing'")
"""A literal, by which PostgreSQL can choose the partial indexes."""

_ALERT: Select[Any] = (
    select(
        *alerts.c["id", "rule", "kind", "subject", "severity", "state"],
        sources.c.slug.label("source"),
        *alerts.c[
            "tenant", "summary", "numbers", "evidence_event_id", "started_at", "judged_at", "resolved_at",
            "acknowledged_at", "acknowledged_by", "muted_until", "muted_by",
        ],
    )
    .select_from(alerts.outerjoin(sources, sources.c.id == alerts.c.source_id))
    .order_by(alerts.c.id.desc())
)  # fmt: skip
"""An alert, as the API shows it. `summary` and `numbers` are of the last time at which its condition held."""

# Text: `shared.alerts` does not import the feature that reads the log.
_LOG_CHANGES = """
INSERT INTO state_changes (type, source_id, event_id, data)
SELECT CASE state WHEN 'resolved' THEN 'alert.resolved' ELSE 'alert.firing' END, source_id, evidence_event_id,
    given.data::jsonb
FROM unnest(%(ids)s::uuid[], %(data)s::text[]) AS given (id, data) JOIN alerts USING (id) ORDER BY id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """An alert fires, escalates or is resolved."""

    alert_id: str
    step: Step
    rule: str
    kind: str
    subject: Subject
    severity: Severity
    summary: str
    numbers: Mapping[str, Any]
    evidence_event_id: str | None = None


def try_lock(connection: Connection) -> bool:
    """Keep other workers from evaluating until the transaction ends. Return False if one is evaluating now."""
    return bool(connection.execute(select(func.pg_try_advisory_xact_lock(_LOCK))).scalar_one())


def list_firing(connection: Connection) -> list[FiringAlert]:
    """Return every alert that fires."""
    rows = connection.execute(
        select(alerts, sources.c.slug)
        .select_from(alerts.outerjoin(sources, sources.c.id == alerts.c.source_id))
        .where(_IS_FIRING)
        .order_by(alerts.c.id)
    )
    return [
        FiringAlert(
            id=str(row.id),
            rule=row.rule,
            kind=row.kind,
            subject=Subject(name=row.subject, source_id=row.source_id, source=row.slug, tenant=row.tenant),
            severity=Severity(row.severity),
            started_at=row.started_at,
            evaluated_at=row.judged_at,
            keep_firing_since=row.calm_since,
        )
        for row in rows
    ]


def list_last_resolved(
    connection: Connection, subjects: Collection[tuple[str, str]]
) -> dict[tuple[str, str], ResolvedAlert]:
    """Return the alert that was resolved last, for each of these pairs of a rule and a subject that has one."""
    if not subjects:
        return {}
    pairs = (
        func.unnest(
            bindparam("rules", [rule for rule, _ in subjects], type_=ARRAY(Text)),
            bindparam("subjects", [subject for _, subject in subjects], type_=ARRAY(Text)),
        )
        .table_valued("rule", "subject")
        .render_derived(name="pairs")
    )
    last = (
        select(alerts.c.severity, alerts.c.resolved_at)
        .where(alerts.c.rule == pairs.c.rule, alerts.c.subject == pairs.c.subject, alerts.c.state == "resolved")
        .order_by(alerts.c.id.desc())
        .limit(1)
        .lateral("last")
    )
    rows = connection.execute(
        select(pairs.c.rule, pairs.c.subject, last.c.severity, last.c.resolved_at).join_from(pairs, last, true())
    )
    return {
        (row.rule, row.subject): ResolvedAlert(severity=Severity(row.severity), resolved_at=row.resolved_at)
        for row in rows
    }


def record(connection: Connection, transitions: Sequence[Transition], now: datetime) -> list[int]:
    """Store these transitions and log them as changes; return the ids of the steps, in their order.

    Raises IntegrityError if an alert fires about a subject for which another one fires.
    """
    if not transitions:
        return []
    given = _recordset(
        transitions, alert_id=Uuid, step=Text, severity=Text, summary=Text, numbers=JSONB, evidence_event_id=Uuid
    )
    is_over = given.c.step == Step.RESOLVED
    connection.execute(
        update(alerts)
        .where(alerts.c.id == given.c.alert_id, given.c.step != Step.FIRED)
        .values(
            severity=given.c.severity,
            judged_at=now,
            summary=case((is_over, alerts.c.summary), else_=given.c.summary),
            numbers=case((is_over, alerts.c.numbers), else_=given.c.numbers),
            evidence_event_id=func.coalesce(given.c.evidence_event_id, alerts.c.evidence_event_id),
            state=case((is_over, "resolved"), else_="firing"),
            calm_since=case((is_over, alerts.c.calm_since)),
            resolved_at=case((is_over, literal(now, Timestamp))),
        )
    )
    fired = [
        {
            "id": UUID(one.alert_id),
            "rule": one.rule,
            "kind": one.kind,
            "subject": one.subject.name,
            "severity": one.severity,
            "state": "firing",
            "source_id": one.subject.source_id,
            "tenant": one.subject.tenant,
            "summary": one.summary,
            "numbers": one.numbers,
            "evidence_event_id": one.evidence_event_id and UUID(one.evidence_event_id),
            "started_at": now,
            "judged_at": now,
        }
        for one in transitions
        if one.step is Step.FIRED
    ]
    if fired:
        connection.execute(insert(alerts).values(fired))
    steps = [
        {
            "alert_id": UUID(one.alert_id),
            "at": now,
            "step": one.step,
            "severity": one.severity,
            "summary": one.summary,
            "numbers": one.numbers,
        }
        for one in transitions
    ]
    ordered = insert(alert_steps).returning(alert_steps.c.id, sort_by_parameter_order=True)
    step_ids = connection.execute(ordered, steps).scalars().all()
    changed = _ALERT.where(alerts.c.id.in_([UUID(one.alert_id) for one in transitions]))
    changes = [row._asdict() for row in connection.execute(changed)]
    connection.exec_driver_sql(
        _LOG_CHANGES,
        {"ids": [change["id"] for change in changes], "data": [msgspec.json.encode(c).decode() for c in changes]},
    )
    return list(step_ids)


def keep_firing(connection: Connection, kept: Sequence[Mapping[str, Any]], now: datetime) -> None:
    """Store that these alerts were evaluated and go on firing.

    Each has `id` and `calm_since`; `summary` and `numbers` are missing where they stay.
    """
    if not kept:
        return
    given = _recordset(kept, id=Uuid, calm_since=Timestamp, summary=Text, numbers=JSONB)
    connection.execute(
        update(alerts)
        .where(alerts.c.id == given.c.id)
        .values(
            judged_at=now,
            calm_since=given.c.calm_since,
            summary=func.coalesce(given.c.summary, alerts.c.summary),
            numbers=func.coalesce(given.c.numbers, alerts.c.numbers),
        )
    )


def list_alerts(
    connection: Connection,
    *,
    state: str | None = None,
    rule: str | None = None,
    source: str | None = None,
    severity: str | None = None,
    after: Position | None = None,
    limit: int = 50,
) -> Page[Row[Any]]:
    """Return alerts, newest first. `source` is a name; `state` is `firing` or `resolved`."""
    query = KeysetQuery(alerts.c.id)
    if state == "firing":
        query.where(_IS_FIRING)
    elif state is not None:
        query.filter(alerts.c.state == state)
    if rule is not None:
        query.filter(alerts.c.rule == rule)
    if severity is not None:
        query.filter(alerts.c.severity == severity)
    if source is not None:
        query.filter(alerts.c.source_id == select(sources.c.id).where(sources.c.slug == source).scalar_subquery())
    page = query.fetch(connection, after=after, limit=limit)
    found = _ALERT.where(alerts.c.id.in_([alert_id for (alert_id,) in page.items]))
    return Page(connection.execute(found).all(), page.next)


def get(connection: Connection, alert_id: UUID) -> Row[Any] | None:
    """Return one alert; None if there is none with this id."""
    return connection.execute(_ALERT.where(alerts.c.id == alert_id)).one_or_none()


def list_steps(connection: Connection, alert_id: UUID) -> Sequence[Row[Any]]:
    """Return the history of an alert, each step with its numbers, oldest first."""
    steps = select(*alert_steps.c["id", "at", "step", "severity", "summary", "numbers", "actor"])
    return connection.execute(steps.where(alert_steps.c.alert_id == alert_id).order_by(alert_steps.c.id)).all()


def acknowledge(connection: Connection, alert_id: UUID, actor: str, now: datetime) -> Row[Any] | None:
    """Store who handles an alert that fires, and return the alert; None if there is none with this id.

    The first acknowledgement stays. A resolved alert is not acknowledged.
    """
    known = connection.execute(
        update(alerts)
        .where(alerts.c.id == alert_id, _IS_FIRING, alerts.c.acknowledged_at.is_(None))
        .values(acknowledged_at=now, acknowledged_by=actor)
        .returning(*alerts.c["severity", "summary", "numbers"])
    ).one_or_none()
    if known is not None:
        step = {"alert_id": alert_id, "at": now, "step": Step.ACKNOWLEDGED, "actor": actor, **known._asdict()}
        connection.execute(insert(alert_steps).values(step))
    return get(connection, alert_id)


def mute(
    connection: Connection, alert_id: UUID, actor: str, *, until: datetime | None, now: datetime
) -> Row[Any] | None:
    """Mute an alert that fires until a time, or with None end its mute; return it, or None if there is none.

    No channel is notified of a muted alert. A resolved alert stays as it is.
    """
    changed = connection.execute(
        update(alerts)
        .where(alerts.c.id == alert_id, _IS_FIRING)
        .values(muted_until=until, muted_by=None if until is None else actor)
        .returning(*alerts.c["severity", "summary", "numbers"])
    ).one_or_none()
    if changed is not None:
        what = Step.UNMUTED if until is None else Step.MUTED
        step = {"alert_id": alert_id, "at": now, "step": what, "actor": actor, **changed._asdict()}
        connection.execute(insert(alert_steps).values(step))
    return get(connection, alert_id)


def remind(connection: Connection, due_since: datetime, now: datetime) -> list[int]:
    """Store a reminder of every alert that still fires; return the ids of the steps.

    It has fired since before `due_since` and people were not reminded since then, or its mute has ended.
    """
    last = func.coalesce(alerts.c.reminded_at, alerts.c.started_at)
    mute_ended = and_(alerts.c.muted_until <= now, alerts.c.muted_until > last)
    reminded = connection.execute(
        update(alerts)
        .where(
            _IS_FIRING,
            or_(alerts.c.muted_until.is_(None), alerts.c.muted_until <= now),
            or_(last < due_since, mute_ended),
        )
        .values(reminded_at=now)
        .returning(alerts.c.id.label("alert_id"), *alerts.c["severity", "summary", "numbers"])
    ).all()
    steps = [{"at": now, "step": Step.REMINDED, **row._asdict()} for row in reminded]
    if not steps:
        return []
    ordered = insert(alert_steps).returning(alert_steps.c.id, sort_by_parameter_order=True)
    return list(connection.execute(ordered, steps).scalars())


def list_rules(connection: Connection) -> Sequence[Row[Any]]:
    """Return the rules that were created through the API, by name. `shared.rules.document` loads their `definition`."""
    return connection.execute(select(alert_rules).order_by(alert_rules.c.name)).all()


def save_rule(connection: Connection, name: str, definition: Mapping[str, Any], actor: str, now: datetime) -> bool:
    """Create or replace a rule; return whether it is new. `shared.rules` must have read the definition before."""
    created = {"definition": definition, "created_at": now, "updated_at": now, "created_by": actor}
    statement = upsert(alert_rules).values(name=name, **created)
    changed = {"definition": statement.excluded.definition, "updated_at": statement.excluded.updated_at}
    is_new: ColumnElement[bool] = literal_column("xmax = 0", Boolean)
    statement = statement.on_conflict_do_update(index_elements=["name"], set_=changed)
    return bool(connection.execute(statement.returning(is_new)).scalar_one())


def delete_rule(connection: Connection, name: str) -> bool:
    """Delete a rule that was created through the API; return False if there is none. Its alerts are resolved soon."""
    return bool(connection.execute(delete(alert_rules).where(alert_rules.c.name == name)).rowcount)


def _recordset(rows: Sequence[Any], **types: TypeEngine[Any] | type[TypeEngine[Any]]) -> TableValuedAlias:
    """Return rows as a table, passed as one JSON parameter, so that their number is not limited."""
    given = func.jsonb_to_recordset(literal(msgspec.to_builtins(rows), JSONB))
    columns = [column(name, type_) for name, type_ in types.items()]
    return given.table_valued(*columns).render_derived(name="given", with_types=True)
