"""Searches the logs of a whole run of the tests for personal data and secrets.

Processes that tests start write their lines through `log_tee`. What is logged in the tests' own process goes through
the product's processors here, and is collected as well. Each process of pytest-xdist searches its own part of the run.
"""

import json
import os
import re
import socket
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import structlog

from shared import logs
from shared.providers.registry import PROVIDERS
from shared.providers.webhooks.base import secret_fields

_TEE = Path(__file__).parent / "log_tee"
_MIN_LENGTH = 8
"""Shorter secrets of tests, such as "secret", are words that occur anywhere."""
_FORBIDDEN: Mapping[str, re.Pattern[str]] = {
    "an email address": re.compile(
        rf"[\w.+-]+@(?!{re.escape(socket.gethostname())}\b)[\w-]+(?:\.[\w-]+)*\.[a-z]{{2,}}\b"
    ),
    "the password of a URL": re.compile(r"://(?!user:password@)[^/\s@:\"']*:[^/\s@\"']+@"),
    "a signing secret": re.compile(r"wh(?:sec|sk)_[\w+/=-]{8}"),
    "an API key": re.compile(r"tdk_[\w-]{8}"),
    "an authorization": re.compile(r"\b(?:Basic|Bearer) [\w+/=.~-]{8}"),
}

_secrets: set[str] = set()


def remember(provider: str, credentials: Mapping[str, Any]) -> None:
    """Search for the secret ones of these credentials of a source."""
    for name in secret_fields(PROVIDERS[provider]) & credentials.keys():
        _secrets.update(text for text in _texts(credentials[name]) if len(text) >= _MIN_LENGTH)


def collect(directory: Path) -> None:
    """Collect the logs of this process, and of those that it will start, in a directory."""
    os.environ["TESTS_LOG_DIRECTORY"] = str(directory)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(_TEE), os.environ.get("PYTHONPATH"))))
    own = directory / "tests.log"

    def keep(_logger: object, _method: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
        with own.open("a", encoding="utf-8", errors="replace") as file:
            file.write(json.dumps(line, default=repr) + "\n")
        return line

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            logs.redact_line,
            keep,
            structlog.dev.ConsoleRenderer(colors=False),
        ]
    )


def list_faults(directory: Path) -> Iterator[str]:
    """Yield each line with something forbidden, and what it is."""
    for path in sorted(directory.glob("*.log")):
        for line in path.read_text(errors="replace").splitlines():
            if what := _find(line):
                yield f"{path.name} contains {what}: {line[:500]}"


def _find(line: str) -> str | None:
    for what, pattern in _FORBIDDEN.items():
        if pattern.search(line):
            return what
    return next((f"the secret {secret!r} of a source" for secret in _secrets if secret in line), None)


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        return [value]
    nested = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return [text for entry in nested for text in _texts(entry)]
