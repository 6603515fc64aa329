"""The configuration of the Celery application."""

import json
import os
import subprocess
import sys
from pathlib import Path

_FAILING = """
from celery.utils.log import get_logger
from workers.app import app

app.log.setup(loglevel="WARNING")
logger = get_logger("celery.app.trace")
logger.info("not worth a line")
try:
    1 / 0
except ZeroDivisionError:
    logger.exception("Task %s raised unexpected", "tidings.drain")
"""


def test_a_failed_task_is_logged() -> None:
    environment = {**os.environ, "TIDINGS_BROKER_URL": "redis://127.0.0.1:1/0"}
    done = subprocess.run(
        [sys.executable, "-c", _FAILING],
        env=environment,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    [line] = done.stderr.splitlines()
    record = json.loads(line)
    assert (record["event"], record["level"]) == ("Task tidings.drain raised unexpected", "error")
    assert "ZeroDivisionError" in record["exception"]
