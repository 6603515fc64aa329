"""Mailgun: one event a request, as JSON or, from old webhooks and routes, as a form.

Source: documentation.mailgun.com "Webhooks" and "Securing webhooks". The signature covers a timestamp and a token, and
not the body. So a token is used for one request only: another body under it is refused as a replay. Retries go on for
eight hours, and it is not documented whether they are signed again, so no request is refused for its age.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from shared.errors import CredentialsError, PayloadError, VerificationError
from shared.events.event import Event
from shared.providers.webhooks import forms, payload
from shared.providers.webhooks.authentication import (
    decode_hex,
    malformed,
    read_optional,
    read_secrets,
    require_body,
    verify_hmac,
)
from shared.providers.webhooks.base import CredentialField, SourceSettings, WebhookRequest
from shared.providers.webhooks.translation import at, first, named, translate
from shared.vocabulary import EventType, RefusalReason

EVENTS: Mapping[str, EventType] = {
    "accepted": EventType.QUEUED,
    "delivered": EventType.DELIVERED,
    "failed": EventType.BOUNCED,  # with the severity `temporary` it is deferred
    "rejected": EventType.REJECTED,
    "opened": EventType.OPENED,
    "clicked": EventType.CLICKED,
    "unsubscribed": EventType.UNSUBSCRIBED,
    "complained": EventType.COMPLAINED,
    # Words of old webhooks, and the names under which webhooks are set up.
    "bounced": EventType.BOUNCED,
    "dropped": EventType.REJECTED,
    "permanent_fail": EventType.BOUNCED,
    "temporary_fail": EventType.DEFERRED,
}
CREDENTIAL_FIELDS: Sequence[CredentialField] = (
    CredentialField(
        name="signing_key",
        several=True,
        type="text",
        required=True,
        secret=True,
        help="The account's HTTP webhook signing key, which is not an API key. A list is accepted during a rotation.",
    ),
    CredentialField(
        name="api_key",
        type="text",
        secret=True,
        help="An API key of the account. Enables `sources enrol`, `sources webhooks` and suppression sync.",
    ),
    CredentialField(
        name="domain",
        type="text",
        help="The sending domain whose webhooks and suppressions `api_key` manages. Required with it.",
    ),
)

_FIELDS_OF_FORMS = """
timestamp token signature event recipient domain message-headers message-id Message-Id reason code error description
notification body-plain attachment-count ip country region city user-agent device-type client-type client-name client-os
campaign-id campaign-name tag mailing-list url
"""
"""Everything else in a form is a variable of the sender's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """The signing keys, the old and the new one during a rotation; `api_key` and `domain` are for the API."""

    signing_keys: Sequence[bytes]
    api_key: str | None = None
    domain: str | None = None


def read_credentials(raw: Mapping[str, Any], _keys: Mapping[str, str], _settings: SourceSettings, /) -> Credentials:
    """Parse `{signing_key, api_key?, domain?}`. Raises CredentialsError."""
    api_key, domain = read_optional(raw, "api_key"), read_optional(raw, "domain")
    if api_key and not domain:
        raise CredentialsError("`domain` is required with `api_key`: webhooks and suppressions are those of a domain")
    return Credentials(
        signing_keys=[text.encode("utf-8", "surrogatepass") for text in read_secrets(raw, "signing_key")],
        api_key=api_key,
        domain=domain,
    )


class _Signature(msgspec.Struct):
    timestamp: str | int
    token: str
    signature: str


class _Signed(msgspec.Struct, rename={"parent": "parent-signature"}):
    signature: _Signature
    parent: _Signature | None = None


_signed = msgspec.json.Decoder(_Signed)


def verify(request: WebhookRequest, credentials: Credentials, now: datetime, /) -> None:  # noqa: ARG001
    """Verify the HMAC over timestamp and token: the account's own, or that of its parent. Raises VerificationError."""
    found = _read_signatures(require_body(request))
    if not found:
        raise VerificationError(RefusalReason.MISSING_SIGNATURE, "The body has no signature that can be read")
    for one in found[:-1]:
        try:
            _verify_one(one, credentials)
        except VerificationError:
            continue
        return
    _verify_one(found[-1], credentials)


def _verify_one(given: _Signature, credentials: Credentials) -> None:
    signature = decode_hex(given.signature, "`signature`")
    if not given.token:
        raise malformed("`token` is empty")
    signed = f"{given.timestamp}{given.token}".encode("utf-8", "surrogatepass")
    verify_hmac(credentials.signing_keys, signed, [signature])


def _read_signatures(body: bytes) -> Sequence[_Signature]:
    """Return the signature of a body and that of its parent account; nothing if it has none."""
    try:
        if body.lstrip().startswith(b"{"):
            found = payload.decode(payload.read(body).clean, _signed)
            return [found.signature, found.parent] if found.parent else [found.signature]
        form = forms.read(body)
        return [_Signature(form["timestamp"], form["token"], form["signature"])]
    except (PayloadError, KeyError):
        return []


