"""Alerts, their history, and the notifications that were sent about them."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from marshmallow import Schema, fields, validate
from sqlalchemy import Row

from api.core import pagination
from api.core.auth import TenantAccess
from api.core.errors import ProblemError, require
from api.core.fields import Instant, PageQuery, Strict, identifier, instant, page_of, query_text, text, word
from api.core.resource import Resource, answers, takes
from api.core.source_filter import require_sources
from api.resources import alert_channels, alert_rules
from shared.alerts import kinds
from shared.alerts import store as alerts
from shared.alerts.policy import Step
from shared.errors import InvalidFieldError
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
    muted_until = instant("No channel is notified of it until then.")
    muted_by = text("Who muted it.")


class AlertStep(Schema):
    """An entry in the history of an alert."""

    id = fields.Integer()
    at = Instant()
    step = word(Step)
    severity = word(Severity)
    summary = fields.String()
    numbers = fields.Dict(keys=fields.String(), metadata={"description": "The measured numbers of that moment."})
    actor = text("Who acknowledged or muted it; null for other steps.")


class AlertNotice(Schema):
    """The notification of one channel about one step, sent or pending."""

    channel = fields.String()
    step_id = fields.Integer()
    step = word(Step)
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
        with self.deps.reading.connect() as connection:
            require_sources(connection, self.caller, query)
            page = alerts.list_alerts(connection, after=after, **query)
        return {"items": page.items, "next_cursor": pagination.encode(page.next)}


class OneAlert(Resource):
    """One alert."""

    rule = "/v1/alerts/<identifier:alert_id>"
    tenancy = TenantAccess.CLOSED

    @answers(200, WholeAlert)
    def get(self, alert_id: UUID) -> dict[str, Any]:
        """Get an alert with its history and notifications."""
        with self.deps.reading.connect() as connection:
            alert = require(alerts.get(connection, alert_id), f"alert {alert_id}")
            steps = alerts.list_steps(connection, alert_id)
            notices = [
                {**notice._asdict(), "message_id": notice.telling and rendering.message_id(notice.telling)}
                for notice in notifications.list_notices(connection, alert_id)
            ]
        step = kinds.next_step(alert.kind, subject=alert.subject, source=alert.source, numbers=alert.numbers)
        return {**alert._asdict(), "next_step": step, "steps": steps, "notices": notices}


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


class NewMute(Strict):
    """Until when an alert is muted."""

    until = Instant(required=True, metadata={"description": "A time in the future."})


class Mute(Resource):
    """Muting an alert."""

    rule = "/v1/alerts/<identifier:alert_id>/mute"
    tenancy = TenantAccess.CLOSED

    @takes(NewMute)
    @answers(200, Alert)
    def post(self, body: dict[str, Any], alert_id: UUID) -> Row[Any]:
        """Notify no channel of an alert until a time. If it still fires then, the channels are notified."""
        now, until = datetime.now(UTC), body["until"]
        if until <= now:
            raise InvalidFieldError("until", str(until), f"until must be in the future; it is {until.isoformat()}.")
        with self.deps.engine.begin() as connection:
            muted = alerts.mute(connection, alert_id, self.caller.name, until=until, now=now)
            alert = require(muted, f"alert {alert_id}")
            if alert.state != "firing":
                raise ProblemError(409, f"Alert {alert_id} is resolved, so it cannot be muted.")
            notifications.drop_muted(connection, alert_id)
            self.audit(connection, "alert.muted", f"alert:{alert_id}", rule=alert.rule, until=until.isoformat())
        return alert


class Unmute(Resource):
    """Ending a mute."""

    rule = "/v1/alerts/<identifier:alert_id>/unmute"
    tenancy = TenantAccess.CLOSED

    @answers(200, Alert)
    def post(self, alert_id: UUID) -> Row[Any]:
        """Notify channels of an alert again."""
        with self.deps.engine.begin() as connection:
            unmuted = alerts.mute(connection, alert_id, self.caller.name, until=None, now=datetime.now(UTC))
            alert = require(unmuted, f"alert {alert_id}")
            if alert.state != "firing":
                raise ProblemError(409, f"Alert {alert_id} is resolved, so it is not muted.")
            self.audit(connection, "alert.unmuted", f"alert:{alert_id}", rule=alert.rule)
        return alert


RESOURCES = (Alerts, OneAlert, Acknowledgement, Mute, Unmute, *alert_rules.RESOURCES, *alert_channels.RESOURCES)
