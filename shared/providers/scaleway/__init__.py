"""Scaleway Transactional Email: events through Topics and Events, which speaks the protocol of Amazon SNS.

Sources: Scaleway's "Understanding webhook event payloads", and its guide of Topics and Events.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from shared.events.event import Event
from shared.providers.webhooks import event_table, sns
from shared.providers.webhooks.base import KeyLookup, Provider, SourceSettings, WebhookRequest
from shared.providers.webhooks.event_table import EventTable, Getter, paths
from shared.providers.webhooks.translation import pairs
from shared.vocabulary import EventType

EVENTS = {
    "email_queued": EventType.QUEUED,
    "email_delivered": EventType.DELIVERED,
    "email_deferred": EventType.DEFERRED,
    "email_dropped": EventType.BOUNCED,
    "email_mailbox_not_found": EventType.BOUNCED,
    "email_spam": EventType.BOUNCED,  # the recipient's server took it for spam; nobody complained
    "email_blocklisted": EventType.REJECTED,
}
# The bucket is Scaleway's own. Only the URL of its trust chain is documented, so any certificate beside it is taken.
_CERTIFICATE_URL = re.compile(
    r"https://messaging\.s3\.([a-z]{2}-[a-z]{3})\.scw\.cloud/\1/sns/[0-9A-Za-z_-]+\.pem", re.ASCII
)


def _header(name: str) -> Getter:
    """Return a getter of a header of the message, which are in a list of `{key, value}`."""

    def get(item: Mapping[str, Any]) -> Any:
        headers = pairs(item.get("email_headers"), "key") or {}
        return next((value for key, value in headers.items() if key.lower() == name), None)

    return get


_TABLE = EventTable(
    provider="scaleway",
    types=EVENTS,
    fields=paths(
        type="type",
        event_id="id",
        recipient="email_to",
        occurred_at="created_at",
        provider_message_id="email_id",
        smtp_status="email_response_code",
        reason=("email_response_message", "email_error"),
        sender="email_from",
        subject=_header("subject"),
    ),
    details=paths(
        domain="domain_name",
        project_id="project_id",
        next_try="email_next_try",
        try_count="email_try_count",
        smtp_id=_header("message-id"),
    ),
)


def _verify(request: WebhookRequest, credentials: sns.Credentials, now: datetime, /) -> None:
    """Verify the message by its certificate. Raises VerificationError."""
    sns.verify(request, credentials, now, _CERTIFICATE_URL)


def _key_lookup(key_id: str, /) -> KeyLookup | None:
    """Return the URL of the certificate, if it is one of Scaleway's."""
    return sns.lookup(key_id, _CERTIFICATE_URL)


def _confirmation_url(request: WebhookRequest, settings: SourceSettings, /) -> str | None:
    """Return the call that confirms the subscription: made from the topic, not taken from the body."""
    return sns.confirmation_url(request, settings, lambda region: f"https://sns.mnq.{region}.scaleway.com")


def _parse(body: bytes, _credentials: object, /) -> list[Event]:
    """Return the event of a notification. Raises PayloadError if the body is not an object."""
    return sns.parse(body, lambda item, _: event_table.parse(event_table.read_items(item), _TABLE))


PROVIDER = Provider(
    name="scaleway",
    credential_fields=sns.CREDENTIAL_FIELDS,
    setup=(
        "In Scaleway's Topics and Events, create a topic, and an HTTPS subscription of https://<your host>{path} "
        "to it; Tidings confirms it. In Transactional Email, create a webhook of the domain for this topic."
    ),
    no_api="Tidings does not call Scaleway's API: create topic, subscription and webhook in Scaleway.",
    signs="RSA by a certificate over the fields of the notification, 1 hour",
    read_credentials=sns.read_credentials,
    verify=_verify,
    parse=_parse,
    confirmation_url=_confirmation_url,
    key_lookup=_key_lookup,
    read_keys=sns.read_keys,
)
