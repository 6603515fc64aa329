"""Collects the input of a diagnosis: a message, its events, and requests and failures around that time."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from shared.addresses import normalize
from shared.diagnosis.diagnose import Diagnosis, diagnose, is_incomplete
from shared.diagnosis.model import (
    ActiveSuppression,
    DiagnosisInput,
    EventSummary,
    FailedDelivery,
    Identifiers,
    RecipientState,
    RefusedRequests,
    SourceStatus,
    UnprocessedReceipt,
    WebhookRegistration,
)
from shared.diagnosis.verdicts import MAX_RETRY_PERIOD
from shared.encryption import Vault
from shared.errors import TidingsError
from shared.messages import event_queries
from shared.messages import queries as messages
from shared.messages.event_queries import StoredEvent
from shared.messages.queries import Message, MessageFilter
from shared.postgres.pagination import Span
from shared.providers.api.base import Span as FailureSpan
from shared.receipts import queries as receipt_queries
from shared.reconciliation import failed_deliveries
from shared.reconciliation import store as reconciliations
from shared.sources import provider_api
from shared.sources import store as sources
from shared.sources.source import open_source
from shared.sources.store import SourceRow
from shared.suppression import store as suppressions
from shared.suppression.recipient_hashes import RecipientHasher
from shared.vocabulary import EventType, ReceiptState, Status

MAX_MESSAGES = 10
_MAX_EVENTS = 500
_MAX_AROUND = 10
_MARGIN = timedelta(hours=1)
_RECENT = timedelta(days=3)
_UNPROCESSED = (ReceiptState.PENDING, ReceiptState.UNVERIFIED, ReceiptState.DEAD, ReceiptState.REJECTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageDiagnosis:
    """A diagnosis, with the message and events that it rests on; `message` is None if it is unknown."""

    message: Message | None
    events: Sequence[StoredEvent]
    diagnosis: Diagnosis


@dataclass(frozen=True, slots=True, kw_only=True)
class DiagnosisContext:
    """The resources of a diagnosis, and the only tenant whose mail it may show; None means all tenants.

    A tenant gets no information on sources, requests and providers, which belong to all tenants.
    """

    connection: Connection
    hasher: RecipientHasher
    vault: Vault
    now: datetime
    tenant: str | None = None


def diagnose_matching(ctx: DiagnosisContext, wanted: MessageFilter) -> list[MessageDiagnosis]:
    """Return the diagnosis of each matching message, the newest first, or one of an unknown message."""
    wanted = replace(wanted, tenant=ctx.tenant)
    found = messages.list_messages(ctx.connection, wanted, limit=MAX_MESSAGES).items
    if not found and wanted.recipient and (wanted.request_id or wanted.smtp_id or wanted.message_id):
        # The ids may name a message whose events do not name this recipient.
        found = messages.list_messages(ctx.connection, replace(wanted, recipient=None), limit=MAX_MESSAGES).items
    if found:
        return [diagnose_message(ctx, message, wanted.recipient) for message in found]
    recipient = normalize(wanted.recipient) if wanted.recipient else None
    given = DiagnosisInput(
        now=ctx.now,
        names=Identifiers(
            message_id=wanted.message_id, request_id=wanted.request_id, smtp_id=wanted.smtp_id, recipient=recipient
        ),
        known=False,
        suppressed=_list_suppressions(ctx, [recipient] if recipient else []),
    )
    given = _add_operator_view(ctx, given, wanted.source, since=ctx.now - _RECENT, until=ctx.now)
    return [MessageDiagnosis(message=None, events=(), diagnosis=diagnose(given))]


def diagnose_message(ctx: DiagnosisContext, message: Message, recipient: str | None = None) -> MessageDiagnosis:
    """Return the diagnosis of a message, or of one recipient if the message has it."""
    events = event_queries.list_timeline(ctx.connection, message.id, tenant=ctx.tenant, limit=_MAX_EVENTS).items
    chosen = normalize(recipient) if recipient else None
    rows = [row for row in message.recipients if row.recipient == chosen] or message.recipients
    named = [row.recipient for row in rows if row.recipient]
    given = DiagnosisInput(
        now=ctx.now,
        names=Identifiers(
            message_id=str(message.id),
            request_id=message.request_id,
            smtp_id=message.smtp_id,
            provider_message_id=message.provider_message_id,
            recipient=chosen,
        ),
        known=True,
        sender=message.sender,
        subject=message.subject,
        submitted_at=message.submitted_at,
        states=tuple(
            RecipientState(
                recipient=row.recipient or "",
                status=Status(row.status) if row.status else None,
                status_at=row.status_at,
                event_id=str(row.status_event_id) if row.status_event_id else None,
                classification=row.classification,
                codes=_join_codes(row),
                reason=row.reason,
                complained_at=row.complained_at,
                unsubscribed_at=row.unsubscribed_at if row.unsubscribed else None,
            )
            for row in rows
        ),
        events=tuple(
            EventSummary(
                id=str(event.id),
                type=EventType(event.type),
                recipient=event.recipient,
                occurred_at=event.occurred_at,
                received_at=event.received_at,
                classification=event.classification,
                codes=_join_codes(event),
                reason=event.reason,
                reconciled=event.reconciled,
            )
            for event in events
            if chosen not in named or event.recipient in (chosen, None)
        ),
        suppressed=_list_suppressions(ctx, named or ([chosen] if chosen else [])),
    )
    times = [event.received_at for event in events] + [message.submitted_at or message.created_at]
    until = max(times) + (MAX_RETRY_PERIOD if is_incomplete(given) else timedelta()) + _MARGIN
    given = _add_operator_view(ctx, given, message.source, since=min(times) - _MARGIN, until=until)
    return MessageDiagnosis(message=message, events=events, diagnosis=diagnose(given))


def _add_operator_view(
    ctx: DiagnosisContext, given: DiagnosisInput, slug: str | None, *, since: datetime, until: datetime
) -> DiagnosisInput:
    """Add the sources and what was refused, set aside, not processed or not delivered, unless it is for a tenant."""
    if ctx.tenant is not None:
        return given
    connection, span = ctx.connection, Span(since=since, until=until)
    if slug:
        row = sources.find(connection, slug)
        rows = [row] if row else []
    else:
        # Without a source: the only one, or all whose providers can be asked.
        rows = sources.listed(connection)
        rows = rows if len(rows) == 1 else [row for row in rows if row.provider in provider_api.APIS]
    return replace(
        given,
        operator_view=True,
        sources=tuple(_describe_source(ctx, row) for row in rows),
        refused=tuple(
            RefusedRequests(
                at=one.refused_at, status_code=one.status_code, reason=one.reason, detail=one.detail, count=one.count
            )
            for one in receipt_queries.list_refusals(connection, source=slug, span=span, limit=_MAX_AROUND).items
        ),
        unprocessed=tuple(
            UnprocessedReceipt(
                id=str(one.id), state=state, received_at=one.received_at, why=one.last_error or one.detail or ""
            )
            for state in _UNPROCESSED
            for one in receipt_queries.list_receipts(
                connection, source=slug, state=state, span=span, limit=_MAX_AROUND
            ).items
        ),
        set_aside={
            event.problem or "no reason was stored": str(event.id)
            for event in event_queries.list_events(
                connection, source=slug, set_aside=True, span=span, limit=_MAX_AROUND
            ).items
        },
        failed=tuple(
            FailedDelivery(
                source=row.slug,
                reference=one.reference,
                failed_at=one.failed_at,
                outcome=one.outcome,
                events=one.events,
                state=one.state,
            )
            for row in rows
            for one in failed_deliveries.list_failed(
                connection, row.id, span=FailureSpan(since=since, until=until), limit=_MAX_AROUND
            )
        ),
    )


def _describe_source(ctx: DiagnosisContext, row: SourceRow) -> SourceStatus:
    try:
        open_source(row, ctx.vault)
        problem = None
    except TidingsError as error:
        problem = str(error)
    newest = event_queries.list_events(ctx.connection, source=row.slug, limit=1).items
    known = reconciliations.get(ctx.connection, row.id)
    registration = known and WebhookRegistration(
        checked_at=known.checked_at,
        registered=known.enrolled,
        validated_at=known.validated_at,
        validated=known.validated,
    )
    return SourceStatus(
        slug=row.slug,
        provider=row.provider,
        problem=problem,
        managed=row.provider in provider_api.APIS,
        last_event_at=newest[0].received_at if newest else None,
        registration=registration or None,
    )


def _list_suppressions(ctx: DiagnosisContext, recipients: Sequence[str]) -> tuple[ActiveSuppression, ...]:
    by_key = {}
    for recipient in recipients:
        by_key[ctx.hasher.hash_address(recipient)] = (recipient, False)
        by_key[ctx.hasher.hash_domain(recipient.rpartition("@")[2])] = (recipient, True)
    found = suppressions.check(ctx.connection, list(by_key), ctx.now, tenant=ctx.tenant)
    return tuple(
        ActiveSuppression(
            recipient=by_key[key][0],
            of_domain=by_key[key][1],
            reason=entry.reason,
            since=entry.since,
            until=entry.expires_at,
            types=tuple(entry.types),
            origin=entry.origin,
            evidence_event_id=str(entry.evidence_event_id) if entry.evidence_event_id else None,
        )
        for key, entries in found.items()
        for entry in (one if one.tenant or ctx.tenant is None else one.without_evidence() for one in entries)
    )


def _join_codes(row: Any) -> str:
    return " ".join(filter(None, (row.smtp_status, row.enhanced_code)))
