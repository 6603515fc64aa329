"""The search of all logs finds what it should, in what a process writes to standard error."""

import os
import subprocess
import sys
from pathlib import Path

from tests.support import log_search

LEAKS = (
    "550 <ann@example.net>: no such user",
    "cannot connect to amqp://tidings:hunter2@broker.example/",
    "secret whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw=",
    "Authorization: Bearer abcdefgh.ijkl",
    "key tdk_abcdefghijklmnop",
    "refused: swordfish-of-a-test",
)
PROGRAM = "import sys; sys.stderr.write(sys.argv[1])"


def run(directory: Path, *words: str) -> None:
    """Run a Python process that writes to standard error."""
    environment = {**os.environ, "TESTS_LOG_DIRECTORY": str(directory)}
    subprocess.run([sys.executable, *words], env=environment, stderr=subprocess.DEVNULL, check=True)


def test_each_kind_of_leak_in_a_process_is_found(tmp_path: Path) -> None:
    log_search.remember("cloudmailin", {"username": "harmless-name", "password": "swordfish-of-a-test"})
    harmless = "worker@host ready, <address>, harmless-name, postgresql://127.0.0.1:5432/x, <user>@host.example"
    harmless += ", a URL such as postgresql://user:password@host/name"
    run(tmp_path, "-c", PROGRAM, "\n".join((harmless, *LEAKS)))
    found = list(log_search.list_faults(tmp_path))
    assert [leak for leak in LEAKS if not any(line.endswith(leak) for line in found)] == []
    assert len(found) == len(LEAKS)


def test_what_a_command_says_to_a_person_is_no_log(tmp_path: Path) -> None:
    run(tmp_path, "-c", PROGRAM, "ann@example.net", "cli.main")
    assert list(log_search.list_faults(tmp_path)) == []
