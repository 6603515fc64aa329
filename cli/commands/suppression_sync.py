"""`tidings suppressions push|pull`: copy entries to a provider's list, or from it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from cli import context
from cli.context import CommandContext, load_source
from cli.formatting import escape, print_line
from shared.providers.api.base import ProviderApi
from shared.sources import provider_api
from shared.sources.source import Source
from shared.suppression import provider_sync, recipient_hashes
from shared.suppression.provider_sync import Difference
from shared.suppression.recipient_hashes import RecipientHasher
from shared.vocabulary import MailType

_MAX_SHOWN = 20

_source_option = click.option("--source", "slug", required=True, help="The source whose provider has the list.")
_dry_run_option = click.option("--dry-run", is_flag=True, help="Only show how the lists differ.")
_yes_option = click.option("--yes", is_flag=True, help="Do not ask.")
_json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON: how the lists differ, and what was done."
)


@click.command
@_source_option
@_dry_run_option
@click.option(
    "--delete", "with_deletion", is_flag=True, help="Also remove entries from the provider's list that are not on ours."
)
@_yes_option
@_json_option
@context.data_option
def push(slug: str, dry_run: bool, with_deletion: bool, yes: bool, as_json: bool, data: Path) -> None:
    """Add our entries to the provider's list.

    Shows how the lists differ, and asks before it changes anything. Domains and erased addresses are not sent. Entries
    for some types of mail are sent only if the provider distinguishes these types.
    """
    console = context.console(stderr=as_json)
    with context.open_context(data) as ctx:
        source, client, _, found = _compare(console, ctx, slug)
        removals = found.only_there if with_deletion else []
        done = {"added": 0, "removed": 0}
        if dry_run or not (found.to_push or removals):
            _dump(found, done, as_json=as_json)
            return
        question = f"Add {len(found.to_push)} entries at {source.provider.name}"
        question += f" and remove {len(removals)} addresses there?" if removals else "?"
        if not yes:
            click.confirm(question, abort=True, err=as_json)
        with ctx.engine.begin() as connection:
            counts = {"adding": len(found.to_push), "removing": len(removals)}
            context.audit(connection, "suppressions.pushed", f"source:{slug}", **counts)
        added = _with_bar(
            console, "adding", len(found.to_push), lambda report: provider_sync.push(client, found.to_push, report)
        )
        console.print(f"{added} of {len(found.to_push)} entries were added at {source.provider.name}.")
        if added < len(found.to_push):
            console.print("The others are on its list for other mail; their entries there cannot be changed.")
        done["added"] = added
        if removals:
            done["removed"] = removed = _with_bar(
                console, "removing", len(removals), lambda report: provider_sync.delete(client, removals, report)
            )
            console.print(f"{removed} addresses were removed there.")
        _dump(found, done, as_json=as_json)


@click.command
@_source_option
@_dry_run_option
@_yes_option
@_json_option
@context.data_option
def pull(slug: str, dry_run: bool, yes: bool, as_json: bool, data: Path) -> None:
    """Add the provider's entries to our list.

    Shows how the lists differ, and asks before it changes anything. Entries that a person has lifted here since the
    provider listed them stay lifted.
    """
    console = context.console(stderr=as_json)
    with context.open_context(data) as ctx:
        source, _, hasher, found = _compare(console, ctx, slug)
        if dry_run or not found.to_pull:
            _dump(found, {"added": 0}, as_json=as_json)
            return
        if not yes:
            click.confirm(f"Add {len(found.to_pull)} entries here?", abort=True, err=as_json)
        with ctx.engine.begin() as connection:
            context.audit(connection, "suppressions.pulled", f"source:{slug}", adding=len(found.to_pull))
        added = _with_bar(
            console,
            "adding",
            len(found.to_pull),
            lambda report: provider_sync.pull(ctx.engine, source, hasher, found.to_pull, datetime.now(UTC), report),
        )
    console.print(f"{added} entries were added here.")
    if added < len(found.to_pull):
        console.print("The rest exist here already, or were lifted here by a person after the provider listed them.")
    _dump(found, {"added": added}, as_json=as_json)


def _compare(
    console: Console, ctx: CommandContext, slug: str
) -> tuple[Source, ProviderApi, RecipientHasher, Difference]:
    """Compare the lists of a source's provider and ours, and print how they differ."""
    source = load_source(ctx, slug)
    client = provider_api.open_client(source)
    with ctx.engine.begin() as connection:
        hasher = recipient_hashes.load(connection, ctx.vault)
    with console.status("reading both lists …") as status:

        def report(count: int) -> None:
            status.update(f"reading both lists … {count} addresses at {source.provider.name}")

        found = provider_sync.compare(ctx.engine, source, client, hasher, datetime.now(UTC), report)
    name = source.provider.name
    console.print(f"{found.here} addresses and domains are suppressed here, {found.there} addresses at {name}.")
    differing = [(address, here, f"at {name}: {_words(there)}") for address, here, there in found.differing]
    _print_entries(
        console, f"here, and not at {name}", [(one.address, one.types, one.reason) for one in found.only_here]
    )
    _print_entries(
        console, f"at {name}, and not here", [(one.address, one.types, one.word) for one in found.only_there]
    )
    _print_entries(console, "on both, for different mail", differing)
    if found.kept_here:
        reasons = "they are about domains, erased addresses or some mail only"
        console.print(f"{found.kept_here} of our entries cannot be added at {name}: {reasons}.")
    if found.removed_there:
        console.print(f"{found.removed_there} of our entries came from {name}, which has removed them since.")
    if found.unreadable:
        console.print(f"{found.unreadable} entries at {name} are not addresses, or are for one sender only.")
    if not (found.to_push or found.to_pull or found.differing):
        console.print("The lists agree.")
    return source, client, hasher, found


def _with_bar(console: Console, what: str, total: int, work: Callable[[Callable[[int], None]], int]) -> int:
    columns = (TextColumn("{task.description:<9}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what, total=total)
        return work(lambda done: progress.update(task, completed=done))


def _print_entries(console: Console, title: str, rows: Sequence[tuple[str, frozenset[MailType], str]]) -> None:
    if rows:
        console.print(f"[bold]{len(rows)} {title}[/]", highlight=False)
    for address, types, why in rows[:_MAX_SHOWN]:
        console.print(f"  {escape(address)}", highlight=False, soft_wrap=True)
        print_line(console, "      ", f"{_words(types)} mail; {why.replace('_', ' ')}")
    if len(rows) > _MAX_SHOWN:
        console.print(f"  … and {len(rows) - _MAX_SHOWN} more; --json prints all")


def _dump(found: Difference, done: Mapping[str, int], *, as_json: bool) -> None:
    if as_json:
        differing = [{"address": address, "here": here, "there": there} for address, here, there in found.differing]
        click.echo(msgspec.json.encode({**asdict(found), "differing": differing, **done}))


def _words(types: frozenset[MailType]) -> str:
    return " and ".join(sorted(one.replace("_", "-") for one in types))
