"""SendGrid: arrays of events, signed by ECDSA over timestamp and body.

Sources: Twilio's "Event Webhook Reference" and "Signed Event Webhook"; `sendgrid/helpers/eventwebhook` of the official
SDK. SendGrid repeats a batch for 24 hours and does not document whether it signs again, so no request is refused for
its age.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from shared.addresses import strip_brackets
from shared.errors import CredentialsError, VerificationError
from shared.events.event import Event
from shared.providers.webhooks import elliptic, payload
from shared.providers.webhooks.authentication import (
    decode_base64,
    read_optional,
    read_secrets,
    require_body,
    require_headers,
)
from shared.providers.webhooks.base import CredentialField, SourceSettings, WebhookRequest
from shared.providers.webhooks.translation import first, named, parse_objects, translate
from shared.vocabulary import EventType, RefusalReason

EVENTS: Mapping[str, EventType] = {
    "processed": EventType.QUEUED,
    "deferred": EventType.DEFERRED,
    "delivered": EventType.DELIVERED,
    "bounce": EventType.BOUNCED,
    "blocked": EventType.BOUNCED,  # also the `type` of a bounce that does not make SendGrid suppress the address
    "dropped": EventType.REJECTED,
    "open": EventType.OPENED,
    "click": EventType.CLICKED,
    "spamreport": EventType.COMPLAINED,
    "unsubscribe": EventType.UNSUBSCRIBED,
    "group_unsubscribe": EventType.UNSUBSCRIBED,
    "group_resubscribe": EventType.SUBSCRIBED,
}
CREDENTIAL_FIELDS: Sequence[CredentialField] = (
    CredentialField(
        name="public_key",
        several=True,
        type="text",
        required=True,
        help="The verification key of the signed event webhook: base64 of a P-256 key. A list is accepted during a "
        "rotation.",
    ),
    CredentialField(
        name="api_key",
        type="text",
        secret=True,
        help="An API key that may read and change Suppressions and Event Webhooks. Enables `sources webhooks`, "
        "`sources enrol` and suppression sync.",
    ),
)

_NAMES = """
email event timestamp smtp-id sg_event_id sg_message_id sg_machine_open sg_content_type sg_template_id sg_template_name
sg_user_id category ip useragent url url_offset reason response status attempt tls cert_err type bounce_classification
asm_group_id newsletter pool send_at marketing_campaign_id marketing_campaign_name marketing_campaign_version
marketing_campaign_split_id post_type singlesend_id singlesend_name template_id phase_id mc_auto_id mc_auto_name
mc_stats mc_pod_id subject from
"""
_FIELDS = frozenset(_NAMES.split())
"""All other fields of an event are custom arguments of the sender."""

# Of `<id>.filter0001.16648.5515E0B88.0` and `<id>.recvd-…`, the Message-Id and the answer to the send have only the id.
_SERVER = re.compile(r"\.(?:filter|recvd)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """The public keys of the webhook, the old and the new one during a rotation; `api_key` is for the API."""

    public_keys: Sequence[EllipticCurvePublicKey]
    api_key: str | None = None


def read_credentials(raw: Mapping[str, Any], _keys: Mapping[str, str], _settings: SourceSettings, /) -> Credentials:
    """Parse `{public_key, api_key?}`. Raises CredentialsError."""
    keys = [elliptic.read_p256(text) for text in read_secrets(raw, "public_key")]
    if None in keys:
        raise CredentialsError("`public_key` must be base64 of a P-256 public key, as SendGrid shows it")
    return Credentials(public_keys=[key for key in keys if key], api_key=read_optional(raw, "api_key"))


def verify(request: WebhookRequest, credentials: Credentials, now: datetime, /) -> None:  # noqa: ARG001
    """Verify the ECDSA signature over timestamp and body. Raises VerificationError."""
    names = "x-twilio-email-event-webhook-signature", "x-twilio-email-event-webhook-timestamp"
    signature, timestamp = require_headers(request, *names)
    body = require_body(request)
    decoded = decode_base64(signature, names[0])
    signed = timestamp.encode("latin-1", "replace") + body
    if not any(elliptic.is_signed_by(key, decoded, signed) for key in credentials.public_keys):
        raise VerificationError(RefusalReason.BAD_SIGNATURE, "Signature verification failed for every public key")


def parse(body: bytes, _credentials: object, /) -> list[Event]:
    """Return the events of an array. Raises PayloadError if the body is not JSON."""
    return parse_objects(body, _translate)


def _translate(item: payload.Item, value: Mapping[str, Any]) -> list[Event]:
    word = value.get("event")
    kind = named(word, EVENTS)
    message_id = payload.read_identifier(_SERVER.split(payload.read_text(value.get("sg_message_id")) or "")[0])
    smtp_id = payload.read_identifier(strip_brackets(payload.read_text(value.get("smtp-id")) or ""))
    # The reason of a drop, or SendGrid's classification of a bounce.
    cause = value.get("reason" if kind is EventType.REJECTED else "bounce_classification")
    custom = {name: given for name, given in value.items() if name not in _FIELDS}
    return translate(
        item,
        kind,
        word=word,
        recipients=value.get("email"),
        identity=_identify(value, message_id or smtp_id),
        occurred_at=value.get("timestamp"),
        message_key=_name_message(message_id, smtp_id),
        sender=value.get("from"),
        subject=value.get("subject"),
        smtp_id=smtp_id,
        provider_message_id=message_id,
        failure=first(cause, value.get("type")),
        enhanced_code=value.get("status"),
        reason=first(value.get("reason"), value.get("response")),
        url=value.get("url"),
        ip=value.get("ip"),
        user_agent=value.get("useragent"),
        tags=value.get("category"),
        campaign=first(value.get("singlesend_name"), value.get("marketing_campaign_name"), value.get("singlesend_id")),
        metadata=custom or None,
        is_automated=value.get("sg_machine_open") in (True, "true", "True", 1),
        details={
            name: value.get(name)
            for name in (
                "type",
                "bounce_classification",
                "attempt",
                "tls",
                "asm_group_id",
                "sg_event_id",
                "sg_message_id",
                "pool",
            )
        },
    )


def _identify(value: Mapping[str, Any], message: str | None) -> str | None:
    """Return an id of the event from its content: users report `sg_event_id` missing, or changing in repetitions."""
    if message is None or payload.read_time(value.get("timestamp")) is None:
        return payload.read_identifier(value.get("sg_event_id"))
    parts = (value.get(name) for name in ("event", "timestamp", "url", "asm_group_id", "attempt"))
    return payload.read_identifier("|".join([message, *(payload.read_text(part) or "" for part in parts)]))


def _name_message(message_id: str | None, smtp_id: str | None) -> str | None:
    """Return the key of the message: SendGrid's id, which is also the local part of Message-Ids that SendGrid makes."""
    if message_id:
        return f"id:{message_id}"
    if smtp_id:
        local, _, host = smtp_id.rpartition("@")
        return f"id:{local}" if host.startswith("ismtpd") or host.endswith("sendgrid.net") else f"smtp:{smtp_id}"
    return None
