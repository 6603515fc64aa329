"""The command: three acts, what should have come of them, and what became of it downstream."""

import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from cli.demo import claims, diagnoses, downstream, outage, report, suppressions, system
from cli.demo.downstream import Audience
from cli.demo.report import Act
from cli.demo.system import System
from shared.settings import PREFIX
from simulator import findings, post
from simulator.api import Api
from simulator.findings import Examiner
from simulator.outage import Gate
from simulator.providers.registry import DIALECTS
from simulator.scenarios import ALL_FORGERIES, Scenario
from simulator.server import ProviderServer
from simulator.staging import Posting, stage

_WIDTH = 100
_SETTLE_SECONDS = 60.0
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
    report.introduce(console)
    with ExitStack() as stack:
        directory = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="tidings-demo-", ignore_cleanup_errors=True))
        )
        directory.chmod(0o711)  # PostgreSQL, started by root, runs as somebody else
        rules = directory / "rules.yaml"
        rules.write_text(suppressions.RULES)
        settings = {f"{PREFIX}RULES": str(rules), f"{PREFIX}EGRESS_ALLOW": downstream.NETWORK}
        running = stack.enter_context(system.running(console, directory, settings))
        api = Api(running.api_url, running.admin_key)
        acts = _cast(datetime.now(UTC))
        server = stack.enter_context(ProviderServer({act.slug: act.dialect for act in acts}))
        gate = stack.enter_context(Gate(running.receiver_url))
        audience = stack.enter_context(downstream.subscribed(api))
        good = _perform(console, running, api, acts, server, gate, audience)
        if not once:
            report.invite(console, running)
            _stay()
    return good


def _perform(
    console: Console,
    running: System,
    api: Api,
    acts: list[Act],
    server: ProviderServer,
    gate: Gate,
    audience: Audience,
) -> bool:
    _put_sources(api, acts, server)
    _send(console, acts, running.receiver_url)
    _wait(console, api, acts)
    report.show(console, api, acts)
    made = report.claims(api, acts, server.requests)
    made += suppressions.show_suppressions(console, api, acts)
    made += diagnoses.show(console, api, acts[0])
    made += suppressions.play_alert(console, api, acts[0], running.receiver_url)
    made += outage.play(console, running, api, acts[0], server, gate)
    made.append(suppressions.wait_for_alert(console, api, "reconciled"))
    suppressions.show_alerts(console, api)
    made += downstream.play(console, api, audience)
    return claims.conclude(console, made)


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
            report.count_receipts(api, act.slug, state) for act in acts for state in ("pending", "unverified")
        ):
            time.sleep(_PAUSE_SECONDS)


def _stay() -> None:
    while True:
        time.sleep(1)
