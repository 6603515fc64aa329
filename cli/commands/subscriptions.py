"""`tidings subscriptions`: who is told of which changes, where, and how."""

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import click
import msgspec
from rich.markup import escape
from rich.table import Table

from cli import context
from cli.commands import jobs, subscription_options
from cli.context import Workbench
from cli.formatting import pages
from cli.options import MOMENT, OneOf
from shared import delivery_jobs, subscription_facts, subscription_trials
from shared import subscription_registrations as registrations
from shared.db import subscriptions as stored
from shared.db.subscriptions import SubscriptionRow
from shared.domain.deliveries import AttemptStatus
from shared.domain.subscriptions import SubscriptionState
from shared.doorbell import DELIVER, JOBS
from shared.errors import TidingsError
from shared.http.standard_webhooks import Scheme
from shared.subscription_registrations import LONGEST_OVERLAP, OLD_SECRET_SIGNS_FOR, NewSecret

_MOST = 200
_COLOURS = {"active": "green", "paused": "yellow", "disabled": "red"}

_id_argument = click.argument("subscription_id", metavar="ID", type=click.UUID)
_scheme_option = click.option(
    "--scheme",
    type=OneOf(Scheme),
    default=Scheme.V1.value,
    show_default=True,
    help="How is signed: v1 by a secret that both know, v1a by a private key of which the receiver has the public one.",
)


@click.group
def subscriptions() -> None:
    """Say who is told of which changes, where, and how."""


@subscriptions.command("list")
@click.option("--state", type=OneOf(SubscriptionState))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@context.data_option
def list_subscriptions(state: SubscriptionState | None, as_json: bool, data: Path) -> None:
    """List the subscriptions, the newest first."""
    with context.opened(data) as bench, bench.engine.begin() as connection:
        page = pages.read(lambda after, limit: stored.listed(connection, state=state, after=after, limit=limit), _MOST)
        found = subscription_facts.told(connection, page.items, bench.vault, datetime.now(UTC))
    if as_json:
        click.echo(msgspec.json.encode([asdict(facts) for facts in found]).decode())
        return
    table = Table("subscription", "name", "URL", "types", "state", "fails since", "")
    for facts in found:
        health = facts.health
        table.add_row(
            str(facts.id),
            escape(facts.name),
            escape(facts.url),
            ", ".join(facts.types),
            f"[{_COLOURS[facts.state]}]{facts.state}[/]",
            f"{health.failing_since:%Y-%m-%d %H:%M}" if health.failing_since else "",
            escape(facts.problem or facts.state_reason or (health.last_error if health.failing_since else None) or ""),
        )
    console = context.console()
    console.print(table if found else "There are no subscriptions. Make one with `tidings subscriptions add`.")
    if page.next is not None:
        console.print(f"… and older ones; these are the newest {len(found)}.")


@subscriptions.command
@click.argument("url")
@click.option("--type", "types", multiple=True, required=True, help="Such as message.*; may be given several times.")
@subscription_options.options
@click.option("--secret", help="To sign with; made here, if not given.")
@_scheme_option
@context.data_option
def add(url: str, secret: str | None, scheme: Scheme, data: Path, **wishes: Any) -> None:
    """Make a subscription that is posted to at URL, and print its secret."""
    given = subscription_options.read(wishes)
    with context.opened(data) as bench:
        checked = registrations.checked_url(url, bench.settings.egress_allow)
        with bench.engine.begin() as connection:
            made = registrations.create(
                connection, bench.vault, url=checked, wishes=given, secret=secret, scheme=scheme, now=datetime.now(UTC)
            )
            context.audit(connection, "subscription.created", f"subscription:{made.row.id}", types=made.row.types)
    click.echo(f"The subscription {made.row.id} is made.")
    _tell_secret(made)


@subscriptions.command
@_id_argument
@context.data_option
def show(subscription_id: UUID, data: Path) -> None:
    """Show a subscription as JSON, without what is secret, and how its endpoint fares."""
    with context.opened(data) as bench, bench.engine.begin() as connection:
        row = _known(stored.find(connection, subscription_id), subscription_id)
        (facts,) = subscription_facts.told(connection, [row], bench.vault, datetime.now(UTC))
    click.echo(msgspec.json.format(msgspec.json.encode(asdict(facts)), indent=2).decode())


