"""The configuration of the Celery application."""

import json
import os
import subprocess
import sys
from pathlib import Path

_DATABASE = "postgresql://nobody@127.0.0.1:1/nowhere"

_FAILING = """
from celery.utils.log import get_logger
from workers.app import app

app.log.setup(loglevel="WARNING")
logger = get_logger("celery.app.trace")
logger.info("not worth a line")
try:
    1 / 0
except ZeroDivisionError:
    logger.exception("Task %s raised unexpected", "tidings.deliver")
"""

_BEAT = """
import sys
from workers.beat import app as beat

assert sys.modules.keys().isdisjoint({"workers.tasks", "sqlalchemy", "psycopg"}), "beat needs no tasks and no database"
assert beat.tasks.keys().isdisjoint(entry["task"] for entry in beat.conf.beat_schedule.values())
from workers.app import app

app.loader.import_default_modules()
missing = {entry["task"] for entry in beat.conf.beat_schedule.values()} - app.tasks.keys()
assert not missing, missing
assert beat.conf.task_routes == app.conf.task_routes
"""

_SLEEP = """
import time
from workers.beat import Scheduler, app

scheduler = Scheduler(app, max_interval=60)
due = min(entry.last_run_at + entry.schedule.run_every for entry in scheduler.schedule.values())
delay = scheduler.tick()
assert time.time() + delay >= due.timestamp() - 0.001, "it would look without a pause until the task is due"
"""

_RENAMED = """
from workers.app import app

app.loader.import_default_modules()
for earlier, now in {
    "tidings.drain": "tidings.process_receipts",
    "tidings.tell": "tidings.send_notifications",
    "tidings.ask_providers": "tidings.call_providers",
}.items():
    assert app.tasks[earlier].run is app.tasks[now].run, earlier
"""


def run(program: str) -> list[str]:
    """Run a program with a Celery application, and return what it logs."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "TIDINGS_BROKER_URL": "redis://127.0.0.1:1/0", "TIDINGS_DATABASE_URL": _DATABASE},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stderr.splitlines()


def test_beat_loads_no_tasks_and_schedules_only_those_that_workers_have() -> None:
    assert run(_BEAT) == []


def test_beat_sleeps_until_a_task_is_due() -> None:
    assert run(_SLEEP) == []


def test_wake_ups_of_the_previous_version_start_the_same_tasks() -> None:
    assert run(_RENAMED) == []


def test_workers_do_not_load_the_libraries_of_celerys_shell() -> None:
    program = """
import runpy, sys

sys.argv = ["celery", "--quiet", "-A", "workers.app", "worker", "--help"]
try:
    runpy.run_module("workers", run_name="__main__")
except SystemExit:
    pass
assert "workers.app" in sys.modules
assert not any(map(sys.modules.get, ("prompt_toolkit", "rich"))), "3 to 6 MB in each process"
"""
    assert run(program) == []


def test_a_failed_task_is_logged() -> None:
    [line] = run(_FAILING)
    record = json.loads(line)
    assert (record["event"], record["level"]) == ("Task tidings.deliver raised unexpected", "error")
    assert "ZeroDivisionError" in record["exception"]
