"""Pages of subscriptions: their endpoints, deliveries, tests and recovery."""

from typing import Any
from uuid import UUID

from flask import Blueprint, Response, request

from api.console.formatting import Entry
from api.console.site import call, fetch, go, render, resolve_times
from api.resources.deliveries import Deliveries
from api.resources.subscriptions import (
    OneSubscription,
    Pause,
    Recoveries,
    Resumption,
    SecretRotation,
    Subscriptions,
    Trials,
)
from shared.deliveries import sample_delivery
from shared.subscriptions.validation import TYPES, WILDCARDS
from shared.vocabulary import SubscriptionState

pages = Blueprint("subscriptions", __name__)

NAVIGATION = (Entry(path="/console/subscriptions", label="Subscriptions", icon="webhook", resource=Subscriptions),)

_STRIP = 50


@pages.get("/subscriptions")
def index() -> Response:
    """List the subscriptions with the health of their endpoints."""
    return render("subscriptions/index.html", listing=fetch(Subscriptions), states=list(SubscriptionState))


@pages.get("/subscriptions/new")
def new() -> Response:
    """Show the form for a subscription."""
    return render("subscriptions/new.html", types=[*WILDCARDS, *TYPES])


@pages.post("/subscriptions")
def create() -> Response:
    """Create a subscription, and show its secret once."""
    given = {name: request.form.get(name, "").strip() for name in ("name", "url", "tenant")}
    body: dict[str, Any] = {name: value for name, value in given.items() if value}
    body["types"] = _split("types") or ["*"]
    if sources := _split("sources"):
        body["sources"] = sources
    if request.form.get("include_body_text"):
        body["include_body_text"] = True
    made = call(Subscriptions, "POST", body=body)
    return render("subscriptions/secret.html", subscription=made, done="created")


@pages.get("/subscriptions/<identifier:subscription_id>")
def show(subscription_id: UUID) -> Response:
    """Show a subscription: its health, and its newest deliveries."""
    return _show(subscription_id, None)


@pages.post("/subscriptions/<identifier:subscription_id>/test")
def test(subscription_id: UUID) -> Response:
    """Send a test event, or a sample of the chosen type, now, and show what came back."""
    type_ = request.form.get("type", "")
    return _show(
        subscription_id, call(Trials, "POST", body={"type": type_} if type_ else {}, subscription_id=subscription_id)
    )


@pages.post("/subscriptions/<identifier:subscription_id>/pause")
def pause(subscription_id: UUID) -> Response:
    """Suspend deliveries."""
    call(Pause, "POST", subscription_id=subscription_id)
    return go(f"/console/subscriptions/{subscription_id}", "Paused: changes wait.")


@pages.post("/subscriptions/<identifier:subscription_id>/resume")
def resume(subscription_id: UUID) -> Response:
    """Deliver again."""
    call(Resumption, "POST", subscription_id=subscription_id)
    return go(f"/console/subscriptions/{subscription_id}", "Deliveries go on.")


@pages.post("/subscriptions/<identifier:subscription_id>/rotate")
def rotate(subscription_id: UUID) -> Response:
    """Create another secret, and show it once; the old one signs too for a while."""
    made = call(SecretRotation, "POST", body={}, subscription_id=subscription_id)
    return render("subscriptions/secret.html", subscription=made, done="given another secret")


@pages.post("/subscriptions/<identifier:subscription_id>/recover")
def recover(subscription_id: UUID) -> Response:
    """Deliver what was missed since a time, by a job; or only count it."""
    body: dict[str, Any] = resolve_times({"since": request.form.get("since", "")})
    body["dry_run"] = request.form.get("dry_run") == "1"
    job = call(Recoveries, "POST", body=body, subscription_id=subscription_id)
    notice = "The job counts what was missed." if body["dry_run"] else "The job delivers what was missed."
    return go(f"/console/jobs/{job.id}", notice)


@pages.post("/subscriptions/<identifier:subscription_id>/delete")
def delete(subscription_id: UUID) -> Response:
    """Remove a subscription."""
    call(OneSubscription, "DELETE", subscription_id=subscription_id)
    return go("/console/subscriptions", "The subscription was removed.")


def _show(subscription_id: UUID, tried: dict[str, Any] | None) -> Response:
    return render(
        "subscriptions/show.html",
        subscription=call(OneSubscription, subscription_id=subscription_id),
        deliveries=fetch(Deliveries, {"subscription": str(subscription_id), "limit": _STRIP}),
        tried=tried,
        samples=[sample_delivery.TYPE, *TYPES],
        sample=request.form.get("type", ""),
    )


def _split(name: str) -> list[str]:
    return [word.strip() for word in request.form.get(name, "").replace("\n", ",").split(",") if word.strip()]
