"""Mailjet: one event, or a list of events, behind a password in the URL.

Sources: dev.mailjet.com "Event API" (webhooks) and its list of errors. No signature exists.
"""

from collections.abc import Mapping
from typing import Any

from shared.providers.webhooks import event_table, schemes
from shared.providers.webhooks.authentication import BASIC_FIELDS
from shared.providers.webhooks.base import Provider
from shared.providers.webhooks.event_table import EventTable, paths
from shared.vocabulary import EventType

EVENTS = {
    "sent": EventType.DELIVERED,  # the recipient's server took it
    "open": EventType.OPENED,
    "click": EventType.CLICKED,
    "bounce": EventType.BOUNCED,
    "greylisted": EventType.DEFERRED,  # ours for a bounce whose error is that
    "blocked": EventType.REJECTED,
    "spam": EventType.COMPLAINED,
    "unsub": EventType.UNSUBSCRIBED,
}


def _kind(item: Mapping[str, Any]) -> Any:
    """Return the event; a bounce that only says that the server greylists is tried again."""
    if item.get("event") == "bounce" and item.get("error") == "greylisted" and not item.get("hard_bounce"):
        return "greylisted"
    return item.get("event")


def _failure(item: Mapping[str, Any]) -> Any:
    """Return Mailjet's error; if there is none, whether the bounce is hard."""
    if item.get("error"):
        return item["error"]
    return "hard bounce" if item.get("hard_bounce") else None


_TABLE = EventTable(
    provider="mailjet",
    types=EVENTS,
    fields=paths(
        type=_kind,
        failure=_failure,
        recipient="email",
        occurred_at="time",
        provider_message_id="MessageID",
        request_id="Message_GUID",
        reason=("comment", "error", "smtp_reply", "source"),
        url="url",
        ip="ip",
        user_agent="agent",
        campaign=("customcampaign", "mj_campaign_id"),
        tags="CustomID",
        metadata="Payload",
    ),
    details=paths(
        error="error",
        error_related_to="error_related_to",
        hard_bounce="hard_bounce",
        contact_id="mj_contact_id",
        list_id="mj_list_id",
        geo="geo",
    ),
)
_SCHEME = schemes.Password()

PROVIDER = Provider(
    name="mailjet",
    credential_fields=BASIC_FIELDS,
    setup=(
        "In Mailjet, open Account settings, Event notifications (triggers), and enter "
        "https://<username>:<password>@<your host>{path} for every event. Tick `Group events`."
    ),
    no_api="Tidings does not call Mailjet's API: enter the URL in Mailjet.",
    signs="nothing: basic authentication",
    retries="every 30 seconds for 24 hours",
    read_credentials=schemes.reader(_SCHEME),
    verify=_SCHEME.verify,
    parse=event_table.parser(_TABLE),
)
