"""Logging: one JSON object per line, or short coloured lines on a terminal. Logging never raises.

Error handlers log. If that failed, on a full disk for example, the handler would end the thread that it protects. So a
line that cannot be rendered or written is dropped, whether this code or a library logs it.
"""

import logging
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO, cast

import structlog

from shared.foreign_text import show

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

_USER_OF_URL = re.compile(r"(?<=://)[^/\s@\"']*@")
_ADDRESS = re.compile(r"[^\s@\"'<>(),;:=\\]+@[^\s@\"'<>(),;:=\\]+\.[^\s@\"'<>(),;:=\\]+")
_SECRET = re.compile(r"\bwhsec_[\w+/=-]+|\b(?:Basic|Bearer) [\w+/=.~-]+")

MAX_REPETITIONS = 60
"""Lines of one text in a minute. The next minute's first one says how many were left out."""


class RepetitionLimit:
    """A structlog processor that drops repetitions, so that a flood of one fault does not fill the disk."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._minute = 0
        self._lines: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()

    def __call__(self, _logger: object, _method: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
        """Return the line, or raise DropEvent."""
        text, minute = str(line.get("event")), int(self._clock() / 60)
        if minute != self._minute:
            self._minute, self._dropped = minute, self._lines - Counter(dict.fromkeys(self._lines, MAX_REPETITIONS))
            self._lines = Counter()
        self._lines[text] += 1
        if self._lines[text] > MAX_REPETITIONS:
            raise structlog.DropEvent
        if dropped := self._dropped.pop(text, 0):
            line["repetitions_left_out"] = dropped
        return line


def redact(text: str) -> str:
    """Return a text without email addresses, the user names and passwords of URLs, and secrets that have a known form.

    Errors of libraries and of other servers may quote them.
    """
    if "@" in text:
        text = _ADDRESS.sub("<address>", _USER_OF_URL.sub("<user>@", text))
    return _SECRET.sub("<secret>", text)


def redact_value(value: Any) -> Any:
    """Return a value of a line with every text in it redacted."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {key: redact_value(entry) for key, entry in value.items()}
    return [redact_value(entry) for entry in value] if isinstance(value, list | tuple) else value


def redact_line(_logger: object, _method: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Return a line without personal data and secrets: a structlog processor."""
    return {key: redact_value(value) for key, value in line.items()}


def configure(level: str) -> None:
    """Set up the logs of this process. Never pass bodies, signatures or credentials to a logger.

    Warnings and errors of libraries have the same format: Celery reports failed tasks only there.
    """
    # Without standard error, sys.stderr is None, and the next file or socket would get its descriptor.
    stream = cast("TextIO | None", sys.stderr) or Path(os.devnull).open("w")  # noqa: SIM115 - open until the process ends
    sys.stderr = stream if isinstance(stream, _DroppingStream) else cast("TextIO", _DroppingStream(stream))
    logging.raiseExceptions = False  # of libraries' handlers
    is_terminal = not stream.closed and stream.isatty()
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if is_terminal else structlog.processors.JSONRenderer()
    )
    described: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # JSON escapes what is not printable. The traceback keeps its lines.
    formatted: list[structlog.typing.Processor] = [structlog.processors.format_exc_info, redact_line]
    formatted += [_show_foreign_text, renderer] if is_terminal else [renderer]

    class DroppingLogger(structlog.make_filtering_bound_logger(_LEVELS[level])):  # type: ignore[misc]
        """Drops an event that a processor cannot render."""

        def _proxy_to_logger(self, method_name: str, event: str | None = None, **fields: Any) -> Any:
            try:
                return super()._proxy_to_logger(method_name, event, **fields)
            except Exception:  # noqa: BLE001 - see the module's docstring
                return None

    structlog.configure(
        processors=[RepetitionLimit(), *described, *formatted],
        wrapper_class=DroppingLogger,
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=described,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *formatted,
            ],
        )
    )
    handler.setLevel(logging.WARNING)
    logging.getLogger().addHandler(handler)


class _DroppingStream:
    """A text stream that drops what it cannot write: it is closed, its disk is full, or nothing reads its pipe."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write the text, or drop it."""
        with suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush the stream if that is possible."""
        with suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _show_foreign_text(
    logger: object,  # noqa: ARG001
    name: str,  # noqa: ARG001
    entry: structlog.typing.EventDict,
) -> structlog.typing.EventDict:
    return {
        key: show(value, lines=key == "exception") if isinstance(value, str) else value for key, value in entry.items()
    }
