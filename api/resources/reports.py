"""Diagnosis of messages: the verdict, the next steps, and a report for the provider's support."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from marshmallow import Schema, fields, validate
from sqlalchemy import Connection

from api.core.auth import TenantAccess
from api.core.errors import ProblemError, not_found
from api.core.fields import MAX_TEXT_LENGTH, Instant, Strict, identifier, instant, query_text, text, word, word_or_null
from api.core.resource import Deps, Resource, answers, takes
from api.core.source_filter import require_sources
from api.resources.events import Event
from api.resources.messages import Message
from shared.diagnosis import service as diagnosis
from shared.diagnosis import store as recorded
from shared.diagnosis.model import Answer, Mark, Place
from shared.diagnosis.report import MAX_TIMELINE, format_report
from shared.diagnosis.service import DiagnosisContext, MessageDiagnosis
from shared.diagnosis.verdicts import Verdict
from shared.events.bots import Automation
from shared.messages import queries as messages
from shared.messages.queries import MessageFilter
from shared.vocabulary import Classification, EventType


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
    verdict = fields.String(metadata={"enum": [str(verdict) for verdict in Verdict]})
    text = fields.String()
    event_id = identifier("The event that the verdict rests on.", allow_none=True)


class Finding(Schema):
    """The result of one check."""

    code = fields.String()
    mark = word(Mark)
    next_step = text("The action to take, without its commands.")
    commands = fields.List(fields.String(), metadata={"description": "Commands of the action, which run as they are."})
    about_source = fields.Boolean(
        metadata={"description": "It is about the source around that time, and perhaps about other messages only."}
    )
    text = fields.String()
    evidence = fields.List(fields.String(), metadata={"description": "Ids of events, receipts or deliveries."})


class EventSummary(Schema):
    """The main fields of an event."""

    id = identifier()
    type = word(EventType)
    recipient = text()
    occurred_at = instant()
    received_at = instant()
    classification = word_or_null(Classification)
    codes = fields.String()
    reason = text()
    reconciled = fields.Boolean()
    word = fields.String(metadata={"description": "The provider's own word; empty if its event has none."})
    automated = word_or_null(
        Automation, "The kind of program that opened or clicked; null for a person, as far as the event shows."
    )
    by = text("The user agent of an open, read or click.")
    problem = text("Why an event of type `unknown` changed nothing.")


class RecipientAnswer(Schema):
    """What a recipient said after looking in a place."""

    recipient = fields.String()
    place = fields.String(metadata={"enum": [str(place) for place in Place]})
    answer = fields.String(metadata={"enum": [str(answer) for answer in Answer]})
    answered_at = Instant()
    recorded_by = fields.String(metadata={"description": "The name of the API key, or the user of the command line."})


class NewAnswers(Strict):
    """Answers of a recipient, by the place that was looked in. A later answer replaces an earlier one."""

    recipient = fields.String(
        validate=validate.Length(1, MAX_TEXT_LENGTH),
        metadata={"description": "Who answered; needed if the message has several recipients."},
    )
    answers = fields.Dict(
        keys=fields.Enum(Place, by_value=True),
        values=fields.Enum(Answer, by_value=True),
        required=True,
        validate=validate.Length(1, len(Place)),
        metadata={
            "description": f"By place ({', '.join(Place)}): {', '.join(Answer)}.",
            "examples": [{"spam": "not_found", "rules": "found"}],
        },
    )


class Escalation(Schema):
    """The facts that a provider's support asks for."""

    provider = fields.String(metadata={"description": "Empty if it is not known."})
    sender = text()
    recipients = fields.List(fields.String())
    subject = text()
    sent_at = instant()
    sent_at_known_by = fields.String()
    request_id = text()
    smtp_id = text()
    provider_message_id = text()
    last_event = fields.Nested(EventSummary, allow_none=True)
    bounces_and_complaints = fields.List(fields.Nested(EventSummary))
    timeline = fields.List(
        fields.Nested(EventSummary), metadata={"description": f"The newest {MAX_TIMELINE} events, the oldest first."}
    )
    answers = fields.List(fields.Nested(RecipientAnswer))
    to_ask = fields.List(fields.String(), metadata={"description": "Questions that only the recipient can answer."})
    missing = fields.List(fields.String(), metadata={"description": "Facts that support asks for but Tidings lacks."})


class Report(Schema):
    """A diagnosis, with the message and events that it rests on."""

    message = fields.Nested(Message, allow_none=True)
    verdict = fields.String(metadata={"enum": [str(verdict) for verdict in Verdict]})
    headline = fields.String()
    recipients = fields.List(fields.Nested(RecipientVerdict))
    findings = fields.List(fields.Nested(Finding))
    next_steps = fields.List(fields.String())
    escalation = fields.Nested(Escalation)
    report_text = fields.String(metadata={"description": "The escalation as one block of text to paste."})
    report_markdown = fields.String(metadata={"description": "The same in Markdown."})
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
        with self.deps.reading.connect() as connection:
            message = messages.get_message(connection, message_id, tenant=self.caller.tenant)
            if message is None:
                raise not_found(f"message {message_id}")
            return _dump(diagnosis.diagnose_message(_context(self.deps, connection, self.caller.tenant), message))


class Answers(Resource):
    """What recipients of one message answered about their mailboxes."""

    rule = "/v1/messages/<identifier:message_id>/answers"
    tenancy = TenantAccess.OWN

    @takes(NewAnswers)
    @answers(200, Report)
    def post(self, body: dict[str, Any], message_id: UUID) -> dict[str, Any]:
        """Record where a recipient has looked for the message, and return the report with the answers."""
        with self.deps.engine.begin() as connection:
            message = messages.get_message(connection, message_id, tenant=self.caller.tenant)
            if message is None:
                raise not_found(f"message {message_id}")
            ctx = _context(self.deps, connection, self.caller.tenant)
            recipient = recorded.choose_recipient(message, body.get("recipient"))
            recorded.record_answers(
                connection,
                ctx.hasher,
                message.id,
                recipient,
                body["answers"],
                recorded_by=self.caller.name,
                now=ctx.now,
            )
            self.audit(connection, "message.answered", f"message:{message.id}", places=sorted(body["answers"]))
            return _dump(diagnosis.diagnose_message(ctx, message))


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
        with self.deps.reading.connect() as connection:
            require_sources(connection, self.caller, query)
            ctx = _context(self.deps, connection, self.caller.tenant)
            return {"items": [_dump(one) for one in diagnosis.diagnose_matching(ctx, MessageFilter(**query))]}


def _context(deps: Deps, connection: Connection, tenant: str | None) -> DiagnosisContext:
    now = datetime.now(UTC)
    return DiagnosisContext(connection=connection, hasher=deps.hasher, vault=deps.vault, now=now, tenant=tenant)


def _dump(found: MessageDiagnosis) -> dict[str, Any]:
    result = found.diagnosis
    sections = {name: getattr(result, name) for name in result.__slots__}
    return {
        "message": found.message,
        **sections,
        "report_text": format_report(result.escalation),
        "report_markdown": format_report(result.escalation, markdown=True),
        "timeline": found.events,
    }


RESOURCES = (MessageReport, Answers, Diagnoses)