@subscriptions.command
@_id_argument
@click.option("--url", help="Post there from now on.")
@click.option("--type", "types", multiple=True, help="Such as message.*; may be given several times.")
@subscription_options.options
@context.data_option
def change(subscription_id: UUID, url: str | None, data: Path, **wishes: Any) -> None:
    """Change what is given, and leave the rest.

    An empty value takes a filter or a header away (--tag "", --header Name=), and --rate 0 the limit.
    """
    given = subscription_options.read_change(wishes)
    if url is None and not given:
        raise click.UsageError("Say what to change, such as --url or --type.")
    with context.opened(data) as bench:
        checked = None if url is None else registrations.checked_url(url, bench.settings.egress_allow)
        with bench.engine.begin() as connection:
            before = _known(stored.find(connection, subscription_id), subscription_id)
            row = registrations.change(
                connection, bench.vault, subscription_id, tenant=None, wishes=given, url=checked, now=datetime.now(UTC)
            )
            differences = subscription_facts.difference(before, _known(row, subscription_id))
            context.audit(connection, "subscription.changed", f"subscription:{subscription_id}", **differences)
        bench.ring(DELIVER)
    click.echo(f"Changed: {', '.join(sorted(differences))}." if differences else "It is as it was.")


@subscriptions.command
@_id_argument
@context.data_option
def pause(subscription_id: UUID, data: Path) -> None:
    """Send nothing for now. What comes meanwhile waits."""
    reason = f"paused by {context.person()}"
    with context.opened(data) as bench, bench.engine.begin() as connection:
        row = registrations.pause(connection, subscription_id, tenant=None, reason=reason, now=datetime.now(UTC))
        _known(row, subscription_id)
        context.audit(connection, "subscription.paused", f"subscription:{subscription_id}")
    click.echo("It is paused: what comes meanwhile waits until it is resumed.")


@subscriptions.command
@_id_argument
@context.data_option
def resume(subscription_id: UUID, data: Path) -> None:
    """Send again, to one that was paused or disabled; its failures are forgotten."""
    with context.opened(data) as bench:
        with bench.engine.begin() as connection:
            before = _known(stored.find(connection, subscription_id), subscription_id)
            registrations.resume(connection, subscription_id, tenant=None, now=datetime.now(UTC))
            context.audit(connection, "subscription.resumed", f"subscription:{subscription_id}")
        bench.ring(DELIVER)
    click.echo("It is active.")
    if before.state == SubscriptionState.DISABLED:
        since = f"{before.state_since:%Y-%m-%dT%H:%M:%SZ}"
        click.echo(f"To bring what it missed: tidings subscriptions recover {subscription_id} --since {since}")


@subscriptions.command
@_id_argument
@context.data_option
def test(subscription_id: UUID, data: Path) -> None:
    """Send a `test` event now, and say what came back. Exits with 1 unless it was accepted."""
    with context.opened(data) as bench:
        with bench.engine.begin() as connection:
            row = _known(stored.find(connection, subscription_id), subscription_id)
        trial = subscription_trials.try_out(row, bench.vault, bench.settings.egress_allow, datetime.now(UTC))
    said = trial.response_capture["network_error"] or f"answered {trial.http_status}"
    click.echo(f"{trial.status} in {trial.latency_ms} ms: {said}")
    if trial.status is not AttemptStatus.SUCCESS:
        click.echo(f"{trial.advice.meaning} {trial.advice.action}")
        click.get_current_context().exit(1)


