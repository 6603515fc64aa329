"""The demo's output, and its checks of the API's responses."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlencode

from rich import box
from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from cli.demo.system import System
from cli.formatting import escape
from shared.vocabulary import EventType, ReceiptState, Status
from simulator.api import Api
from simulator.findings import Examiner, Finding
from simulator.post import Outcomes
from simulator.providers.base import Dialect
from simulator.staging import Answer, Expectation, Play

_COLOURS = {
    Status.DELIVERED: "green",
    Status.BOUNCED: "red",
    Status.FAILED: "red",
    Status.REJECTED: "red",
    Status.DEFERRED: "yellow",
    Status.HELD: "yellow",
}
_ABOUT = {
    "mailchannels": "arrays of events, signed with Ed25519 by RFC 9421",
    "ark": "one event a request in three forms, signed with RSA",
    "cloudmailin": "lists of events without time or id, behind a password",
    "mailwebhook": "inbound mail, signed with HMAC",
}
_AFTERWARDS = {"opened": "open", "clicked": "click", "complained": "complaint", "unsubscribed": "opt-out"}


_NEVER_SENT: Final = "an unknown request"
_VERDICTS: Mapping[str, str] = {
    "delivered": "delivered",
    "hard bounce": "bounced",
    "dropped": "suppressed",
    "under way": "partly_seen",
    _NEVER_SENT: "never_seen",
}
"""The story of each diagnosed message, and its expected verdict."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One expectation of the demo. `differences` describe the failures; empty if it holds."""

    text: str
    differences: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True)
class Act:
    """One provider of the demo: its requests, their responses, and the results."""

    slug: str
    dialect: Dialect
    play: Play
    outcomes: Outcomes = field(default_factory=Outcomes)
    findings: list[Finding] = field(default_factory=list)


def print_introduction(console: Console) -> None:
    """Print what the demo is about to do."""
    text = (
        "Simulated email providers post signed webhooks: out of order, repeated, some of them forged,\n"
        "some signed with a key that is new to Tidings. Tidings answers at once, stores the bytes,\n"
        "and derives the state of every message. Everything runs on this machine, with temporary data."
    )
    console.print(Panel(text, title="[bold]Tidings[/]", box=box.ROUNDED, width=console.width))


def print_results(console: Console, api: Api, acts: list[Act]) -> None:
    """Print the results of everything that was sent."""
    for act in acts:
        title = f"\n{act.dialect.NAME}: {_ABOUT[act.dialect.NAME]}"
        table = table_of(title, message=12, recipient=22, status=9, why=0, then=13, events=6)
        table.columns[-1].justify = "right"
        examiner, last = Examiner(api, act.dialect, act.slug), None
        for expectation in act.play.expectations:
            subject = expectation.message.subject
            cells = _describe(api, examiner, expectation)
            table.add_row(subject if subject != last else "", expectation.recipient, *cells)
            last = subject
        console.print(table)
    table = table_of("\nrefused", source=17, answer=6, reason=19, detail=0)
    refusals = api.items("/v1/refusals")
    for act in acts:
        for refusal in (one for one in refusals if one["source"] == act.slug):
            table.add_row(act.slug, str(refusal["status_code"]), refusal["reason"], escape(refusal["detail"]))
    console.print(table)
    table = table_of("\nreceipts", source=17, **dict.fromkeys(ReceiptState, 10))
    for act in acts:
        counts = (count_receipts(api, act.slug, state) for state in ReceiptState)
        table.add_row(act.slug, *(str(count or "·") for count in counts))
    console.print(table)


def _describe(api: Api, examiner: Examiner, expectation: Expectation) -> tuple[str, str, str, str]:
    """Return what is known of a recipient of a message: status, reason, what followed, number of events."""
    for message in examiner.known(expectation.message):
        for entry in message["recipients"]:
            if entry["recipient"] != expectation.recipient:
                continue
            status = "[cyan]inbound[/]"
            if entry["status"] is not None:
                colour = _COLOURS.get(Status(entry["status"]), "default")
                status = f"[{colour}]{entry['status']}[/]"
            codes = " ".join(entry[name] for name in ("smtp_status", "enhanced_code") if entry[name])
            classification = entry["classification"]
            why = escape(f"{codes} {classification.replace('_', ' ')}".strip()) if classification else ""
            afterwards = ", ".join(word for name, word in _AFTERWARDS.items() if entry[name])
            events = api.items(f"/v1/messages/{message['id']}/events")
            count = sum(event["recipient"] in (expectation.recipient, None) for event in events)
            return status, why, afterwards, str(count)
    return "[red]unknown[/]", "", "", "0"


