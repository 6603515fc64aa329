"""The demo's third act: the receiver is down while a provider posts, and what failed is asked for afterwards."""

from datetime import UTC, datetime

from rich.console import Console
from rich.markup import escape

from cli.demo.claims import Claim
from cli.demo.report import Act
from cli.demo.system import System
from simulator import findings, outage, stories
from simulator.api import Api
from simulator.findings import Examiner
from simulator.outage import Gate
from simulator.providers.mailchannels.api import MailChannelsAccount
from simulator.scenarios import Scenario
from simulator.server import ProviderServer
from simulator.staging import stage

_SCENARIO = Scenario(
    name="outage",
    summary="Mail that arrives, while for half of the time the receiver cannot be reached.",
    stories={stories.delivered: 1},
    bodies=(1, 2),
)
_MESSAGES = 16
_SEED = 2027
_SETTLE_SECONDS = 30.0


def play(console: Console, running: System, api: Api, act: Act, server: ProviderServer, gate: Gate) -> list[Claim]:
    """Post through a gate that is shut for a while, then have `tidings reconcile` recover what failed."""
    account = server.account(act.slug, MailChannelsAccount)
    url = account.enrol(f"{gate.url}/webhooks/{act.slug}")
    api.call("PATCH", f"/v1/sources/{act.slug}", {"settings": {"webhook_url": url}})
    told = stage(_SCENARIO, act.dialect, count=_MESSAGES, seed=_SEED, now=datetime.now(UTC))
    outage.send_through(told.postings, act.dialect, gate, url, account.log)
    failed = account.log.failed()
    events = sum(delivery.events for delivery in failed)
    console.print(f"\n[bold]an outage[/]\n{act.dialect.NAME} failed to deliver {len(failed)} batches, {events} events.")
    command = ("reconcile", "--source", act.slug)
    console.print(f"[dim]$ tidings {' '.join(command)}[/]")
    printed, code = running.run(*command)
    console.print(escape(printed), highlight=False)
    checks = Examiner(api, act.dialect, act.slug).checks(told)
    wrong = [found for found in findings.settle(checks, within_seconds=_SETTLE_SECONDS) if not found.held]
    marked = sum(event["reconciled"] for event in api.items("/v1/events", source=act.slug))
    return [
        Claim(
            text=f"outage: all {len(failed)} batches were sent again, and every message stands where it should",
            differences=(
                *(() if failed else ("nothing failed",)),
                *((f"tidings reconcile ended with {code}",) if code else ()),
                *(f"{found.about}: {found.difference}" for found in wrong),
            ),
        ),
        Claim(
            text=f"outage: the {events} events that had been missing are marked as reconciled",
            differences=() if marked == events else (f"{marked} are",),
        ),
    ]
