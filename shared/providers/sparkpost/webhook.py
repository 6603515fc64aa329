"""SparkPost (Bird): batches of wrapped events, behind a password or a bearer token.

Sources: developers.sparkpost.com "Webhooks" and "Bounce classification codes". No signature exists.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from shared.errors import PayloadError
from shared.events.event import Event
from shared.providers.webhooks import authentication, event_table, payload, schemes
from shared.providers.webhooks.base import CredentialField, SourceSettings, WebhookRequest
from shared.providers.webhooks.event_table import EventTable, paths
from shared.providers.webhooks.payload import Item
from shared.vocabulary import EventType

EVENTS = {
    "injection": EventType.QUEUED,
    "delivery": EventType.DELIVERED,
    "delay": EventType.DEFERRED,
    "bounce": EventType.BOUNCED,
    "out_of_band": EventType.BOUNCED,  # after delivery
    "policy_rejection": EventType.REJECTED,
    "generation_rejection": EventType.REJECTED,
    "generation_failure": EventType.FAILED,
    "spam_complaint": EventType.COMPLAINED,
    "open": EventType.OPENED,
    "amp_open": EventType.OPENED,
    "initial_open": EventType.OPENED,
    "amp_initial_open": EventType.OPENED,
    "click": EventType.CLICKED,
    "amp_click": EventType.CLICKED,
    "list_unsubscribe": EventType.UNSUBSCRIBED,
    "link_unsubscribe": EventType.UNSUBSCRIBED,
    "relay_injection": EventType.INBOUND,
}

_BY_BOUNCE_CLASS = {
    # A bounce that SparkPost classifies as a reply, and not as a failure.
    "60": EventType.AUTORESPONDED,
    "80": EventType.SUBSCRIBED,
    "90": EventType.UNSUBSCRIBED,
    "100": EventType.AUTORESPONDED,
}
_BOUNCES = ("bounce", "out_of_band")


def _kind(item: dict[str, Any]) -> Any:
    """Return the word for the event, with the bounce class where that decides the type."""
    bounce_class = str(item.get("bounce_class"))
    if item.get("type") in _BOUNCES and bounce_class in _BY_BOUNCE_CLASS:
        return f"{item['type']} {bounce_class}"
    return item.get("type")


def _is_prefetched(item: dict[str, Any]) -> bool:
    """Return whether nobody opened the message yet. A proxy (`is_proxy`) may fetch because a person opened it."""
    parsed = item.get("user_agent_parsed")
    return isinstance(parsed, dict) and parsed.get("is_prefetched") is True


_TABLE = EventTable(
    provider="sparkpost",
    types={
        **EVENTS,
        **{f"{word} {number}": type_ for word in _BOUNCES for number, type_ in _BY_BOUNCE_CLASS.items()},
    },
    fields=paths(
        type=_kind,
        failure="bounce_class",
        event_id="event_id",
        recipient=("raw_rcpt_to", "rcpt_to"),
        occurred_at="timestamp",
        request_id="transmission_id",
        provider_message_id="message_id",
        smtp_status="error_code",
        reason=("raw_reason", "reason", "fbtype"),
        url="target_link_url",
        ip="ip_address",
        user_agent="user_agent",
        sender=("friendly_from", "msg_from"),
        subject="subject",
        campaign="campaign_id",
        tags="rcpt_tags",
        metadata="rcpt_meta",
        remote_host="remote_addr",
    ),
    details=paths(
        bounce_class="bounce_class",
        subaccount_id="subaccount_id",
        template_id="template_id",
        num_retries="num_retries",
        fbtype="fbtype",
        user_agent_parsed="user_agent_parsed",
        geo_ip="geo_ip",
    ),
    automated=_is_prefetched,
)
_SCHEME = schemes.Password(accepts_token=True)

CREDENTIAL_FIELDS: Sequence[CredentialField] = (
    *schemes.PASSWORD_OR_TOKEN,
    CredentialField(
        name="api_key",
        type="text",
        secret=True,
        help="An API key with the grants for webhooks and the suppression list. Enables `sources enrol`, `sources "
        "webhooks`, `sources validate` and suppression sync.",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Digests of what is accepted; `api_key` and what a webhook is created with are for the API."""

    accepted: tuple[Sequence[bytes], Sequence[bytes]]
    api_key: str | None = None
    webhook: Mapping[str, object] = field(default_factory=dict, repr=False)


def read_credentials(raw: Mapping[str, Any], _keys: Mapping[str, str], _settings: SourceSettings, /) -> Credentials:
    """Parse `{username, password, previous?}` or `{token}`, and `api_key`. Raises CredentialsError."""
    accepted = _SCHEME.read(raw)
    webhook: dict[str, object]
    if raw.get("token") is None:
        pair = {"username": raw["username"], "password": raw["password"]}
        webhook = {"auth_type": "basic", "auth_credentials": pair}
    else:
        token = authentication.read_secrets(raw, "token")[0]
        webhook = {"auth_type": "none", "custom_headers": {"Authorization": f"Bearer {token}"}}
    return Credentials(accepted=accepted, api_key=authentication.read_optional(raw, "api_key"), webhook=webhook)


def verify(request: WebhookRequest, credentials: Credentials, now: datetime, /) -> None:
    """Check the password or the bearer token. Raises VerificationError."""
    _SCHEME.verify(request, credentials.accepted, now)


def parse(body: bytes, _credentials: Credentials, /) -> list[Event]:
    """Return the events of a batch. Raises PayloadError if the body is neither a list nor an object."""
    events: list[Event] = []
    for wrapped in event_table.read_items(payload.read(body)):
        try:
            inner = _unwrap(wrapped)
        except PayloadError as error:
            events.append(payload.refuse(wrapped, str(error)))
        else:
            events.extend(event_table.parse(inner, _TABLE))
    return events


def _unwrap(wrapped: Item) -> list[Item]:
    """Return the event in `{"msys": {"<class>": {...}}}`; none in the empty one that tests a new webhook."""
    msys, *others = event_table.read_items(wrapped, "msys") or [wrapped]
    found = payload.decode_any(msys.clean)
    if others or msys is wrapped or not isinstance(found, dict):
        raise PayloadError("`msys` must be an object")
    return [item for name in found for item in event_table.read_items(msys, name)]
