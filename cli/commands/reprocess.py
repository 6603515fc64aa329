"""`tidings reprocess`: process stored receipts again."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from uuid import UUID

import click
import msgspec
from click.core import ParameterSource
from rich.console import Console
from rich.progress import track

from cli import context
from cli.context import CommandContext, source_not_found
from cli.formatting import print_line
from cli.options import MOMENT
from shared.broker import REPROCESS
from shared.errors import TidingsError
from shared.postgres.pagination import Position, Span
from shared.receipts import jobs as receipt_jobs
from shared.receipts import queries as receipt_queries
from shared.receipts import store as receipt_store
from shared.receipts.tables import receipts as receipts_table
from shared.reprocessing import reprocess as reprocessing
from shared.reprocessing.reprocess import Difference
from shared.sources import store as sources
from shared.vocabulary import ReceiptState

_BATCH = 1000
_MAX_SHOWN = 20
_STATES = click.Choice([str(ReceiptState.DEAD), str(ReceiptState.REJECTED), receipt_jobs.ALL])


@click.command
@click.option(
    "--receipt",
    "receipts",
    multiple=True,
    metavar="ID",
    help="Reprocess this receipt, by its id or the beginning of it; repeatable.",
)
@click.option("--source", help="Only receipts of this source.")
@click.option(
    "--state",
    type=_STATES,
    default="dead",
    show_default=True,
    help="Only receipts in this state. `all`: dead and processed ones.",
)
@click.option("--since", type=MOMENT, help="Only receipts received from this time on (UTC).")
@click.option("--until", type=MOMENT, help="Only receipts received before this time (UTC).")
@click.option("--dry-run", is_flag=True, help="Change nothing; show what would change.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; with --dry-run one object a line for each receipt.")
@context.data_option
def reprocess(
    receipts: tuple[str, ...],
    source: str | None,
    state: str,
    since: datetime | None,
    until: datetime | None,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    data: Path,
) -> None:
    """Process receipts again: those named, or all that match.

    The events that a receipt gives now replace its earlier ones. Unverified receipts stay in quarantine. Receipts that
    still wait for their first processing do not match.
    """
    state_is_given = click.get_current_context().get_parameter_source("state") is not ParameterSource.DEFAULT
    if not (receipts or source or state_is_given or since or until):
        raise click.UsageError("Give at least one of --receipt, --source, --state, --since and --until.")
    console = context.console(stderr=as_json)
    with context.open_context(data) as ctx:
        chosen = [find_receipt(ctx, given) for given in receipts] or _select(ctx, source, state, since, until)
        if not chosen:
            console.print("No matching receipts.")
            return
        if dry_run and as_json:
            _dump_preview(ctx, chosen)
            return
        if dry_run:
            _preview(console, ctx, chosen)
            return
        if not yes:
            click.confirm(f"Reprocess {len(chosen)} receipts?", abort=True, err=as_json)
        _queue(console, ctx, chosen, as_json=as_json)


def _queue(console: Console, ctx: CommandContext, chosen: Sequence[UUID], *, as_json: bool) -> None:
    """Queue receipts; print how many were asked for and are queued, how many wait now, and how many are erased."""
    queued = 0
    batches = [chosen[start : start + _BATCH] for start in range(0, len(chosen), _BATCH)]
    for batch in track(batches, description="queueing", console=console):
        with ctx.engine.begin() as connection:
            queued += receipt_store.queue_reprocessing(connection, batch)
            context.audit(connection, "receipt.reprocessed", f"receipt:{batch[0]}", receipts=len(batch))
        ctx.notify(REPROCESS)
    with ctx.engine.begin() as connection:
        erased = len(receipt_queries.get_erasure_times(connection, chosen)) if queued < len(chosen) else 0
        waiting = receipt_store.count_reprocessing(connection)
    if as_json:
        counts = {"asked": len(chosen), "queued": queued, "waiting": waiting, "erased": erased}
        click.echo(msgspec.json.encode(counts))
        return
    console.print(f"{queued} of {len(chosen)} receipts are queued.")
    if waiting:
        console.print(f"{waiting} wait for a worker. A receipt whose source cannot be used is tried again every 30 s.")
    if erased:
        console.print(f"{erased} cannot be processed again: an erasure has deleted their bodies.")
    if queued + erased < len(chosen):
        console.print("The others do not exist, or are unverified: only their provider's signature can admit those.")


def _select(
    ctx: CommandContext, source: str | None, state: str, since: datetime | None, until: datetime | None
) -> list[UUID]:
    with ctx.engine.begin() as connection:
        if source and sources.get_id(connection, source) is None:
            raise source_not_found(connection, source)
        found: list[UUID] = []
        after: Position | None = None
        while True:
            page = receipt_queries.list_reprocessable(
                connection,
                source=source,
                state=None if state == receipt_jobs.ALL else ReceiptState(state),
                span=Span(since=since, until=until),
                after=after,
                limit=_BATCH,
            )
            found += page.items
            if (after := page.next) is None:
                return found[::-1]


def find_receipt(ctx: CommandContext, given: str) -> UUID:
    """Return the id of a receipt that a person named by it or by its beginning."""
    return context.find_id(ctx, receipts_table, given, noun="receipt", listing="tidings receipts")


def _compare(ctx: CommandContext, receipt_id: UUID) -> Difference:
    """Return what would change, for a receipt on its own. Raises TidingsError."""
    with ctx.engine.connect() as connection:  # and never commit
        return reprocessing.preview(connection, receipt_id, ctx.vault)


def _dump_preview(ctx: CommandContext, chosen: Sequence[UUID]) -> None:
    """Print what would change as JSON, as the API shows it."""
    for receipt_id in chosen:
        try:
            found = {"receipt": receipt_id, "difference": _compare(ctx, receipt_id).as_json(), "problem": None}
        except TidingsError as error:
            found = {"receipt": receipt_id, "difference": None, "problem": str(error)}
        click.echo(msgspec.json.encode(found))


def _preview(console: Console, ctx: CommandContext, chosen: Sequence[UUID]) -> None:
    """Print what would change."""
    before = after = 0
    changes: Counter[tuple[str, str]] = Counter()
    suppressions: Counter[tuple[str, str]] = Counter()
    problems: list[tuple[UUID, str]] = []
    for receipt_id in track(chosen, description="comparing", console=console):
        try:
            found = _compare(ctx, receipt_id)
        except TidingsError as error:
            problems.append((receipt_id, str(error)))
            continue
        before += found.events_before
        after += found.events_after
        changes.update(
            (old.status or "nothing" if old else "nothing", new.status or "nothing" if new else "nothing")
            for old, new in found.states
        )
        suppressions.update((change.action, change.entry["reason"]) for change in found.suppressions)
    console.print(f"{len(chosen)} receipts gave {before} events and would give {after}.")
    console.print("[bold]States that would change[/]" if changes else "No state would change.")
    for (old, new), count in changes.most_common():
        console.print(f"    {count} recipients: {old} → {new}", highlight=False)
    console.print("[bold]Suppressions that would change[/]" if suppressions else "No suppression would change.")
    for (action, reason), count in suppressions.most_common():
        console.print(f"    {count} {action}, {reason}", highlight=False)
    for receipt_id, problem in problems[:_MAX_SHOWN]:
        console.print(f"[red]✗[/] {receipt_id}", highlight=False, soft_wrap=True)
        print_line(console, "    ", problem)
    if len(problems) > _MAX_SHOWN:
        console.print(f"  … and {len(problems) - _MAX_SHOWN} more that cannot be processed")
