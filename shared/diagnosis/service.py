"""Gathering what a diagnosis is made from: everything that is known of a message, and what went on around it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row

from shared.addresses import normalize
from shared.diagnosis.diagnose import Diagnosis, diagnose, is_incomplete
from shared.diagnosis.facts import (
    Enrolment,
    Facts,
    FailedDelivery,
    Names,
    Refused,
    Seen,
    SourceFacts,
    Standing,
    Suppressed,
    Undecided,
)
from shared.diagnosis.verdicts import LONGEST_RETRIES
from shared.encryption import Vault
from shared.errors import TidingsError
from shared.messages import event_queries
from shared.messages import queries as messages
from shared.messages.event_queries import EventFacts
from shared.messages.queries import MessageFacts, RecipientFacts, Wanted
from shared.postgres.pagination import Span
from shared.providers.api.base import Span as FailureSpan
from shared.receipts import queries as receipt_queries
from shared.reconciliation import failed_deliveries
from shared.reconciliation import store as reconciliations
from shared.reconciliation.failed_deliveries import KnownFailure
from shared.sources import provider_api
from shared.sources import store as sources
from shared.sources.source import open_source
from shared.sources.store import SourceRow
from shared.suppression import store as suppressions
from shared.suppression.recipient_hashes import RecipientHasher
from shared.vocabulary import EventType, ReceiptState, Status

MOST_MESSAGES = 10
_MOST_EVENTS = 500
_MOST_NEIGHBOURS = 10
_AROUND = timedelta(hours=1)
_LATELY = timedelta(days=3)
_UNDECIDED = (ReceiptState.PENDING, ReceiptState.UNVERIFIED, ReceiptState.DEAD, ReceiptState.REJECTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosed:
    """A diagnosis and what it rests on; `message` is None where there is none."""

    message: MessageFacts | None
    events: Sequence[EventFacts]
    diagnosis: Diagnosis


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What a diagnosis is made with, and the only tenant whose mail it may speak of; None: everybody's.

    To a tenant nothing is said of sources, requests and providers: they are everybody's.
    """

    connection: Connection
    hasher: RecipientHasher
    vault: Vault
    now: datetime
    tenant: str | None = None


def wanted(desk: Desk, asked: Wanted) -> list[Diagnosed]:
    """The diagnosis of each message that fits, the newest first; or one of a message that nothing is known of."""
    found = _listed(desk, asked)
    if not found and asked.recipient and (asked.request_id or asked.smtp_id or asked.message_id):
        found = _listed(desk, replace(asked, recipient=None))
    return [of(desk, message, asked.recipient) for message in found] or [_unknown(desk, asked)]


def _listed(desk: Desk, asked: Wanted) -> Sequence[MessageFacts]:
    return messages.listed(desk.connection, replace(asked, tenant=desk.tenant), limit=MOST_MESSAGES).items


