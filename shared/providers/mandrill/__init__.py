"""Mandrill (Mailchimp Transactional): batches in a form, signed by HMAC-SHA1 over the URL and the form.

Sources: mailchimp.com/developer "Track and respond to activity with webhooks" and "Authenticating webhook requests".
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from shared.errors import CredentialsError, PayloadError, VerificationError
from shared.events.event import Event
from shared.providers.webhooks import event_table, forms, payload, schemes
from shared.providers.webhooks.authentication import (
    decode_base64,
    malformed,
    read_secret,
    require_body,
    require_headers,
)
from shared.providers.webhooks.base import CredentialField, Provider, SourceSettings, WebhookRequest
from shared.providers.webhooks.event_table import EventTable, paths
from shared.vocabulary import EventType, RefusalReason

_TEST_KEY = b"test-webhook"
"""The key that Mandrill signs its test of a new URL with, before the webhook has a key."""
_FIELD = "mandrill_events"

EVENTS = {
    "send": EventType.SENT,
    "delivered": EventType.DELIVERED,
    "deferral": EventType.DEFERRED,
    "soft_bounce": EventType.BOUNCED,
    "hard_bounce": EventType.BOUNCED,
    "reject": EventType.REJECTED,
    "open": EventType.OPENED,
    "click": EventType.CLICKED,
    "spam": EventType.COMPLAINED,
    "unsub": EventType.UNSUBSCRIBED,
    "inbound": EventType.INBOUND,
}


def _kind(item: Mapping[str, Any]) -> Any:
    """Return the event; changes of the allow and deny lists have a type and an action instead."""
    event = item.get("event")
    return f"{item['type']} {item.get('action')}" if event is None and item.get("type") else event


def _reason(item: Mapping[str, Any]) -> Any:
    msg = item.get("msg")
    if not isinstance(msg, dict):
        return None
    attempts = msg.get("smtp_events")
    last = attempts[-1] if isinstance(attempts, list) and attempts and isinstance(attempts[-1], dict) else {}
    reject = msg["reject"] if isinstance(msg.get("reject"), dict) else {}
    return msg.get("diag") or last.get("diag") or reject.get("reason") or msg.get("bounce_description")


_TABLE = EventTable(
    provider="mandrill",
    types=EVENTS,
    fields=paths(
        type=_kind,
        failure=("msg.bounce_description", "msg.reject.reason", "reject.reason"),
        recipient=("msg.email", "reject.email", "entry.email"),
        occurred_at="ts",
        provider_message_id=("msg._id", "_id"),
        reason=_reason,
        url="url",
        ip="ip",
        user_agent="user_agent",
        sender="msg.sender",
        subject="msg.subject",
        tags="msg.tags",
        metadata="msg.metadata",
    ),
    details=paths(
        state="msg.state",
        bounce_description="msg.bounce_description",
        subaccount="msg.subaccount",
        template="msg.template",
        location="location",
        user_agent_parsed="user_agent_parsed",
        reject="reject",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """The keys of the webhook, and its URL exactly as it is entered at Mandrill."""

    keys: tuple[bytes, ...]
    url: bytes


def _read_credentials(raw: Mapping[str, Any], _keys: Mapping[str, str], _settings: SourceSettings, /) -> Credentials:
    url = read_secret(raw, "webhook_url")
    if not url.startswith(("http://", "https://")):
        raise CredentialsError("`webhook_url` must be the URL as it is entered at Mandrill, with http:// or https://")
    return Credentials(keys=schemes.read_secrets(raw, "webhook_key"), url=url.encode("utf-8", "surrogatepass"))


def _verify(request: WebhookRequest, credentials: Credentials, now: datetime, /) -> None:  # noqa: ARG001
    """Verify the HMAC over the URL and the sorted fields of the form. Raises VerificationError."""
    if not any(_is_signed(request, credentials.url, key) for key in credentials.keys):
        sentence = "Signature verification failed; the URL at Mandrill must be exactly `webhook_url`"
        raise VerificationError(RefusalReason.BAD_SIGNATURE, sentence)


def _is_signed(request: WebhookRequest, url: bytes, key: bytes) -> bool:
    (header,) = require_headers(request, "x-mandrill-signature")
    body = require_body(request)
    given = decode_base64(header, "X-Mandrill-Signature")
    try:
        form = forms.read(body)
    except PayloadError as error:
        raise malformed(str(error)) from None
    signed = url + b"".join(f"{name}{form[name]}".encode("utf-8", "surrogatepass") for name in sorted(form))
    return hmac.compare_digest(hmac.digest(key, signed, "sha1"), given)


def _probe(request: WebhookRequest, credentials: Credentials, /) -> bytes | None:
    """Return an empty answer to the test of a new URL: an empty batch, signed with a published key."""
    if len(request.body) > len(_FIELD) + len("=%5B%5D"):
        return None
    try:
        is_test = forms.read(request.body) == {_FIELD: "[]"}
        return b"" if is_test and _is_signed(request, credentials.url, _TEST_KEY) else None
    except (PayloadError, VerificationError):
        return None


def _parse(body: bytes, _credentials: Any, /) -> list[Event]:
    text = forms.read(body).get(_FIELD)
    if text is None:
        raise PayloadError(f"The form has no field {_FIELD}")
    return event_table.parse(event_table.read_items(payload.read(text.encode("utf-8", "surrogatepass"))), _TABLE)


PROVIDER = Provider(
    name="mandrill",
    credential_fields=(
        CredentialField(
            name="webhook_key",
            several=True,
            type="text",
            required=True,
            secret=True,
            help="The webhook's key. Mandrill shows it after it has tested the URL: create the source with a random "
            "text, and set the key then. A list during a rotation.",
        ),
        CredentialField(
            name="webhook_url",
            type="text",
            required=True,
            secret=True,
            help="The URL exactly as it is entered at Mandrill, with user name, password and query if it has them.",
        ),
    ),
    setup=(
        "In Mandrill, open Settings, Webhooks, add https://<your host>{path} with all triggers, and copy the key of "
        "the new webhook into `webhook_key`."
    ),
    no_api="Tidings does not call Mandrill's API: add the webhook in Mandrill.",
    signs="HMAC-SHA1 over the URL and the form",
    retries="until it is answered 200; the schedule is not published",
    read_credentials=_read_credentials,
    verify=_verify,
    parse=_parse,
    probe=_probe,
)
