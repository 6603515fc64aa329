"""Alerts: what a person must be told, and what came of telling."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from marshmallow import Schema, fields, validate

from api.core import pagination
from api.core.auth import TenantAccess
from api.core.errors import ProblemError, not_found
from api.core.fields import Instant, PageQuery, asked, identifier, instant, page_of, text
from api.core.resource import Resource, answers, takes
from api.resources import alert_channels, alert_rules
from shared.alerts import store as alerts
from shared.alerts.policy import Step
from shared.alerts.store import AlertFacts
from shared.notifications import rendering
from shared.notifications import store as notifications
from shared.notifications.store import NoticeFacts
from shared.vocabulary import AlertKind, Severity

_STATES = ("firing", "resolved")


class AlertQuery(PageQuery):
    """Which alerts."""

    state = fields.String(validate=validate.OneOf(_STATES))
    severity = fields.Enum(Severity, by_value=True)
    rule = asked("Of the rule of this name.")
    source = asked("About this source.")


class Alert(Schema):
    """An alert: something that a rule found, from when it fired until it is over."""

    id = identifier()
    rule = fields.String(metadata={"description": "The name of the rule that found it."})
    kind = fields.String(metadata={"enum": [str(kind) for kind in AlertKind]})
    subject = fields.String(metadata={"description": "What tells it from others of its rule: a source, a domain …"})
    severity = fields.String(metadata={"enum": [str(severity) for severity in Severity]})
    state = fields.String(metadata={"enum": list(_STATES)})
    source = text("The source that it is about, if it is about one.")
    tenant = text()
    summary = fields.String(metadata={"description": "What is wrong, in a sentence."})
    numbers = fields.Dict(keys=fields.String(), metadata={"description": "What it was last judged by."})
    evidence_event_id = identifier("An event that shows it.", allow_none=True)
    started_at = Instant()
    judged_at = Instant(metadata={"description": "For the last time."})
    resolved_at = instant()
    acknowledged_at = instant()
    acknowledged_by = text("The name of the key, or the user on the command line.")


class AlertStep(Schema):
    """Something that happened to an alert."""

    id = fields.Integer()
    at = Instant()
    step = fields.String(metadata={"enum": [str(step) for step in Step]})
    severity = fields.String()
    summary = fields.String()
    numbers = fields.Dict(keys=fields.String(), metadata={"description": "What it was judged by at that moment."})
    actor = text("Who did it, where it was a person.")


class AlertNotice(Schema):
    """What one channel was told of one step, or has yet to be."""

    channel = fields.String()
    step_id = fields.Integer()
    step = fields.String()
    state = fields.String(metadata={"enum": ["pending", "sent", "dead"]})
    attempts = fields.Integer()
    enqueued_at = Instant()
    sent_at = instant()
    next_attempt_at = instant("Not before this.")
    last_error = text()
    message_id = text("The message that it was told in, perhaps with others.")


class WholeAlert(Alert):
    """An alert with its history."""

    next_step = fields.String(metadata={"description": "What to do about it."})
    steps = fields.List(fields.Nested(AlertStep))
    notices = fields.List(fields.Nested(AlertNotice))


class Alerts(Resource):
    """All alerts."""

    rule = "/v1/alerts"
    tenancy = TenantAccess.CLOSED

    @takes(AlertQuery, location="query")
    @answers(200, page_of(Alert, "AlertPage"))
    def get(self, query: dict[str, Any]) -> dict[str, Any]:
        """List alerts, the newest first."""
        after = pagination.decode(query.pop("cursor", None), pagination.BY_ID)
        with self.deps.engine.begin() as connection:
            page = alerts.listed(connection, after=after, **query)
        return {"items": page.items, "next_cursor": pagination.encode(page.next)}


class OneAlert(Resource):
    """One alert."""

    rule = "/v1/alerts/<identifier:alert_id>"
    tenancy = TenantAccess.CLOSED

    @answers(200, WholeAlert)
    def get(self, alert_id: UUID) -> dict[str, Any]:
        """Show an alert: its history with the numbers of each step, and who was told of it."""
        with self.deps.engine.begin() as connection:
            alert = _known(alerts.find(connection, alert_id), alert_id)
            steps = alerts.steps(connection, alert_id)
            told = notifications.of_alert(connection, alert_id)
        return {
            **asdict(alert),
            "next_step": rendering.next_step(alert.kind),
            "steps": steps,
            "notices": [_shown(notice) for notice in told],
        }


class Acknowledgement(Resource):
    """Acknowledging an alert."""

    rule = "/v1/alerts/<identifier:alert_id>/ack"
    tenancy = TenantAccess.CLOSED

    @answers(200, Alert)
    def post(self, alert_id: UUID) -> AlertFacts:
        """Say that somebody knows of an alert. Idempotent: who said so first stays."""
        now = datetime.now(UTC)
        with self.deps.engine.begin() as connection:
            alert = _known(alerts.acknowledge(connection, alert_id, self.caller.name, now), alert_id)
            if alert.acknowledged_at is None:
                raise ProblemError(409, "The alert is over; there is nothing left to acknowledge.")
            if alert.acknowledged_at == now:
                self.audit(connection, "alert.acknowledged", f"alert:{alert_id}", rule=alert.rule)
        return alert


def _shown(notice: NoticeFacts) -> dict[str, Any]:
    return {**asdict(notice), "message_id": rendering.id_of(notice.telling) if notice.telling else None}


def _known(alert: AlertFacts | None, alert_id: UUID) -> AlertFacts:
    if alert is None:
        raise not_found(f"alert {alert_id}")
    return alert


RESOURCES = (Alerts, OneAlert, Acknowledgement, *alert_rules.RESOURCES, *alert_channels.RESOURCES)
