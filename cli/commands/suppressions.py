"""`tidings suppressions`: add, lift, list, check and explain suppressions."""

import sys
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec

from cli import context
from cli.commands.suppression_files import erase, export, import_file, load_hasher, types_option
from cli.commands.suppression_sync import pull, push
from cli.formatting import echo, escape, read_page
from cli.formatting import suppressions as formatting_suppressions
from cli.options import MOMENT, OneOf, WholeHelpGroup
from shared.addresses import parse_domain, parse_lookup, parse_target
from shared.suppression import queries, store
from shared.suppression.csv_files import MAX_NOTE_LENGTH
from shared.suppression.queries import SuppressionFilters
from shared.suppression.store import Entry, NewEntry
from shared.vocabulary import ALL_MAIL, MailType, SuppressionOrigin, SuppressionReason

_ADDRESSES_PER_CHECK = 10_000
_REASONS = OneOf(SuppressionReason)
_TYPES = OneOf(MailType)


def _validate_note(_context: click.Context, _parameter: click.Parameter, note: str | None) -> str | None:
    if note is not None and len(note) > MAX_NOTE_LENGTH:
        raise click.BadParameter(f"It has {len(note)} characters; at most {MAX_NOTE_LENGTH} characters are allowed.")
    return note


_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_note_option = click.option("--note", callback=_validate_note, help="A remark for people.")


@click.group(cls=WholeHelpGroup)
def suppressions() -> None:
    """Manage the suppression list: addresses and domains that must not get mail.

    TARGET is an address in any form, or @ and a domain.
    """


for command in (import_file, export, erase, push, pull):
    suppressions.add_command(command)


