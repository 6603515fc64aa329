"""The suppression list and the alerts of the demo."""

from datetime import UTC, datetime
from typing import Any

from rich.console import Console

from cli.demo.report import Act, Check, table_of
from cli.demo.system import wait_until
from cli.formatting import escape
from shared.suppression.policy import HardBounce
from shared.vocabulary import SuppressionReason
from simulator import post, stories
from simulator.api import Api
from simulator.findings import Examiner
from simulator.scenarios import Scenario
from simulator.staging import stage

RULES = """\
# The rules of the demo: the defaults, but with thresholds that its few messages reach.
alerts:
  - name: bounce-rate
    kind: rate
    rate: bounce
    sources: [demo-mailchannels]
    window_minutes: 4320
    minimum_volume: 10
    minimum_events: 2
    warning: 10 %
    critical: 60 %
    resolve_after_minutes: 0
  - name: send-limit-exceeded
    kind: event
    types: [send_limit_exceeded]
    window_minutes: 4320
    critical: 1
  - name: reconciled
    kind: reconciled
    warning: 1
"""
"""Written to a file that TIDINGS_RULES names."""

_RATE = "bounce-rate"
_RECOVERY = Scenario(
    name="recovery",
    summary="All messages are delivered.",
    stories={stories.delivered: 1},
    bodies=(50, 50),
    lenient=True,
)
_RECOVERED_MESSAGES = 200
_SEED = 77
_WAIT_SECONDS = 60.0


def show_suppressions(console: Console, api: Api, acts: list[Act]) -> list[Check]:
    """Print the suppression list with its evidence; check its entries."""
    found = api.items("/v1/suppressions")
    table = table_of("\nsuppressed", address=24, reason=12, mail=18, until=9, evidence=0)
    for entry in found:
        mail = "all" if len(entry["types"]) > 1 else str(entry["types"][0]).replace("_", "-")
        until = entry["expires_at"][:10] if entry["expires_at"] else "permanent"
        event = api.call("GET", f"/v1/events/{entry['evidence_event_id']}") if entry["evidence_event_id"] else None
        cause = f"{event['type']}: {event['reason'] or event['source']}" if event else ""
        table.add_row(entry["address"], entry["reason"].replace("_", " "), mail, until, escape(cause))
    console.print(table)
    wanted = set()
    for act in acts:
        examiner = Examiner(api, act.dialect, act.slug)
        for expectation in act.play.expectations:
            known = examiner.recipient(expectation) or {}  # each state was checked before
            reasons = {
                SuppressionReason.HARD_BOUNCE: known.get("classification") in HardBounce().classifications,
                SuppressionReason.COMPLAINT: known.get("complained"),
                SuppressionReason.UNSUBSCRIBE: known.get("unsubscribed"),
            }
            wanted |= {(expectation.recipient, reason) for reason, applies in reasons.items() if applies}
    listed = {(entry["address"], entry["reason"]) for entry in found}
    differences = [f"{address} is not suppressed for {reason}" for address, reason in sorted(wanted - listed)]
    differences += [f"{address} is suppressed for {reason}" for address, reason in sorted(listed - wanted)]
    return [
        Check(
            text=f"suppression: {len(wanted)} entries, for hard bounces, complaints and unsubscribes, and no others",
            differences=tuple(differences),
        )
    ]


def play_alert(console: Console, api: Api, act: Act, receiver_url: str) -> list[Check]:
    """Wait for the bounce-rate alert, send mail that is delivered, and wait until the alert is resolved."""
    with console.status("waiting for the bounce-rate alert …"):
        fired = wait_until(lambda: _alert(api, "firing"), within_seconds=_WAIT_SECONDS)
    play = stage(_RECOVERY, act.dialect, count=_RECOVERED_MESSAGES, seed=_SEED, now=datetime.now(UTC))
    post.send(play.postings, act.dialect, f"{receiver_url}/webhooks/{act.slug}", connections=2)
    with console.status("waiting until the alert is resolved …"):
        resolved = wait_until(lambda: _alert(api, "resolved"), within_seconds=_WAIT_SECONDS)
    fires = [alert for alert in api.items("/v1/alerts") if alert["rule"] == _RATE]
    difference = f"it fired {len(fires)} times" if fired else "it did not fire"
    return [
        Check(
            text="alerts: the bounce-rate alert fired once",
            differences=() if fired and len(fires) == 1 else (difference,),
        ),
        Check(
            text=f"alerts: it was resolved after {_RECOVERED_MESSAGES} delivered messages",
            differences=() if resolved else ("it is not resolved",),
        ),
    ]


def _alert(api: Api, state: str) -> dict[str, Any] | None:
    return next((alert for alert in api.items("/v1/alerts", state=state) if alert["rule"] == _RATE), None)


def show_alerts(console: Console, api: Api) -> None:
    """Print every alert with its history."""
    table = table_of("\nalerts", rule=20, what=10, at=9, summary=0)
    for alert in reversed(api.items("/v1/alerts")):
        steps = api.call("GET", f"/v1/alerts/{alert['id']}")["steps"]
        for number, step in enumerate(steps):
            at = datetime.fromisoformat(step["at"])
            table.add_row("" if number else alert["rule"], step["step"], f"{at:%H:%M:%S}", escape(step["summary"]))
    table.columns[-1].no_wrap = False
    console.print(table)


def wait_for_alert(console: Console, api: Api, rule: str) -> Check:
    """Wait for the alert of a rule; check that it fired once."""
    with console.status(f"waiting for the alert {rule} …"):
        wait_until(
            lambda: any(alert["rule"] == rule for alert in api.items("/v1/alerts")), within_seconds=_WAIT_SECONDS
        )
    fires = [alert for alert in api.items("/v1/alerts") if alert["rule"] == rule]
    return Check(
        text=f"alerts: {rule} fired once",
        differences=() if len(fires) == 1 else (f"it fired {len(fires)} times",),
    )
