"""Pages of deliveries: their states, the requests and responses of each attempt, and replays."""

from uuid import UUID

from flask import Blueprint, Response, request

from api.console.formatting import Entry
from api.console.site import call, fetch, go, render, resolve_times
from api.core.errors import ProblemError
from api.resources.deliveries import Attempts, Deliveries, OneDelivery, OneReplay, Replays
from api.resources.jobs import OneJob
from api.resources.subscriptions import Subscriptions
from shared.deliveries.jobs import REPLAY
from shared.errors import TidingsError
from shared.vocabulary import DeliveryStatus, JobState

pages = Blueprint("deliveries", __name__)

NAVIGATION = (Entry(path="/console/deliveries", label="Deliveries", icon="send", resource=Deliveries),)

_REPLAY_FILTERS = ("status", "subscription", "type", "since", "until")


@pages.get("/deliveries")
def index() -> Response:
    """List deliveries."""
    return render(
        "deliveries/index.html",
        listing=fetch(Deliveries),
        statuses=list(DeliveryStatus),
        subscriptions=fetch(Subscriptions, {"limit": 500}).items,
        replayable={name: value for name, value in request.args.items() if name in _REPLAY_FILTERS and value},
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
    return go("/console/deliveries", " ".join([notice, *refused])[:1500])


@pages.post("/deliveries/replay")
def replay_matching() -> Response:
    """Count all that match, by a job; then replay what a job has counted."""
    if not (counted := request.form.get("counted")):
        given = {name: value for name, value in request.form.items() if name in _REPLAY_FILTERS and value}
        job = call(Replays, "POST", body={"filter": resolve_times(given), "dry_run": True})
        return go(f"/console/jobs/{job.id}", "The job counts what matches. Its page then offers to replay that.")
    try:
        before = call(OneJob, job_id=UUID(counted))
    except ValueError:
        raise ProblemError(422, f"{counted!r} is not the id of a job.") from None
    if before.kind != REPLAY or not before.parameters["dry_run"] or before.state != JobState.DONE:
        raise ProblemError(409, "Count the matches first: this job has not finished counting.")
    wanted = {name: before.parameters[name] for name in _REPLAY_FILTERS if before.parameters.get(name) is not None}
    job = call(Replays, "POST", body={"filter": wanted, "dry_run": False})
    return go(f"/console/jobs/{job.id}", "The job replays them.")
