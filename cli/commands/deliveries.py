"""`tidings deliveries`: show the outcome of every change for every subscriber, and replay deliveries."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import click
import msgspec
from rich.console import Console
from sqlalchemy import Connection, Row

from cli import context
from cli.commands import jobs
from cli.context import CommandContext
from cli.formatting import deliveries as formatting_deliveries
from cli.formatting import print_line, read_page
from cli.options import MOMENT, OneOf, WholeHelpGroup
from shared.broker import DELIVER
from shared.deliveries import explain, queries
from shared.deliveries import jobs as delivery_jobs
from shared.deliveries.queries import DeliveryFilters
from shared.deliveries.tables import deliveries as delivery_table
from shared.errors import TidingsError
from shared.subscriptions.validation import TYPES
from shared.vocabulary import DeliveryStatus

_ATTEMPTS_SHOWN = 20
_WAITING_READ = 1000

_status_option = click.option("--status", type=OneOf(DeliveryStatus))
_subscription_option = click.option("--subscription", "named", metavar="ID|NAME", help="To this subscription.")
_type_option = click.option(
    "--type",
    "type_",
    type=click.Choice(TYPES),
    metavar="TYPE",
    help="Of changes of this type, such as message.bounced.",
)


def _check_status_code(_ctx: click.Context, _option: click.Parameter, given: str | None) -> str | None:
    if given is not None and not queries.STATUS_CODE.fullmatch(given):
        raise click.BadParameter(
            f"{given!r} is not a status code such as 503, a class such as 5xx, or {queries.NO_RESPONSE}."
        )
    return given


_status_code_option = click.option(
    "--status-code",
    metavar=f"CODE|CLASS|{queries.NO_RESPONSE}",
    callback=_check_status_code,
    help="The response to the latest attempt, such as 503 or 4xx.",
)
_since_option = click.option("--since", type=MOMENT, help="Created from this time on (UTC).")
_until_option = click.option("--until", type=MOMENT, help="Created before this time (UTC).")
_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(cls=WholeHelpGroup)
def deliveries() -> None:
    """Show the outcome of every change for every subscriber, and replay deliveries."""


@deliveries.command("list")
@_status_option
@_subscription_option
@_type_option
@_status_code_option
@click.option("--message-id", metavar="ID", help="Of changes of this message, by our id or the beginning of it.")
@_since_option
@_until_option
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@_json_option
@context.data_option
def list_deliveries(
    status: DeliveryStatus | None,
    named: str | None,
    type_: str | None,
    status_code: str | None,
    message_id: str | None,
    since: datetime | None,
    until: datetime | None,
    limit: int,
    as_json: bool,
    data: Path,
) -> None:
    """List deliveries, the newest first."""
    with context.open_context(data) as ctx, ctx.engine.begin() as connection:
        filters = DeliveryFilters(
            subscription=context.find_subscription(ctx, named) if named else None,
            status=status,
            type=type_,
            status_code=status_code,
            message_id=context.find_message(ctx, message_id) if message_id else None,
            since=since,
            until=until,
        )
        page = read_page(lambda after, count: queries.get_page(connection, filters, after=after, limit=count), limit)
    if as_json:
        click.echo(msgspec.json.encode([delivery._asdict() for delivery in page.items]).decode())
        return
    console = context.console()
    formatting_deliveries.print_list(console, page.items)
    if page.next is not None:
        console.print(f"… and there may be older ones; these are the newest {len(page.items)}.")


@deliveries.command
@click.argument("delivery_id", metavar="ID")
@_json_option
@context.data_option
def show(delivery_id: str, as_json: bool, data: Path) -> None:
    """Show a delivery: its attempts, what they mean, and what to do next."""
    print_delivery(delivery_id, as_json=as_json, data=data)


@deliveries.command
@click.argument("delivery_ids", metavar="[ID]...", nargs=-1)
@_status_option
@_subscription_option
@_type_option
@_status_code_option
@_since_option
@_until_option
@click.option("--dry-run", is_flag=True, help="Only count.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@context.data_option
def replay(
    delivery_ids: tuple[str, ...],
    status: DeliveryStatus | None,
    named: str | None,
    type_: str | None,
    status_code: str | None,
    since: datetime | None,
    until: datetime | None,
    dry_run: bool,
    yes: bool,
    data: Path,
) -> None:
    """Replay the given deliveries; or all that match: dead ones, unless --status is given.

    The requests are built from the stored changes and the subscriptions as they are now, with a new signature.
    """
    given = {"subscription": named, "type": type_, "status_code": status_code, "since": since, "until": until}
    filters: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if delivery_ids and (status or filters):
        raise click.UsageError("Give ids of deliveries or filters, not both.")
    if not (delivery_ids or status or filters):
        raise click.UsageError(
            "Give ids of deliveries, or --status, --subscription, --type, --status-code, --since or --until."
        )
    if delivery_ids:
        with context.open_context(data) as ctx:
            ids = [find_delivery_id(ctx, given_id) for given_id in delivery_ids]
            with ctx.engine.begin() as connection:
                for delivery_id in ids:
                    delivery = _find(connection, delivery_id)
                    explain.replay(connection, delivery, datetime.now(UTC))
                    context.audit(connection, "delivery.replayed", f"delivery:{delivery_id}", status=delivery.status)
                queued = [explain.render(_find(connection, delivery_id)) for delivery_id in ids]
            ctx.notify(DELIVER)
        for one in queued:
            click.echo(f"Replaying {one['id']}. It waits for {formatting_deliveries.describe_wait(one)}.")
        return
    filters["status"] = status or DeliveryStatus.DEAD
    console = context.console()
    with context.open_context(data) as ctx:
        if named:
            filters["subscription"] = context.find_subscription(ctx, named)
        if dry_run or not yes:
            counted = jobs.run_job(console, ctx, _request_replay(ctx, filters, dry_run=True))
            if dry_run or not counted.report.get("to_deliver"):
                jobs.finish(console, counted)
                _print_waiting(console, ctx, filters)
                return
            click.confirm(f"Replay {counted.report['to_deliver']} deliveries?", abort=True)
        job = jobs.run_job(console, ctx, _request_replay(ctx, filters, dry_run=False))
        ctx.notify(DELIVER)
    jobs.finish(console, job)


def find_delivery_id(ctx: CommandContext, given: str) -> UUID:
    """Return the id of a delivery that a person named by its id or the beginning of it."""
    return context.find_id(ctx, delivery_table, given, noun="delivery", listing="tidings deliveries list")


def print_delivery(given: str, *, as_json: bool, data: Path) -> None:
    """Print a delivery with its attempts, what they mean, and what to do next."""
    with context.open_context(data) as ctx, ctx.engine.begin() as connection:
        delivery_id = find_delivery_id(ctx, given)
        delivery = _find(connection, delivery_id)
        attempts = queries.get_attempts(connection, delivery_id, limit=_ATTEMPTS_SHOWN).items
        whole = explain.render_whole(connection, delivery)
    if as_json:
        whole["attempts_made"] = [attempt._asdict() for attempt in attempts]
        click.echo(msgspec.json.encode(whole).decode())
    else:
        formatting_deliveries.print_delivery(context.console(), whole, attempts)


def _request_replay(ctx: CommandContext, filters: dict[str, Any], *, dry_run: bool) -> UUID:
    with ctx.engine.begin() as connection:
        job_id = delivery_jobs.request_replay(
            connection,
            **filters,
            tenant=None,
            dry_run=dry_run,
            asked_by=context.current_user(),
            now=datetime.now(UTC),
        )
        context.audit(connection, "job.asked", f"job:{job_id}", **filters, dry_run=dry_run, kind=delivery_jobs.REPLAY)
    return job_id


def _print_waiting(console: Console, ctx: CommandContext, filters: Mapping[str, Any]) -> None:
    """Say which other deliveries that match are not delivered yet, what they wait for, and until when."""
    for status in (DeliveryStatus.PENDING, DeliveryStatus.RETRY, DeliveryStatus.QUARANTINED):
        if status == filters["status"]:
            continue
        with ctx.engine.begin() as connection:
            page = queries.get_page(connection, DeliveryFilters(**{**filters, "status": status}), limit=_WAITING_READ)
        waits: dict[str, tuple[int, datetime | None]] = {}
        for one in map(explain.render, page.items):
            count, until = waits.get(one["waits_for"], (0, None))
            ends = [moment for moment in (until, one["waits_until"]) if moment is not None]
            waits[one["waits_for"]] = (count + 1, min(ends, default=None))
        for cause, (count, until) in waits.items():
            many = f"{count}{' or more' if page.next else ''} {'delivery waits' if count == 1 else 'deliveries wait'}"
            wait = formatting_deliveries.describe_wait({"waits_for": cause, "waits_until": until})
            listing = f"tidings deliveries list --status {status}"
            print_line(console, "  ", f"{many} ({status}) for {wait}. See `{listing}`")


def _find(connection: Connection, delivery_id: UUID) -> Row[Any]:
    delivery = queries.find(connection, delivery_id)
    if delivery is None:
        raise TidingsError(f"There is no delivery {delivery_id}; see `tidings deliveries list`.")
    return delivery
