"""Pages of messages: the search, and the diagnosis and timeline of each."""

from uuid import UUID

from flask import Blueprint, Response, redirect, request

from api.console.formatting import Entry
from api.console.pages.sources import list_slugs
from api.console.site import call, fetch, filters, go, render, visit
from api.core.errors import ProblemError
from api.resources.deliveries import Deliveries
from api.resources.messages import Export, Messages, OneMessage
from api.resources.reports import Answers, MessageReport
from shared.diagnosis.model import Answer, Place
from shared.vocabulary import Status

pages = Blueprint("messages", __name__)

NAVIGATION = (Entry(path="/console/messages", label="Messages", icon="mail", resource=Messages),)

_MAX_DELIVERIES = 200


@pages.get("/messages")
def index() -> Response:
    """List messages, or go straight to the one that an exact id names."""
    listing = fetch(Messages)
    if request.args.get("q") and len(listing.items) == 1 and listing.older is None and listing.is_first:
        (only,) = listing.items
        given = request.args["q"].strip().strip("<>")
        if given in (str(only.id), only.request_id, only.smtp_id, only.provider_message_id):
            return redirect(f"/console/messages/{only.id}", 303)  # type: ignore[return-value]
    return render("messages/index.html", listing=listing, statuses=list(Status), sources=list_slugs())


@pages.get("/messages.csv")
def export() -> Response:
    """Download the messages that match the filters."""
    if visit().is_masked:
        raise ProblemError(403, "Personal data is masked for you, so you cannot export messages.")
    response: Response = call(Export, query={k: v for k, v in filters().items() if k not in ("cursor", "limit")})
    return response


@pages.get("/messages/<identifier:message_id>")
def show(message_id: UUID) -> Response:
    """Show the verdict, each recipient, and one timeline from the announcement to the deliveries."""
    report = call(MessageReport, message_id=message_id)
    message = call(OneMessage, message_id=message_id)
    listing = fetch(Deliveries, {"message_id": str(message_id), "limit": _MAX_DELIVERIES})
    by_type: dict[str, list[object]] = {}
    for delivery in listing.items:
        by_type.setdefault(delivery["type"].removeprefix("message."), []).append(delivery)
    return render(
        "messages/show.html",
        report=report,
        message=message,
        deliveries=listing,
        delivered=by_type,
        places=list(Place),
        answers=list(Answer),
    )


@pages.post("/messages/<identifier:message_id>/answers")
def answer(message_id: UUID) -> Response:
    """Record where a recipient has looked for the message."""
    given = {place: value for place in Place if (value := request.form.get(place, ""))}
    recipient = request.form.get("recipient", "")
    body = {"answers": given, **({"recipient": recipient} if recipient else {})}
    call(Answers, "POST", body=body, message_id=message_id)
    return go(f"/console/messages/{message_id}", "The answers were recorded.")
