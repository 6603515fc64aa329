"""The outage of the demo: the receiver is unreachable for a while, then `tidings reconcile` recovers the webhooks."""

from datetime import UTC, datetime

from rich.console import Console

from cli.demo.report import Act, Check
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
    summary="Delivered mail; the receiver is unreachable half of the time.",
    stories={stories.delivered: 1},
    bodies=(1, 2),
)
_MESSAGES = 16
_SEED = 2027
_SETTLE_SECONDS = 60.0


def run_outage(
    console: Console, running: System, api: Api, act: Act, server: ProviderServer, gate: Gate
) -> list[Check]:
    """Post through a gate that is closed for a while, then recover the failed requests with `tidings reconcile`."""
    account = server.account(act.slug, MailChannelsAccount)
    url = account.enrol(f"{gate.url}/webhooks/{act.slug}")
    api.call("PATCH", f"/v1/sources/{act.slug}", {"settings": {"webhook_url": url}})
    play = stage(_SCENARIO, act.dialect, count=_MESSAGES, seed=_SEED, now=datetime.now(UTC))
    outage.send_through(play.postings, act.dialect, gate, url, account.log)
    failed = account.log.failed()
    events = sum(delivery.events for delivery in failed)
    console.print(f"\n[bold]an outage[/]\n{act.dialect.NAME} failed to deliver {len(failed)} batches, {events} events.")
    command = ("reconcile", "--source", act.slug)
    console.print(f"[dim]$ tidings {' '.join(command)}[/]")
    printed, code = running.run(*command)
    console.print(printed, highlight=False, markup=False)
    checks = Examiner(api, act.dialect, act.slug).checks(play)
    wrong = [found for found in findings.settle(checks, within_seconds=_SETTLE_SECONDS) if not found.held]
    marked = sum(event["reconciled"] for event in api.items("/v1/events", source=act.slug))
    return [
        Check(
            text=f"outage: all {len(failed)} batches were recovered, and every message has the expected status",
            differences=(
                *(() if failed else ("no batch failed",)),
                *((f"tidings reconcile exited with {code}",) if code else ()),
                *(f"{found.about}: {found.difference}" for found in wrong),
            ),
        ),
        Check(
            text=f"outage: the {events} missing events are marked as reconciled",
            differences=() if marked == events else (f"{marked} are marked",),
        ),
    ]
