"""Pages of events, which follow the newest ones."""

from uuid import UUID

from flask import Blueprint, Response

from api.console.formatting import Entry
from api.console.pages.sources import list_slugs
from api.console.site import call, fetch, render
from api.resources.events import Events, OneEvent
from shared.vocabulary import EventType

pages = Blueprint("events", __name__)

NAVIGATION = (Entry(path="/console/events", label="Events", icon="zap", resource=Events),)


@pages.get("/events")
def index() -> Response:
    """List events, those received last first; the page follows while it shows the newest."""
    return render("events/index.html", listing=fetch(Events), types=list(EventType), sources=list_slugs())


@pages.get("/events/<identifier:event_id>")
def show(event_id: UUID) -> Response:
    """Show an event with the provider's object."""
    return render("events/show.html", event=call(OneEvent, event_id=event_id))