def single_use_token(request: WebhookRequest, /) -> str | None:
    """Return the signed token, with its time."""
    found = _read_signatures(request.body)
    return f"{found[0].timestamp}:{found[0].token}" if found else None


def parse(body: bytes, _credentials: object, /) -> list[Event]:
    """Return the event of a body. Raises PayloadError if it is neither JSON nor a form."""
    if not body.lstrip().startswith((b"{", b"[")):
        return _read_form(forms.read(body))
    item = payload.read(body)
    value = payload.decode_any(item.clean)
    data = value.get("event-data") if isinstance(value, dict) else None
    try:
        if not isinstance(data, dict):
            raise PayloadError("The body has no `event-data` object")
        return _translate(item, data)
    except PayloadError as error:
        return [payload.refuse(item, str(error))]


def _translate(item: payload.Item, data: Mapping[str, Any]) -> list[Event]:
    word = data.get("event")
    kind = named(word, EVENTS)
    if kind is EventType.BOUNCED and data.get("severity") == "temporary":
        kind = EventType.DEFERRED
    headers, status = at(data, "message", "headers"), data.get("delivery-status")
    smtp_id = payload.read_identifier(at(headers, "message-id"))
    smtp_id = smtp_id.strip("<>") if smtp_id else None
    client = data.get("client-info")
    identity, occurred_at = payload.read_identifier(data.get("id")), payload.read_time(data.get("timestamp"))
    if identity and occurred_at:  # Mailgun's id of an event is unique within a day
        identity = f"{identity}/{occurred_at:%Y-%m-%d}"
    return translate(
        item,
        kind,
        word=word,
        recipients=first(data.get("recipient"), at(headers, "to")),
        identity=identity,
        occurred_at=data.get("timestamp"),
        message_key=f"smtp:{smtp_id}" if smtp_id else None,
        sender=first(at(data, "envelope", "sender"), at(headers, "from")),
        subject=at(headers, "subject"),
        smtp_id=smtp_id,
        provider_message_id=smtp_id,
        failure=first(data.get("reason"), at(data, "reject", "reason")),
        smtp_status=at(status, "code"),
        enhanced_code=at(status, "enhanced-code"),
        reason=first(
            at(status, "message"), at(status, "description"), at(data, "reject", "description"), data.get("reason")
        ),
        remote_host=at(status, "mx-host"),
        url=data.get("url"),
        ip=data.get("ip"),
        user_agent=at(client, "user-agent"),
        tags=data.get("tags"),
        campaign=first(at(data, "campaigns")),
        metadata=data.get("user-variables"),
        is_automated=first(at(client, "bot")) not in (None, "", False),
        details={
            "severity": data.get("severity"),
            "cause": data.get("reason"),
            "attempt": at(status, "attempt-no"),
            "bounce_type": at(status, "bounce-type"),
            "flags": data.get("flags"),
            "account": at(data, "account", "id"),
            "domain": at(data, "domain", "name"),
            "storage_url": at(data, "storage", "url"),
            "geolocation": data.get("geolocation"),
            "client": client,
        },
    )


def _read_form(form: Mapping[str, str]) -> list[Event]:
    """Return the event of an old webhook, or the mail that a route received."""
    text = msgspec.json.encode(form)
    item = payload.Item(text, text)
    word = form.get("event") or ("inbound" if "sender" in form or "body-mime" in form else None)
    kind = EventType.INBOUND if word == "inbound" else named(word, EVENTS)
    smtp_id = payload.read_identifier((form.get("Message-Id") or form.get("message-id") or "").strip("<> "))
    code = form.get("code")
    try:
        return translate(
            item,
            kind,
            word=word,
            recipients=form.get("recipient"),
            identity=form.get("token"),
            occurred_at=form.get("timestamp"),
            message_key=f"smtp:{smtp_id}" if smtp_id else None,
            sender=form.get("sender") or form.get("from"),
            subject=form.get("subject"),
            smtp_id=smtp_id,
            provider_message_id=smtp_id,
            failure=form.get("reason"),
            smtp_status=None if code and "." in code else code,
            enhanced_code=code if code and "." in code else None,
            reason=form.get("error") or form.get("description") or form.get("notification") or form.get("reason"),
            url=form.get("url"),
            ip=form.get("ip"),
            user_agent=form.get("user-agent"),
            tags=form.get("tag"),
            campaign=form.get("campaign-id") or form.get("campaign-name"),
            metadata={name: value for name, value in form.items() if name not in _FIELDS_OF_FORMS.split()} or None,
            details={"cause": form.get("reason"), "domain": form.get("domain")},
        )
    except PayloadError as error:
        return [payload.refuse(item, str(error))]
