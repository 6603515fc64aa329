"""`tidings messages`, `events`, `receipts`, `refusals`, `changes`, `audit` and `stats`: the API's lists.

Their options are the query parameters of the API's resources, so that a filter that is added there is an option here.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import click
import msgspec
from marshmallow import fields
from rich.console import Console

from api.core.fields import Instant
from api.core.resource import Resource, query_schema
from api.resources import audit as audit_resource
from api.resources import changes as change_resource
from api.resources import events as event_resource
from api.resources import messages as message_resource
from api.resources import overview
from api.resources import receipts as receipt_resource
from cli import context
from cli.formatting import escape, print_line
from cli.local_api import LocalApi
from cli.options import MOMENT
from shared import json_text
from shared.classification.classify import write_reply
from shared.counters.series import Measure

_MAX_LIMIT = 1_000_000
_MAX_RECIPIENTS = 10
_ALL = "(all recipients)"
_NO_STATUS = "no status"
_LAST = ("since", "until", "cursor")
"""Parameters that most lists have: the help shows those first that are particular to one."""
_LEFT_OUT = frozenset({"limit", "wait"})
"""Parameters that are not filters. Nothing waits inside a command: `tidings listen` follows the changes."""

_COLOURS = {
    "delivered": "green",
    "processed": "green",
    "bounced": "red",
    "failed": "red",
    "rejected": "red",
    "complained": "red",
    "dead": "red",
    "deferred": "yellow",
    "held": "yellow",
    "unverified": "yellow",
}

Item = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Listing:
    """A list of the API as a command: its resource, and an item as a line and the details below it."""

    name: str
    resource: type[Resource]
    help: str
    head: Callable[[Item], tuple[str, str, str]]
    """The id, a word that is coloured if it is a status, and what follows them."""
    details: Callable[[Item], Iterable[str]]


def _join(*parts: object, by: str = "; ") -> str:
    return by.join(str(part) for part in parts if part not in (None, ""))


def _named(name: str, value: object) -> str:
    return f"{name} {value}" if value not in (None, "") else ""


def _time(instant: str | None) -> str:
    return f"{datetime.fromisoformat(instant):%Y-%m-%d %H:%M:%S}" if instant else ""


def _failure(item: Item) -> str:
    """Return the codes and the text of a failure."""
    reply = write_reply((item["smtp_status"], item["enhanced_code"]), item["reason"])
    return _join(item["classification"], reply, by=" ")


def _message_head(message: Item) -> tuple[str, str, str]:
    statuses = [recipient["status"] or _NO_STATUS for recipient in message["recipients"]]
    if len(statuses) == 1:
        return message["id"], statuses[0], message["recipients"][0]["recipient"] or _ALL
    counted = [f"{statuses.count(status)} {status}" for status in dict.fromkeys(statuses)]
    return message["id"], "", ", ".join(counted) or "announced"


def _message_details(message: Item) -> Iterator[str]:
    began = _time(message["submitted_at"] or message["created_at"])
    yield _join(began, message["source"], _named("from", message["sender"]), _named("tenant", message["tenant"]))
    yield _named("subject:", message["subject"])
    yield _join(_named("request id", message["request_id"]), _named("Message-Id", message["smtp_id"]))
    recipients = message["recipients"]
    for recipient in recipients[:_MAX_RECIPIENTS]:
        who = f"{recipient['recipient'] or _ALL}: {recipient['status'] or _NO_STATUS}"
        seen = [word for word in ("opened", "read", "clicked", "complained", "unsubscribed") if recipient[word]]
        since = _named("since", _time(recipient["status_at"]))
        yield _join(_join(who, since, by=" ") if len(recipients) > 1 else since, _failure(recipient), ", ".join(seen))
    if len(recipients) > _MAX_RECIPIENTS:
        yield f"… and {len(recipients) - _MAX_RECIPIENTS} more recipients; `tidings trace` shows them"


def _event_details(event: Item) -> Iterator[str]:
    yield _join(_time(event["occurred_at"]), event["source"], _named("message", event["message_id"]))
    yield _failure(event)
    yield event["url"] or ""
    yield _named("automated:", event["automated"])
    yield _named("set aside:", event["problem"])


def _receipt_details(receipt: Item) -> Iterator[str]:
    attempts = f"{receipt['attempts']} attempt{'' if receipt['attempts'] == 1 else 's'}"
    parts = (_time(receipt["received_at"]), _named("from", receipt["remote_ip"]), f"{receipt['bytes']} bytes", attempts)
    yield _join(*parts, "requested again" if receipt["reconciled"] else "")
    yield _join(receipt["reason"], receipt["detail"], _named("key", receipt["key_id"]))
    yield receipt["last_error"] or ""
    yield _named("body deleted by an erasure at", _time(receipt["erased_at"]))


def _refusal_details(refusal: Item) -> Iterator[str]:
    times = f"{refusal['count']} times" if refusal["count"] > 1 else ""
    yield _join(_time(refusal["refused_at"]), _named("from", refusal["remote_ip"]), f"{refusal['bytes']} bytes", times)
    yield refusal["detail"]


def _change_details(change: Item) -> Iterator[str]:
    data = change["data"]
    message, suppression, alert = data["message"], data["suppression"], data["alert"]
    yield _join(_time(change["timestamp"]), data["source"], message and f"message {message['id']}")
    if data["status"]:
        yield f"{data['status']}; before: {data['previous_status'] or _NO_STATUS}"
    if data["event"]:
        yield _failure(data["event"])
    if suppression:
        yield _join(suppression.get("reason"), _named("tenant", suppression.get("tenant")))
    if alert:
        yield _join(_named("alert", alert.get("rule")), alert.get("summary"), by=": ")


def _audit_details(entry: Item) -> Iterator[str]:
    yield _join(_time(entry["at"]), f"by {entry['actor']}", _named("tenant", entry["tenant"]))
    yield msgspec.json.encode(entry["details"]).decode() if entry["details"] else ""


LISTINGS = (
    Listing(
        name="messages",
        resource=message_resource.Messages,
        help="List messages and the status of their recipients, the newest first.",
        head=_message_head,
        details=_message_details,
    ),
    Listing(
        name="events",
        resource=event_resource.Events,
        help="List events, those received last first. --since and --until refer to the time of receipt.",
        head=lambda event: (event["id"], event["type"], event["recipient"] or _ALL),
        details=_event_details,
    ),
    Listing(
        name="receipts",
        resource=receipt_resource.Receipts,
        help="List stored requests of providers and their states, the newest first.",
        head=lambda receipt: (receipt["id"], receipt["state"], receipt["source"]),
        details=_receipt_details,
    ),
    Listing(
        name="refusals",
        resource=receipt_resource.Refusals,
        help="List refused requests, the newest first: why, when, and from where.",
        head=lambda refusal: (refusal["id"], "", f"{refusal['status_code']} {refusal['reason']} {refusal['source']}"),
        details=_refusal_details,
    ),
    Listing(
        name="changes",
        resource=change_resource.Changes,
        help="List the change log, the oldest first; the id of a change is its cursor.",
        head=lambda change: (change["id"], change["type"], change["data"]["recipient"] or ""),
        details=_change_details,
    ),
    Listing(
        name="audit",
        resource=audit_resource.AuditLog,
        help="List who changed what, through the API or by a command, the newest first.",
        head=lambda entry: (entry["id"], "", f"{entry['action']}  {entry['object']}"),
        details=_audit_details,
    ),
)


def build(listing: Listing) -> click.Command:
    """Return the command of a list."""
    command = click.Command(
        listing.name, callback=partial(_print_list, listing), help=listing.help, params=_build_options(listing.resource)
    )
    common = (
        click.option("--limit", type=click.IntRange(1, _MAX_LIMIT), default=50, show_default=True),
        click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line, as the API returns it."),
        context.data_option,
    )
    for option in common:
        command = option(command)
    return command


def _build_options(resource: type[Resource]) -> list[click.Parameter]:
    """Return an option for each query parameter of a resource's GET."""
    schema = query_schema(resource)
    by_name = {field.data_key or name: field for name, field in schema.load_fields.items()} if schema else {}
    own = [name for name in by_name if name not in (*_LEFT_OUT, *_LAST)]
    options: list[click.Parameter] = []
    for name in (*own, *(name for name in _LAST if name in by_name)):
        field, flag = by_name[name], "--" + name.replace("_", "-")
        description = (field.metadata.get("description") or "").replace("`", "")
        if name == "cursor":
            description = "Begin after this position, which an earlier list printed."
        if isinstance(field, fields.Boolean):
            options.append(click.Option([f"{flag}/--no-{flag[2:]}"], default=None, help=description))
            continue
        kind: click.ParamType[Any] = click.STRING
        metavar = None
        if isinstance(field, fields.Enum):
            words = [str(member.value) for member in field.enum]
            kind, metavar = click.Choice(words), name.upper()
            description = f"{description} One of {', '.join(words)}.".lstrip()
        elif isinstance(field, Instant):
            kind, description = MOMENT, f"{description.rstrip('.')} (UTC)."
        options.append(click.Option([flag], type=kind, metavar=metavar, help=description))
    return options


