"""Receipts: every stored request, byte for byte, and its state; and refused requests."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from flask import Response
from marshmallow import Schema, fields, validate
from sqlalchemy import Connection

from api.core import pagination
from api.core.auth import TenantAccess
from api.core.errors import ProblemError, not_found, require
from api.core.fields import (
    OPTIONAL,
    Instant,
    RawJson,
    SpanQuery,
    Strict,
    identifier,
    instant,
    page_of,
    query_text,
    read_span,
    text,
)
from api.core.resource import Resource, also_answers, answers, takes
from api.core.source_filter import require_sources
from api.resources.jobs import Job, queued
from shared.broker import JOBS, REPROCESS
from shared.errors import NotFoundError, TidingsError
from shared.jobs.store import Job as JobRow
from shared.receipts import jobs as receipt_jobs
from shared.receipts import queries as receipt_queries
from shared.receipts import store as receipts
from shared.reprocessing import reprocess
from shared.sources import store as sources
from shared.vocabulary import ReceiptState, RefusalReason

REPROCESSABLE = [str(ReceiptState.DEAD), str(ReceiptState.PROCESSED), str(ReceiptState.REJECTED), receipt_jobs.ALL]


class ReceiptQuery(SpanQuery):
    """Filters of receipts."""

    source = query_text("Only receipts of this source.")
    state = fields.Enum(ReceiptState, by_value=True)
    set_aside = fields.Boolean(
        load_default=False, metadata={"description": "Only receipts with events that changed nothing."}
    )


class Receipt(Schema):
    """A stored request."""

    id = identifier()
    source = fields.String()
    state = fields.String(metadata={"enum": [str(state) for state in ReceiptState]})
    received_at = Instant()
    idempotency_key = text("The provider's idempotency key of the request.")
    bytes = fields.Integer(metadata={"description": "Length of the body; 0 once it is erased."})
    attempts = fields.Integer()
    last_error = text("Why the last attempt to process it failed.")
    reason = text("Why it is set aside: unverified, rejected or dead.")
    detail = text()
    key_id = text("The unknown key that its signature names.")
    available_at = instant("When it is tried again.")
    remote_ip = text()
    headers = fields.Dict(keys=fields.String(), values=fields.String())
    reconciled = fields.Boolean(metadata={"description": "It arrived because we asked the provider to resend it."})
    erased_at = instant("When its body and headers were deleted, because they contained an erased address.")


class ReceiptWithEvents(Receipt):
    """A stored request with the ids of its events."""

    event_count = fields.Integer()
    event_ids = fields.List(identifier())


class ReprocessQuery(Strict):
    """How to reprocess a receipt."""

    dry_run = fields.Boolean(load_default=False, metadata={"description": "Change nothing; return what would change."})


class ReprocessFilter(Strict):
    """Filters of the receipts to process again."""

    source = query_text("Only receipts of this source.")
    state = fields.String(
        validate=validate.OneOf(REPROCESSABLE),
        metadata={
            "description": f"`{ReceiptState.DEAD}` if not given, but `{receipt_jobs.ALL}` with `set_aside`."
            f" `{receipt_jobs.ALL}`: the processed and the dead ones, without those that still wait for their first"
            " processing. Rejected ones may be forged."
        },
    )
    set_aside = fields.Boolean(
        load_default=False, metadata={"description": "Only receipts with events that changed nothing."}
    )
    since = Instant(metadata={"description": "Received from this time on."})
    until = Instant(metadata={"description": "Received before this time; before now, if not given."})


class ReprocessMany(Strict):
    """Receipts to process again."""

    filter = fields.Nested(ReprocessFilter, required=True, metadata={"description": "All that is given must hold."})
    dry_run = fields.Boolean(
        load_default=False, metadata={"description": "Only count: the job's report says how many match."}
    )


class Reprocessing(Schema):
    """The number of receipts queued, or with `dry_run` the difference that reprocessing would make."""

    queued = fields.Integer(metadata=OPTIONAL)
    waits_for = fields.String(allow_none=True, metadata={"description": "What it waits for.", **OPTIONAL})
    difference = fields.Dict(keys=fields.String(), metadata=OPTIONAL)


class RefusalQuery(SpanQuery):
    """Filters of refusals."""

    source = query_text("Only requests to this source name, whether or not it exists.")
    reason = fields.Enum(RefusalReason, by_value=True)


class Refusal(Schema):
    """A refused request, or `count` similar ones."""

    id = identifier()
    source = fields.String()
    refused_at = Instant()
    status_code = fields.Integer(metadata={"description": "The HTTP status that the provider got."})
    reason = fields.String(metadata={"enum": [str(reason) for reason in RefusalReason]})
    detail = fields.String()
    remote_ip = text()
    headers = RawJson(metadata={"type": "object"})
    bytes = fields.Integer()
    count = fields.Integer()


class Receipts(Resource):
    """All receipts."""

    rule = "/v1/receipts"
    tenancy = TenantAccess.CLOSED

    @takes(ReceiptQuery, location="query")
    @answers(200, page_of(Receipt, "ReceiptPage"))
    def get(self, query: dict[str, Any]) -> dict[str, Any]:
        """List receipts, the newest first."""
        with self.deps.reading.connect() as connection:
            require_sources(connection, self.caller, query)
            page = receipt_queries.list_receipts(
                connection,
                source=query.get("source"),
                state=query.get("state"),
                set_aside=query["set_aside"],
                span=read_span(query),
                after=pagination.decode(query.get("cursor"), pagination.BY_ID),
                limit=query["limit"],
            )
        return {"items": page.items, "next_cursor": pagination.encode(page.next)}


class OneReceipt(Resource):
    """One receipt."""

    rule = "/v1/receipts/<identifier:receipt_id>"
    tenancy = TenantAccess.CLOSED

    @answers(200, ReceiptWithEvents)
    def get(self, receipt_id: UUID) -> dict[str, Any]:
        """Show a receipt and the ids of its events."""
        with self.deps.reading.connect() as connection:
            found = require(receipt_queries.get(connection, receipt_id), f"receipt {receipt_id}")
            event_ids = receipt_queries.list_event_ids(connection, receipt_id)
        return {**asdict(found), "event_ids": event_ids, "event_count": len(event_ids)}


class RawReceipt(Resource):
    """The body of a receipt."""

    rule = "/v1/receipts/<identifier:receipt_id>/raw"
    tenancy = TenantAccess.CLOSED

    @answers(200, {"type": "string", "format": "binary"}, content_type="application/octet-stream")
    def get(self, receipt_id: UUID) -> Response:
        """Return the body, byte for byte as it was received. Answers 410 once it is erased."""
        with self.deps.reading.connect() as connection:
            found = require(receipts.get_body(connection, receipt_id), f"receipt {receipt_id}")
            if found.body is None:
                raise ProblemError(410, _erased(connection, receipt_id) or "The body was deleted.")
        return Response(
            found.body,
            content_type="application/octet-stream",
            headers={
                "Content-Disposition": f'attachment; filename="{receipt_id}.bin"',
                "X-Content-Type-Options": "nosniff",
            },
        )


class ReceiptReprocessing(Resource):
    """Reprocessing of a receipt."""

    rule = "/v1/receipts/<identifier:receipt_id>/reprocess"
    tenancy = TenantAccess.CLOSED

    @takes(ReprocessQuery, location="query")
    @answers(202, Reprocessing)
    @also_answers(200, schema=Reprocessing, description="With `dry_run`: what would change")
    def post(self, query: dict[str, Any], receipt_id: UUID) -> tuple[dict[str, Any], int]:
        """Reprocess a receipt that was processed, is dead or was rejected.

        With `dry_run=true` nothing is changed. Answers 409 for a receipt whose body was erased.
        """
        if query["dry_run"]:
            try:
                with self.deps.engine.connect() as connection:  # and never commit
                    difference = reprocess.preview(connection, receipt_id, self.deps.vault)
            except NotFoundError:
                raise not_found(f"receipt {receipt_id}") from None
            except TidingsError as error:
                raise ProblemError(409, f"The receipt cannot be reprocessed: {error}") from None
            return {"difference": difference.as_json()}, 200
        with self.deps.engine.begin() as connection:
            queued = receipts.queue_reprocessing(connection, [receipt_id])
            if not queued and receipts.get_body(connection, receipt_id) is None:
                raise not_found(f"receipt {receipt_id}")
            if not queued and (erased := _erased(connection, receipt_id)) is not None:
                raise ProblemError(409, f"The receipt cannot be reprocessed. {erased}")
            if not queued:
                raise ProblemError(409, "The receipt is unverified: only its provider's signature can admit it.")
            self.audit(connection, "receipt.reprocessed", f"receipt:{receipt_id}", queued=queued)
            waiting = receipts.count_reprocessing(connection)
        self.deps.notifier.notify(REPROCESS)
        return {"queued": queued, "waits_for": f"a worker; {waiting} receipts are queued for reprocessing"}, 202


class ReprocessingJobs(Resource):
    """Reprocessing many receipts."""

    rule = "/v1/receipts/reprocess"
    tenancy = TenantAccess.CLOSED

    @takes(ReprocessMany)
    @answers(202, Job)
    def post(self, body: dict[str, Any]) -> tuple[JobRow, int, dict[str, str]]:
        """Process many receipts again: the dead ones, unless the filter has `state` or `set_aside`.

        With `dry_run`, only count them. The job's report has the number of receipts, and of those whose body was
        erased. Receipts that are unverified, or wait for their first processing, are left out.
        """
        filters, dry_run = body["filter"], body["dry_run"]
        # What was set aside was processed.
        filters.setdefault("state", receipt_jobs.ALL if filters["set_aside"] else str(ReceiptState.DEAD))
        with self.deps.engine.begin() as connection:
            if source := filters.get("source"):
                require(sources.get_id(connection, source), f"source called {source!r}")
            job_id = receipt_jobs.request_reprocessing(
                connection,
                **filters,
                dry_run=dry_run,
                asked_by=self.caller.name,
                now=datetime.now(UTC),
            )
            self.audit(
                connection, "job.asked", f"job:{job_id}", **filters, dry_run=dry_run, kind=receipt_jobs.REPROCESS
            )
            answer = queued(connection, job_id, self.caller)
        self.deps.notifier.notify(JOBS)
        return answer


class Refusals(Resource):
    """All refusals."""

    rule = "/v1/refusals"
    tenancy = TenantAccess.CLOSED

    @takes(RefusalQuery, location="query")
    @answers(200, page_of(Refusal, "RefusalPage"))
    def get(self, query: dict[str, Any]) -> dict[str, Any]:
        """List refused requests, the newest first, with reason, time and sender."""
        with self.deps.reading.connect() as connection:
            page = receipt_queries.list_refusals(
                connection,
                source=query.get("source"),
                reason=query.get("reason"),
                span=read_span(query),
                after=pagination.decode(query.get("cursor"), pagination.BY_ID),
                limit=query["limit"],
            )
        return {"items": page.items, "next_cursor": pagination.encode(page.next)}


def _erased(connection: Connection, receipt_id: UUID) -> str | None:
    """Return the reason why there is no body; None unless it was erased."""
    erased_at = receipt_queries.get_erasure_times(connection, [receipt_id]).get(receipt_id)
    if erased_at is None:
        return None
    return f"The body was deleted at {erased_at.isoformat()}, because it contained an address that was erased."


RESOURCES = (Receipts, OneReceipt, RawReceipt, ReceiptReprocessing, ReprocessingJobs, Refusals)
