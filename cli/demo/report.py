"""What the demo shows, and what it claims: each claim is checked against what the API answers."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from cli.demo.claims import Claim
from cli.demo.system import System
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


@dataclass(slots=True, kw_only=True)
class Act:
    """One provider's part in the demo: what it plays, how it was answered, what came of it."""

    slug: str
    dialect: Dialect
    play: Play
    outcomes: Outcomes = field(default_factory=Outcomes)
    findings: list[Finding] = field(default_factory=list)


def introduce(console: Console) -> None:
    """Say what is going to happen."""
    text = (
        "Simulated email providers post signed webhooks: out of order, repeated, some of them forged,\n"
        "some signed with a key that Tidings has not seen. Tidings answers at once, keeps the bytes,\n"
        "and works out what became of every message. Everything runs on this machine, on throwaway data."
    )
    console.print(Panel(text, title="[bold]Tidings[/]", box=box.ROUNDED, width=console.width))


def show(console: Console, api: Api, acts: list[Act]) -> None:
    """Print what became of everything that was sent."""
    for act in acts:
        console.print(_messages(api, act))
    console.print(_refusals(api, acts))
    console.print(_receipts(api, acts))


def claims(api: Api, acts: list[Act], key_requests: Mapping[str, int]) -> list[Claim]:
    """What should be so of it; `key_requests` counts how often each path of the providers was asked for."""
    return [claim for act in acts for claim in _claims(api, act, key_requests)]


def invite(console: Console, running: System) -> None:
    """Say where to look around."""
    bearer = f'-H "Authorization: Bearer {running.admin_key}"'
    text = (
        f"API, with its documentation   {running.api_url}/docs\n"
        f"webhooks are received at      {running.receiver_url}/webhooks/<source>\n\n"
        f"Try:  curl {bearer} \\\n        '{running.api_url}/v1/messages?status=bounced'"
    )
    console.print(Panel(text, title="It stays up until Ctrl-C", box=box.ROUNDED), soft_wrap=True)


def count_receipts(api: Api, slug: str, state: str) -> int:
    """How many receipts of a source are in that state."""
    return len(api.items("/v1/receipts", source=slug, state=state))


def table_of(title: str, **widths: int) -> Table:
    """A table of columns of these widths; the one of width 0 gets what is left."""
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, expand=True)
    table.show_edge, table.pad_edge, table.collapse_padding = False, False, True
    for name, width in widths.items():
        table.add_column(name, width=width or None, ratio=None if width else 1, overflow="ellipsis", no_wrap=True)
    return table


def _messages(api: Api, act: Act) -> Table:
    title = f"\n{act.dialect.NAME}: {_ABOUT[act.dialect.NAME]}"
    table = table_of(title, message=12, recipient=22, status=9, why=0, then=13, events=6)
    table.columns[-1].justify = "right"
    examiner, last = Examiner(api, act.dialect, act.slug), None
    for expectation in act.play.expectations:
        subject = expectation.message.subject
        table.add_row(subject if subject != last else "", expectation.recipient, *_cells(api, examiner, expectation))
        last = subject
    return table


def _cells(api: Api, examiner: Examiner, expectation: Expectation) -> tuple[str, str, str, str]:
    for message in examiner.known(expectation.message):
        for entry in message["recipients"]:
            if entry["recipient"] != expectation.recipient:
                continue
            events = api.items(f"/v1/messages/{message['id']}/events")
            count = sum(event["recipient"] in (expectation.recipient, None) for event in events)
            afterwards = ", ".join(word for name, word in _AFTERWARDS.items() if entry[name])
            return _status(entry["status"]), _why(entry), afterwards, str(count)
    return "[red]not known[/]", "", "", "0"


def _status(status: str | None) -> str:
    if status is None:
        return "[cyan]inbound[/]"
    colour = _COLOURS.get(Status(status), "default")
    return f"[{colour}]{status}[/]"


def _why(entry: Mapping[str, Any]) -> str:
    if not entry["classification"]:
        return ""
    codes = " ".join(entry[name] for name in ("smtp_status", "enhanced_code") if entry[name])
    return escape(f"{codes} {entry['classification'].replace('_', ' ')}".strip())


def _refusals(api: Api, acts: list[Act]) -> Table:
    table = table_of("\nrefused", source=17, answer=6, reason=19, detail=0)
    found = api.items("/v1/refusals")
    for act in acts:
        for refusal in (one for one in found if one["source"] == act.slug):
            answer = str(refusal["status_code"])
            table.add_row(act.slug, answer, refusal["reason"], escape(refusal["detail"]))
    return table


def _receipts(api: Api, acts: list[Act]) -> Table:
    table = table_of("\nkept", source=17, **dict.fromkeys(ReceiptState, 10))
    for act in acts:
        counts = (count_receipts(api, act.slug, state) for state in ReceiptState)
        table.add_row(act.slug, *(str(count or "·") for count in counts))
    return table


def _claims(api: Api, act: Act, key_requests: Mapping[str, int]) -> Iterator[Claim]:
    name, play = act.dialect.NAME, act.play
    refused = play.count(Answer.REFUSED)
    yield Claim(
        text=f"{name}: of {len(play.postings)} requests, {refused} forged ones were refused, all others got 200",
        differences=tuple(
            f"{posting.forgery or 'a genuine request'} was answered with {status}"
            for posting, status in act.outcomes.surprises
        ),
    )
    recipients = len(play.expectations)
    yield Claim(
        text=f"{name}: all {recipients} recipients stand where their stories ended",
        differences=_wrong(act.findings[:recipients]),
    )
    yield Claim(
        text=f"{name}: forged requests left no trace, and every notice arrived",
        differences=_wrong(act.findings[recipients:]),
    )
    if act.dialect.TRAITS.timed:
        yield _told_once(api, act)
    if act.dialect.TRAITS.publishes_keys:
        yield _new_key(api, act, key_requests)
    left = {state: count_receipts(api, act.slug, state) for state in ("pending", "unverified", "dead")}
    yield Claim(
        text=f"{name}: nothing waits, nothing died",
        differences=tuple(f"{count} receipts are {state}" for state, count in left.items() if count),
    )


def _wrong(found: list[Finding]) -> tuple[str, ...]:
    return tuple(f"{finding.about}: {finding.difference}" for finding in found if not finding.held)


def _told_once(api: Api, act: Act) -> Claim:
    events = api.items("/v1/events", source=act.slug)
    known = sum(event["type"] != EventType.UNKNOWN for event in events)
    return Claim(
        text=f"{act.dialect.NAME}: {act.play.events} events are known, each once, however often it was told",
        differences=() if known == act.play.events else (f"there are {known}",),
    )


def _new_key(api: Api, act: Act, key_requests: Mapping[str, int]) -> Claim:
    asked = key_requests.get(f"/{act.slug}{act.dialect.KEYS_PATH}", 0)
    rejected = count_receipts(api, act.slug, ReceiptState.REJECTED)
    nobodys = _apart(act.play)
    differences = []
    if not asked:
        differences.append("no key was fetched")
    if rejected != nobodys:
        differences.append(f"{rejected} were rejected")
    return Claim(
        text=f"{act.dialect.NAME}: a new key was fetched, and what bore nobody's key ({nobodys}) was rejected",
        differences=tuple(differences),
    )


def _apart(play: Play) -> int:
    """How many different requests of a play are to be kept apart."""
    return len({posting.body for posting in play.postings if posting.answer is Answer.KEPT_APART})
