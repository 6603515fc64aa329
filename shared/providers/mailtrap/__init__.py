"""Mailtrap's Email Sending: batches of events as JSON or as lines of JSON, signed by HMAC over the body.

Sources: docs.mailtrap.io "Webhooks", and the verification of Mailtrap's Python SDK.
"""

from typing import Any

from shared.errors import PayloadError
from shared.events.event import Event
from shared.providers.webhooks import event_table, payload, schemes
from shared.providers.webhooks.base import CredentialField, Provider
from shared.providers.webhooks.event_table import EventTable, paths
from shared.vocabulary import EventType

EVENTS = {
    "delivery": EventType.DELIVERED,
    "open": EventType.OPENED,
    "click": EventType.CLICKED,
    "bounce": EventType.BOUNCED,
    "soft bounce": EventType.DEFERRED,
    "suspension": EventType.DEFERRED,
    "spam": EventType.COMPLAINED,
    "unsubscribe": EventType.UNSUBSCRIBED,
    "reject": EventType.REJECTED,
    "inbound.message_received": EventType.INBOUND,
}

_TABLE = EventTable(
    provider="mailtrap",
    types=EVENTS,
    fields=paths(
        type="event",
        failure="bounce_category",
        event_id="event_id",
        recipient="email",
        occurred_at="timestamp",
        provider_message_id="message_id",
        smtp_status="response_code",
        reason=("response", "reason"),
        url="url",
        ip="ip",
        user_agent="user_agent",
        tags="category",
        metadata="custom_variables",
    ),
    details=paths(
        sending_stream="sending_stream",
        sending_domain="sending_domain_name",
        bounce_category="bounce_category",
        reason="reason",
    ),
)
_SCHEME = schemes.Hmac(signature=schemes.Signature(header="mailtrap-signature"), field="signing_secret")


def _parse(body: bytes, _credentials: Any, /) -> list[Event]:
    """Return the events of `{"events": [...]}`, or of one object for each line."""
    whole = payload.read(body)
    try:
        items = event_table.read_items(whole, "events")
    except PayloadError:
        items = event_table.read_lines(whole)
    return event_table.parse(items, _TABLE)


PROVIDER = Provider(
    name="mailtrap",
    credential_fields=(
        CredentialField(
            name="signing_secret",
            several=True,
            type="text",
            required=True,
            secret=True,
            help="The webhook's signing secret, as it is shown; a list of texts during a rotation.",
        ),
    ),
    setup=(
        "In Mailtrap, open Settings, Webhooks, and create one with the URL https://<your host>{path}, the JSON format, "
        "your sending stream and all events. Copy its signing secret."
    ),
    no_api="Tidings does not call Mailtrap's API: create the webhook in Mailtrap.",
    signs="HMAC-SHA256 over the body",
    retries="40 times, every 5 minutes",
    read_credentials=schemes.reader(_SCHEME),
    verify=_SCHEME.verify,
    parse=_parse,
)
