"""Collects the input of a diagnosis: a message, its events, and requests and failures around that time."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row

from shared import json_text
from shared.addresses import normalize, strip_brackets
from shared.deliveries import queries as delivery_queries
from shared.deliveries.queries import DeliveryFilters
from shared.diagnosis import store as answers
from shared.diagnosis.diagnose import Diagnosis, diagnose, is_incomplete
from shared.diagnosis.model import (
    ActiveSuppression,
    DiagnosisInput,
    EventSummary,
    FailedDelivery,
    Identifiers,
    InboundDelivery,
    RecipientState,
    RefusedRequests,
    SetAsideEvent,
    SourceStatus,
    UnprocessedReceipt,
    WebhookRegistration,
)
from shared.diagnosis.verdicts import MAX_RETRY_PERIOD
from shared.encryption import Vault
from shared.errors import TidingsError
from shared.events.event import spam_score
from shared.messages import event_queries
from shared.messages import queries as messages
from shared.messages.event_queries import StoredEvent
from shared.messages.queries import Message, MessageFilter
from shared.postgres.pagination import Position, Span
from shared.providers.api.base import Span as FailureSpan
from shared.providers.registry import PROVIDERS
from shared.receipts import queries as receipt_queries
from shared.reconciliation import failed_deliveries
from shared.reconciliation import store as reconciliations
from shared.sources import provider_api
from shared.sources import store as sources
from shared.sources.source import open_source
from shared.sources.store import SourceRow
from shared.suppression import store as suppressions
from shared.suppression.recipient_hashes import RecipientHasher
from shared.vocabulary import EventType, ReceiptState, SetAsideReason, Status

MAX_MESSAGES = 10
_MAX_EVENTS = 500
_MAX_AROUND = 10
_MARGIN = timedelta(hours=1)
_RECENT = timedelta(days=3)
_SET_ASIDE_SINCE = timedelta(days=30)
_MAX_SET_ASIDE_PAGES = 20
_UNPROCESSED = (ReceiptState.PENDING, ReceiptState.UNVERIFIED, ReceiptState.DEAD, ReceiptState.REJECTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageDiagnosis:
    """A diagnosis, with the message, events and sources that it rests on; `message` is None if it is unknown."""

    message: Message | None
    events: Sequence[StoredEvent]
    diagnosis: Diagnosis
    sources: tuple[SourceStatus, ...] = ()


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
    """Return the diagnosis of each matching message, the one sent last first, or one of an unknown message."""
    wanted = replace(wanted, tenant=ctx.tenant)
    found = messages.list_messages(ctx.connection, wanted, limit=MAX_MESSAGES).items
    if not found and wanted.recipient and (wanted.request_id or wanted.smtp_id or wanted.message_id):
        # The ids may name a message whose events do not name this recipient.
        found = messages.list_messages(ctx.connection, replace(wanted, recipient=None), limit=MAX_MESSAGES).items
    if found:  # events of old messages may have come last, such as those that a provider resent
        found = sorted(found, key=lambda one: one.submitted_at or one.first_event_at or one.created_at, reverse=True)
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
    set_aside = list_set_aside(ctx, wanted)
    slug = wanted.source or (set_aside[0].source if set_aside else None)
    given = replace(given, own_set_aside=tuple(map(describe_set_aside, set_aside)))
    given = _add_operator_view(ctx, given, slug, since=ctx.now - _RECENT, until=ctx.now)
    return [MessageDiagnosis(message=None, events=(), diagnosis=diagnose(given), sources=given.sources)]


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
        states=tuple(map(describe_recipient, rows)),
        events=tuple(
            describe_event(event) for event in events if chosen not in named or event.recipient in (chosen, None)
        ),
        suppressed=_list_suppressions(ctx, named or ([chosen] if chosen else [])),
        own_set_aside=tuple(describe_set_aside(event) for event in events if event.type == EventType.UNKNOWN),
        answers=answers.list_answers(ctx.connection, ctx.hasher, message.id, named),
    )
    if any(event.type == EventType.INBOUND for event in events):
        scores = [score for event in events if (score := spam_score(event.details)) is not None]
        of_message = DeliveryFilters(message_id=message.id, tenant=ctx.tenant)
        given = replace(
            given,
            spam_score=max(scores, default=None),
            deliveries=tuple(
                InboundDelivery(id=str(row.id), subscription=row.subscription_name, status=row.status)
                for row in delivery_queries.get_page(ctx.connection, of_message).items
            ),
        )
    times = [event.received_at for event in events] + [message.submitted_at or message.created_at]
    until = max(times) + (MAX_RETRY_PERIOD if is_incomplete(given) else timedelta()) + _MARGIN
    given = _add_operator_view(ctx, given, message.source, since=min(times) - _MARGIN, until=until)
    return MessageDiagnosis(message=message, events=events, diagnosis=diagnose(given), sources=given.sources)


def describe_recipient(row: Row[Any]) -> RecipientState:
    """Return the state of a recipient, from a row of `shared.messages.queries.effective_states`."""
    return RecipientState(
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


def describe_event(event: StoredEvent) -> EventSummary:
    """Return what a diagnosis needs of an event."""
    return EventSummary(
        id=str(event.id),
        type=EventType(event.type),
        recipient=event.recipient,
        occurred_at=event.occurred_at,
        received_at=event.received_at,
        classification=event.classification,
        codes=_join_codes(event),
        reason=event.reason,
        reconciled=event.reconciled,
        word=read_word(event),
        automated=event.automated,
        by=event.user_agent,
        problem=event.problem,
    )


def list_set_aside(ctx: DiagnosisContext, wanted: MessageFilter) -> list[StoredEvent]:
    """Return the authentic events with these ids that changed nothing, the newest first.

    An id is looked for among the events that were set aside in the last 30 days, of which there are few.
    """
    if not (wanted.request_id or wanted.smtp_id or wanted.message_id):
        return []
    found: list[StoredEvent] = []
    after: Position | None = None
    for _ in range(_MAX_SET_ASIDE_PAGES):
        page = event_queries.list_events(
            ctx.connection,
            source=wanted.source,
            set_aside=True,
            tenant=ctx.tenant,
            span=Span(since=ctx.now - _SET_ASIDE_SINCE),
            after=after,
            limit=_MAX_EVENTS if wanted.message_id else _MAX_AROUND,
            request_id=wanted.request_id,
            smtp_id=strip_brackets(wanted.smtp_id) if wanted.smtp_id else None,
        )
        found += [event for event in page.items if wanted.message_id in (None, event.provider_message_id)]
        after = page.next
        if after is None or len(found) >= _MAX_AROUND:
            break
    return found[:_MAX_AROUND]


def describe_set_aside(event: StoredEvent) -> SetAsideEvent:
    """Return an event that changed nothing, with the account that it names if that is the reason."""
    details = event.details if isinstance(event.details, dict) else {}
    is_foreign = details.get("set_aside") == SetAsideReason.OTHER_ACCOUNT
    return SetAsideEvent(
        event_id=str(event.id),
        receipt_id=str(event.receipt_id),
        source=event.source,
        received_at=event.received_at,
        problem=event.problem or "no reason was stored",
        account=event.tenant if is_foreign else None,
    )


def read_word(event: StoredEvent) -> str:
    """Return the provider's own word for what happened; empty if its object has none."""
    details = event.details if isinstance(event.details, dict) else {}
    word = details.get("event")
    if not isinstance(word, str):
        provider_object = json_text.read(event.provider_object)
        named = provider_object if isinstance(provider_object, dict) else {}
        word = named.get("event") or named.get("kind")
    return word if isinstance(word, str) else ""


