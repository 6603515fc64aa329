"""Diagnosis of messages: the verdict, the next steps, and a report for the provider's support."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from marshmallow import Schema, fields
from sqlalchemy import Connection

from api.core.auth import TenantAccess
from api.core.errors import ProblemError, not_found
from api.core.fields import Strict, identifier, instant, query_text, text
from api.core.resource import Deps, Resource, answers, takes
from api.resources.events import Event
from api.resources.messages import Message
from shared.diagnosis import service as diagnosis
from shared.diagnosis.service import DiagnosisContext, MessageDiagnosis
from shared.messages import queries as messages
from shared.messages.queries import MessageFilter


class ReportQuery(Strict):
    """Filters; all that are given must match."""

    source = query_text("The source.")
    request_id = query_text("The id that the provider returned when the message was sent.")
    smtp_id = query_text("The Message-Id, with or without angle brackets.")
    message_id = query_text("Our id of the message, or the provider's.")
    recipient = query_text("The address of a recipient; together with an id, only this recipient is diagnosed.")


class RecipientVerdict(Schema):
    """The verdict on one recipient."""

    recipient = text("Null if no event has named a recipient.")
    verdict = fields.String()
    text = fields.String()
    event_id = identifier("The event that the verdict rests on.", allow_none=True)


class Finding(Schema):
    """The result of one check."""

    code = fields.String()
    mark = fields.String(metadata={"description": "`good`, `note` or `fault`."})
    next_step = text("The action to take.")
    text = fields.String()
    evidence = fields.List(fields.String(), metadata={"description": "Ids of events, receipts or deliveries."})


class EventSummary(Schema):
    """The main fields of an event."""

    id = identifier()
    type = fields.String()
    recipient = text()
    occurred_at = instant()
    received_at = instant()
    classification = text()
    codes = fields.String()
    reason = text()
    reconciled = fields.Boolean()


class Escalation(Schema):
    """The facts that a provider's support asks for."""

    sender = text()
    recipients = fields.List(fields.String())
    sent_at = instant()
    sent_at_known_by = fields.String()
    request_id = text()
    smtp_id = text()
    provider_message_id = text()
    last_event = fields.Nested(EventSummary, allow_none=True)
    bounces_and_complaints = fields.List(fields.Nested(EventSummary))
    to_ask = fields.List(fields.String(), metadata={"description": "Questions that only the recipient can answer."})
    missing = fields.List(fields.String(), metadata={"description": "Facts that support asks for but Tidings lacks."})


class Report(Schema):
    """A diagnosis, with the message and events that it rests on."""

    message = fields.Nested(Message, allow_none=True)
    verdict = fields.String(metadata={"examples": ["delivered", "bounced", "suppressed", "never_seen", "partly_seen"]})
    headline = fields.String()
    recipients = fields.List(fields.Nested(RecipientVerdict))
    findings = fields.List(fields.Nested(Finding))
    next_steps = fields.List(fields.String())
    escalation = fields.Nested(Escalation)
    timeline = fields.List(fields.Nested(Event))


class Reports(Schema):
    """The reports on all messages that match."""

    items = fields.List(fields.Nested(Report))


class MessageReport(Resource):
    """The report on one message."""

    rule = "/v1/messages/<identifier:message_id>/report"
    tenancy = TenantAccess.OWN

    @answers(200, Report)
    def get(self, message_id: UUID) -> dict[str, Any]:
        """Explain the state of a message and the next steps."""
        with self.deps.engine.begin() as connection:
            message = messages.get_message(connection, message_id, tenant=self.caller.tenant)
            if message is None:
                raise not_found(f"message {message_id}")
            return _dump(diagnosis.diagnose_message(_context(self.deps, connection, self.caller.tenant), message))


class Diagnoses(Resource):
    """The reports on the messages that match, or on an unknown message."""

    rule = "/v1/diagnosis"
    tenancy = TenantAccess.OWN

    @takes(ReportQuery, location="query")
    @answers(200, Reports)
    def get(self, query: dict[str, Any]) -> dict[str, Any]:
        """Diagnose the newest messages that match. If none does, one report says so and where to look."""
        if not set(query) - {"source"}:
            raise ProblemError(422, "One of these is required: request_id, smtp_id, message_id, recipient.")
        with self.deps.engine.begin() as connection:
            ctx = _context(self.deps, connection, self.caller.tenant)
            return {"items": [_dump(one) for one in diagnosis.diagnose_matching(ctx, MessageFilter(**query))]}


def _context(deps: Deps, connection: Connection, tenant: str | None) -> DiagnosisContext:
    now = datetime.now(UTC)
    return DiagnosisContext(connection=connection, hasher=deps.hasher, vault=deps.vault, now=now, tenant=tenant)


def _dump(found: MessageDiagnosis) -> dict[str, Any]:
    result = found.diagnosis
    sections = {name: getattr(result, name) for name in result.__slots__}
    return {"message": found.message, **sections, "timeline": found.events}


RESOURCES = (MessageReport, Diagnoses)
