"""Pages of receipts and refusals: the requests of providers, accepted or not."""

from datetime import UTC, datetime
from uuid import UUID

from flask import Blueprint, Response

from api.console.formatting import Entry
from api.console.pages.jobs import count_or_run
from api.console.pages.sources import REFUSALS, list_slugs
from api.console.site import (
    back_to,
    call,
    call_for_selected,
    fetch,
    go,
    read_bulk_filters,
    render,
    visit,
)
from api.core.errors import ProblemError
from api.resources.receipts import (
    REPROCESSABLE,
    OneReceipt,
    RawReceipt,
    ReceiptReprocessing,
    Receipts,
    Refusals,
    ReprocessingJobs,
)
from shared.receipts.jobs import REPROCESS
from shared.vocabulary import ReceiptState, RefusalReason

pages = Blueprint("receipts", __name__)

NAVIGATION = (
    Entry(path="/console/receipts", label="Receipts", icon="inbox", resource=Receipts),
    Entry(path="/console/refusals", label="Refusals", icon="shield-x", resource=Refusals),
)

_REPROCESS_FILTERS = ("source", "state", "set_aside", "since", "until")
_MAX_SHOWN_BYTES = 64 * 1024
_MAX_HEX_BYTES = 4096
_MAX_EVENTS = 200
_LINE = 16


@pages.get("/receipts")
def index() -> Response:
    """List receipts."""
    given = read_bulk_filters(_REPROCESS_FILTERS)
    return render(
        "receipts/index.html",
        listing=fetch(Receipts),
        states=list(ReceiptState),
        sources=list_slugs(),
        reprocessable=given if given is not None and given.get("state", "") in ("", *REPROCESSABLE) else None,
    )


@pages.get("/receipts/<identifier:receipt_id>")
def show(receipt_id: UUID) -> Response:
    """Show a receipt: its state, headers, bytes as text and as hex, and the events made of it."""
    return _show(receipt_id, None)


@pages.get("/receipts/<identifier:receipt_id>/raw")
def raw(receipt_id: UUID) -> Response:
    """Download the body, byte for byte."""
    if visit().is_masked:
        raise ProblemError(403, "Personal data is masked for you, so you cannot download bodies.")
    response: Response = call(RawReceipt, receipt_id=receipt_id)
    return response


@pages.post("/receipts/<identifier:receipt_id>/preview")
def preview(receipt_id: UUID) -> Response:
    """Show what reprocessing would change; nothing is changed."""
    found = call(ReceiptReprocessing, "POST", query={"dry_run": "true"}, receipt_id=receipt_id)
    return _show(receipt_id, found["difference"])


@pages.post("/receipts/<identifier:receipt_id>/reprocess")
def reprocess(receipt_id: UUID) -> Response:
    """Process a receipt again."""
    call(ReceiptReprocessing, "POST", receipt_id=receipt_id)
    return go(f"/console/receipts/{receipt_id}", "The receipt is queued to be processed again.")


@pages.post("/receipts/reprocess-selected")
def reprocess_selected() -> Response:
    """Process the receipts again that were ticked; those that cannot be are named."""
    queued, refused = call_for_selected(ReceiptReprocessing, "receipt_id")
    notice = f"{queued} {'receipt is' if queued == 1 else 'receipts are'} queued to be processed again."
    return go(back_to("/console/receipts"), " ".join([notice, *refused])[:1500])


@pages.post("/receipts/reprocess")
def reprocess_matching() -> Response:
    """Count all that match, by a job; then process again what a job has counted."""
    return count_or_run(
        REPROCESS,
        ReprocessingJobs,
        _REPROCESS_FILTERS,
        offer="process that again",
        run="The job queues them to be processed again.",
    )


@pages.get("/refusals")
def refusals() -> Response:
    """List refused requests, and what each reason means."""
    return render(
        "refusals/index.html",
        listing=fetch(Refusals),
        reasons=list(RefusalReason),
        meanings=REFUSALS,
        known=list_slugs(),
    )


def _show(receipt_id: UUID, difference: object) -> Response:
    receipt = call(OneReceipt, receipt_id=receipt_id)
    body = b""
    if receipt["erased_at"] is None and not visit().is_masked:
        body = call(RawReceipt, receipt_id=receipt_id).get_data()
    return render(
        "receipts/show.html",
        receipt=receipt,
        text=body[:_MAX_SHOWN_BYTES].decode("utf-8", "backslashreplace"),
        hex=hex_dump(body[:_MAX_HEX_BYTES]),
        is_cut=len(body) > _MAX_SHOWN_BYTES,
        is_hex_cut=len(body) > _MAX_HEX_BYTES,
        event_ids=receipt["event_ids"][:_MAX_EVENTS],
        difference=difference,
        now=datetime.now(UTC),
    )


def hex_dump(body: bytes) -> str:
    """Return bytes as lines of offset, sixteen bytes in hex, and the same as text."""
    lines = []
    for start in range(0, len(body), _LINE):
        part = body[start : start + _LINE]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        lines.append(f"{start:08x}  {part.hex(' '):<47}  {text}")
    return "\n".join(lines)
