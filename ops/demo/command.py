"""`tidings demo`: the whole system on throwaway data, with simulated providers, explained as it goes."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from ops import demo_report
from ops.demo_report import Act
from ops.watchdog import Watchdog
from shared.domain.errors import TidingsError
from shared.settings import PREFIX
from simulator import findings, post
from simulator.api import Api
from simulator.dialects import DIALECTS
from simulator.findings import Examiner
from simulator.scenarios import ALL_FORGERIES, Scenario
from simulator.server import ProviderServer
from simulator.staging import Posting, stage

_WIDTH = 100
_START_SECONDS = 120.0
_SETTLE_SECONDS = 60.0
_STOP_SECONDS = 30.0
_PAUSE_SECONDS = 0.1
_SEED = 2026

MESSAGES: Mapping[str, int] = {"mailchannels": 13, "ark": 9, "cloudmailin": 8, "mailwebhook": 3}
"""Who plays, and how many messages each tells of."""

SCENARIO = Scenario(
    name="demo",
    summary="Every story of each provider, out of order, repeated, with forgeries and new keys in between.",
    bodies=(1, 4),
    shuffled=True,
    repeats=0.25,
    forgeries=ALL_FORGERIES,
    forged=0.1,
    new_keys=(0.6,),
    notices=True,
    lenient=True,
)


class DemoError(TidingsError):
    """The demo could not be started; the message holds what was said last."""


@click.command
@click.option("--once", is_flag=True, help="End when everything has settled: with 0 if all is as it should be.")
def demo(once: bool) -> None:
    """Run everything on throwaway data, let simulated providers post to it, and show what became of it.

    Stays up until Ctrl-C, so that you can look around.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    console = Console(width=min(Console().width, _WIDTH) if sys.stdout.isatty() else _WIDTH)
    try:
        good = _run(console, once)
    except KeyboardInterrupt:
        console.print("\nStopped.")
        sys.exit(130 if once else 0)
    sys.exit(0 if good else 1)


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _run(console: Console, once: bool) -> bool:
    """Whether everything was as it should be."""
    demo_report.introduce(console)
    with ExitStack() as stack:
        data = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="tidings-demo-", ignore_cleanup_errors=True))
        )
        data.chmod(0o711)  # PostgreSQL, started by root, runs as somebody else
        ready = stack.enter_context(_everything(console, data))
        api = Api(ready["api_url"], ready["admin_key"])
        acts = _cast(datetime.now(UTC))
        server = stack.enter_context(ProviderServer({act.slug: act.dialect for act in acts}))
        _put_sources(api, acts, server)
        _send(console, acts, ready["receiver_url"])
        _wait(console, api, acts)
        good = demo_report.show(console, api, acts, server.requests)
        if not once:
            demo_report.invite(console, ready)
            _stay()
    return good


@contextmanager
def _everything(console: Console, data: Path) -> Iterator[dict[str, Any]]:
    """A whole Tidings on embedded servers and free ports: the contents of its ready file."""
    ready_file, log = data / "ready.json", data / "up.log"
    command = [sys.executable, "-m", "ops.cli", "up", "--data", str(data / "data"), "--host", "127.0.0.1"]
    command += ["--receiver-port", "0", "--api-port", "0", "--ready-file", str(ready_file)]
    with Watchdog() as watchdog, log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=Path(__file__).parent.parent,  # where `ops` is found, installed or not
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a Ctrl-C in the terminal is for us, who then stop it in order
        )
        watchdog.watch(process.pid, gently=True)
        try:
            with console.status("starting PostgreSQL, Redis, the receiver, a worker, beat and the API …"):
                ready = _wait_for(ready_file, process, log)
            yield ready
        finally:
            with console.status("stopping …"):
                _stop(process)
            watchdog.forget(process.pid)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _environment() -> dict[str, str]:
    # Whatever Tidings is configured here must not be touched: a demo writes to servers of its own only.
    return {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}


def _wait_for(ready_file: Path, process: subprocess.Popen[bytes], log: Path) -> dict[str, Any]:
    deadline = time.monotonic() + _START_SECONDS
    while not ready_file.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            last_words = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
            raise DemoError(f"`tidings up` did not become ready. It said last:\n{last_words}")
        time.sleep(_PAUSE_SECONDS)
    ready: dict[str, Any] = json.loads(ready_file.read_text())
    return ready


def _cast(now: datetime) -> list[Act]:
    acts = []
    for provider, count in MESSAGES.items():
        dialect = DIALECTS[provider]()
        play = stage(SCENARIO, dialect, count=count, seed=_SEED, now=now)
        acts.append(Act(slug=f"demo-{provider}", dialect=dialect, play=play))
    return acts


def _put_sources(api: Api, acts: list[Act], server: ProviderServer) -> None:
    for act in acts:
        api.put_source(act.slug, act.dialect.NAME, act.dialect.credentials(), server.settings(act.slug))


def _send(console: Console, acts: list[Act], receiver_url: str) -> None:
    columns = (TextColumn("{task.description:<13}"), BarColumn(), MofNCompleteColumn(), TextColumn("requests"))
    with Progress(*columns, console=console) as progress:
        for act in acts:
            task = progress.add_task(act.dialect.NAME, total=len(act.play.postings))
            act.outcomes = post.send(
                act.play.postings,
                act.dialect,
                f"{receiver_url}/webhooks/{act.slug}",
                connections=2,
                on_answer=partial(_advance, progress, task),
            )


def _advance(progress: Progress, task: TaskID, _posting: Posting, _status: int) -> None:
    progress.advance(task)


def _wait(console: Console, api: Api, acts: list[Act]) -> None:
    """Until all expectations hold and no receipt waits for anything, or it has taken too long."""
    deadline = time.monotonic() + _SETTLE_SECONDS
    with console.status("waiting until everything has settled …"):
        for act in acts:
            checks = Examiner(api, act.dialect, act.slug).checks(act.play)
            act.findings = findings.settle(checks, within_seconds=deadline - time.monotonic())
        while time.monotonic() < deadline and any(
            demo_report.count_receipts(api, act.slug, state) for act in acts for state in ("pending", "unverified")
        ):
            time.sleep(_PAUSE_SECONDS)


def _stay() -> None:
    while True:
        time.sleep(1)
