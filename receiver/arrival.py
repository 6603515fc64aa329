"""From an HTTP request to the values that the door works with."""

from datetime import datetime

import msgspec
from werkzeug import Request as HttpRequest
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from shared import headers as kept_headers
from shared import identity, ids
from shared.db.receipts import Receipt
from shared.domain.vocabulary import RefusalReason
from shared.providers.base import Request, StatusCodes
from shared.secrets import Vault
from shared.sources import Source

_LONGEST_IDEMPOTENCY_KEY = 255


class Refused(Exception):  # noqa: N818 - an outcome, not a fault
    """A request that is not taken: the code to answer, and why."""

    def __init__(self, status_code: int, reason: RefusalReason, detail: str, *, size: int = 0) -> None:
        super().__init__(detail)
        self.status_code = status_code
        self.reason = reason
        self.size = size


def read(request: HttpRequest, codes: StatusCodes, limit: int) -> Request:
    """What arrived, its body byte for byte. Raises Refused."""
    encoding = request.environ.get("HTTP_CONTENT_ENCODING", "").strip().lower()
    if encoding not in ("", "identity"):
        # What a few bytes inflate to is not bounded by the limit on the body.
        raise Refused(codes.encoded, RefusalReason.ENCODED, "Content-Encoding is not supported; send the body as it is")
    request.max_content_length = limit
    try:
        body = request.get_data(cache=False)
    except RequestEntityTooLarge:
        size = request.content_length or 0
        raise Refused(
            codes.too_large, RefusalReason.TOO_LARGE, f"the body is larger than {limit} bytes", size=size
        ) from None
    except ClientDisconnected:
        raise Refused(400, RefusalReason.UNREADABLE, "the body ended before its announced length") from None
    return Request(headers=headers(request), body=body)


def headers(request: HttpRequest) -> dict[str, str]:
    """The headers of a request, by lower-case name."""
    found = {
        name[5:].replace("_", "-").lower(): value for name, value in request.environ.items() if name.startswith("HTTP_")
    }
    if content_type := request.environ.get("CONTENT_TYPE"):
        found["content-type"] = content_type
    return found


def headers_json(found: dict[str, str], vault: Vault | None = None) -> str:
    """Headers as they are stored: without credentials, or with them sealed."""
    return msgspec.json.encode(kept_headers.kept(found, vault)).decode()


def remote_ip(request: HttpRequest, proxies: int) -> str | None:
    """Who sent the request, `proxies` trusted proxies being in front of us."""
    if proxies:
        chain = request.headers.get("X-Forwarded-For", "").split(",")
        if len(chain) >= proxies:
            return chain[-proxies].strip()[:45] or None
    return request.remote_addr


def receipt(
    source: Source, arrived: Request, now: datetime, unverified: bool, sender_ip: str | None, vault: Vault
) -> Receipt:
    """What is stored of a request."""
    idempotency_key = source.provider.idempotency_key(arrived)
    return Receipt(
        id=ids.receipt_id(now),
        source_id=source.id,
        received_at=now,
        key=identity.key(source, arrived, unverified=unverified),
        key_expires_at=identity.expires_at(source, now),
        idempotency_key=idempotency_key[:_LONGEST_IDEMPOTENCY_KEY] if idempotency_key else None,
        remote_ip=sender_ip,
        headers=headers_json(dict(arrived.headers), vault if unverified else None),
        body=arrived.body,
    )
