"""Pages of deliveries: their states, the requests and responses of each attempt, and replays."""

from uuid import UUID

from flask import Blueprint, Response, request

from api.console.formatting import Entry
from api.console.pages.jobs import read_counted
from api.console.site import back_to, call, fetch, go, read_bulk_filters, render, resolve_times
from api.core.errors import ProblemError
from api.resources.deliveries import Attempts, Deliveries, OneDelivery, OneReplay, Replays
from api.resources.subscriptions import Subscriptions
from shared.deliveries.jobs import REPLAY
from shared.errors import TidingsError
from shared.vocabulary import DeliveryStatus

pages = Blueprint("deliveries", __name__)

NAVIGATION = (Entry(path="/console/deliveries", label="Deliveries", icon="send", resource=Deliveries),)

_REPLAY_FILTERS = ("status", "subscription", "type", "status_code", "since", "until")


@pages.get("/deliveries")
def index() -> Response:
    """List deliveries."""
    return render(
        "deliveries/index.html",
        listing=fetch(Deliveries),
        statuses=list(DeliveryStatus),
        subscriptions=fetch(Subscriptions, {"limit": 500}).items,
        replayable=read_bulk_filters(_REPLAY_FILTERS),
    )


@pages.get("/deliveries/<identifier:delivery_id>")
def show(delivery_id: UUID) -> Response:
    """Show a delivery and each attempt: what was sent, what came back, and what to do."""
    return render(
        "deliveries/show.html",
        delivery=call(OneDelivery, delivery_id=delivery_id),
        attempts=fetch(Attempts, {"limit": 100}, delivery_id=delivery_id),
    )


@pages.post("/deliveries/<identifier:delivery_id>/replay")
def replay(delivery_id: UUID) -> Response:
    """Replay one delivery."""
    call(OneReplay, "POST", delivery_id=delivery_id)
    return go(f"/console/deliveries/{delivery_id}", "The delivery is queued again.")


@pages.post("/deliveries/replay-selected")
def replay_selected() -> Response:
    """Replay the deliveries that were ticked; those that cannot be replayed are named."""
    replayed, refused = 0, []
    for text in request.form.getlist("id"):
        try:
            call(OneReplay, "POST", delivery_id=UUID(text))
            replayed += 1
        except (ProblemError, TidingsError, ValueError) as error:
            refused.append(f"{text}: {error}")
    notice = f"{replayed} {'delivery is' if replayed == 1 else 'deliveries are'} queued again."
    return go(back_to("/console/deliveries"), " ".join([notice, *refused])[:1500])


@pages.post("/deliveries/replay")
def replay_matching() -> Response:
    """Count all that match, by a job; then replay what a job has counted."""
    if (wanted := read_counted(REPLAY, _REPLAY_FILTERS)) is None:
        given = {name: value for name, value in request.form.items() if name in _REPLAY_FILTERS and value}
        job = call(Replays, "POST", body={"filter": resolve_times(given), "dry_run": True})
        return go(f"/console/jobs/{job.id}", "The job counts what matches. Its page then offers to replay that.")
    job = call(Replays, "POST", body={"filter": wanted, "dry_run": False})
    return go(f"/console/jobs/{job.id}", "The job replays them.")