def _add_operator_view(
    ctx: DiagnosisContext, given: DiagnosisInput, slug: str | None, *, since: datetime, until: datetime
) -> DiagnosisInput:
    """Add the sources and what was refused, set aside, not processed or not delivered, unless it is for a tenant."""
    if ctx.tenant is not None:
        return given
    connection, span = ctx.connection, Span(since=since, until=until)
    own = {event.event_id for event in given.own_set_aside}
    if slug:
        row = sources.find(connection, slug)
        rows = [row] if row else []
    else:
        # Without a source: the only one, or all whose providers can be asked.
        rows = sources.list_sources(connection)
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
                id=str(one.id),
                source=one.source,
                state=state,
                received_at=one.received_at,
                why=one.last_error or one.detail or "",
            )
            for state in _UNPROCESSED
            for one in receipt_queries.list_receipts(
                connection, source=slug, state=state, span=span, limit=_MAX_AROUND
            ).items
        ),
        set_aside={
            event.problem or "no reason was stored": str(event.receipt_id)
            for event in event_queries.list_events(
                connection, source=slug, set_aside=True, span=span, limit=_MAX_AROUND
            ).items
            if str(event.id) not in own
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
    accounts: tuple[str, ...] = ()
    managed, no_api = False, PROVIDERS[row.provider].no_api if row.provider in PROVIDERS else None
    try:
        source = open_source(row, ctx.vault)
        accounts = tuple(sorted(source.provider.tenants(source.credentials)))
        problem = None
        if row.provider in provider_api.APIS:
            managed = source.credentials.api_key is not None
            fields = " and ".join(source.provider.api_fields)
            no_api = None if managed else f"The source has no {fields}, with which Tidings could ask."
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
        managed=managed,
        lists_failed=row.provider in PROVIDERS and PROVIDERS[row.provider].lists_failed,
        sends_tests=row.provider in PROVIDERS and PROVIDERS[row.provider].sends_tests,
        no_api=no_api,
        accounts=accounts,
        reconciled_at=known.last_finished_at if known else None,
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
