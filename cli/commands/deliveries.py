"""`tidings deliveries`: show the outcome of every change for every subscriber, and replay deliveries."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import click
import msgspec
from sqlalchemy import Connection, Row

from cli import context
from cli.commands import jobs
from cli.context import CommandContext
from cli.formatting import deliveries as formatting_deliveries
from cli.formatting import read_page
from cli.options import MOMENT, OneOf
from shared.broker import DELIVER
from shared.deliveries import explain, queries
from shared.deliveries import jobs as delivery_jobs
from shared.deliveries.queries import DeliveryFilters
from shared.errors import TidingsError
from shared.subscriptions.validation import TYPES
from shared.vocabulary import DeliveryStatus

_ATTEMPTS_SHOWN = 20

_status_option = click.option("--status", type=OneOf(DeliveryStatus))
_subscription_option = click.option("--subscription", type=click.UUID, help="To this subscription.")
_type_option = click.option(
    "--type",
    "type_",
    type=click.Choice(TYPES),
    metavar="TYPE",
    help="Of changes of this type, such as message.bounced.",
)
_since_option = click.option("--since", type=MOMENT, help="Created from this time on (UTC).")
_until_option = click.option("--until", type=MOMENT, help="Created before this time (UTC).")
_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group
def deliveries() -> None:
    """Show the outcome of every change for every subscriber, and replay deliveries."""


@deliveries.command("list")
@_status_option
@_subscription_option
@_type_option
@click.option("--message-id", type=click.UUID, help="Of changes of this message, by our id.")
@_since_option
@_until_option
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@_json_option
@context.data_option
def list_deliveries(
    status: DeliveryStatus | None,
    subscription: UUID | None,
    type_: str | None,
    message_id: UUID | None,
    since: datetime | None,
    until: datetime | None,
    limit: int,
    as_json: bool,
    data: Path,
) -> None:
    """List deliveries, the newest first."""
    filters = DeliveryFilters(
        subscription=subscription, status=status, type=type_, message_id=message_id, since=since, until=until
    )
    with context.open_context(data) as ctx, ctx.engine.begin() as connection:
        page = read_page(lambda after, count: queries.get_page(connection, filters, after=after, limit=count), limit)
    if as_json:
        click.echo(msgspec.json.encode([delivery._asdict() for delivery in page.items]).decode())
        return
    console = context.console()
    console.print(formatting_deliveries.table(page.items) if page.items else "No such delivery was found.")
    if page.next is not None:
        console.print(f"… and there may be older ones; these are the newest {len(page.items)}.")


@deliveries.command
@click.argument("delivery_id", metavar="ID", type=click.UUID)
@_json_option
@context.data_option
def show(delivery_id: UUID, as_json: bool, data: Path) -> None:
    """Show a delivery: its attempts, what they mean, and what to do next."""
    print_delivery(delivery_id, as_json=as_json, data=data)


@deliveries.command
@click.argument("delivery_ids", metavar="[ID]...", nargs=-1, type=click.UUID)
@_status_option
@_subscription_option
@_type_option
@_since_option
@_until_option
@click.option("--dry-run", is_flag=True, help="Only count.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@context.data_option
def replay(
    delivery_ids: tuple[UUID, ...],
    status: DeliveryStatus | None,
    subscription: UUID | None,
    type_: str | None,
    since: datetime | None,
    until: datetime | None,
    dry_run: bool,
    yes: bool,
    data: Path,
) -> None:
    """Replay the given deliveries; or all that match: dead ones, unless --status is given.

    The requests are built from the stored changes and the subscriptions as they are now, with a new signature.
    """
    given = {"subscription": subscription, "type": type_, "since": since, "until": until}
    filters: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if delivery_ids and (status or filters):
        raise click.UsageError("Give ids of deliveries or filters, not both.")
    if not (delivery_ids or status or filters):
        raise click.UsageError("Give ids of deliveries, or --status, --subscription, --type, --since or --until.")
    if delivery_ids:
        with context.open_context(data) as ctx:
            with ctx.engine.begin() as connection:
                for delivery_id in delivery_ids:
                    delivery = _find(connection, delivery_id)
                    explain.replay(connection, delivery, datetime.now(UTC))
                    context.audit(connection, "delivery.replayed", f"delivery:{delivery_id}", status=delivery.status)
                queued = [explain.render(_find(connection, delivery_id)) for delivery_id in delivery_ids]
            ctx.notify(DELIVER)
        for one in queued:
            click.echo(f"Replaying {one['id']}. It waits for {formatting_deliveries.describe_wait(one)}.")
        return
    filters["status"] = status or DeliveryStatus.DEAD
    console = context.console()
    with context.open_context(data) as ctx:
        if dry_run or not yes:
            counted = jobs.run_job(console, ctx, _request_replay(ctx, filters, dry_run=True))
            if dry_run or not counted.report.get("to_deliver"):
                jobs.finish(console, counted)
                return
            click.confirm(f"Replay {counted.report['to_deliver']} deliveries?", abort=True)
        job = jobs.run_job(console, ctx, _request_replay(ctx, filters, dry_run=False))
        ctx.notify(DELIVER)
    jobs.finish(console, job)


def print_delivery(delivery_id: UUID, *, as_json: bool, data: Path) -> None:
    """Print a delivery with its attempts, what they mean, and what to do next."""
    with context.open_context(data) as ctx, ctx.engine.begin() as connection:
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


def _find(connection: Connection, delivery_id: UUID) -> Row[Any]:
    delivery = queries.find(connection, delivery_id)
    if delivery is None:
        raise TidingsError(f"There is no delivery {delivery_id}; see `tidings deliveries list`.")
    return delivery
