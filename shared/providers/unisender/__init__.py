"""Unisender Go (UniOne): batches of events, with an MD5 of the body and the API key in the body itself.

Sources: docs.unisender.ru and docs.unione.io "Event callback". MD5 with a secret inside is weak: it keeps out those who
do not know the key, and no more.
"""

import hmac
import re
from collections.abc import Mapping
from datetime import datetime
from hashlib import md5
from typing import Any

from shared.errors import VerificationError
from shared.events.event import Event
from shared.providers.webhooks import event_table, payload, schemes
from shared.providers.webhooks.authentication import malformed, require_body
from shared.providers.webhooks.base import CredentialField, Provider, SourceSettings, WebhookRequest
from shared.providers.webhooks.event_table import EventTable, paths
from shared.vocabulary import EventType, RefusalReason

_AUTH = re.compile(rb'"auth"\s*:\s*"([0-9a-f]{32})"')
_NAMED = re.compile(rb'"auth"\s*:')
_STATUS = "transactional_email_status"

EVENTS = {
    "sent": EventType.SENT,
    "delivered": EventType.DELIVERED,
    "soft_bounced": EventType.DEFERRED,
    "hard_bounced": EventType.BOUNCED,
    "opened": EventType.OPENED,
    "clicked": EventType.CLICKED,
    "unsubscribed": EventType.UNSUBSCRIBED,
    "subscribed": EventType.SUBSCRIBED,
    "spam": EventType.COMPLAINED,
}


def _kind(item: Mapping[str, Any]) -> Any:
    data = item.get("event_data")
    if item.get("event_name") == _STATUS and isinstance(data, dict):
        return data.get("status")
    return item.get("event_name") or item.get("status")


_TABLE = EventTable(
    provider="unisender",
    types=EVENTS,
    fields=paths(
        type=_kind,
        failure=("event_data.delivery_info.delivery_status", "delivery_info.delivery_status"),
        recipient=("event_data.email", "email"),
        occurred_at=("event_data.event_time", "event_time"),
        provider_message_id=("event_data.job_id", "job_id"),
        reason=(
            "event_data.delivery_info.destination_response",
            "event_data.delivery_info.delivery_status",
            "delivery_info.destination_response",
        ),
        url=("event_data.url", "url"),
        ip="event_data.delivery_info.ip",
        user_agent="event_data.delivery_info.user_agent",
        metadata=("event_data.metadata", "metadata"),
    ),
    details=paths(delivery_info="event_data.delivery_info", comment="event_data.comment", event_name="event_name"),
)


def _read_credentials(
    raw: Mapping[str, Any], _keys: Mapping[str, str], _settings: SourceSettings, /
) -> tuple[bytes, ...]:
    return schemes.read_secrets(raw, "api_key")


def _verify(request: WebhookRequest, credentials: tuple[bytes, ...], now: datetime, /) -> None:  # noqa: ARG001
    """Verify the MD5 of the body in which the key stands for `auth`. Raises VerificationError."""
    body = require_body(request)
    found = _AUTH.findall(body)
    if not found and not _NAMED.search(body):
        raise VerificationError(RefusalReason.MISSING_SIGNATURE, "The body has no `auth`")
    if len(found) != 1 or body.count(found[0]) != 1:
        raise malformed("`auth` must be 32 hexadecimal digits, and occur once in the body")
    expected = [md5(body.replace(found[0], key), usedforsecurity=False).hexdigest().encode() for key in credentials]
    if not any([hmac.compare_digest(found[0], one) for one in expected]):  # noqa: C419 - all of them
        raise VerificationError(RefusalReason.BAD_SIGNATURE, "Signature verification failed")


def _parse(body: bytes, _credentials: Any, /) -> list[Event]:
    """Return the events of `{"events_by_user": [{"events": [...]}]}`, or the one of a flat object."""
    whole = payload.read(body)
    if b'"events_by_user"' not in whole.clean:
        return event_table.parse(event_table.read_items(whole), _TABLE)
    users = event_table.read_items(whole, "events_by_user")
    return [event for user in users for event in event_table.parse(event_table.read_items(user, "events"), _TABLE)]


PROVIDER = Provider(
    name="unisender",
    credential_fields=(
        CredentialField(
            name="api_key",
            several=True,
            type="text",
            required=True,
            secret=True,
            help="The API key of the account, or of the project for a project's webhook.",
        ),
    ),
    setup=(
        "In Unisender Go, open Settings, Webhooks, and add https://<your host>{path} with the JSON format, without "
        "compression, and all events."
    ),
    no_api="Tidings does not call Unisender's API: add the webhook in Unisender Go.",
    signs="MD5 over the body with the key in it, which is weak",
    retries="every 10 minutes for 24 hours",
    read_credentials=_read_credentials,
    verify=_verify,
    parse=_parse,
)