def _read_query(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the query of the options that were given."""
    query = {name: value for name, value in given.items() if value is not None}
    return query | {name: value.isoformat() for name, value in query.items() if isinstance(value, datetime)}


def _print_list(listing: Listing, *, limit: int, as_json: bool, data: Path, **given: Any) -> None:
    with context.open_context(data) as ctx:
        query = _read_query(given)
        if "message_id" in query:
            query["message_id"] = context.expand_message_id(ctx, query["message_id"])
        console, count, following = context.console(), 0, None
        for items, cursor in LocalApi(ctx).list_pages(listing.resource.rule, query, limit):
            for item in items:
                if as_json:
                    click.echo(bytes(item))
                else:
                    print_item(console, listing, json_text.read(bytes(item).decode()))
            count, following = count + len(items), cursor
    if as_json:
        return
    if not count:
        console.print("No entries were found." if listing.name == "audit" else f"No such {listing.name} were found.")
    elif count == limit and following is not None:
        console.print(f"These are {count}; more may follow: --cursor {following}", highlight=False, soft_wrap=True)


def print_item(console: Console, listing: Listing, item: Item) -> None:
    """Print an item: its id on a line, the details on others."""
    identifier, word, rest = listing.head(item)
    colour = _COLOURS.get(word.removeprefix("message."))
    shown = f"[{colour}]{escape(word)}[/]" if colour else escape(word)
    console.print("  ".join(filter(None, (identifier, shown, escape(rest)))), highlight=False, soft_wrap=True)
    for text in filter(None, listing.details(item)):
        print_line(console, "    ", text)


messages, events, receipts, refusals, changes, audit = map(build, LISTINGS)


@click.command
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@context.data_option
def stats(as_json: bool, data: Path, **given: Any) -> None:
    """Show how many receipts wait, and the events of the last hour and day by type.

    With --measure, show a number over time, one line for each bucket. The other options need --measure.
    """
    query = _read_query(given)
    if query and "measure" not in query:
        measures = ", ".join(str(one.value) for one in Measure)
        raise click.UsageError(f"--{min(query)} needs --measure: one of {measures}.")
    with context.open_context(data) as ctx:
        answer = LocalApi(ctx).get(overview.Figures.rule if query else overview.Overview.rule, query)
    if as_json:
        click.echo(answer)
        return
    console, found = context.console(), msgspec.json.decode(answer)
    if query:
        names = [one["name"] for one in found["series"]]
        for bucket, *values in zip(found["buckets"], *(one["values"] for one in found["series"]), strict=True):
            counts = ", ".join(_join(value, name, by=" ") for name, value in zip(names, values, strict=True) if value)
            if counts:
                print_line(console, f"{_time(bucket)}  ", counts)
        sums = ", ".join(_join(sum(one["values"]), one["name"], by=" ") for one in found["series"])
        print_line(console, "in all               ", f"{sums or 'nothing'} in {len(found['buckets'])} buckets")
        return
    counts = ", ".join(f"{count} {state}" for state, count in found["receipts"].items())
    print_line(console, "receipts   ", f"{counts}; the oldest waits {found['oldest_pending_age_seconds']:.0f} s")
    print_line(console, "sources    ", str(found["sources"]))
    for period, recent in found["events"].items():
        counts = ", ".join(f"{count} {kind}" for kind, count in sorted(recent["by_type"].items())) or "none"
        since = f"since {_time(recent['since'])}"
        print_line(console, f"{period.replace('_', ' '):<11}", f"{counts}; {since}")


stats.params[:0] = _build_options(overview.Figures)
