"""The channel kind `apprise`: email, Slack, PagerDuty and many more, each with its own form of URL. For people.

Apprise has no hard deadlines, loads all its services at once, and some of them read files. So it runs in a separate
process (`shared.notifications.apprise_process`), which is killed at the deadline, gets only the necessary part of the
environment, and cannot read files as attachments.
"""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl, unquote

import msgspec

from shared.errors import InvalidFieldError
from shared.notifications.base import HIDDEN, NotificationError, Target
from shared.notifications.rendering import Message

_MAX_URL_LENGTH = 2048
_CHECK_SECONDS = 20.0
_MAX_ERROR_LENGTH = 500
_MIN_SECRET_LENGTH = 5
_MISSING = "Channels of kind apprise need the package apprise: install it with `pip install 'tidings[apprise]'`."

REFUSED_SCHEMES = frozenset(
    {"file", "memory", "config", "dbus", "glib", "gio", "qt", "kde", "gnome", "macosx", "windows", "syslog", "blink1"}
)
"""They read files, or notify only the machine that Tidings runs on."""

REFUSED_PARAMETERS = frozenset(
    {"attach", "attachment", "config", "include", "template", "keyfile", "subfile", "pgppub", "pgpprv"}
)
"""They name files that apprise would read."""

_PASSED_ON = frozenset(
    {
        "HOME", "LANG", "LC_ALL", "PATH", "PYTHONPATH", "SSL_CERT_DIR", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "TMPDIR",
        "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY",
    }
)  # fmt: skip
"""Environment variables for the process, in upper or lower case. Our settings are not among them: they hold keys."""

_HOST = re.compile(r"\w+://(?:[^/?#]*@)?(localhost|[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+)(?:[:/?#]|$)")
"""A host name has a dot. A single word in its place is a token, as in slack://."""
_SCHEME = re.compile(r"([a-z][a-z0-9]*)://.+", re.IGNORECASE | re.DOTALL)


def validate_url(url: str) -> None:
    """Raise InvalidFieldError unless apprise accepts this URL and it is allowed. Takes about a second."""
    found = _SCHEME.fullmatch(url)
    if not found or len(url) > _MAX_URL_LENGTH or not url.isprintable():
        example = "mailto://user:password@example.com or slack://…"
        raise InvalidFieldError("url", None, f"url must be a URL of apprise, such as {example}.")
    scheme = found[1].lower()
    if scheme in REFUSED_SCHEMES:
        reason = "such URLs read files, or notify only the machine that Tidings runs on"
        raise InvalidFieldError("url", None, f"url must not be a {scheme}:// URL: {reason}.")
    named = {name.strip().lower().lstrip("+-:") for name, _ in parse_qsl(url.partition("?")[2], keep_blank_values=True)}
    if refused := named & REFUSED_PARAMETERS:
        raise InvalidFieldError("url", None, f"url must not have the parameter {min(refused)}, which names a file.")
    error = _run({"action": "check", "url": url}, _CHECK_SECONDS)
    if error == _MISSING:
        raise InvalidFieldError("kind", "apprise", error)
    if error:
        raise InvalidFieldError("url", None, f"url is not one that apprise can use: {_redact(error, url)}")


def redact_url(url: str) -> str:
    """Return the scheme. Everything else may be a secret, depending on the service."""
    return f"{url.partition('://')[0]}://{HIDDEN}"


def send(target: Target, message: Message, *, now: datetime, deadline_seconds: float) -> str:  # noqa: ARG001
    """Send a message by apprise."""
    request = {
        "action": "send",
        "url": target["url"],
        "title": message.title,
        "text": message.text,
        "kind": "success" if message.is_over else "failure" if message.severity == "critical" else "warning",
    }
    error = _run(request, deadline_seconds)
    if error == _MISSING:
        raise NotificationError(error)
    if error:
        raise NotificationError(f"{redact_url(target['url'])} failed: {_redact(error, target['url'])}")
    return "sent, according to apprise"


def _run(request: Mapping[str, Any], deadline_seconds: float) -> str | None:
    """Run a request in a process; return the error, or None. Return `_MISSING` if apprise is not installed."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "shared.notifications.apprise_process"],
            input=msgspec.json.encode({**request, "deadline_seconds": deadline_seconds}),
            capture_output=True,
            timeout=deadline_seconds,
            env={name: value for name, value in os.environ.items() if name.upper() in _PASSED_ON},
            check=False,
        )
        response = msgspec.json.decode(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return f"no result within {deadline_seconds:g} seconds"
    except (IndexError, msgspec.DecodeError):
        return f"its process ended with exit code {done.returncode} and without a result"
    error: str | None = response["error"]
    return _MISSING if response["missing"] else error


def _redact(error: str, url: str) -> str:
    """Return an error with all parts of the URL hidden except the host name, shortened if it is long."""
    host = _HOST.match(url)
    parts = {part for text in (url, unquote(url)) for part in re.split(r"[/:@?&=,]+", text.partition("://")[2])}
    for part in sorted(parts, key=len, reverse=True):
        if len(part) >= _MIN_SECRET_LENGTH and not (host and part == host[1]):
            error = error.replace(part, HIDDEN)
    return error[:_MAX_ERROR_LENGTH]
