"""A source that no adapter was written for: its mapping says how requests are signed and where their fields are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from shared.errors import CredentialsError, PayloadError, suggest
from shared.events.event import Event
from shared.providers.generic.mapping import GenericMapping, read_mapping
from shared.providers.webhooks import event_table, forms, payload
from shared.providers.webhooks.base import CredentialField, SourceSettings, StatusCodes, WebhookRequest
from shared.providers.webhooks.payload import Item

CREDENTIAL_FIELDS: Sequence[CredentialField] = (
    CredentialField(name="username", type="text", help="For `basic`: the user of the webhook's URL."),
    CredentialField(name="password", type="text", secret=True, help="For `basic`: the password of the webhook's URL."),
    CredentialField(
        name="previous",
        type="list",
        secret=True,
        help="For `basic`: `{username, password}` objects that are still accepted during a rotation.",
    ),
    CredentialField(
        name="value",
        several=True,
        type="text",
        secret=True,
        help="For `header`: what the header must be; a list during a rotation.",
    ),
    CredentialField(
        name="secrets",
        several=True,
        type="list",
        secret=True,
        help="For `hmac` and `standard_webhooks`: the signing secrets.",
    ),
    CredentialField(
        name="public_key",
        several=True,
        type="text",
        help="For `ed25519`: PEM, or base64 of its SPKI or 32 bytes; a list during a rotation.",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """The compiled mapping of a source, and the secrets or keys for its scheme."""

    mapping: GenericMapping
    keys: Any


def read_credentials(raw: Mapping[str, Any], _keys: Mapping[str, str], settings: SourceSettings, /) -> Credentials:
    """Compile `settings.generic` and read the credentials of its kind of authentication. Raises CredentialsError."""
    mapping = read_mapping(settings.generic)
    for name, value in raw.items():
        if value is not None and name not in mapping.credentials:
            raise CredentialsError(
                f"`{name}` does not belong to this kind of authentication.{suggest(name, mapping.credentials)}"
                f" It has {', '.join(mapping.credentials)}"
            )
    return Credentials(mapping=mapping, keys=mapping.scheme.read(raw))


def status_codes(credentials: Credentials, /) -> StatusCodes:
    """Return the status codes that the mapping gives."""
    return credentials.mapping.status_codes


def verify(request: WebhookRequest, credentials: Credentials, now: datetime, /) -> None:
    """Verify a request by the mapping's scheme. Raises VerificationError."""
    credentials.mapping.scheme.verify(request, credentials.keys, now)


def parse(body: bytes, credentials: Credentials, /) -> list[Event]:
    """Return the events of a body by the mapping. Raises PayloadError."""
    mapping = credentials.mapping
    if mapping.format == "form":
        whole = event_table.encode_items([forms.read(body)])[0]
    elif mapping.format == "ndjson":
        lines = event_table.read_lines(payload.read(body))
        if mapping.items is None and not mapping.route:
            return event_table.parse(lines, mapping.table)
        whole_text = b"[" + b",".join(line.clean for line in lines) + b"]"
        whole = Item(whole_text, whole_text)
    else:
        whole = payload.read(body)
    if mapping.items is None:
        return event_table.parse(event_table.read_items(whole, *mapping.route), mapping.table)
    try:
        found = mapping.items(payload.decode_any(whole.clean))
    except LookupError as error:
        raise PayloadError(str(error)) from None
    if not isinstance(found, list):
        raise PayloadError(f"settings.generic.items leads to {payload.quote(found)}, which is not a list")
    return event_table.parse(event_table.encode_items(found), mapping.table)
