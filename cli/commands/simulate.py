"""`tidings simulate`: send a provider's webhooks to a running Tidings and check the results."""

import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from cli.formatting import print_line
from simulator import findings, post
from simulator.api import Api, ApiError
from simulator.findings import Examiner, Finding
from simulator.post import Outcomes
from simulator.providers.base import Dialect
from simulator.providers.registry import DIALECTS
from simulator.scenarios import SCENARIOS
from simulator.server import ProviderServer
from simulator.staging import Answer, Play, stage

_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The Tidings to send to, and the source of the events."""

    receiver_url: str
    api: Api
    slug: str


def list_scenarios(context: click.Context, _option: click.Parameter, wanted: bool) -> None:
    """List the scenarios and the providers that support them, and exit."""
    if not wanted:
        return
    console = Console()
    for scenario in SCENARIOS.values():
        able = [name for name, make in DIALECTS.items() if not scenario.obstacle(make.TRAITS)]
        console.print(f"[bold]{scenario.name}[/]", highlight=False)
        print_line(console, "    ", f"{scenario.summary} ({', '.join(able)})")
    context.exit()


@click.command
@click.argument("scenario", type=click.Choice(list(SCENARIOS)))
@click.option(
    "--list",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=list_scenarios,
    help="List the scenarios and exit.",
)
@click.option(
    "--provider",
    type=click.Choice(list(DIALECTS)),
    default="mailchannels",
    show_default=True,
    help="The provider to simulate.",
)
@click.option("--to", default="http://127.0.0.1:8080", show_default=True, help="The URL of the receiver.")
@click.option("--api", default="http://127.0.0.1:8081", show_default=True, help="The URL of the API.")
@click.option("--key", required=True, envvar="TIDINGS_ADMIN_KEY", show_envvar=True, help="An API key.")
@click.option("--source", help="The source; created if it is missing.  [default: simulated-PROVIDER]")
@click.option("--count", type=click.IntRange(1), help="Number of messages. Default: the scenario's.")
@click.option(
    "--rate",
    type=click.FloatRange(0, min_open=True),
    help="Requests per second. Default: as fast as possible.",
)
@click.option(
    "--connections", type=click.IntRange(1, 200), default=4, show_default=True, help="Concurrent connections."
)
@click.option("--seed", type=int, help="Repeats the traffic of an earlier run. Default: random.")
@click.option("--retry", is_flag=True, help="Retry like the provider, if its schedule is known.")
@click.option(
    "--within", type=float, default=60.0, show_default=True, help="Seconds to wait until everything is processed."
)
def simulate(
    scenario: str,
    provider: str,
    to: str,
    api: str,
    key: str,
    source: str | None,
    count: int | None,
    rate: float | None,
    connections: int,
    seed: int | None,
    retry: bool,
    within: float,
) -> None:
    """Send the webhooks of SCENARIO, then check the state of every message through the API.

    Serves the provider's signing keys while it runs. Exits with 1 if a response or the state of a message differs
    from the expected one.
    """
    chosen, dialect = SCENARIOS[scenario], DIALECTS[provider]()
    obstacle = chosen.obstacle(dialect.TRAITS)
    if obstacle:
        raise click.ClickException(f"{provider} does not support the scenario {scenario}: it {obstacle}.")
    seed = secrets.randbelow(1_000_000) if seed is None else seed
    target = Target(receiver_url=to, api=Api(api, key), slug=source or f"simulated-{provider}")
    console = Console()
    print_line(console, f"[bold]{scenario}[/] ", f"by {provider}, seed {seed}: {chosen.summary}")
    play = stage(chosen, dialect, count=count or chosen.count, seed=seed, now=datetime.now(UTC))
    try:
        with ProviderServer({target.slug: dialect}) as server:
            target.api.put_source(target.slug, provider, dialect.credentials(), server.settings(target.slug))
            outcomes = send(console, target, dialect, play, rate=rate, connections=connections, retry=retry)
            if set(outcomes.statuses) == {post.NO_ANSWER}:
                raise click.ClickException(
                    f"No response from {to}. Is the receiver running there? Name its URL with --to."
                )
            found = examine(console, target, dialect, play, within)
    except (ApiError, OSError) as error:
        raise click.ClickException(f"{error}. Is Tidings running at {to} and {api}?") from error
    print_summary(console, play, outcomes)
    holds = report(console, outcomes, found)
    if outcomes.surprises:
        console.print(f"Why a request was refused: tidings refusals --source {target.slug}", highlight=False)
    sys.exit(0 if holds else 1)


def send(
    console: Console,
    target: Target,
    dialect: Dialect,
    play: Play,
    *,
    rate: float | None = None,
    connections: int = 4,
    retry: bool = False,
) -> Outcomes:
    """Send all requests and show a progress bar."""
    with _bar(console, "sending", len(play.postings)) as (progress, task):
        return post.send(
            play.postings,
            dialect,
            f"{target.receiver_url}/webhooks/{target.slug}",
            connections=connections,
            rate=rate,
            retry=dialect.TRAITS.retry if retry else None,
            on_answer=lambda _posting, _status: progress.advance(task),
        )


def examine(console: Console, target: Target, dialect: Dialect, play: Play, within: float) -> list[Finding]:
    """Check all expectations and show a progress bar."""
    checks = Examiner(target.api, dialect, target.slug).checks(play)
    with _bar(console, "checking", len(checks)) as (progress, task):
        return findings.settle(checks, within_seconds=within, on_held=lambda: progress.advance(task))


@contextmanager
def _bar(console: Console, what: str, total: int) -> Iterator[tuple[Progress, TaskID]]:
    columns = (TextColumn(f"{what:>9}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        yield progress, progress.add_task(what, total=total)


def print_summary(console: Console, play: Play, outcomes: Outcomes) -> None:
    """Print the requests and their responses."""
    events = sum(posting.events for posting in play.postings)
    statuses = ", ".join(f"{count} x {status or 'no answer'}" for status, count in sorted(outcomes.statuses.items()))
    speed = len(outcomes.latencies) / max(outcomes.seconds, 1e-9)
    median, slowest = outcomes.quantile(0.5) * 1000, outcomes.quantile(0.99) * 1000
    rows = {
        "requests": f"{len(play.postings)} with {events} events, {outcomes.retries} retries",
        "expected": ", ".join(f"{play.count(answer)} {answer}" for answer in Answer if play.count(answer)),
        "responses": statuses,
        "duration": f"{outcomes.seconds:.1f} s, {speed:,.0f} requests per second",
        "latency": f"median {median:.1f} ms, p99 {slowest:.1f} ms",
        "recipients": str(len(play.expectations)),
    }
    for name, value in rows.items():
        print_line(console, f"{name:<12}", value)


def report(console: Console, outcomes: Outcomes, found: list[Finding]) -> bool:
    """Print the failed expectations; return whether all hold."""
    for posting, status in outcomes.surprises[:_SHOWN]:
        what = f"forged ({posting.forgery})" if posting.forgery else "genuine"
        console.print(f"[red]✗[/] a {what} request that should be {posting.answer} got {status or 'no response'}")
    failed = [finding for finding in found if not finding.held]
    for finding in failed[:_SHOWN]:
        console.print(f"[red]✗[/] {finding.about}: {finding.difference}")
    left_out = max(len(outcomes.surprises) - _SHOWN, 0) + max(len(failed) - _SHOWN, 0)
    if left_out:
        console.print(f"  … and {left_out} more")
    mark = "[red]✗[/]" if failed else "[green]✓[/]"
    console.print(f"{mark} {len(found) - len(failed)} of {len(found)} expectations held")
    return not failed and not outcomes.surprises
