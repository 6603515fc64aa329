"""`tidings reconcile`: list what the providers could not deliver, and have it resent."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from cli import context
from cli.context import CommandContext, list_usable_sources, load_source
from cli.formatting import escape, print_line
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

    def describe(self) -> dict[str, Any]:
        """Return the counts and reasons. `new_events` grows while `unprocessed` failures have not been processed."""
        recovered = [failure for failure in self.touched if failure.state == "recovered"]
        counts = [failure.new_events for failure in recovered]
        errors = Counter(failure.last_error for failure in self.touched if failure.last_error)
        return {
            "source": self.source.slug,
            "found": self.done.found,
            "resent": self.done.resent,
            "recovered": len(recovered),
            "new_events": sum(count or 0 for count in counts),
            "unprocessed": sum(failure.new_events is None for failure in self.touched if failure.receipt_id),
            "still_open": self.still_open,
            "given_up": len(self.given_up),
            "error": str(self.done.error) if self.done.error else None,
            "stopped": bool(self.done.stopped),
            "reasons": dict(errors.most_common()),
        }


@click.command
@click.option("--source", "slugs", multiple=True, help="Reconcile this source; repeatable. Default: all.")
@click.option("--since", type=MOMENT, help="Only what failed from this time on (UTC). Default: since the last run.")
@click.option("--until", type=MOMENT, help="Only what failed before this time (UTC).")
@click.option("--given-up", "again", is_flag=True, help="Also retry what was given up.")
@click.option("--dry-run", is_flag=True, help="Resend nothing; show what the providers could not deliver.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line for each source.")
@context.data_option
def reconcile(
    slugs: tuple[str, ...],
    since: datetime | None,
    until: datetime | None,
    again: bool,
    dry_run: bool,
    as_json: bool,
    data: Path,
) -> None:
    """List what the providers could not deliver to us, and have it resent.

    Workers do the same every 15 minutes. Receipts that arrive this way are marked as reconciled. Exits with 1 if
    something could not be recovered.
    """
    console = context.console(stderr=as_json)
    orders = Orders(since=since, until=until, due_only=False, again=again, settle_seconds=_SETTLE_SECONDS)
    with context.open_context(data) as ctx:
        clients = _open_clients(ctx, slugs)
        if not clients:
            console.print("No source has an `api_key` for a provider that lists what it could not deliver.")
            return
        if dry_run:
            missing = [_find_missing(ctx, source, client, orders) for source, client in clients]
            for found in missing:
                if as_json:
                    click.echo(msgspec.json.encode(found))
                else:
                    _print_missing(console, found)
            good = all(found["error"] is None for found in missing)
        else:
            results = [_reconcile(console, ctx, source, orders) for source, _ in clients]
            if as_json:
                for result in results:
                    click.echo(msgspec.json.encode(result.describe()))
            else:
                _print_results(console, results)
            good = all(result.is_good for result in results)
    if not good:
        click.get_current_context().exit(1)


def _open_clients(ctx: CommandContext, slugs: Sequence[str]) -> list[tuple[Source, ProviderApi]]:
    """Return these sources, or without any all that can be reconciled, with clients. Raises TidingsError."""
    clients = []
    for source in [load_source(ctx, slug) for slug in slugs] or list_usable_sources(ctx):
        try:
            provider_api.require_failed_list(source)
            clients.append((source, provider_api.open_client(source)))
        except ProviderApiError:
            if slugs:
                raise
    return clients


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
    """Print each source with its counts, and why failures are still missing."""
    described = [result.describe() for result in results]
    for found in described:
        console.print(f"[bold]{found['source']}[/]", highlight=False)
        so_far = " so far" if found["unprocessed"] else ""
        left = f"{found['still_open']} still open, {found['given_up']} given up"
        print_line(
            console,
            "    ",
            f"{found['found']} found, {found['resent']} resent, {found['recovered']} recovered with"
            f" {found['new_events']} new events{so_far}; {left}",
        )
        if found["error"]:
            print_line(console, "    [red]✗[/] ", found["error"])
        if found["stopped"]:
            print_line(console, "    [red]✗[/] ", f"stopped after {FAILURES_IN_A_ROW} in a row did not arrive")
        for reason, count in list(found["reasons"].items())[:_MAX_REASONS]:
            print_line(console, "    ", f"{count}: {reason}")
    if any(found["unprocessed"] for found in described):
        console.print("Some resent requests have not been processed yet; check that a worker is running.")


def _find_missing(ctx: CommandContext, source: Source, client: ProviderApi, orders: Orders) -> dict[str, Any]:
    """Return what a provider could not deliver and is missing here; `error` if its API cannot be used."""
    with ctx.engine.begin() as connection:
        state = reconciliations.get(connection, source.id)
    until = state.reconciled_until if state else None
    span = span_to_list(until, datetime.now(UTC), since=orders.since, until=orders.until)
    about = {"source": source.slug, "since": span.since, "until": span.until}
    try:
        found = {one.reference: one for step in steps(span) for page in client.failed(step) for one in page}
    except ProviderApiError as error:
        return {**about, "error": str(error), "missing": []}
    with ctx.engine.begin() as connection:
        states = failed_deliveries.states(connection, source.id, found)
    missing = [
        {**asdict(one), "state": states.get(one.reference, "new")}
        for one in sorted(found.values(), key=lambda one: one.failed_at)
        if states.get(one.reference) not in ("recovered", "ours")
    ]
    return {**about, "error": None, "missing": missing}


def _print_missing(console: Console, found: Mapping[str, Any]) -> None:
    """Print what a provider could not deliver: the time, the result and the events on a line, the details on others."""
    if found["error"]:
        print_line(console, "[red]✗[/] ", found["error"])
        return
    missing = found["missing"]
    events = sum(one["events"] for one in missing)
    print_line(
        console,
        "",
        f"{found['source']}: {len(missing)} failed deliveries with {events} events are missing here, "
        f"from {found['since']:%Y-%m-%d %H:%M:%S} to {found['until']:%Y-%m-%d %H:%M:%S} UTC.",
    )
    for one in missing[:_MAX_SHOWN]:
        here = one["state"].replace("_", " ")
        line = f"{one['failed_at']:%Y-%m-%d %H:%M:%S}  {one['outcome']}  {one['events']} events, {here} here"
        console.print(escape(line), highlight=False, soft_wrap=True)
        print_line(console, "    ", one["reference"])
        if one["url"]:
            print_line(console, "    ", one["url"])
    if len(missing) > _MAX_SHOWN:
        console.print(f"… and {len(missing) - _MAX_SHOWN} more; --json prints all")
