"""Pages of deliveries: their states, the requests and responses of each attempt, and replays."""

from uuid import UUID

from flask import Blueprint, Response

from api.console.formatting import Entry
from api.console.pages.jobs import count_or_run
from api.console.site import back_to, call, call_for_selected, fetch, go, read_bulk_filters, render
from api.resources.deliveries import Attempts, Deliveries, OneDelivery, OneReplay, Replays
from api.resources.subscriptions import Subscriptions
from shared.deliveries.jobs import REPLAY
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
    replayed, refused = call_for_selected(OneReplay, "delivery_id")
    notice = f"{replayed} {'delivery is' if replayed == 1 else 'deliveries are'} queued again."
    return go(back_to("/console/deliveries"), " ".join([notice, *refused])[:1500])


@pages.post("/deliveries/replay")
def replay_matching() -> Response:
    """Count all that match, by a job; then replay what a job has counted."""
    return count_or_run(REPLAY, Replays, _REPLAY_FILTERS, offer="replay that", run="The job replays them.")