def of(desk: Desk, message: MessageFacts, recipient: str | None = None) -> Diagnosed:
    """The diagnosis of a message; of one recipient, where one is given that its events name."""
    told = event_queries.timeline(desk.connection, message.id, tenant=desk.tenant, limit=_MOST_EVENTS).items
    chosen = normalize(recipient) if recipient else None
    standings = [one for one in message.recipients if one.recipient == chosen] or message.recipients
    named = [one.recipient for one in standings if one.recipient]
    facts = Facts(
        now=desk.now,
        names=Names(
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
        standings=tuple(map(_standing, standings)),
        events=tuple(_seen(event) for event in told if chosen not in named or event.recipient in (chosen, None)),
        suppressed=_suppressed(desk, named or ([chosen] if chosen else [])),
    )
    times = [event.received_at for event in told] + [message.submitted_at or message.created_at]
    until = max(times) + (LONGEST_RETRIES if is_incomplete(facts) else timedelta()) + _AROUND
    facts = _around(desk, facts, message.source, since=min(times) - _AROUND, until=until)
    return Diagnosed(message=message, events=told, diagnosis=diagnose(facts))


def _unknown(desk: Desk, asked: Wanted) -> Diagnosed:
    recipient = normalize(asked.recipient) if asked.recipient else None
    facts = Facts(
        now=desk.now,
        names=Names(
            message_id=asked.message_id, request_id=asked.request_id, smtp_id=asked.smtp_id, recipient=recipient
        ),
        known=False,
        suppressed=_suppressed(desk, [recipient] if recipient else []),
    )
    facts = _around(desk, facts, asked.source, since=desk.now - _LATELY, until=desk.now)
    return Diagnosed(message=None, events=(), diagnosis=diagnose(facts))


def _around(desk: Desk, facts: Facts, slug: str | None, *, since: datetime, until: datetime) -> Facts:
    """Add what went on around it: refusals, undecided requests, and what the provider failed to deliver."""
    if desk.tenant is not None:
        return facts
    span = Span(since=since, until=until)
    rows = _candidates(desk.connection, slug)
    return replace(
        facts,
        looked_around=True,
        sources=tuple(_source(desk, row) for row in rows),
        refused=tuple(
            Refused(
                at=one.refused_at, status_code=one.status_code, reason=one.reason, detail=one.detail, count=one.count
            )
            for one in receipt_queries.list_refusals(
                desk.connection, source=slug, span=span, limit=_MOST_NEIGHBOURS
            ).items
        ),
        undecided=tuple(
            Undecided(id=str(one.id), state=state, received_at=one.received_at, why=one.last_error or one.detail or "")
            for state in _UNDECIDED
            for one in receipt_queries.list_receipts(
                desk.connection, source=slug, state=state, span=span, limit=_MOST_NEIGHBOURS
            ).items
        ),
        failed=tuple(
            _failed(one, row.slug)
            for row in rows
            for one in failed_deliveries.list_failed(
                desk.connection, row.id, span=FailureSpan(since=since, until=until), limit=_MOST_NEIGHBOURS
            )
        ),
    )


def _failed(known: KnownFailure, slug: str) -> FailedDelivery:
    return FailedDelivery(
        source=slug,
        reference=known.reference,
        failed_at=known.failed_at,
        outcome=known.outcome,
        events=known.events,
        state=known.state,
    )


def _candidates(connection: Connection, slug: str | None) -> list[SourceRow]:
    """The source that is named; where none is, the only one, or all whose providers can be asked."""
    if slug:
        row = sources.find(connection, slug)
        return [row] if row else []
    rows = sources.listed(connection)
    return rows if len(rows) == 1 else [row for row in rows if row.provider in provider_api.APIS]


def _source(desk: Desk, row: SourceRow) -> SourceFacts:
    newest = event_queries.listed(desk.connection, source=row.slug, limit=1).items
    known = reconciliations.get(desk.connection, row.id)
    return SourceFacts(
        slug=row.slug,
        provider=row.provider,
        problem=_problem(row, desk.vault),
        managed=row.provider in provider_api.APIS,
        last_event_at=newest[0].received_at if newest else None,
        enrolment=_enrolment(known) if known else None,
    )


def _enrolment(known: Row[Any]) -> Enrolment:
    return Enrolment(
        checked_at=known.checked_at,
        enrolled=known.enrolled,
        validated_at=known.validated_at,
        validated=known.validated,
    )


def _problem(row: SourceRow, vault: Vault) -> str | None:
    try:
        open_source(row, vault)
    except TidingsError as error:
        return str(error)
    return None


def _suppressed(desk: Desk, recipients: Iterable[str]) -> tuple[Suppressed, ...]:
    by_key = {}
    for recipient in recipients:
        by_key[desk.hasher.hash_address(recipient)] = (recipient, False)
        by_key[desk.hasher.hash_domain(recipient.rpartition("@")[2])] = (recipient, True)
    found = suppressions.check(desk.connection, list(by_key), desk.now, tenant=desk.tenant)
    return tuple(
        Suppressed(
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
        for entry in (one if one.tenant or desk.tenant is None else one.without_evidence() for one in entries)
    )


def _standing(recipient: RecipientFacts) -> Standing:
    return Standing(
        recipient=recipient.recipient or "",
        status=Status(recipient.status) if recipient.status else None,
        status_at=recipient.status_at,
        event_id=str(recipient.status_event_id) if recipient.status_event_id else None,
        classification=recipient.classification,
        codes=_codes(recipient),
        reason=recipient.reason,
        complained_at=recipient.complained_at,
        unsubscribed_at=recipient.unsubscribed_at if recipient.unsubscribed else None,
    )


def _seen(event: EventFacts) -> Seen:
    return Seen(
        id=str(event.id),
        type=EventType(event.type),
        recipient=event.recipient,
        occurred_at=event.occurred_at,
        received_at=event.received_at,
        classification=event.classification,
        codes=_codes(event),
        reason=event.reason,
        reconciled=event.reconciled,
    )


def _codes(told: RecipientFacts | EventFacts) -> str:
    return " ".join(filter(None, (told.smtp_status, told.enhanced_code)))
