"""A channel that apprise tells: email, Slack, PagerDuty and a hundred more, each by a URL of its own. For people.

Apprise has no hard deadlines, loads all its services at once, and some of them read files. So it runs in a process
of its own (`shared.notifications.apprise_process`), which is ended when its time is up, is given nothing of this
process's environment but what it needs, and has been denied what reads files.
"""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote

import msgspec

from shared.notifications.base import HIDDEN, Attempt, Target, TargetError, TellingError
from shared.notifications.rendering import Message

_LONGEST_URL = 2048
_CHECK_SECONDS = 20.0
_LONGEST_ERROR = 500
_SHORTEST_SECRET = 5

REFUSED_SCHEMES = frozenset(
    {"file", "memory", "config", "dbus", "glib", "gio", "qt", "kde", "gnome", "macosx", "windows", "syslog", "blink1"}
)
"""They read files, or tell the machine that Tidings runs on, where nobody sits."""

REFUSED_PARAMETERS = frozenset(
    {"attach", "attachment", "config", "include", "template", "keyfile", "subfile", "pgppub", "pgpprv"}
)
"""They name files that would be read."""

_PASSED_ON = frozenset(
    {
        "HOME", "LANG", "LC_ALL", "PATH", "PYTHONPATH", "SSL_CERT_DIR", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "TMPDIR",
        "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY",
    }
)  # fmt: skip
"""Of the environment, in capitals or not: not our own settings, which hold keys."""

_HOST = re.compile(r"\w+://(?:[^/?#]*@)?(localhost|[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+)(?:[:/?#]|$)")
"""A name with a dot: a single word in its place is a token, as in slack://."""
_SCHEME = re.compile(r"([a-z][a-z0-9]*)://.+", re.IGNORECASE | re.DOTALL)


class NoAppriseError(TellingError, TargetError):
    """Apprise, which is an extra, is not installed."""

    def __init__(self) -> None:
        super().__init__("needs the package apprise: install it with `pip install 'tidings[apprise]'`")


def check(url: str) -> None:
    """Raise TargetError unless apprise knows what to do with this URL, and may."""
    found = _SCHEME.fullmatch(url)
    if not found or len(url) > _LONGEST_URL or not url.isprintable():
        raise TargetError("must be a URL of apprise, such as mailto://user:password@example.com or slack://…")
    scheme = found[1].lower()
    if scheme in REFUSED_SCHEMES:
        raise TargetError(f"must not be a {scheme}:// URL: it reads files, or tells only the machine it runs on")
    named = {name.strip().lower().lstrip("+-:") for name, _ in parse_qsl(url.partition("?")[2], keep_blank_values=True)}
    if refused := named & REFUSED_PARAMETERS:
        raise TargetError(f"must not have the parameter {min(refused)}, which names a file")
    if error := _run({"action": "check", "url": url}, _CHECK_SECONDS):
        raise TargetError(f"is none that apprise can use: {_without_secrets(error, url)}")


def shown(url: str) -> str:
    """The service; all else may be a secret, depending on it."""
    return f"{url.partition('://')[0]}://{HIDDEN}"


def tell(target: Target, message: Message, attempt: Attempt) -> str:
    """Have apprise tell a message."""
    told = {
        "action": "tell",
        "url": target["url"],
        "title": message.title,
        "text": message.text,
        "kind": "success" if message.is_over else "failure" if message.severity == "critical" else "warning",
    }
    if error := _run(told, attempt.deadline_seconds):
        raise TellingError(f"{shown(target['url'])} was not told: {_without_secrets(error, target['url'])}")
    return "apprise says that it was told"


def _run(request: Mapping[str, Any], deadline_seconds: float) -> str | None:
    """What went wrong; None if nothing did. Raises NoAppriseError."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "shared.notifications.apprise_process"],
            input=msgspec.json.encode({**request, "deadline_seconds": deadline_seconds}),
            capture_output=True,
            timeout=deadline_seconds,
            env={name: value for name, value in os.environ.items() if name.upper() in _PASSED_ON},
            check=False,
        )
        answer = msgspec.json.decode(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return f"no end within {deadline_seconds:g} seconds"
    except (IndexError, msgspec.DecodeError):
        return f"its process ended with {done.returncode} and without an answer"
    if answer["missing"]:
        raise NoAppriseError
    error: str | None = answer["error"]
    return error


def _without_secrets(error: str, url: str) -> str:
    """The error with all that was in the URL hidden, but for the name of a host; cut if it is long."""
    host = _HOST.match(url)
    parts = {part for text in (url, unquote(url)) for part in re.split(r"[/:@?&=,]+", text.partition("://")[2])}
    for part in sorted(parts, key=len, reverse=True):
        if len(part) >= _SHORTEST_SECRET and not (host and part == host[1]):
            error = error.replace(part, HIDDEN)
    return error[:_LONGEST_ERROR]
