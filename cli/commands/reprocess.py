"""`tidings reprocess`: process stored receipts again."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from uuid import UUID

import click
from rich.console import Console
from rich.progress import track
from rich.table import Table

from cli import context
from cli.context import CommandContext, source_not_found
from cli.options import MOMENT
from shared import ids
from shared.broker import REPROCESS
from shared.errors import TidingsError
from shared.receipts import queries as receipt_queries
from shared.receipts import store as receipt_store
from shared.reprocessing import reprocess as reprocessing
from shared.sources import store as sources
from shared.vocabulary import ReceiptState

_BATCH = 1000
_MAX_SHOWN = 20
_ALL = "all"
_STATES = click.Choice([str(ReceiptState.DEAD), str(ReceiptState.REJECTED), _ALL])


@click.command
@click.option("--receipt", "receipts", type=click.UUID, multiple=True, help="Reprocess this receipt; repeatable.")
@click.option("--source", help="Only receipts of this source.")
@click.option(
    "--state",
    type=_STATES,
    default="dead",
    show_default=True,
    help="Only receipts in this state. `all` includes processed ones, but none that was not verified.",
)
@click.option("--since", type=MOMENT, help="Only receipts received from this time on (UTC).")
@click.option("--until", type=MOMENT, help="Only receipts received before this time (UTC).")
@click.option("--dry-run", is_flag=True, help="Change nothing; show what would change.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@context.data_option
def reprocess(
    receipts: tuple[UUID, ...],
    source: str | None,
    state: str,
    since: datetime | None,
    until: datetime | None,
    dry_run: bool,
    yes: bool,
    data: Path,
) -> None:
    """Process receipts again: those named, or all that match.

    The events of a receipt are replaced by those that it gives now. Unverified receipts stay in quarantine.
    """
    if not (receipts or source or since or until):
        raise click.UsageError("Give at least one of --receipt, --source, --since and --until.")
    console = context.console()
    with context.open_context(data) as ctx:
        chosen = list(receipts) or _select(ctx, source, state, since, until)
        if not chosen:
            console.print("No matching receipts.")
            return
        if dry_run:
            _preview(console, ctx, chosen)
            return
        if not yes:
            click.confirm(f"Reprocess {len(chosen)} receipts?", abort=True)
        queued = 0
        batches = [chosen[start : start + _BATCH] for start in range(0, len(chosen), _BATCH)]
        for batch in track(batches, description="queueing", console=console):
            with ctx.engine.begin() as connection:
                queued += receipt_store.queue_reprocessing(connection, batch)
                context.audit(connection, "receipt.reprocessed", f"receipt:{batch[0]}", receipts=len(batch))
            ctx.notify(REPROCESS)
        with ctx.engine.begin() as connection:
            erased = len(receipt_queries.erased(connection, chosen)) if queued < len(chosen) else 0
            waiting = receipt_store.count_reprocessing(connection)
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
        source_id = sources.id_of(connection, source) if source else None
        if source and source_id is None:
            raise source_not_found(source)
        found: dict[UUID, None] = {}
        while True:
            part = receipt_store.list_ids(
                connection,
                source_id=source_id,
                state=None if state == _ALL else state,
                since=since,
                until=until,
                limit=_BATCH,
            )
            known = len(found)
            found.update(dict.fromkeys(part))
            if len(part) < _BATCH or len(found) == known:
                break
            since = ids.made_at(part[-1])  # starts at the last one again: others may be of the same millisecond
        # Possible forgeries are reprocessed only if --receipt or --state names them.
        unverified = receipt_queries.unverified_or_rejected(connection, list(found)) if state == _ALL else set()
        return [receipt_id for receipt_id in found if receipt_id not in unverified]


def _preview(console: Console, ctx: CommandContext, chosen: Sequence[UUID]) -> None:
    """Print what would change, for each receipt on its own."""
    before = after = 0
    changes: Counter[tuple[str, str]] = Counter()
    suppressions: Counter[tuple[str, str]] = Counter()
    problems: list[str] = []
    for receipt_id in track(chosen, description="comparing", console=console):
        try:
            with ctx.engine.connect() as connection:  # and never commit
                found = reprocessing.preview(connection, receipt_id, ctx.vault)
        except TidingsError as error:
            problems.append(f"{receipt_id}: {error}")
            continue
        before += found.events_before
        after += found.events_after
        changes.update(
            (old.status or "nothing" if old else "nothing", new.status or "nothing" if new else "nothing")
            for old, new in found.states
        )
        suppressions.update((change.action, change.entry["reason"]) for change in found.suppressions)
    console.print(f"{len(chosen)} receipts gave {before} events and would give {after}.")
    table = Table("recipients", "status now", "status then", title="States that would change")
    for (old, new), count in changes.most_common():
        table.add_row(str(count), old, new)
    console.print(table if changes else "No state would change.")
    table = Table("suppressions", "change", "reason", title="Suppressions that would change")
    for (action, reason), count in suppressions.most_common():
        table.add_row(str(count), action, reason)
    console.print(table if suppressions else "No suppression would change.")
    for problem in problems[:_MAX_SHOWN]:
        console.print(f"[red]✗[/] {problem}", highlight=False)
    if len(problems) > _MAX_SHOWN:
        console.print(f"  … and {len(problems) - _MAX_SHOWN} more that cannot be processed")
