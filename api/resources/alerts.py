"""Alerts, their history, and the notifications that were sent about them."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from marshmallow import Schema, fields, validate
from sqlalchemy import Row

from api.core import pagination
from api.core.auth import TenantAccess
from api.core.errors import ProblemError, require
from api.core.fields import Instant, PageQuery, identifier, instant, page_of, query_text, text
from api.core.resource import Resource, answers, takes
from api.resources import alert_channels, alert_rules
from shared.alerts import kinds
from shared.alerts import store as alerts
from shared.alerts.policy import Step
from shared.notifications import rendering
from shared.notifications import store as notifications
from shared.vocabulary import AlertKind, Severity

_STATES = ("firing", "resolved")


class AlertQuery(PageQuery):
    """Filters of alerts."""

    state = fields.String(validate=validate.OneOf(_STATES))
    severity = fields.Enum(Severity, by_value=True)
    rule = query_text("Alerts of the rule with this name.")
    source = query_text("Alerts about this source.")


class Alert(Schema):
    """An alert: one episode in which a rule's condition holds for one subject."""

    id = identifier()
    rule = fields.String(metadata={"description": "The name of its rule."})
    kind = fields.String(metadata={"enum": [str(kind) for kind in AlertKind]})
    subject = fields.String(metadata={"description": "What it is about: a source, a domain, a subscription …"})
    severity = fields.String(metadata={"enum": [str(severity) for severity in Severity]})
    state = fields.String(metadata={"enum": list(_STATES)})
    source = text("The source that it is about; null if it is not about one source.")
    tenant = text()
    summary = fields.String(metadata={"description": "The condition in a sentence, as it was when it held last."})
    numbers = fields.Dict(keys=fields.String(), metadata={"description": "The measured numbers of that time."})
    evidence_event_id = identifier("An event given as evidence.", allow_none=True)
    started_at = Instant()
    judged_at = Instant(metadata={"description": "When its condition was evaluated last."})
    resolved_at = instant()
    acknowledged_at = instant()
    acknowledged_by = text("The name of the API key, or of the user of the command line.")


class AlertStep(Schema):
    """An entry in the history of an alert."""

    id = fields.Integer()
    at = Instant()
    step = fields.String(metadata={"enum": [str(step) for step in Step]})
    severity = fields.String()
    summary = fields.String()
    numbers = fields.Dict(keys=fields.String(), metadata={"description": "The measured numbers of that moment."})
    actor = text("Who acknowledged it; null for other steps.")


class AlertNotice(Schema):
    """The notification of one channel about one step, sent or pending."""

    channel = fields.String()
    step_id = fields.Integer()
    step = fields.String()
    state = fields.String(metadata={"enum": ["pending", "sent", "dead"]})
    attempts = fields.Integer()
    enqueued_at = Instant()
    sent_at = instant()
    next_attempt_at = instant("The earliest time of the next attempt.")
    last_error = text()
    message_id = text("The message that it was sent in, perhaps with others.")


class WholeAlert(Alert):
    """An alert with its history and notifications."""

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
        """List alerts, newest first."""
        after = pagination.decode(query.pop("cursor", None), pagination.BY_ID)
        with self.deps.engine.begin() as connection:
            page = alerts.list_alerts(connection, after=after, **query)
        return {"items": page.items, "next_cursor": pagination.encode(page.next)}


class OneAlert(Resource):
    """One alert."""

    rule = "/v1/alerts/<identifier:alert_id>"
    tenancy = TenantAccess.CLOSED

    @answers(200, WholeAlert)
    def get(self, alert_id: UUID) -> dict[str, Any]:
        """Get an alert with its history and notifications."""
        with self.deps.engine.begin() as connection:
            alert = require(alerts.get(connection, alert_id), f"alert {alert_id}")
            steps = alerts.list_steps(connection, alert_id)
            notices = [
                {**notice._asdict(), "message_id": notice.telling and rendering.message_id(notice.telling)}
                for notice in notifications.list_notices(connection, alert_id)
            ]
        return {**alert._asdict(), "next_step": kinds.next_step(alert.kind), "steps": steps, "notices": notices}


class Acknowledgement(Resource):
    """Acknowledging an alert."""

    rule = "/v1/alerts/<identifier:alert_id>/ack"
    tenancy = TenantAccess.CLOSED

    @answers(200, Alert)
    def post(self, alert_id: UUID) -> Row[Any]:
        """Record that somebody handles an alert. Idempotent: the first acknowledgement stays."""
        now = datetime.now(UTC)
        with self.deps.engine.begin() as connection:
            acknowledged = alerts.acknowledge(connection, alert_id, self.caller.name, now)
            alert = require(acknowledged, f"alert {alert_id}")
            if alert.acknowledged_at is None:
                raise ProblemError(409, f"Alert {alert_id} is resolved, so it cannot be acknowledged.")
            if alert.acknowledged_at == now:
                self.audit(connection, "alert.acknowledged", f"alert:{alert_id}", rule=alert.rule)
        return alert


RESOURCES = (Alerts, OneAlert, Acknowledgement, *alert_rules.RESOURCES, *alert_channels.RESOURCES)
