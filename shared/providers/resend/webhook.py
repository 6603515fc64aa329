"""Resend: one event a request, signed by Standard Webhooks through Svix.

Source: resend.com/docs "Webhooks" and its event types.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared.events.event import Event
from shared.providers.webhooks import payload, standard_webhooks
from shared.providers.webhooks.authentication import read_optional
from shared.providers.webhooks.base import CredentialField, SourceSettings
from shared.providers.webhooks.translation import at, first, named, pairs, parse_object, translate
from shared.vocabulary import EventType, SetAsideReason

CREDENTIAL_FIELDS: Sequence[CredentialField] = (
    *standard_webhooks.CREDENTIAL_FIELDS,
    CredentialField(
        name="api_key",
        type="text",
        secret=True,
        help="An API key with full access. Enables `reconcile`, `sources enrol` and suppression sync.",
    ),
)

EVENTS: Mapping[str, EventType] = {
    "email.scheduled": EventType.QUEUED,
    "email.sent": EventType.SENT,
    "email.delivered": EventType.DELIVERED,
    "email.delivery_delayed": EventType.DEFERRED,
    "email.bounced": EventType.BOUNCED,
    "email.suppressed": EventType.REJECTED,
    "email.failed": EventType.FAILED,
    "email.complained": EventType.COMPLAINED,
    "email.opened": EventType.OPENED,
    "email.clicked": EventType.CLICKED,
    "email.received": EventType.INBOUND,
}
_OF_ALL = frozenset({EventType.QUEUED, EventType.SENT, EventType.FAILED, EventType.INBOUND})
"""Events of the message as a whole, before it is sent to each recipient separately."""
_ACTS = frozenset({EventType.OPENED, EventType.CLICKED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials(standard_webhooks.Credentials):
    """The signing secrets, and the key to the API."""

    api_key: str | None = None


def read_credentials(raw: Mapping[str, Any], keys: Mapping[str, str], settings: SourceSettings, /) -> Credentials:
    """Parse `{secrets, api_key?}`. Raises CredentialsError."""
    signing = standard_webhooks.read_credentials(raw, keys, settings)
    return Credentials(secrets=signing.secrets, public_keys=signing.public_keys, api_key=read_optional(raw, "api_key"))


def parse(body: bytes, _credentials: object, /) -> list[Event]:
    """Return the events of a body, one for each recipient it is about. Raises PayloadError if it is not an object."""
    return parse_object(body, _translate)


def _translate(item: payload.Item, value: Mapping[str, Any]) -> list[Event]:
    word, data = value.get("type"), value.get("data")
    kind = named(word, EVENTS)
    email_id = payload.read_identifier(at(data, "email_id"))
    cause = first(*(at(data, name) for name in ("bounce", "failed", "suppressed", "delivery_delayed", "delay")))
    bounce, subtype = (payload.read_text(at(cause, name)) for name in ("type", "subType"))
    failure = f"{bounce}/{subtype}" if bounce and subtype else at(cause, "type")  # such as permanent/general
    texts = [at(cause, "message"), at(cause, "reason"), at(cause, "diagnosticCode")]
    act = first(at(data, "click"), at(data, "open"))
    recipients = payload.read_addresses(first(at(data, "to"), at(data, "email")))
    problem = None
    if kind in _ACTS and len(recipients) > 1:
        recipients = [None]
    elif kind not in _OF_ALL and len(recipients) > 1:
        named_there: list[str | None] = [
            one for one in recipients if one and one in (payload.read_text(texts) or "").lower()
        ]
        if len(named_there) == 1:
            recipients = named_there
        else:
            problem = f"It is about one of {len(recipients)} recipients, and does not say which"
    events = translate(
        item,
        kind,
        word=word,
        recipients=recipients,
        occurred_at=first(at(act, "timestamp"), value.get("created_at"), at(data, "created_at")),
        message_key=f"id:{email_id}" if email_id else None,
        sender=at(data, "from"),
        subject=at(data, "subject"),
        smtp_id=at(data, "message_id"),
        provider_message_id=email_id,
        failure=first(failure, word),
        reason=first(*reversed(texts)),
        url=at(act, "link"),
        ip=at(act, "ipAddress"),
        user_agent=at(act, "userAgent"),
        campaign=at(data, "broadcast_id"),
        tags=list((pairs(at(data, "tags")) or {}).values()),
        metadata=pairs(at(data, "tags")),
        details={"cause": cause, "template_id": at(data, "template_id"), "cc": at(data, "cc"), "bcc": at(data, "bcc")},
    )
    return [payload.set_aside(events[0], problem, SetAsideReason.UNREADABLE)] if problem else events
