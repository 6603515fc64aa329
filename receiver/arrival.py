"""From an HTTP request to the values that the door works with."""

from collections.abc import Mapping
from datetime import datetime

import msgspec

from receiver.refused import Refused
from shared import ids
from shared.asgi.protocol import Scope
from shared.encryption import Vault
from shared.providers.webhooks.base import Request, StatusCodes
from shared.receipts import dedup
from shared.receipts import headers as kept_headers
from shared.receipts.store import Receipt
from shared.sources.source import Source
from shared.vocabulary import RefusalReason

_LONGEST_IDEMPOTENCY_KEY = 255


def headers(scope: Scope) -> dict[str, str]:
    """The headers of a request, by lower-case name; what came several times is joined (RFC 9110, section 5.3)."""
    found: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def announced_length(found: Mapping[str, str]) -> int | None:
    """How long the body is to be, where that is told. The server has seen to it that it is a number."""
    length = found.get("content-length")
    return int(length) if length is not None else None


def check_encoding(found: Mapping[str, str], codes: StatusCodes) -> None:
    """Raise Refused for a body that is compressed: what a few bytes inflate to is not bounded by the limit on it."""
    if found.get("content-encoding", "").strip().lower() not in ("", "identity"):
        raise Refused(codes.encoded, RefusalReason.ENCODED, "Content-Encoding is not supported; send the body as it is")


def headers_json(found: Mapping[str, str], vault: Vault | None = None) -> str:
    """Headers as they are stored: without credentials, or with them sealed."""
    return msgspec.json.encode(kept_headers.kept(found, vault)).decode()


def remote_ip(scope: Scope, found: Mapping[str, str], proxies: int) -> str | None:
    """Who sent the request, `proxies` trusted proxies being in front of us."""
    if proxies:
        chain = found.get("x-forwarded-for", "").split(",")
        if len(chain) >= proxies:
            return chain[-proxies].strip()[:45] or None
    client: tuple[str, int] | None = scope.get("client")
    return client[0] if client else None


def receipt(
    source: Source, arrived: Request, now: datetime, unverified: bool, sender_ip: str | None, vault: Vault
) -> Receipt:
    """What is stored of a request."""
    idempotency_key = source.provider.idempotency_key(arrived)
    return Receipt(
        id=ids.receipt_id(now),
        source_id=source.id,
        received_at=now,
        key=dedup.key(source, arrived, unverified=unverified),
        key_expires_at=dedup.expires_at(source, now),
        idempotency_key=idempotency_key[:_LONGEST_IDEMPOTENCY_KEY] if idempotency_key else None,
        remote_ip=sender_ip,
        headers=headers_json(arrived.headers, vault if unverified else None),
        body=arrived.body,
    )
