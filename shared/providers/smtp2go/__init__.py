"""SMTP2GO: one event for each request, as JSON or as a form, behind a password in the URL.

Source: SMTP2GO's "Webhooks" guide. No signature exists.
"""

from typing import Any

from shared.providers.webhooks import event_table, schemes
from shared.providers.webhooks.authentication import BASIC_FIELDS
from shared.providers.webhooks.base import Provider
from shared.providers.webhooks.event_table import EventTable, paths
from shared.vocabulary import EventType

EVENTS = {
    "processed": EventType.QUEUED,
    "delivered": EventType.DELIVERED,
    "bounce": EventType.BOUNCED,
    "open": EventType.OPENED,
    "click": EventType.CLICKED,
    "spam": EventType.COMPLAINED,
    "unsubscribe": EventType.UNSUBSCRIBED,
    "resubscribe": EventType.SUBSCRIBED,
    "reject": EventType.REJECTED,
}


def _failure(item: dict[str, Any]) -> Any:
    return f"bounce {item.get('bounce')}" if item.get("event") == "bounce" else None


def _url(item: dict[str, Any]) -> Any:
    """Return the link of a click, which is its `context`."""
    return item.get("url") or (item.get("context") if item.get("event") == "click" else None)


_TABLE = EventTable(
    provider="smtp2go",
    types=EVENTS,
    fields=paths(
        type="event",
        failure=_failure,
        recipient=("rcpt", "recipient"),
        occurred_at=("time", "sendtime"),
        provider_message_id="email_id",
        smtp_id=("message-id", "Message-Id", "message_id"),
        reason=("message", "context", "reason"),
        remote_host="host",
        url=_url,
        ip="client_ip",
        user_agent=("user-agent", "user_agent"),
        sender=("sender", "from"),
        subject=("subject", "Subject"),
    ),
    details=paths(
        webhook_id="id",
        bounce="bounce",
        auth="auth",
        srchost="srchost",
        hostname="hostname",
        from_name="from_name",
    ),
)
_SCHEME = schemes.Password()


PROVIDER = Provider(
    name="smtp2go",
    credential_fields=BASIC_FIELDS,
    setup=(
        "In SMTP2GO, open Settings, Webhooks, and add https://<username>:<password>@<your host>{path} with the JSON "
        "output and every event."
    ),
    no_api="Tidings does not call SMTP2GO's API: add the webhook in SMTP2GO.",
    signs="nothing: basic authentication",
    retries="35 times in 48 hours",
    read_credentials=schemes.reader(_SCHEME),
    verify=_SCHEME.verify,
    parse=event_table.json_or_form_parser(_TABLE),
)
