"""`tidings subscriptions`: manage who is notified of which changes, where, and how."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import click
import msgspec

from cli import context
from cli.commands import jobs, subscription_options
from cli.context import CommandContext
from cli.formatting import echo, escape, print_line, read_page
from cli.options import MOMENT, OneOf, WholeHelpGroup
from shared.broker import DELIVER, JOBS
from shared.deliveries import jobs as delivery_jobs
from shared.deliveries import sample_delivery
from shared.errors import TidingsError
from shared.http.standard_webhooks import Scheme
from shared.subscriptions import service, store, view
from shared.subscriptions.service import DEFAULT_OVERLAP, MAX_OVERLAP, SubscriptionAndSecret
from shared.subscriptions.validation import TYPES
from shared.vocabulary import AttemptStatus, SubscriptionState

_MAX_LISTED = 200
_COLOURS = {"active": "green", "paused": "yellow", "disabled": "red"}

_T = TypeVar("_T")

_id_argument = click.argument("named", metavar="ID|NAME")
_scheme_option = click.option(
    "--scheme",
    type=OneOf(Scheme),
    default=Scheme.V1.value,
    show_default=True,
    help="v1: a shared secret (HMAC); v1a: a private key, whose public key the receiver has (Ed25519).",
)


@click.group(cls=WholeHelpGroup)
def subscriptions() -> None:
    """Manage who is notified of which changes, where, and how."""


@subscriptions.command("list")
@click.option("--state", type=OneOf(SubscriptionState))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@context.data_option
def list_subscriptions(state: SubscriptionState | None, as_json: bool, data: Path) -> None:
    """List the subscriptions, the newest first."""
    with context.open_context(data) as ctx, ctx.engine.begin() as connection:
        page = read_page(
            lambda after, limit: store.get_page(connection, state=state, after=after, limit=limit), _MAX_LISTED
        )
        found = view.render(connection, page.items, ctx.vault, datetime.now(UTC))
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
        return
    console = context.console()
    for shown in found:
        state, health = shown["state"], shown["health"]
        since = health["failing_since"]
        console.print(f"{shown['id']}  [{_COLOURS[state]}]{state}[/]  {escape(shown['name'])}", soft_wrap=True)
        print_line(console, "    ", f"{', '.join(shown['types'])} → {shown['url']}")
        if since:
            print_line(console, "    ", f"failing since {since:%Y-%m-%d %H:%M}: {health['last_error']}")
        if trouble := shown["problem"] or shown["state_reason"]:
            print_line(console, "    [red]✗[/] ", trouble)
    if not found:
        console.print("There are no subscriptions. Create one with `tidings subscriptions add`.")
    if page.next is not None:
        console.print(f"… and older ones; these are the newest {len(found)}.")


@subscriptions.command
@click.argument("url")
@click.option("--type", "types", multiple=True, required=True, help="Such as message.*; may be given several times.")
@subscription_options.options
@click.option("--secret", help="To sign with; generated if not given.")
@_scheme_option
@context.data_option
def add(url: str, secret: str | None, scheme: Scheme, data: Path, **options: Any) -> None:
    """Create a subscription whose changes are posted to URL, and print its secret."""
    fields = subscription_options.read(options)
    with context.open_context(data) as ctx:
        checked = service.check_url(url, ctx.settings.egress_allow)
        with ctx.engine.begin() as connection:
            new = service.create(
                connection, ctx.vault, url=checked, fields=fields, secret=secret, scheme=scheme, now=datetime.now(UTC)
            )
            context.audit(connection, "subscription.created", f"subscription:{new.row.id}", types=new.row.types)
    click.echo(f"The subscription {new.row.id} was created.")
    _print_secret(new)


@subscriptions.command
@_id_argument
@context.data_option
def show(named: str, data: Path) -> None:
    """Show a subscription as JSON, without its secrets, and the health of its endpoint."""
    with context.open_context(data) as ctx, ctx.engine.begin() as connection:
        subscription_id = context.find_subscription(ctx, named)
        row = _found(store.find(connection, subscription_id), subscription_id)
        (shown,) = view.render(connection, [row], ctx.vault, datetime.now(UTC))
    click.echo(msgspec.json.format(msgspec.json.encode(shown), indent=2).decode())


@subscriptions.command
@_id_argument
@click.option("--url", help="Post there from now on.")
@click.option("--type", "types", multiple=True, help="Such as message.*; may be given several times.")
@subscription_options.options
@context.data_option
def change(named: str, url: str | None, data: Path, **options: Any) -> None:
    """Change the given fields, and leave the others.

    An empty value removes a filter or a header (--tag "", --header Name=), and --rate 0 the limit.
    """
    fields = subscription_options.read_change(options)
    if url is None and not fields:
        raise click.UsageError("Give what to change, such as --url or --type.")
    with context.open_context(data) as ctx:
        subscription_id = context.find_subscription(ctx, named)
        checked = None if url is None else service.check_url(url, ctx.settings.egress_allow)
        with ctx.engine.begin() as connection:
            before = _found(store.find(connection, subscription_id), subscription_id)
            row = service.update(
                connection, ctx.vault, subscription_id, tenant=None, fields=fields, url=checked, now=datetime.now(UTC)
            )
            differences = view.difference(before, _found(row, subscription_id))
            context.audit(connection, "subscription.changed", f"subscription:{subscription_id}", **differences)
        ctx.notify(DELIVER)
    click.echo(f"Changed: {', '.join(sorted(differences))}." if differences else "Nothing changed.")


@subscriptions.command
@_id_argument
@context.data_option
def pause(named: str, data: Path) -> None:
    """Suspend deliveries. Changes wait meanwhile."""
    reason = f"paused by {context.current_user()}"
    with context.open_context(data) as ctx, ctx.engine.begin() as connection:
        subscription_id = context.find_subscription(ctx, named)
        row = service.pause(connection, subscription_id, tenant=None, reason=reason, now=datetime.now(UTC))
        _found(row, subscription_id)
        context.audit(connection, "subscription.paused", f"subscription:{subscription_id}")
    click.echo("It is paused. Changes wait until it is resumed.")


@subscriptions.command
@_id_argument
@context.data_option
def resume(named: str, data: Path) -> None:
    """Deliver again to a subscription that was paused or disabled; its failures are forgotten."""
    with context.open_context(data) as ctx:
        subscription_id = context.find_subscription(ctx, named)
        with ctx.engine.begin() as connection:
            before = _found(store.find(connection, subscription_id), subscription_id)
            service.resume(connection, subscription_id, tenant=None, now=datetime.now(UTC))
            context.audit(connection, "subscription.resumed", f"subscription:{subscription_id}")
        ctx.notify(DELIVER)
    click.echo("It is active.")
    if before.state == SubscriptionState.DISABLED:
        since = f"{before.state_since:%Y-%m-%dT%H:%M:%SZ}"
        click.echo(f"To deliver what it missed: tidings subscriptions recover {subscription_id} --since {since}")


@subscriptions.command
@_id_argument
@click.option(
    "--type",
    "type_",
    type=click.Choice([sample_delivery.TYPE, *TYPES]),
    default=sample_delivery.TYPE,
    show_default=True,
    metavar="TYPE",
    help="Send a sample of this type of change, such as message.bounced.",
)
@context.data_option
def test(named: str, type_: str, data: Path) -> None:
    """Send a `test` event or a sample change now, and print the response. Exits with 1 unless it was accepted."""
    with context.open_context(data) as ctx:
        subscription_id = context.find_subscription(ctx, named)
        with ctx.engine.begin() as connection:
            row = _found(store.find(connection, subscription_id), subscription_id)
        result = sample_delivery.send_test(row, ctx.vault, ctx.settings.egress_allow, datetime.now(UTC), type_)
    response = result["response_capture"]["network_error"] or f"answered {result['http_status']}"
    echo(f"{result['status']} in {result['latency_ms']} ms: {response}")
    if result["status"] is not AttemptStatus.SUCCESS:
        echo(f"{result['usually_means']} {result['next_action']}")
        click.get_current_context().exit(1)


@subscriptions.command
@_id_argument
@click.option("--secret", help="To sign with; generated if not given.")
@_scheme_option
@click.option(
    "--overlap",
    type=click.FloatRange(0, MAX_OVERLAP / timedelta(hours=1)),
    default=DEFAULT_OVERLAP / timedelta(hours=1),
    show_default=True,
    help="For how many hours the old secrets still sign; 0 if one leaked.",
)
@context.data_option
def rotate(named: str, secret: str | None, scheme: Scheme, overlap: float, data: Path) -> None:
    """Give a subscription another secret, and print it."""
    with context.open_context(data) as ctx, ctx.engine.begin() as connection:
        subscription_id = context.find_subscription(ctx, named)
        rotated = service.rotate_secret(
            connection,
            ctx.vault,
            subscription_id,
            tenant=None,
            secret=secret,
            scheme=scheme,
            overlap=timedelta(hours=overlap),
            now=datetime.now(UTC),
        )
        new = _found(rotated, subscription_id)
        context.audit(connection, "subscription.secret_rotated", f"subscription:{subscription_id}")
    click.echo(f"The old secrets go on signing for {overlap:g} hours." if overlap else "No old secret signs any more.")
    _print_secret(new)


@subscriptions.command
@_id_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
@context.data_option
def remove(named: str, yes: bool, data: Path) -> None:
    """Remove a subscription. Its pending deliveries are given up."""
    if not yes:
        click.confirm(f"Remove the subscription {named}?", abort=True)
    now = datetime.now(UTC)
    with context.open_context(data) as ctx:
        subscription_id = context.find_subscription(ctx, named)
        with ctx.engine.begin() as connection:
            row = _found(service.delete(connection, subscription_id, tenant=None, now=now), subscription_id)
            delivery_jobs.request_abandonment(connection, row, asked_by=context.current_user(), now=now)
            context.audit(connection, "subscription.removed", f"subscription:{subscription_id}")
        ctx.notify(JOBS)
    click.echo(f"The subscription {subscription_id} was removed.")


@subscriptions.command
@_id_argument
@click.option("--since", type=MOMENT, required=True, help="Changes from this time on (UTC).")
@click.option("--until", type=MOMENT, help="Changes before this time (UTC).")
@click.option("--include-delivered", is_flag=True, help="Send what was delivered, too.")
@click.option("--dry-run", is_flag=True, help="Only count.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@context.data_option
def recover(
    named: str,
    since: datetime,
    until: datetime | None,
    include_delivered: bool,
    dry_run: bool,
    yes: bool,
    data: Path,
) -> None:
    """Deliver every change since a time that a subscription should have received but did not.

    Its current filters decide. So this includes changes from before it was created, and from while it was disabled or
    had narrower filters.
    """
    options = {"since": since, "until": until, "include_delivered": include_delivered}
    console = context.console()
    with context.open_context(data) as ctx:
        subscription_id = context.find_subscription(ctx, named)
        if dry_run or not yes:
            counted = jobs.run_job(console, ctx, _request_recovery(ctx, subscription_id, dry_run=True, **options))
            if dry_run or not counted.report.get("to_deliver"):
                jobs.finish(console, counted)
                return
            click.confirm(f"Deliver {counted.report['to_deliver']} changes?", abort=True)
        job = jobs.run_job(console, ctx, _request_recovery(ctx, subscription_id, dry_run=False, **options))
        ctx.notify(DELIVER)
    jobs.finish(console, job)


def _request_recovery(ctx: CommandContext, subscription_id: UUID, **options: Any) -> UUID:
    with ctx.engine.begin() as connection:
        row = _found(store.find(connection, subscription_id), subscription_id)
        job_id = delivery_jobs.request_recovery(
            connection, row, asked_by=context.current_user(), now=datetime.now(UTC), **options
        )
        context.audit(connection, "subscription.recovery_asked", f"subscription:{row.id}", job=job_id, **options)
    return job_id


def _print_secret(new: SubscriptionAndSecret) -> None:
    """Print the key for verification alone on the last line, where scripts find it."""
    if new.public_key:
        click.echo("Verify with this public key:", err=True)
    else:
        click.echo("Verify with this secret, which is shown only once:", err=True)
    click.echo(new.public_key or new.secret)


def _found(subscription: _T | None, subscription_id: UUID) -> _T:
    if subscription is None:
        raise TidingsError(f"There is no subscription {subscription_id}; see `tidings subscriptions list`.")
    return subscription
