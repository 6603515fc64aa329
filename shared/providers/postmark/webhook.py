"""Postmark: one event a request, which is not signed: basic authentication or a header of one's own is checked.

Source: postmarkapp.com/developer "Webhooks overview" and the page of each type; Postmark's guide of 2026 for its
retries: it repeats a request after 5xx, 408, 429 and timeouts only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from shared.errors import CredentialsError
from shared.events.event import Event
from shared.providers.webhooks import payload
from shared.providers.webhooks.authentication import (
    BASIC_FIELDS,
    digest,
    read_basic,
    read_optional,
    read_texts,
    require_body,
    verify_basic,
    verify_token,
)
from shared.providers.webhooks.base import CredentialField, SourceSettings, WebhookRequest
from shared.providers.webhooks.translation import at, first, named, parse_objects, translate
from shared.vocabulary import EventType

EVENTS: Mapping[str, EventType] = {
    "delivery": EventType.DELIVERED,
    "bounce": EventType.BOUNCED,  # BOUNCES says more
    "spamcomplaint": EventType.COMPLAINED,
    "open": EventType.OPENED,
    "click": EventType.CLICKED,
    "subscriptionchange": EventType.UNSUBSCRIBED,  # SUPPRESSIONS says more
    "smtpapierror": EventType.FAILED,
    "inbound": EventType.INBOUND,
    "test": EventType.TEST,
}
BOUNCES: Mapping[str, EventType] = {
    "hardbounce": EventType.BOUNCED,
    "softbounce": EventType.BOUNCED,  # Postmark gave up
    "unknown": EventType.BOUNCED,
    "virusnotification": EventType.BOUNCED,
    "transient": EventType.DEFERRED,  # Postmark tries again
    "dnserror": EventType.DEFERRED,
    "openrelaytest": EventType.DEFERRED,
    "unsubscribe": EventType.UNSUBSCRIBED,
    "subscribe": EventType.SUBSCRIBED,
    "autoresponder": EventType.AUTORESPONDED,
    "addresschange": EventType.AUTORESPONDED,
    "challengeverification": EventType.AUTORESPONDED,
    "spamnotification": EventType.COMPLAINED,
    "spamcomplaint": EventType.COMPLAINED,
    "bademailaddress": EventType.REJECTED,
    "manuallydeactivated": EventType.REJECTED,
    "unconfirmed": EventType.REJECTED,
    "blocked": EventType.REJECTED,
    "dmarcpolicy": EventType.REJECTED,
    "smtpapierror": EventType.FAILED,
    "templaterenderingfailed": EventType.FAILED,
    # `inboundError` is about mail that came in.
}
SUPPRESSIONS: Mapping[str, EventType] = {
    "hardbounce": EventType.BOUNCED,
    "spamcomplaint": EventType.COMPLAINED,
    "manualsuppression": EventType.UNSUBSCRIBED,
}
CREDENTIAL_FIELDS: Sequence[CredentialField] = (
    CredentialField(
        name="username", type="text", help="The user of the webhook's Basic auth credentials; without a colon."
    ),
    CredentialField(
        name="password", type="text", secret=True, help="The password of the webhook's Basic auth credentials."
    ),
    BASIC_FIELDS[2],
    CredentialField(
        name="headers",
        type="object",
        secret=True,
        help="Instead of user name and password: custom headers of the webhook by name, each with its secret value.",
    ),
    CredentialField(
        name="api_key",
        type="text",
        secret=True,
        help="The server's API token. Enables `sources enrol`, `sources webhooks` and suppression sync.",
    ),
    CredentialField(
        name="message_stream",
        type="text",
        help="The id of the message stream whose webhook and suppressions `api_key` manages. Default: `outbound`.",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Digests of the accepted `username:password` pairs, and of the values of the headers by lower-case name.

    `api_key` and `message_stream` are for the API; `webhook` is what a webhook is created with there.
    """

    accepted: Sequence[bytes]
    headers: Mapping[str, bytes]
    api_key: str | None = None
    message_stream: str = "outbound"
    webhook: Mapping[str, object] = field(default_factory=dict, repr=False)


