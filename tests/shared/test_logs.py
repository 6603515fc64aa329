"""Logging never raises, whatever standard error is connected to. What is logged on a terminal does not control it."""

import os
import pty
import subprocess
import sys

import pytest

# Everything that logs: this code, a library with a handler of its own, and an interpreter's own messages.
PROGRAM = """
import logging, sys, warnings
if "--close" in sys.argv:
    sys.stderr.close()
from shared import logs
logs.configure("info")
import structlog

class Unprintable:
    def __repr__(self):
        raise RuntimeError("no text")

log = structlog.get_logger()
library = logging.getLogger("library")
library.addHandler(logging.StreamHandler())
for _ in range(int(sys.argv[1])):
    log.warning("x" * 1000, value=Unprintable())
    log.warning("y" * 1000)
    try:
        raise ValueError("half a pair: \\ud800")
    except ValueError:
        log.exception("failed")
        library.exception("failed")
    library.error("%s %s", "too few")
    warnings.warn("old")
print("goes on")
"""

FOREIGN_TEXT = """
from shared import logs
import structlog
logs.configure("info")
structlog.get_logger().info("seen", reason="550 no\\x1b[2K\\nforged line\\u202e")
try:
    raise ValueError("a\\x1b]0;owned\\x07")
except ValueError:
    structlog.get_logger().exception("failed")
"""


def run(lines: int, *arguments: str, redirect: str = "", **options) -> subprocess.CompletedProcess[str]:
    command = ["/bin/sh", "-c", f'exec "$@" {redirect}', "sh", sys.executable, "-c", PROGRAM, str(lines), *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, timeout=60, **options)


@pytest.mark.parametrize("redirect", ["2>&-", "2>/dev/full"], ids=["closed", "full disk"])
def test_a_process_goes_on_without_standard_error(redirect: str) -> None:
    assert run(10, redirect=redirect).stdout == "goes on\n"


def test_a_process_goes_on_when_its_standard_error_was_closed_before() -> None:
    assert run(10, "--close").stdout == "goes on\n"


@pytest.mark.parametrize("is_read", [False, True], ids=["broken pipe", "full non-blocking pipe"])
def test_a_process_goes_on_when_nothing_reads_its_pipe(*, is_read: bool) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    if not is_read:
        os.close(reader)
    try:
        assert run(500, stderr=writer).stdout == "goes on\n"
    finally:
        os.close(writer)
        if is_read:
            os.close(reader)


def test_lines_after_an_unprintable_one_are_written() -> None:
    done = run(1, stderr=subprocess.PIPE)
    assert '"event": "' + "y" * 1000 in done.stderr
    assert '"logger": ' not in done.stderr
    assert "half a pair" in done.stderr


def test_foreign_text_in_logs_controls_no_terminal() -> None:
    terminal, theirs = pty.openpty()
    subprocess.run([sys.executable, "-c", FOREIGN_TEXT], stderr=theirs, check=True)
    os.close(theirs)
    logged = os.read(terminal, 1 << 16).decode()
    os.close(terminal)
    assert "forged line" in logged
    assert "\nforged" not in logged
    assert "\u202e" not in logged
    assert r"a\x1b]0;owned\x07" in logged
    assert "\x1b[2K" not in logged
    assert "\x07" not in logged
    assert "Traceback" in logged
    assert "\n  File" in logged.replace("\r\n", "\n")