def check_provider(api: Api, act: Act, key_requests: Mapping[str, int]) -> Iterator[Check]:
    """Yield the checks of a provider; `key_requests` counts the requests to each path of the providers' server."""
    name, play = act.dialect.NAME, act.play
    refused = play.count(Answer.REFUSED)
    yield Check(
        text=f"{name}: of {len(play.postings)} requests, {refused} forged ones were refused, all others got 200",
        differences=tuple(
            f"{posting.forgery or 'a genuine request'} was answered with {status}"
            for posting, status in act.outcomes.surprises
        ),
    )
    recipients = len(play.expectations)
    yield Check(
        text=f"{name}: all {recipients} recipients have the expected status",
        differences=_wrong(act.findings[:recipients]),
    )
    yield Check(
        text=f"{name}: forged requests changed nothing, and every notice arrived",
        differences=_wrong(act.findings[recipients:]),
    )
    if act.dialect.TRAITS.timed:
        known = sum(event["type"] != EventType.UNKNOWN for event in api.items("/v1/events", source=act.slug))
        yield Check(
            text=f"{name}: {play.events} events are known, each once, although many were sent repeatedly",
            differences=() if known == play.events else (f"{known} are known",),
        )
    if act.dialect.TRAITS.publishes_keys:
        is_fetched = key_requests.get(f"/{act.slug}{act.dialect.KEYS_PATH}", 0) > 0
        rejected = count_receipts(api, act.slug, ReceiptState.REJECTED)
        unknown = len({posting.body for posting in play.postings if posting.answer is Answer.KEPT_APART})
        yield Check(
            text=f"{name}: a new key was fetched, and {unknown} requests with an unknown key were rejected",
            differences=(
                *(() if is_fetched else ("no key was fetched",)),
                *(() if rejected == unknown else (f"{rejected} were rejected",)),
            ),
        )
    left = {state: count_receipts(api, act.slug, state) for state in ("pending", "unverified", "dead")}
    yield Check(
        text=f"{name}: no receipt is pending or dead",
        differences=tuple(f"{count} receipts are {state}" for state, count in left.items() if count),
    )


def print_urls(console: Console, running: System) -> None:
    """Print the URLs for a look around."""
    bearer = f'-H "Authorization: Bearer {running.admin_key}"'
    path, code = running.run("users", "link")
    text = (
        f"console                       {running.api_url}/console/\n"
        f"API and its documentation     {running.api_url}/docs\n"
        f"webhooks go to                {running.receiver_url}/webhooks/<source>\n\n"
        f"Try:  curl {bearer} \\\n        '{running.api_url}/v1/messages?status=bounced'\n"
        f"Or:   tidings status --data {running.data}"
    )
    console.print(Panel(text, title="Running until Ctrl-C", box=box.ROUNDED), soft_wrap=True)
    if code == 0:  # on a separate line, so that it can be clicked and copied whole
        console.print("Open the console, signed in (this link works once, within 30 minutes):")
        console.print(f"{running.api_url}{path}", soft_wrap=True, highlight=False)


def count_receipts(api: Api, slug: str, state: str) -> int:
    """Return the number of receipts of a source in that state."""
    return len(api.items("/v1/receipts", source=slug, state=state))


def table_of(title: str, **widths: int) -> Table:
    """Return a table with columns of these widths; the column of width 0 takes the rest."""
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, expand=True)
    table.show_edge, table.pad_edge, table.collapse_padding = False, False, True
    for name, width in widths.items():
        table.add_column(name, width=width or None, ratio=None if width else 1, overflow="ellipsis", no_wrap=True)
    return table


def _wrong(found: list[Finding]) -> tuple[str, ...]:
    return tuple(f"{finding.about}: {finding.difference}" for finding in found if not finding.held)


def print_checks(console: Console, checks: Sequence[Check]) -> bool:
    """Print the checks with their failures; return whether all hold."""
    console.print("\n[bold]expectations[/]")
    for check in checks:
        console.print(f" {'[red]✗[/]' if check.differences else '[green]✓[/]'} {escape(check.text)}")
        for difference in check.differences:
            console.print(f"     [red]{escape(difference)}[/]")
    held = sum(not check.differences for check in checks)
    colour = "green" if held == len(checks) else "red"
    console.print(f"\n[bold {colour}]{held} of {len(checks)} expectations held.[/]\n")
    return held == len(checks)


def check_diagnoses(console: Console, api: Api, act: Act) -> list[Check]:
    """Print the diagnosis of one message of each story; check the verdicts."""
    table = table_of("\ntidings diagnose", message=14, verdict=12, why=0)
    differences = []
    examples = {expectation.story: expectation.message for expectation in reversed(act.play.expectations)}
    for story, verdict in _VERDICTS.items():
        example = examples.get(story)
        name = example.subject if example else ""
        query = act.dialect.lookup(example) if example else {"request_id": "unknown-request"}
        report = api.call("GET", f"/v1/diagnosis?{urlencode({**query, 'source': act.slug})}")["items"][0]
        table.add_row(name, report["verdict"].replace("_", " "), escape(report["headline"]))
        if report["verdict"] != verdict:
            differences.append(f"{story}: the verdict is {report['verdict']}, not {verdict}")
    table.columns[-1].no_wrap = False
    console.print(table)
    count = len(_VERDICTS)
    text = f"diagnosis: {count} messages with different histories got the expected verdicts"
    return [Check(text=text, differences=tuple(differences))]
