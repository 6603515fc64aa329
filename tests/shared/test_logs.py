"""What is logged on a terminal does not control it."""

import os
import pty
import subprocess
import sys

PROGRAM = """
from shared import logs
import structlog
logs.configure("info")
structlog.get_logger().info("seen", reason="550 no\\x1b[2K\\nforged line\\u202e")
try:
    raise ValueError("a\\x1b]0;owned\\x07")
except ValueError:
    structlog.get_logger().exception("failed")
"""


def test_foreign_text_in_logs_controls_no_terminal() -> None:
    terminal, theirs = pty.openpty()
    subprocess.run([sys.executable, "-c", PROGRAM], stderr=theirs, check=True)
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