@suppressions.command("list")
@click.option("--domain", help="Entries for this domain, or for an address at it.")
@click.option("--reason", type=_REASONS)
@click.option("--origin", type=OneOf(SuppressionOrigin), help="What put them on the list.")
@click.option("--tenant", help="Entries of this tenant; '' for those for all tenants.")
@click.option("--source", help="Entries from events of this source, or from its provider's list.")
@click.option("--type", "kind", type=_TYPES)
@click.option("--ended", is_flag=True, help="List expired entries instead of active ones.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@_json_option
@context.data_option
def list_suppressions(
    domain: str | None,
    reason: SuppressionReason | None,
    origin: SuppressionOrigin | None,
    tenant: str | None,
    source: str | None,
    kind: MailType | None,
    ended: bool,
    limit: int,
    as_json: bool,
    data: Path,
) -> None:
    """List suppressions, the most recently announced first."""
    filters = SuppressionFilters(
        domain=parse_domain(domain).domain if domain else None,
        reason=reason,
        origin=origin,
        tenant=tenant,
        source=source,
        type=kind,
        active=not ended,
    )
    with context.open_context(data) as ctx, ctx.engine.begin() as connection:
        context.require_sources(connection, [source] if source else [])
        now = datetime.now(UTC)
        page = read_page(
            lambda after, limit: queries.list_newest(connection, now, filters, after=after, limit=limit), limit
        )
    if as_json:
        click.echo(msgspec.json.encode([entry._asdict() for entry in page.items]).decode())
        return
    console = context.console()
    formatting_suppressions.print_entries(console, page.items)
    if not page.items:
        console.print("No matching suppressions.")
    if page.next is not None:
        console.print(f"… and older ones; these are the newest {len(page.items)}.")


@suppressions.command
@click.argument("target")
@types_option
@click.option("--tenant", default="", help="Suppress mail of this tenant only.")
@click.option("--reason", type=_REASONS, default=SuppressionReason.MANUAL.value, show_default=True)
@click.option("--until", type=MOMENT, help="When it ends (UTC); never if not given.")
@_note_option
@context.data_option
def add(
    target: str,
    types: tuple[MailType, ...],
    tenant: str,
    reason: SuppressionReason,
    until: datetime | None,
    note: str | None,
    data: Path,
) -> None:
    """Suppress an address or a domain."""
    meant, now = parse_target(target), datetime.now(UTC)
    if until is not None and until <= now:
        raise click.UsageError("--until must be in the future.")
    with context.open_context(data) as ctx:
        entry = NewEntry(
            key=load_hasher(ctx).hash_target(meant),
            address=meant.address,
            domain=meant.domain,
            reason=reason,
            types=frozenset(types) or ALL_MAIL,
            origin=SuppressionOrigin.PERSON,
            since=now,
            tenant=tenant,
            until=until,
            actor=context.current_user(),
            note=note,
        )
        with ctx.engine.begin() as connection:
            added = store.add(connection, [entry], now)
            about = f"suppression:{entry.key}"
            context.audit(connection, "suppression.added", about, reason=reason, types=entry.types, of=tenant)
    echo(f"{meant.name} is suppressed." if added else f"{meant.name} is already suppressed in this way.")


@suppressions.command
@click.argument("target")
@click.option("--reason", type=_REASONS, help="Lift only entries with this reason.")
@click.option("--tenant", help="Lift only this tenant's entries; '' for those for all tenants.")
@_note_option
@context.data_option
def lift(target: str, reason: SuppressionReason | None, tenant: str | None, note: str | None, data: Path) -> None:
    """Lift the suppression of an address or a domain.

    Nothing that happened or was received until now will suppress it again. Exits with 1 if no matching entry
    suppressed it; the lift is remembered anyway.
    """
    meant = parse_lookup(target)
    with context.open_context(data) as ctx:
        hasher = load_hasher(ctx)
        key = hasher.hash_target(meant)
        with ctx.engine.begin() as connection:
            lifted = store.lift(
                connection, keys=[key], tenant=tenant, reason=reason, actor=context.current_user(), note=note
            )
            if not lifted:
                queries.require_address(target)
            context.audit(connection, "suppression.lifted", f"suppression:{key}", reason=reason, of=tenant)
            explanation = queries.explain(connection, meant, hasher, datetime.now(UTC))
    console = context.console()
    if lifted:
        console.print("Lifted:")
        formatting_suppressions.print_entries(console, lifted)
    else:
        console.print(f"No matching entry suppressed {escape(meant.name)}. The lift is remembered.")
    if explanation.is_suppressed:
        console.print("It is still suppressed:")
        formatting_suppressions.print_entries(console, explanation.entries)
    if not lifted:
        click.get_current_context().exit(1)


@suppressions.command
@click.argument("addresses", nargs=-1)
@click.option("--type", "kind", type=_TYPES, help="Check for this type of mail; for any type if not given.")
@click.option("--tenant", help="Check for mail of this tenant; '' for mail of no tenant.")
@_json_option
@context.data_option
def check(addresses: tuple[str, ...], kind: MailType | None, tenant: str | None, as_json: bool, data: Path) -> None:
    """Check whether these addresses are suppressed. Without arguments, read them from standard input, one per line.

    Exits with 1 if any address is suppressed.
    """
    given = list(addresses) or [line.strip() for line in sys.stdin if line.strip()]
    found: list[Entry | None] = []
    with context.open_context(data) as ctx:
        hasher, now = load_hasher(ctx), datetime.now(UTC)
        for first in range(0, len(given), _ADDRESSES_PER_CHECK):
            part = given[first : first + _ADDRESSES_PER_CHECK]
            with ctx.engine.begin() as connection:
                found += queries.check_addresses(connection, part, hasher, now, type=kind, tenant=tenant)
    if as_json:
        results = [
            {"address": address, "suppressed": entry is not None, "entry": entry and entry._asdict()}
            for address, entry in zip(given, found, strict=True)
        ]
        click.echo(msgspec.json.encode(results).decode())
    else:
        formatting_suppressions.print_checked(context.console(), given, found)
    if any(found):
        click.get_current_context().exit(1)


@suppressions.command
@click.argument("target")
@_json_option
@context.data_option
def why(target: str, as_json: bool, data: Path) -> None:
    """Show why an address or a domain is suppressed, or is not: entries, history, and the events that caused them."""
    with context.open_context(data) as ctx:
        hasher = load_hasher(ctx)
        with ctx.engine.begin() as connection:
            explanation = queries.explain(connection, parse_lookup(target), hasher, datetime.now(UTC))
    if as_json:
        click.echo(formatting_suppressions.to_json(explanation))
    else:
        formatting_suppressions.print_explanation(context.console(), explanation)
