"""`tidings reconcile`: list what the providers could not deliver, and have it resent."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from cli import context
from cli.context import CommandContext, list_usable_sources, load_source
from cli.formatting import escape
from cli.options import MOMENT
from shared.errors import TidingsError
from shared.providers.api.base import ProviderApi, ProviderApiError
from shared.reconciliation import failed_deliveries
from shared.reconciliation import run as reconciliation
from shared.reconciliation import store as reconciliations
from shared.reconciliation.failed_deliveries import KnownFailure
from shared.reconciliation.policy import FAILURES_IN_A_ROW, span_to_list, steps
from shared.reconciliation.run import Orders, Run
from shared.reconciliation.run import Progress as Done
from shared.reconciliation.store import Lease
from shared.sources import provider_api
from shared.sources.source import Source

_SETTLE_SECONDS = 30.0
_MAX_WAIT_SECONDS = 2 * reconciliation.LEASE_SECONDS
_PAUSE_SECONDS = 0.5
_MAX_SHOWN = 20
_MAX_REASONS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The outcome for one source: what the run did, and the failures that it had resent."""

    source: Source
    done: Done
    touched: Sequence[KnownFailure]
    still_open: int

    @property
    def given_up(self) -> list[KnownFailure]:
        """The failures that will not be retried."""
        return [failure for failure in self.touched if failure.state == "given_up"]

    @property
    def is_good(self) -> bool:
        """Whether nothing is missing any more."""
        return not (self.given_up or self.still_open or self.done.error or self.done.stopped)


@click.command
@click.option("--source", "slugs", multiple=True, help="Reconcile this source; repeatable. Default: all.")
@click.option("--since", type=MOMENT, help="Only what failed from this time on (UTC). Default: since the last run.")
@click.option("--until", type=MOMENT, help="Only what failed before this time (UTC).")
@click.option("--given-up", "again", is_flag=True, help="Also retry what was given up.")
@click.option("--dry-run", is_flag=True, help="Resend nothing; show what the providers could not deliver.")
@context.data_option
def reconcile(
    slugs: tuple[str, ...], since: datetime | None, until: datetime | None, again: bool, dry_run: bool, data: Path
) -> None:
    """List what the providers could not deliver to us, and have it resent.

    Workers do the same every 15 minutes. Receipts that arrive this way are marked as reconciled. Exits with 1 if
    something could not be recovered.
    """
    console = context.console()
    orders = Orders(since=since, until=until, due_only=False, again=again, settle_seconds=_SETTLE_SECONDS)
    with context.open_context(data) as ctx:
        sources = [load_source(ctx, slug) for slug in slugs] or list_usable_sources(ctx)
        clients = []
        for source in sources:
            try:
                clients.append((source, provider_api.open_client(source)))
            except ProviderApiError:
                if slugs:
                    raise
        if not clients:
            console.print("No source has an `api_key` for a provider with a management API.")
            return
        if dry_run:
            answered = [_preview(console, ctx, source, client, orders) for source, client in clients]
            good = all(answered)
        else:
            results = [_reconcile(console, ctx, source, orders) for source, _ in clients]
            _print_results(console, results)
            good = all(result.is_good for result in results)
    if not good:
        click.get_current_context().exit(1)


