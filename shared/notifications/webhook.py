"""The channel kind `webhook`: JSON, signed by Standard Webhooks. For programs."""

from datetime import datetime
from urllib.parse import urlsplit

import msgspec

from shared.errors import InvalidFieldError
from shared.http import client as http_client
from shared.http import standard_webhooks
from shared.http.client import OutboundError, parse_retry_after
from shared.http.urls import is_http_url
from shared.notifications.base import HIDDEN, NotificationError, Target
from shared.notifications.rendering import Message

_MAX_URL_LENGTH = 2048
_MAX_RESPONSE_BYTES = 2048  # the status is what matters
_GONE = 410


def validate_url(url: str) -> None:
    """Raise InvalidFieldError unless this is the URL of an HTTP server."""
    if len(url) > _MAX_URL_LENGTH or not is_http_url(url):
        raise InvalidFieldError("url", None, "url must be an HTTP URL such as https://hooks.example.com/alerts.")


def redact_url(url: str) -> str:
    """Return scheme and host. The rest may hold a secret that lets anybody post."""
    parts = urlsplit(url)
    origin = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    return url if url.rstrip("/") == origin else f"{origin}/{HIDDEN}"


def send(target: Target, message: Message, *, now: datetime, deadline_seconds: float) -> str:
    """Post a message. A 2xx status is success, even if the response breaks off after it."""
    body = msgspec.json.encode(message.payload)
    # The newest secret, and older ones that receivers may still hold.
    secrets = [
        str(entry["secret"])
        for entry in target["secrets"]
        if entry["until"] is None or datetime.fromisoformat(entry["until"]) > now
    ]
    signed = standard_webhooks.headers(secrets, message_id=message.id, attempted_at=now, body=body)
    url, shown = target["url"], redact_url(target["url"])
    try:
        response = http_client.call(
            "POST",
            url,
            headers={"Content-Type": "application/json", **signed},
            body=body,
            timeout_seconds=deadline_seconds,
            max_bytes=_MAX_RESPONSE_BYTES,
        )
    except OutboundError as error:
        if error.partial is None:
            raise NotificationError(str(error).replace(url, shown)) from None
        response = error.partial
    if 200 <= response.status < 300:
        return f"answered {response.status}"
    raise NotificationError(
        f"{shown} answered {response.status}",
        permanent=response.status == _GONE,
        retry_after_seconds=parse_retry_after(response.headers.get("retry-after", ""), now),
    )
