"""The command: send simulated traffic, show the results, and check them."""

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

from cli.demo import downstream, outage, report, suppressions, system
from cli.demo.report import Act, check_diagnoses, print_checks
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
"""The simulated providers, and the number of messages of each."""

SCENARIO = Scenario(
    name="demo",
    summary="Every story of each provider: out of order, repeated, with forgeries and new keys.",
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
@click.option("--once", is_flag=True, help="Exit when everything is processed: with 0 if every expectation holds.")
def demo(once: bool) -> None:
    """Run everything with temporary data, send webhooks of simulated providers, and show the results.

    Keeps running until Ctrl-C, so that you can look around.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    console = Console(width=min(Console().width, _WIDTH) if sys.stdout.isatty() else _WIDTH)
    try:
        good = _run(console, once)
    except KeyboardInterrupt:
        console.print("\nStopped.")
        sys.exit(130 if once else 0)
    sys.exit(0 if good else 1)


def _run(console: Console, once: bool) -> bool:
    """Run the demo; return whether every expectation holds."""
    report.print_introduction(console)
    with ExitStack() as stack:
        directory = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="tidings-demo-", ignore_cleanup_errors=True))
        )
        directory.chmod(0o711)  # PostgreSQL, started by root, runs as another user
        rules = directory / "rules.yaml"
        rules.write_text(suppressions.RULES)
        settings = {f"{PREFIX}RULES": str(rules), f"{PREFIX}EGRESS_ALLOW": downstream.NETWORK}
        running = stack.enter_context(system.running(console, directory, settings))
        api = Api(running.api_url, running.admin_key)
        acts = []
        for provider, count in MESSAGES.items():
            dialect = DIALECTS[provider]()
            play = stage(SCENARIO, dialect, count=count, seed=_SEED, now=datetime.now(UTC))
            acts.append(Act(slug=f"demo-{provider}", dialect=dialect, play=play))
        server = stack.enter_context(ProviderServer({act.slug: act.dialect for act in acts}))
        gate = stack.enter_context(Gate(running.receiver_url))
        applications = stack.enter_context(downstream.subscribe_applications(api))
        for act in acts:
            api.put_source(act.slug, act.dialect.NAME, act.dialect.credentials(), server.settings(act.slug))
        _send(console, api, acts, running.receiver_url)
        report.print_results(console, api, acts)
        made = [check for act in acts for check in report.check_provider(api, act, server.requests)]
        made += suppressions.show_suppressions(console, api, acts)
        made += check_diagnoses(console, api, acts[0])
        made += suppressions.play_alert(console, api, acts[0], running.receiver_url)
        made += outage.run_outage(console, running, api, acts[0], server, gate)
        made.append(suppressions.wait_for_alert(console, api, "reconciled"))
        suppressions.show_alerts(console, api)
        made += downstream.check_applications(console, api, applications)
        good = print_checks(console, made)
        if not once:
            report.print_urls(console, running)
            while True:
                time.sleep(1)
    return good


def _send(console: Console, api: Api, acts: list[Act], receiver_url: str) -> None:
    """Send everything. Wait until all expectations hold and no receipt is pending, or the time is over."""
    columns = (TextColumn("{task.description:<13}"), BarColumn(), MofNCompleteColumn(), TextColumn("requests"))
    with Progress(*columns, console=console) as progress:

        def advance(task: TaskID, _posting: Posting, _status: int) -> None:
            progress.advance(task)

        for act in acts:
            act.outcomes = post.send(
                act.play.postings,
                act.dialect,
                f"{receiver_url}/webhooks/{act.slug}",
                connections=2,
                on_answer=partial(advance, progress.add_task(act.dialect.NAME, total=len(act.play.postings))),
            )
    deadline = time.monotonic() + _SETTLE_SECONDS
    with console.status("waiting until everything is processed …"):
        for act in acts:
            checks = Examiner(api, act.dialect, act.slug).checks(act.play)
            act.findings = findings.settle(checks, within_seconds=deadline - time.monotonic())
        while time.monotonic() < deadline and any(
            report.count_receipts(api, act.slug, state) for act in acts for state in ("pending", "unverified")
        ):
            time.sleep(_PAUSE_SECONDS)