def _reconcile(console: Console, ctx: CommandContext, source: Source, orders: Orders) -> Result:
    lease = _wait_for_lease(console, ctx, source)
    client = provider_api.open_client(source, sleep=reconciliation.sleep_and_renew(ctx.engine, lease))
    columns = (
        TextColumn("{task.description:<20}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[now]}"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(source.slug, total=None, now="listing failures")

        def show(done: Done) -> None:
            if done.resent or done.waiting:
                total = done.resent + done.waiting
                progress.update(task, completed=done.resent, total=total, now=f"{done.recovered} recovered")
            else:
                progress.update(task, now=f"{done.found} found")

        run = Run(engine=ctx.engine, source=source, client=client, lease=lease, orders=orders, on_progress=show)
        try:
            done = run.perform()
        except KeyboardInterrupt:
            run.release()
            raise
    with ctx.engine.begin() as connection:
        return Result(
            source=source,
            done=done,
            touched=failed_deliveries.list_resent(connection, source.id, since=lease.started_at),
            still_open=failed_deliveries.count_open(connection, source.id, span=orders.span),
        )


def _wait_for_lease(console: Console, ctx: CommandContext, source: Source) -> Lease:
    """Lease a source as soon as no worker holds it. Raises TidingsError."""
    until = time.monotonic() + _MAX_WAIT_SECONDS
    with console.status(f"waiting for the worker that reconciles {source.slug} …"):
        while time.monotonic() < until:
            with ctx.engine.begin() as connection:
                reconciliations.ensure(connection, [source.id])
                lease = reconciliations.claim(
                    connection, source.id, token=uuid4(), lease_seconds=reconciliation.LEASE_SECONDS
                )
                if lease is not None:
                    context.audit(connection, "source.reconciled", f"source:{source.slug}")
                    return lease
            time.sleep(_PAUSE_SECONDS)
    raise TidingsError(
        f"A worker has been reconciling {source.slug} for {_MAX_WAIT_SECONDS:.0f} seconds; try again later."
    )


def _print_results(console: Console, results: Sequence[Result]) -> None:
    table = Table("source", "found", "resent", "recovered", "new events", "still open", "given up", "reasons")
    for result in results:
        recovered = [failure for failure in result.touched if failure.state == "recovered"]
        counts = [failure.new_events for failure in recovered]
        errors = Counter(failure.last_error for failure in result.touched if failure.last_error)
        reasons = [f"{count}: {reason}" for reason, count in errors.most_common(_MAX_REASONS)]
        if result.done.stopped:
            reasons.insert(0, f"stopped after {FAILURES_IN_A_ROW} in a row did not arrive")
        if result.done.error:
            reasons.insert(0, str(result.done.error))
        table.add_row(
            result.source.slug,
            str(result.done.found),
            str(result.done.resent),
            str(len(recovered)),
            str(sum(count or 0 for count in counts)) + (" so far" if None in counts else ""),
            str(result.still_open),
            str(len(result.given_up)),
            escape("; ".join(reasons)),
        )
    console.print(table)
    if any(failure.new_events is None for result in results for failure in result.touched if failure.receipt_id):
        console.print("Some resent requests have not been processed yet; check that a worker is running.")


def _preview(console: Console, ctx: CommandContext, source: Source, client: ProviderApi, orders: Orders) -> bool:
    """Print what a provider could not deliver; return whether its API could be reached."""
    with ctx.engine.begin() as connection:
        state = reconciliations.get(connection, source.id)
    until = state.reconciled_until if state else None
    span = span_to_list(until, datetime.now(UTC), since=orders.since, until=orders.until)
    try:
        found = {one.reference: one for step in steps(span) for page in client.failed(step) for one in page}
    except ProviderApiError as error:
        console.print(f"[red]✗[/] {escape(str(error))}", highlight=False)
        return False
    with ctx.engine.begin() as connection:
        states = failed_deliveries.states(connection, source.id, found)
    missing = [one for one in found.values() if states.get(one.reference) not in ("recovered", "ours")]
    events = sum(one.events for one in missing)
    console.print(
        f"{source.slug}: {len(missing)} failed deliveries with {events} events are missing here, "
        f"from {span.since:%Y-%m-%d %H:%M:%S} to {span.until:%Y-%m-%d %H:%M:%S} UTC."
    )
    if missing:
        table = Table("failed at", "delivery", "outcome", "events", "here", "URL")
        for one in sorted(missing, key=lambda one: one.failed_at)[:_MAX_SHOWN]:
            table.add_row(
                f"{one.failed_at:%Y-%m-%d %H:%M:%S}",
                escape(one.reference),
                one.outcome,
                str(one.events),
                states.get(one.reference, "new").replace("_", " "),
                escape(one.url or ""),
            )
        if len(missing) > _MAX_SHOWN:
            table.add_row(f"… and {len(missing) - _MAX_SHOWN} more")
        console.print(table)
    return True
