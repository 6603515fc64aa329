"""`tidings suppressions push|pull`: our list and the provider's learn from one another."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from cli import context, source_lookup
from cli.context import Workbench
from shared.providers.api.base import ProviderApi
from shared.sources import provider_api
from shared.sources.source import Source
from shared.suppression import provider_sync, recipient_hashes
from shared.suppression.provider_sync import Comparison, Difference
from shared.suppression.recipient_hashes import RecipientKeys
from shared.vocabulary import MailType

_MOST_SHOWN = 20

_source_option = click.option("--source", "slug", required=True, help="The source whose provider's list it is.")
_dry_run_option = click.option("--dry-run", is_flag=True, help="Only show how the lists differ.")
_yes_option = click.option("--yes", is_flag=True, help="Do not ask.")


@click.command
@_source_option
@_dry_run_option
@click.option("--delete", "with_deletion", is_flag=True, help="Take off the provider's list what is not on ours.")
@_yes_option
@context.data_option
def push(slug: str, dry_run: bool, with_deletion: bool, yes: bool, data: Path) -> None:
    """Put on the provider's list what is on ours and not there.

    Shows how the lists differ, and asks. Domains, erased addresses, and at a provider that does not tell kinds of mail
    apart what holds for some mail only, stay with us.
    """
    console = context.console()
    with context.opened(data) as bench:
        source, client, keys = _open(bench, slug)
        found = _compare(console, bench, source, client, keys)
        _show(console, source, found)
        going = found.only_there if with_deletion else []
        if dry_run or not (found.to_push or going):
            return
        question = f"Add {len(found.to_push)} entries at {source.provider.NAME}"
        question += f" and remove {len(going)} addresses there?" if going else "?"
        if not yes:
            click.confirm(question, abort=True)
        with bench.engine.begin() as connection:
            counts = {"adding": len(found.to_push), "removing": len(going)}
            context.audit(connection, "suppressions.pushed", f"source:{slug}", **counts)
        added = _with_bar(
            console, "adding", len(found.to_push), lambda tell: provider_sync.push(client, found.to_push, tell)
        )
        console.print(f"{added} of {len(found.to_push)} entries were added at {source.provider.NAME}.")
        if added < len(found.to_push):
            console.print("The others are there already, for other mail; their entries there cannot be changed.")
        if going:
            removed = _with_bar(console, "removing", len(going), lambda tell: provider_sync.delete(client, going, tell))
            console.print(f"{removed} addresses were removed there.")


@click.command
@_source_option
@_dry_run_option
@_yes_option
@context.data_option
def pull(slug: str, dry_run: bool, yes: bool, data: Path) -> None:
    """Put on our list what is on the provider's and not here.

    Shows how the lists differ, and asks. What a person has lifted here since stays lifted.
    """
    console = context.console()
    with context.opened(data) as bench:
        source, client, keys = _open(bench, slug)
        found = _compare(console, bench, source, client, keys)
        _show(console, source, found)
        if dry_run or not found.to_pull:
            return
        if not yes:
            click.confirm(f"Add {len(found.to_pull)} entries here?", abort=True)
        with bench.engine.begin() as connection:
            context.audit(connection, "suppressions.pulled", f"source:{slug}", adding=len(found.to_pull))
        added = _with_bar(
            console,
            "adding",
            len(found.to_pull),
            lambda tell: provider_sync.pull(bench.engine, source, keys, found.to_pull, datetime.now(UTC), tell),
        )
    console.print(f"{added} entries were added here.")
    if added < len(found.to_pull):
        console.print("The others say what is known, or were lifted here by a person after the provider listed them.")


def _open(bench: Workbench, slug: str) -> tuple[Source, ProviderApi, RecipientKeys]:
    source = source_lookup.ready(bench, slug)
    with bench.engine.begin() as connection:
        keys = recipient_hashes.load(connection, bench.vault)
    return source, provider_api.open_client(source), keys


def _compare(
    console: Console, bench: Workbench, source: Source, client: ProviderApi, keys: RecipientKeys
) -> Difference:
    with console.status("reading both lists …") as status:

        def tell(count: int) -> None:
            status.update(f"reading both lists … {count} addresses at {source.provider.NAME}")

        comparison = Comparison(
            engine=bench.engine, source=source, client=client, keys=keys, now=datetime.now(UTC), tell=tell
        )
        return comparison.make()


def _with_bar(console: Console, what: str, total: int, work: Callable[[Callable[[int], None]], int]) -> int:
    columns = (TextColumn("{task.description:<9}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what, total=total)
        return work(lambda done: progress.update(task, completed=done))


def _show(console: Console, source: Source, found: Difference) -> None:
    name = source.provider.NAME
    console.print(f"{found.here} addresses and domains are suppressed here, {found.there} addresses at {name}.")
    _table(console, f"here, and not at {name}", [(one.address, one.types, one.reason) for one in found.only_here])
    _table(console, f"at {name}, and not here", [(one.address, one.types, one.word) for one in found.only_there])
    _table(
        console,
        "on both, for different mail",
        [(one.address, one.here, f"at {name}: {_words(one.there)}") for one in found.differing],
    )
    if found.kept_here:
        console.print(f"{found.kept_here} of ours cannot be told {name}: domains, erased addresses, some mail only.")
    if found.unreadable:
        console.print(f"{found.unreadable} entries at {name} are no addresses, or hold for one sender only.")
    if not (found.to_push or found.to_pull or found.differing):
        console.print("The lists say the same.")


def _table(console: Console, title: str, rows: Sequence[tuple[str, frozenset[MailType], str]]) -> None:
    if not rows:
        return
    table = Table("address", "mail", "why", title=f"{len(rows)} {title}", title_justify="left")
    for address, types, why in rows[:_MOST_SHOWN]:
        table.add_row(escape(address), _words(types), escape(why.replace("_", " ")))
    if len(rows) > _MOST_SHOWN:
        table.add_row(f"… and {len(rows) - _MOST_SHOWN} more")
    console.print(table)


def _words(types: frozenset[MailType]) -> str:
    return " and ".join(sorted(one.replace("_", "-") for one in types))


COMMANDS = (push, pull)
