"""`tidings up` runs on when nothing takes its messages any more."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys
if "--close" in sys.argv:
    sys.stdout.close()
from cli.supervisor.console import Console
console = Console(verbose=True)
for _ in range(1000):
    console.print("x" * 1000)
    console.print_logs()
sys.stderr.write("goes on")
"""


@pytest.mark.parametrize("redirect", [">/dev/full", ">&-", "| true"], ids=["full disk", "closed", "broken pipe"])
def test_messages_that_cannot_be_printed_are_dropped(redirect: str) -> None:
    command = ["/bin/sh", "-c", f'"$0" -c "$1" {redirect}', sys.executable, PROGRAM]
    assert "goes on" in subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False, timeout=60).stderr


def test_messages_after_standard_output_was_closed_are_dropped() -> None:
    command = [sys.executable, "-c", PROGRAM, "--close"]
    assert "goes on" in subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False, timeout=60).stderr
