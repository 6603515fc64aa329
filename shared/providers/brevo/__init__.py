"""Brevo (formerly Sendinblue): one event for each request, or batches, behind a password or a bearer token.

Sources: developers.brevo.com "Transactional webhooks" and "Retry mechanism". No signature exists. The body of a
batch is not documented: a list, and an object with a list, are read as one.
"""

from typing import Any

from shared.errors import PayloadError
from shared.events.event import Event
from shared.providers.webhooks import event_table, payload, schemes
from shared.providers.webhooks.base import Provider, StatusCodes
from shared.providers.webhooks.event_table import EventTable, paths
from shared.vocabulary import EventType

_BATCHES = ("events", "items", "data")

EVENTS = {
    "request": EventType.QUEUED,
    "sent": EventType.QUEUED,  # another name of a request
    "delivered": EventType.DELIVERED,
    "deferred": EventType.DEFERRED,
    "soft_bounce": EventType.BOUNCED,  # the end: what is tried again is `deferred`
    "hard_bounce": EventType.BOUNCED,
    "invalid_email": EventType.BOUNCED,
    "blocked": EventType.REJECTED,
    "error": EventType.FAILED,
    "spam": EventType.COMPLAINED,
    "complaint": EventType.COMPLAINED,
    "opened": EventType.OPENED,
    "unique_opened": EventType.OPENED,
    "proxy_open": EventType.OPENED,
    "unique_proxy_open": EventType.OPENED,
    "click": EventType.CLICKED,
    "unsubscribe": EventType.UNSUBSCRIBED,
    "unsubscribed": EventType.UNSUBSCRIBED,
    "list_addition": EventType.SUBSCRIBED,
    "reply": EventType.REPLIED,
    "inboundEmailProcessed": EventType.INBOUND,
}
# The API that creates webhooks writes the same words in another way.
OTHER_SPELLINGS = {
    "hardBounce": "hard_bounce", "softBounce": "soft_bounce", "uniqueOpened": "unique_opened",
    "invalid": "invalid_email", "proxyOpen": "proxy_open", "uniqueProxyOpen": "unique_proxy_open",
    "listAddition": "list_addition",
}  # fmt: skip

_TABLE = EventTable(
    provider="brevo",
    types={**EVENTS, **{spelling: EVENTS[word] for spelling, word in OTHER_SPELLINGS.items()}},
    fields=paths(
        type="event",
        recipient="email",
        occurred_at=("ts_epoch", "ts_event", "ts"),  # only the first is certainly in UTC
        smtp_id="message-id",
        reason="reason",
        url=("link", "URL"),
        user_agent="user_agent",
        sender="sender_email",
        subject="subject",
        tags=("tags", "tag"),
        campaign=("campaign name", "camp_id"),  # of mail that is not transactional
        metadata="X-Mailin-custom",
    ),
    details=paths(
        webhook_id="id",
        template_id="template_id",
        contact_id="contact_id",
        device_used="device_used",
        sending_ip="sending_ip",
        mirror_link="mirror_link",
    ),
    automated=lambda item: str(item.get("event")).lower().replace("_", "") in ("proxyopen", "uniqueproxyopen"),
)
_SCHEME = schemes.Password(accepts_token=True)


def _parse(body: bytes, _credentials: Any, /) -> list[Event]:
    whole = payload.read(body)
    for name in _BATCHES:
        try:
            items = event_table.read_items(whole, name)
        except PayloadError:
            continue
        return event_table.parse(items, _TABLE)
    return event_table.parse(event_table.read_items(whole), _TABLE)


PROVIDER = Provider(
    name="brevo",
    credential_fields=schemes.PASSWORD_OR_TOKEN,
    setup=(
        "In Brevo, open Transactional, Settings, Webhook, and add https://<username>:<password>@<your host>{path} "
        "with every event ticked."
    ),
    no_api="Tidings does not call Brevo's API: create the webhook in Brevo.",
    signs="nothing: basic authentication or a bearer token",
    retries="after 429 and timeouts, 4 times in 11 hours; never after others",
    read_credentials=schemes.reader(_SCHEME),
    verify=_SCHEME.verify,
    parse=_parse,
    # Brevo discards an event after any 4xx and 5xx except 429, which it repeats four times in eleven hours.
    status_codes=StatusCodes(bad_signature=429, unavailable=429),
)
