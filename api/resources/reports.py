"""Reports: why a message is where it is, what to do next, and what a provider's support asks for."""

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
from shared.diagnosis.service import Desk, Diagnosed
from shared.messages import queries as messages
from shared.messages.queries import Wanted


class ReportQuery(Strict):
    """Which messages: everything that is given must hold."""

    source = query_text("Of this source.")
    request_id = query_text("By what the provider answered when the message was sent.")
    smtp_id = query_text("By the Message-Id, with or without angle brackets.")
    message_id = query_text("By our id, or the provider's.")
    recipient = query_text("By one of its recipients; beside an id, only this recipient is looked at.")


class Lot(Schema):
    """What is to be said of one recipient."""

    recipient = text("Null where no event has named one.")
    verdict = fields.String()
    text = fields.String()
    event_id = identifier("The event that says so.", allow_none=True)


class Finding(Schema):
    """One thing that was looked at."""

    code = fields.String()
    mark = fields.String(metadata={"description": "good, note or fault."})
    next_step = text("What to do about it.")
    text = fields.String()
    evidence = fields.List(fields.String(), metadata={"description": "Ids of events, receipts or deliveries."})


class Sighting(Schema):
    """An event, in short."""

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
    """What a provider's support asks for."""

    sender = text()
    recipients = fields.List(fields.String())
    sent_at = instant()
    sent_at_known_by = fields.String()
    request_id = text()
    smtp_id = text()
    provider_message_id = text()
    last_event = fields.Nested(Sighting, allow_none=True)
    bounces_and_complaints = fields.List(fields.Nested(Sighting))
    to_ask = fields.List(fields.String(), metadata={"description": "What only the recipient can answer."})
    missing = fields.List(fields.String(), metadata={"description": "What is asked for, and not known here."})


class Report(Schema):
    """A diagnosis and what it rests on."""

    message = fields.Nested(Message, allow_none=True)
    verdict = fields.String(metadata={"examples": ["delivered", "bounced", "suppressed", "never_seen", "partly_seen"]})
    headline = fields.String()
    recipients = fields.List(fields.Nested(Lot))
    findings = fields.List(fields.Nested(Finding))
    next_steps = fields.List(fields.String())
    escalation = fields.Nested(Escalation)
    timeline = fields.List(fields.Nested(Event))


class Reports(Schema):
    """The reports of all messages that fit."""

    items = fields.List(fields.Nested(Report))


class MessageReport(Resource):
    """The report about one message."""

    rule = "/v1/messages/<identifier:message_id>/report"
    tenancy = TenantAccess.OWN

    @answers(200, Report)
    def get(self, message_id: UUID) -> dict[str, Any]:
        """Say why a message is where it is, and what to do next."""
        with self.deps.engine.begin() as connection:
            message = messages.find(connection, message_id, tenant=self.caller.tenant)
            if message is None:
                raise not_found(f"message {message_id}")
            return _shown(diagnosis.of(_desk(self.deps, connection, self.caller.tenant), message))


class Diagnoses(Resource):
    """The reports about what is asked for, known or not."""

    rule = "/v1/diagnosis"
    tenancy = TenantAccess.OWN

    @takes(ReportQuery, location="query")
    @answers(200, Reports)
    def get(self, query: dict[str, Any]) -> dict[str, Any]:
        """Diagnose the newest messages that fit; where there are none, one report says so, and where to look."""
        if not set(query) - {"source"}:
            raise ProblemError(422, "Say which: request_id, smtp_id, message_id or recipient.")
        with self.deps.engine.begin() as connection:
            return {
                "items": [
                    _shown(one)
                    for one in diagnosis.wanted(_desk(self.deps, connection, self.caller.tenant), Wanted(**query))
                ]
            }


def _desk(deps: Deps, connection: Connection, tenant: str | None) -> Desk:
    return Desk(connection=connection, hasher=deps.hasher, vault=deps.vault, now=datetime.now(UTC), tenant=tenant)


def _shown(found: Diagnosed) -> dict[str, Any]:
    told = found.diagnosis
    return {
        "message": found.message,
        **{name: getattr(told, name) for name in told.__slots__},
        "timeline": found.events,
    }


RESOURCES = (MessageReport, Diagnoses)
