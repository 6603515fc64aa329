"""Signs requests to AWS by Signature Version 4.

Source: Amazon's "Create a signed AWS API request", and the AWS Signature Version 4 test suite. Written by hand, because
botocore takes 27 MB of disk for the descriptions of all services.
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final
from urllib.parse import parse_qsl, quote, urlsplit

_ALGORITHM: Final = "AWS4-HMAC-SHA256"
_UNRESERVED: Final = "-_.~"
_DEFAULT_PORTS: Final[Mapping[str, str]] = {"https": ":443", "http": ":80"}


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessKey:
    """An access key of AWS; temporary ones have a session token."""

    access_key_id: str
    secret_access_key: str
    session_token: str | None = None


def sign(
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    key: AccessKey,
    *,
    region: str,
    service: str,
    now: datetime,
) -> dict[str, str]:
    """Return the headers to send with a request: these, all of them signed, and those of the signature.

    The path and query of `url` are encoded as they are sent, and the path has no dot segments. `service` is the name in
    the signature (`sqs`, `ses`). AWS refuses a signature whose time differs from its own by five minutes.
    """
    parts = urlsplit(url)
    at = now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    result = {**headers, "X-Amz-Date": at}
    if key.session_token:
        result["X-Amz-Security-Token"] = key.session_token
    host = parts.netloc.rpartition("@")[2].lower().removesuffix(_DEFAULT_PORTS.get(parts.scheme, ""))
    signed = {"host": host, **{name.lower(): " ".join(value.split()) for name, value in result.items()}}
    names = ";".join(sorted(signed))
    # Every service but S3 encodes the path again, although it is encoded already.
    path = quote(parts.path or "/", safe=f"/{_UNRESERVED}")
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    query = sorted((quote(name, safe=_UNRESERVED), quote(value, safe=_UNRESERVED)) for name, value in pairs)
    canonical = "\n".join(
        (
            method,
            path,
            "&".join(f"{name}={value}" for name, value in query),
            *(f"{name}:{signed[name]}" for name in sorted(signed)),
            "",
            names,
            sha256(body).hexdigest(),
        )
    )
    scope = (at[:8], region, service, "aws4_request")
    to_sign = "\n".join((_ALGORITHM, at, "/".join(scope), sha256(canonical.encode()).hexdigest()))
    secret = f"AWS4{key.secret_access_key}".encode()
    for part in scope:
        secret = hmac.digest(secret, part.encode(), "sha256")
    signature = hmac.digest(secret, to_sign.encode(), "sha256").hex()
    result["Authorization"] = (
        f"{_ALGORITHM} Credential={key.access_key_id}/{'/'.join(scope)}, SignedHeaders={names}, Signature={signature}"
    )
    return result
