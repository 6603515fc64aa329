"""Captures of requests and responses, for people who look for the cause of a failure. Secrets are masked."""

from collections.abc import Collection, Iterable, Mapping
from urllib.parse import urlsplit

import msgspec

from shared.egress.types import Call, Outcome

HIDDEN = "••••"
MAX_BODY_BYTES = 4 * 1024
_MAX_HEADER_CHARACTERS = 2 * 1024
_SIGNATURE = "webhook-signature"
_COOKIES = "set-cookie"
_MIN_SECRET_LENGTH = 4
_MIN_WORD_LENGTH = 8
"""Of one word in a value such as `Bearer …`: shorter words, such as `Bearer`, are not secrets."""

_encode = msgspec.json.Encoder().encode


def of_request(call: Call, secret_headers: Collection[str]) -> str:
    """Return the request as JSON, with signatures, the values of static headers and the URL's query masked."""
    hidden = {_SIGNATURE, *(name.lower() for name in secret_headers)}
    headers, headers_cut = _cut_headers(
        (name, HIDDEN if name.lower() in hidden else value) for name, value in call.headers
    )
    body, truncated = _cut(call.body)
    capture = {
        "method": "POST",
        "url": redact_query(call.url),
        "headers": headers,
        "body": body,
        "truncated": truncated or headers_cut,
        "original_bytes": len(call.body),
    }
    return _encode(capture).decode()


def of_response(outcome: Outcome, secret_headers: Mapping[str, str]) -> str:
    """Return the response as JSON: `status`, `headers`, `body`, `network_error` and `truncated`.

    Cookies are masked, and so are the values of static headers wherever the endpoint echoes them.
    """
    values = {value for value in secret_headers.values() if len(value) >= _MIN_SECRET_LENGTH}
    values |= {word for value in values for word in value.split() if len(word) >= _MIN_WORD_LENGTH}
    # Longest first: the others may be a part of it.
    secrets = [value.encode() for value in sorted(values, key=len, reverse=True)]
    headers, headers_cut = _cut_headers(
        (name, HIDDEN if name == _COOKIES else _hide(value.encode(), secrets).decode())
        for name, value in outcome.headers.items()
    )
    body, truncated = _cut(_hide(outcome.body, secrets))
    capture = {
        "status": outcome.http_status,
        "headers": headers,
        "body": body,
        "network_error": outcome.network_error,
        "truncated": truncated or headers_cut or outcome.truncated,
    }
    return _encode(capture).decode()


def redact_query(url: str) -> str:
    """Return a URL with its query masked: the query may contain a secret."""
    parts = urlsplit(url)
    return parts._replace(query=HIDDEN).geturl() if parts.query else url


def _hide(text: bytes, secrets: Iterable[bytes]) -> bytes:
    for secret in secrets:
        text = text.replace(secret, HIDDEN.encode())
    return text


def _cut_headers(headers: Iterable[tuple[str, str]]) -> tuple[dict[str, str], bool]:
    kept: dict[str, str] = {}
    left = _MAX_HEADER_CHARACTERS
    for name, value in headers:
        left -= len(name) + len(value)
        if left < 0:
            return kept, True
        kept[name] = value.replace("\x00", "\ufffd")
    return kept, False


def _cut(body: bytes) -> tuple[str, bool]:
    """Return the beginning of a body as text, and whether more of the body follows."""
    text = body[:MAX_BODY_BYTES].decode("utf-8", "replace").replace("\x00", "\ufffd")
    return text, len(body) > MAX_BODY_BYTES
