"""Receipts: every request that was stored, byte for byte, and what became of it; and those that were refused."""

from dataclasses import asdict
from typing import Any
from uuid import UUID

from flask import Response
from marshmallow import Schema, fields
from sqlalchemy import Connection

from api.core import pagination
from api.core.auth import TenantAccess
from api.core.errors import ProblemError, not_found
from api.core.fields import Instant, SpanQuery, Strict, Verbatim, asked, identifier, instant, page_of, text
from api.core.resource import Resource, also_answers, answers, takes
from shared.errors import TidingsError
from shared.postgres.pagination import Span
from shared.receipts import queries as receipt_queries
from shared.reprocessing import previews, reprocess
from shared.vocabulary import ReceiptState, RefusalReason


class ReceiptQuery(SpanQuery):
    """Which receipts."""

    source = asked("Of this source.")
    state = fields.Enum(ReceiptState, by_value=True)


class Receipt(Schema):
    """A request that was stored."""

    id = identifier()
    source = fields.String()
    state = fields.String(metadata={"enum": [str(state) for state in ReceiptState]})
    received_at = Instant()
    idempotency_key = text("What the provider named the request by.")
    bytes = fields.Integer(metadata={"description": "Length of the body; 0 once it is erased."})
    attempts = fields.Integer()
    last_error = text("Why the last attempt to process it failed.")
    reason = text("Why it is set aside.")
    detail = text()
    key_id = text("The key that its signature named and that is not known.")
    available_at = instant("When it is looked at again.")
    remote_ip = text()
    headers = fields.Dict(keys=fields.String(), values=fields.String())
    reconciled = fields.Boolean(metadata={"description": "It came because the provider was asked to send it again."})
    erased_at = instant("When its body and headers were deleted, because they contained an erased address.")


class ReceiptWithEvents(Receipt):
    """A request that was stored, with the events that it brought."""

    event_count = fields.Integer()
    event_ids = fields.List(identifier())


class ReprocessQuery(Strict):
    """How to process a receipt again."""

    dry_run = fields.Boolean(
        load_default=False, metadata={"description": "Only show the difference that it would make."}
    )


class Reprocessing(Schema):
    """What was asked for: `queued` receipts, or with `dry_run` the difference that it would make."""

    queued = fields.Integer()
    difference = fields.Dict(keys=fields.String())


class RefusalQuery(SpanQuery):
    """Which refusals."""

    source = asked("To this name, whether or not there is such a source.")
    reason = fields.Enum(RefusalReason, by_value=True)


class Refusal(Schema):
    """A request that was not taken; `count` alike."""

    id = identifier()
    source = fields.String()
    refused_at = Instant()
    status_code = fields.Integer(metadata={"description": "What the provider was answered."})
    reason = fields.String(metadata={"enum": [str(reason) for reason in RefusalReason]})
    detail = fields.String()
    remote_ip = text()
    headers = Verbatim(metadata={"type": "object"})
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
        with self.deps.engine.begin() as connection:
            page = receipt_queries.listed(
                connection,
                source=query.get("source"),
                state=query.get("state"),
                span=span(query),
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
        with self.deps.engine.begin() as connection:
            found = receipt_queries.find(connection, receipt_id)
            event_ids = receipt_queries.event_ids(connection, receipt_id)
        if found is None:
            raise not_found(f"receipt {receipt_id}")
        return {**asdict(found), "event_ids": event_ids, "event_count": len(event_ids)}


class RawReceipt(Resource):
    """The body of a receipt."""

    rule = "/v1/receipts/<identifier:receipt_id>/raw"
    tenancy = TenantAccess.CLOSED

    @answers(200, {"type": "string", "format": "binary"}, content_type="application/octet-stream")
    def get(self, receipt_id: UUID) -> Response:
        """Return the body, byte for byte as it was received. Answers 410 once it is erased."""
        with self.deps.engine.begin() as connection:
            body = receipt_queries.raw(connection, receipt_id)
            if body is None:
                erased = _erased(connection, receipt_id)
                raise ProblemError(410, erased) if erased else not_found(f"receipt {receipt_id}")
        return Response(
            body,
            content_type="application/octet-stream",
            headers={
                "Content-Disposition": f'attachment; filename="{receipt_id}.bin"',
                "X-Content-Type-Options": "nosniff",
            },
        )


class ReceiptReprocessing(Resource):
    """Processing a receipt again."""

    rule = "/v1/receipts/<identifier:receipt_id>/reprocess"
    tenancy = TenantAccess.CLOSED

    @takes(ReprocessQuery, location="query")
    @answers(202, Reprocessing)
    @also_answers(200, schema=Reprocessing, description="The difference it would make, with `dry_run`")
    def post(self, query: dict[str, Any], receipt_id: UUID) -> tuple[dict[str, Any], int]:
        """Process a receipt again, whether it was processed, is dead or was rejected.

        With `dry_run=true` nothing is changed. Answers 409 for a receipt whose body was erased.
        """
        if query["dry_run"]:
            return {"difference": self._difference(receipt_id)}, 200
        with self.deps.engine.begin() as connection:
            if receipt_queries.source_of(connection, receipt_id) is None:
                raise not_found(f"receipt {receipt_id}")
            queued = reprocess.queue(connection, [receipt_id])
            if not queued and (erased := _erased(connection, receipt_id)) is not None:
                raise ProblemError(409, f"The receipt cannot be processed again. {erased}")
            if not queued:
                raise ProblemError(409, "The receipt is unverified: only its provider's signature lets it in.")
            self.audit(connection, "receipt.reprocessed", f"receipt:{receipt_id}", queued=queued)
        self.deps.notifier.notify()
        return {"queued": queued}, 202

    def _difference(self, receipt_id: UUID) -> dict[str, Any]:
        with self.deps.engine.connect() as connection:  # and never commit
            try:
                difference = previews.of_receipt(connection, receipt_id, self.deps.vault)
            except TidingsError as error:
                raise ProblemError(409, f"The receipt cannot be processed: {error}") from None
        if difference is None:
            raise not_found(f"receipt {receipt_id}")
        return difference.as_json()


class Refusals(Resource):
    """All refusals."""

    rule = "/v1/refusals"
    tenancy = TenantAccess.CLOSED

    @takes(RefusalQuery, location="query")
    @answers(200, page_of(Refusal, "RefusalPage"))
    def get(self, query: dict[str, Any]) -> dict[str, Any]:
        """List requests that were refused, the newest first: why, when and from where."""
        with self.deps.engine.begin() as connection:
            page = receipt_queries.refused(
                connection,
                source=query.get("source"),
                reason=query.get("reason"),
                span=span(query),
                after=pagination.decode(query.get("cursor"), pagination.BY_ID),
                limit=query["limit"],
            )
        return {"items": page.items, "next_cursor": pagination.encode(page.next)}


def _erased(connection: Connection, receipt_id: UUID) -> str | None:
    """Return why there is no body any more; None unless it was erased."""
    erased_at = receipt_queries.erased(connection, [receipt_id]).get(receipt_id)
    if erased_at is None:
        return None
    return f"The body was deleted at {erased_at.isoformat()}, because it contained an address that was erased."


def span(query: dict[str, Any]) -> Span:
    """The time that a query is about."""
    return Span(since=query.get("since"), until=query.get("until"))


RESOURCES = (Receipts, OneReceipt, RawReceipt, ReceiptReprocessing, Refusals)
