"""A channel that is posted to: JSON, signed by Standard Webhooks. For programs."""

from collections.abc import Iterable
from datetime import datetime
from urllib.parse import urlsplit

import msgspec

from shared.http import client as http_client
from shared.http import retry_after, standard_webhooks
from shared.http.client import Answer, OutboundError
from shared.notifications.base import HIDDEN, Attempt, Target, TargetError, TellingError
from shared.notifications.rendering import Message

_LONGEST_URL = 2048
_MOST_BYTES = 2048  # of an answer, of which the status is what matters
_GONE = 410


def check(url: str) -> None:
    """Raise TargetError unless this is the URL of an HTTP server."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or len(url) > _LONGEST_URL or not url.isascii() or any(sign <= " " or sign == "\x7f" for sign in url):
        raise TargetError("must be a URL such as https://hooks.example.com/alerts")


def shown(url: str) -> str:
    """Scheme and host: the rest may hold what lets anybody post."""
    parts = urlsplit(url)
    origin = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    return url if url.rstrip("/") == origin else f"{origin}/{HIDDEN}"


def tell(target: Target, message: Message, attempt: Attempt) -> str:
    """Post a message. Told is what is answered with 2xx, even if the answer breaks off after that."""
    body = msgspec.json.encode(message.payload)
    headers = standard_webhooks.headers(
        _live(target["secrets"], attempt.at), message_id=message.id, attempted_at=attempt.at, body=body
    )
    answer = _post(target["url"], {"Content-Type": "application/json", **headers}, body, attempt.deadline_seconds)
    if 200 <= answer.status < 300:
        return f"answered {answer.status}"
    raise TellingError(
        f"{shown(target['url'])} answered {answer.status}",
        permanent=answer.status == _GONE,
        retry_after_seconds=retry_after.read(answer.headers.get("retry-after", ""), attempt.at),
    )


def _post(url: str, headers: dict[str, str], body: bytes, deadline_seconds: float) -> Answer:
    try:
        return http_client.call(
            "POST", url, headers=headers, body=body, timeout_seconds=deadline_seconds, most_bytes=_MOST_BYTES
        )
    except OutboundError as error:
        if error.partial is not None:
            return error.partial
        raise TellingError(str(error).replace(url, shown(url))) from None


def _live(secrets: Iterable[dict[str, str | None]], now: datetime) -> list[str]:
    """The newest secret, and those before it that receivers may still hold."""
    return [
        str(entry["secret"])
        for entry in secrets
        if entry["until"] is None or datetime.fromisoformat(entry["until"]) > now
    ]
