"""What is kept of a request and of its response: enough to see what went wrong, and nothing that opens a door."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from urllib.parse import urlsplit

import msgspec

from shared.egress.types import Call, Outcome

HIDDEN = "••••"
MOST_BODY_BYTES = 4 * 1024
_MOST_HEADER_CHARACTERS = 2 * 1024
_SIGNATURE = "webhook-signature"
_COOKIES = "set-cookie"
_SHORTEST_SECRET = 4
_SHORTEST_WORD = 8
"""Of a value such as `Bearer …`; what is shorter, as `Bearer` is, gives nothing away."""

_encode = msgspec.json.Encoder().encode


def of_request(call: Call, secret_headers: Collection[str]) -> str:
    """The request as JSON. Hidden are signatures, the values of static headers, and the query of the URL."""
    hidden = {_SIGNATURE, *(name.lower() for name in secret_headers)}
    headers, fewer = _cut_headers((name, HIDDEN if name.lower() in hidden else value) for name, value in call.headers)
    body, truncated = _cut(call.body)
    capture = {
        "method": "POST",
        "url": shown(call.url),
        "headers": headers,
        "body": body,
        "truncated": truncated or fewer,
        "original_bytes": len(call.body),
    }
    return _encode(capture).decode()


def of_response(outcome: Outcome, secret_headers: Mapping[str, str]) -> str:
    """The response as JSON: `status`, `headers`, `body` and `network_error`, with `truncated`.

    Hidden are cookies, and the values of static headers where the endpoint says them back.
    """
    secrets = _secrets(secret_headers.values())
    headers, fewer = _cut_headers(
        (name, HIDDEN if name == _COOKIES else _hide(value.encode(), secrets).decode())
        for name, value in outcome.headers.items()
    )
    body, truncated = _cut(_hide(outcome.body, secrets))
    capture = {
        "status": outcome.http_status,
        "headers": headers,
        "body": body,
        "network_error": outcome.network_error,
        "truncated": truncated or fewer or outcome.truncated,
    }
    return _encode(capture).decode()


def shown(url: str) -> str:
    """A URL without its query, which may hold what lets anybody post."""
    parts = urlsplit(url)
    return parts._replace(query=HIDDEN).geturl() if parts.query else url


def _secrets(values: Iterable[str]) -> Sequence[bytes]:
    """What gives a static header away: its value, or a word of it. The longest come first: they hold the others."""
    found = {value for value in values if len(value) >= _SHORTEST_SECRET}
    found |= {word for value in found for word in value.split() if len(word) >= _SHORTEST_WORD}
    return [secret.encode() for secret in sorted(found, key=len, reverse=True)]


def _hide(text: bytes, secrets: Iterable[bytes]) -> bytes:
    for secret in secrets:
        text = text.replace(secret, HIDDEN.encode())
    return text


def _cut_headers(headers: Iterable[tuple[str, str]]) -> tuple[dict[str, str], bool]:
    kept: dict[str, str] = {}
    room = _MOST_HEADER_CHARACTERS
    for name, value in headers:
        room -= len(name) + len(value)
        if room < 0:
            return kept, True
        kept[name] = value.replace("\x00", "\ufffd")
    return kept, False


def _cut(body: bytes) -> tuple[str, bool]:
    """The beginning of a body as text, and whether that is not all of it."""
    text = body[:MOST_BODY_BYTES].decode("utf-8", "replace").replace("\x00", "\ufffd")
    return text, len(body) > MOST_BODY_BYTES
