"""Copies what a Python process writes to standard error, for `tests.support.log_search`.

Every interpreter that a test starts imports this module, since its directory is in PYTHONPATH.
"""

import os
import sys
from contextlib import suppress
from typing import Any, TextIO


class _Tee:
    """A text stream that appends to a file, too."""

    def __init__(self, stream: TextIO, path: str) -> None:
        self._stream = stream
        self._path = path

    def write(self, text: str) -> int:
        # Opened for each line: a descriptor that stays open would be in the way of tests that count them.
        with suppress(OSError), open(self._path, "a", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            file.write(text)
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


# What a command says to a person is no log.
_is_service = not any(word.endswith("cli.main") for word in sys.orig_argv) or "up" in sys.orig_argv
if _is_service and sys.stderr is not None and (directory := os.environ.get("TESTS_LOG_DIRECTORY")):
    sys.stderr = _Tee(sys.stderr, f"{directory}/{os.getpid()}.log")