def read_credentials(raw: Mapping[str, Any], _keys: Mapping[str, str], _settings: SourceSettings, /) -> Credentials:
    """Parse `{username, password, previous?}` or `{headers}`; with both, both are checked. Raises CredentialsError."""
    given = read_texts(raw, "headers", required=False)
    if raw.get("headers") is not None and not given:
        raise CredentialsError("`headers` must not be empty")
    accepted: Sequence[bytes] = ()
    webhook: dict[str, object] = {}
    if given:
        webhook["HttpHeaders"] = [{"Name": name, "Value": value} for name, value in given.items()]
    if not given or any(raw.get(name) is not None for name in ("username", "password", "previous")):
        accepted = read_basic(raw)
        webhook["HttpAuth"] = {"Username": raw["username"], "Password": raw["password"]}
    return Credentials(
        accepted=accepted,
        headers={name.lower(): digest(value) for name, value in given.items()},
        api_key=read_optional(raw, "api_key"),
        message_stream=read_optional(raw, "message_stream") or "outbound",
        webhook=webhook,
    )


def verify(request: WebhookRequest, credentials: Credentials, now: datetime, /) -> None:  # noqa: ARG001
    """Verify user and password, and the headers, in constant time. Raises VerificationError."""
    if credentials.accepted:
        verify_basic(request, credentials.accepted)
    for name, value in credentials.headers.items():
        verify_token(request.headers.get(name, ""), [value], name)
    require_body(request)


def idempotency_key(request: WebhookRequest, /) -> str | None:
    """Return the id of the event's trace, the same over retries."""
    return request.headers.get("x-pm-webhook-trace-id", "").strip() or None


def parse(body: bytes, _credentials: object, /) -> list[Event]:
    """Return the event of a body. Raises PayloadError if the body is not JSON."""
    return parse_objects(body, _translate)


def _translate(item: payload.Item, value: Mapping[str, Any]) -> list[Event]:
    word = first(
        value.get("RecordType"), "Inbound" if "FromFull" in value else None, "Bounce" if "TypeCode" in value else None
    )
    kind = named(word, EVENTS)
    cause = word
    if kind is EventType.BOUNCED and value.get("Type"):
        cause = value["Type"]
        kind = named(cause, BOUNCES)
    elif kind is EventType.UNSUBSCRIBED:
        cause = value.get("SuppressionReason")
        kind = named(cause, SUPPRESSIONS) if value.get("SuppressSending") is not False else EventType.SUBSCRIBED
    message_id = payload.read_identifier(value.get("MessageID"))
    times = ("BouncedAt", "DeliveredAt", "ReceivedAt", "ChangedAt", "Date")
    recipients = first(*(value.get(name) for name in ("Recipient", "Email", "OriginalRecipient", "To")))
    return translate(
        item,
        kind,
        word=cause if kind is EventType.UNKNOWN else word,
        recipients=recipients,
        identity=_identify(value),
        occurred_at=first(*(value.get(name) for name in times)),
        message_key=f"id:{message_id}" if message_id else None,
        sender=value.get("From"),
        subject=value.get("Subject"),
        provider_message_id=message_id,
        failure=cause,
        reason=first(value.get("Details"), value.get("Description")),
        url=value.get("OriginalLink"),
        ip=at(value, "Geo", "IP"),
        user_agent=value.get("UserAgent"),
        tags=value.get("Tag"),
        metadata=value.get("Metadata"),
        details={
            "type": value.get("Type"),
            "description": value.get("Description"),
            **{name: value.get(name) for name in ("ID", "Inactive", "CanActivate", "ServerID", "MessageStream")},
            **{
                name: value.get(name)
                for name in ("SuppressionReason", "Origin", "FirstOpen", "Platform", "ReadSeconds")
            },
        },
    )


def _identify(value: Mapping[str, Any]) -> str | None:
    """Return the id of a bounce or complaint; None for other events, which have none."""
    number = payload.read_identifier(value.get("ID"))
    return f"{payload.read_text(value.get('RecordType')) or 'Bounce'}:{number}" if number and number != "0" else None