@subscriptions.command
@_id_argument
@click.option("--secret", help="To sign with; made here, if not given.")
@_scheme_option
@click.option(
    "--overlap",
    type=click.FloatRange(0, LONGEST_OVERLAP / timedelta(hours=1)),
    default=OLD_SECRET_SIGNS_FOR / timedelta(hours=1),
    show_default=True,
    help="For so many hours the secrets before sign, too; 0 for one that leaked.",
)
@context.data_option
def rotate(subscription_id: UUID, secret: str | None, scheme: Scheme, overlap: float, data: Path) -> None:
    """Give a subscription another secret, and print it."""
    with context.opened(data) as bench, bench.engine.begin() as connection:
        made = registrations.rotate_secret(
            connection,
            bench.vault,
            subscription_id,
            tenant=None,
            secret=secret,
            scheme=scheme,
            overlap=timedelta(hours=overlap),
            now=datetime.now(UTC),
        )
        if made is None:
            raise _unknown(subscription_id)
        context.audit(connection, "subscription.secret_rotated", f"subscription:{subscription_id}")
    click.echo(f"The secrets before sign for {overlap:g} hours more." if overlap else "No other secret signs any more.")
    _tell_secret(made)


@subscriptions.command
@_id_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
@context.data_option
def remove(subscription_id: UUID, yes: bool, data: Path) -> None:
    """Remove a subscription. What it has yet to be told is not told."""
    if not yes:
        click.confirm(f"Remove the subscription {subscription_id}?", abort=True)
    now = datetime.now(UTC)
    with context.opened(data) as bench:
        with bench.engine.begin() as connection:
            row = _known(registrations.remove(connection, subscription_id, tenant=None, now=now), subscription_id)
            delivery_jobs.ask_abandonment(connection, row, asked_by=context.person(), now=now)
            context.audit(connection, "subscription.removed", f"subscription:{subscription_id}")
        bench.ring(JOBS)
    click.echo(f"The subscription {subscription_id} is removed.")


@subscriptions.command
@_id_argument
@click.option("--since", type=MOMENT, required=True, help="Changes from this time on (UTC).")
@click.option("--until", type=MOMENT, help="Changes before this time (UTC).")
@click.option("--include-delivered", is_flag=True, help="Send again also what was delivered.")
@click.option("--dry-run", is_flag=True, help="Only count.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@context.data_option
def recover(
    subscription_id: UUID,
    since: datetime,
    until: datetime | None,
    include_delivered: bool,
    dry_run: bool,
    yes: bool,
    data: Path,
) -> None:
    """Deliver every change since a time that a subscription, as it is now, should have had and has not.

    Also what changed before it was made, or while it was disabled or wished for less.
    """
    wishes = {"since": since, "until": until, "include_delivered": include_delivered}
    console = context.console()
    with context.opened(data) as bench:
        if dry_run or not yes:
            counted = jobs.work(console, bench, _ask_recovery(bench, subscription_id, dry_run=True, **wishes))
            if dry_run or not counted.report.get("to_deliver"):
                jobs.finish(console, counted)
                return
            click.confirm(f"Deliver {counted.report['to_deliver']} changes?", abort=True)
        job = jobs.work(console, bench, _ask_recovery(bench, subscription_id, dry_run=False, **wishes))
        bench.ring(DELIVER)
    jobs.finish(console, job)


def _ask_recovery(bench: Workbench, subscription_id: UUID, **wishes: Any) -> UUID:
    with bench.engine.begin() as connection:
        row = _known(stored.find(connection, subscription_id), subscription_id)
        job_id = delivery_jobs.ask_recovery(connection, row, asked_by=context.person(), now=datetime.now(UTC), **wishes)
        context.audit(connection, "subscription.recovery_asked", f"subscription:{row.id}", job=job_id, **wishes)
    return job_id


def _tell_secret(made: NewSecret) -> None:
    """What is needed to verify, where scripts find it: alone on the last line."""
    if made.public_key:
        click.echo("Verify with this public key:", err=True)
    else:
        click.echo("Verify with this secret, which is shown this once:", err=True)
    click.echo(made.public_key or made.secret)


def _known(row: SubscriptionRow | None, subscription_id: UUID) -> SubscriptionRow:
    if row is None:
        raise _unknown(subscription_id)
    return row


def _unknown(subscription_id: UUID) -> TidingsError:
    return TidingsError(
        f"There is no subscription {subscription_id}; `tidings subscriptions list` shows those there are."
    )
