"""`tidings suppressions`: whom not to write to, and why."""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec
from rich.markup import escape

from cli import context
from cli.commands.suppression_files import erase, export, import_file, keys_of, types_option
from cli.commands.suppression_sync import pull, push
from cli.context import Workbench
from cli.formatting import pages
from cli.formatting import suppressions as formatting_suppressions
from cli.options import MOMENT, OneOf
from shared import targets
from shared.suppression import check as suppression_check
from shared.suppression import explain
from shared.suppression import queries as suppression_pages
from shared.suppression import store as stored
from shared.suppression.csv_files import LONGEST_NOTE
from shared.suppression.queries import Wanted
from shared.suppression.store import Entry, NewEntry
from shared.vocabulary import ALL_MAIL, MailType, SuppressionOrigin, SuppressionReason

_CHECKED_AT_ONCE = 10_000
_REASONS = OneOf(SuppressionReason)
_TYPES = OneOf(MailType)


def _of_length(_context: click.Context, _parameter: click.Parameter, note: str | None) -> str | None:
    if note is not None and len(note) > LONGEST_NOTE:
        raise click.BadParameter(f"It may have {LONGEST_NOTE} characters.")
    return note


_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_note_option = click.option("--note", callback=_of_length, help="For people.")


@click.group
def suppressions() -> None:
    """Say whom not to write to, and ask why somebody is not written to.

    TARGET is an address in any form, or @ and a domain.
    """


for command in (import_file, export, erase, push, pull):
    suppressions.add_command(command)


@suppressions.command("list")
@click.option("--domain", help="About this domain, or about an address of it.")
@click.option("--reason", type=_REASONS)
@click.option("--origin", type=OneOf(SuppressionOrigin), help="Who says so.")
@click.option("--tenant", help="Of this tenant; '' for those that hold for all.")
@click.option("--source", help="From events or the list of this source.")
@click.option("--type", "kind", type=_TYPES)
@click.option("--ended", is_flag=True, help="Those whose time is over, instead of those that suppress now.")
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
    """List suppressions, those announced last first."""
    wanted = Wanted(
        domain=targets.read_domain(domain).domain if domain else None,
        reason=reason,
        origin=origin,
        tenant=tenant,
        source=source,
        type=kind,
        active=not ended,
    )
    with context.opened(data) as bench, bench.engine.begin() as connection:
        now = datetime.now(UTC)
        page = pages.read(
            lambda after, most: suppression_pages.listed(connection, now, wanted, after=after, limit=most), limit
        )
    if as_json:
        click.echo(msgspec.json.encode([entry._asdict() for entry in page.items]).decode())
        return
    console = context.console()
    console.print(formatting_suppressions.table(page.items) if page.items else "Nothing that fits is suppressed.")
    if page.next is not None:
        console.print(f"… and older ones; these are the newest {len(page.items)}.")


@suppressions.command
@click.argument("target")
@types_option
@click.option("--tenant", default="", help="For this tenant only.")
@click.option("--reason", type=_REASONS, default=SuppressionReason.MANUAL.value, show_default=True)
@click.option("--until", type=MOMENT, help="Until then (UTC); for good, if not given.")
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
    meant, now = targets.read(target), datetime.now(UTC)
    if until is not None and until <= now:
        raise click.UsageError("--until must be in the future.")
    with context.opened(data) as bench:
        entry = NewEntry(
            key=keys_of(bench).of(meant),
            address=meant.address,
            domain=meant.domain,
            reason=reason,
            types=frozenset(types) or ALL_MAIL,
            origin=SuppressionOrigin.PERSON,
            since=now,
            tenant=tenant,
            until=until,
            actor=context.person(),
            note=note,
        )
        with bench.engine.begin() as connection:
            told = stored.add(connection, [entry], now)
            about = f"suppression:{entry.key}"
            context.audit(connection, "suppression.added", about, reason=reason, types=entry.types, of=tenant)
    click.echo(f"{meant.name} is suppressed." if told else f"{meant.name} was suppressed so already.")


@suppressions.command
@click.argument("target")
@click.option("--reason", type=_REASONS, help="Only what has this reason.")
@click.option("--tenant", help="Only what is of this tenant; '' for what holds for all.")
@_note_option
@context.data_option
def lift(target: str, reason: SuppressionReason | None, tenant: str | None, note: str | None, data: Path) -> None:
    """Lift the suppression of an address or a domain.

    Nothing that happened or was received until now will suppress it again. Exits with 1 if nothing suppressed it,
    which is remembered all the same.
    """
    meant = targets.named(target)
    with context.opened(data) as bench:
        keys = keys_of(bench)
        with bench.engine.begin() as connection:
            lifted = stored.lift(
                connection,
                keys=[keys.of(meant)],
                tenant=tenant,
                reason=reason,
                actor=context.person(),
                note=note,
            )
            about = f"suppression:{keys.of(meant)}"
            context.audit(connection, "suppression.lifted", about, reason=reason, of=tenant)
            case = explain.why(connection, meant, keys, datetime.now(UTC))
    console = context.console()
    if lifted:
        console.print("Lifted:", formatting_suppressions.table(lifted))
    else:
        console.print(f"Nothing that was asked for suppressed {escape(meant.name)}. The lift is remembered.")
    if case.is_suppressed:
        console.print("It is suppressed still:", formatting_suppressions.table(case.entries))
    if not lifted:
        click.get_current_context().exit(1)


@suppressions.command
@click.argument("addresses", nargs=-1)
@click.option("--type", "kind", type=_TYPES, help="For this mail; for any, if not given.")
@click.option("--tenant", help="For mail of this tenant, '' for mail of none; for any, if not given.")
@_json_option
@context.data_option
def check(addresses: tuple[str, ...], kind: MailType | None, tenant: str | None, as_json: bool, data: Path) -> None:
    """Say which of these addresses are suppressed. Without any they are read from standard input, one a line.

    Exits with 1 if any is.
    """
    asked = list(addresses) or [line.strip() for line in sys.stdin if line.strip()]
    with context.opened(data) as bench:
        found = _check(bench, asked, kind, tenant)
    if as_json:
        results = [
            {"address": address, "suppressed": entry is not None, "entry": entry and entry._asdict()}
            for address, entry in zip(asked, found, strict=True)
        ]
        click.echo(msgspec.json.encode(results).decode())
    else:
        formatting_suppressions.tell_checked(context.console(), asked, found)
    if any(found):
        click.get_current_context().exit(1)


@suppressions.command
@click.argument("target")
@_json_option
@context.data_option
def why(target: str, as_json: bool, data: Path) -> None:
    """Say why an address or a domain is suppressed, or is not: entries, history, and the events behind them."""
    with context.opened(data) as bench:
        keys = keys_of(bench)
        with bench.engine.begin() as connection:
            case = explain.why(connection, targets.named(target), keys, datetime.now(UTC))
    if as_json:
        click.echo(formatting_suppressions.json_of(case))
    else:
        formatting_suppressions.tell(context.console(), case)


def _check(bench: Workbench, asked: Sequence[str], kind: MailType | None, tenant: str | None) -> list[Entry | None]:
    keys, now = keys_of(bench), datetime.now(UTC)
    found: list[Entry | None] = []
    for first in range(0, len(asked), _CHECKED_AT_ONCE):
        some = asked[first : first + _CHECKED_AT_ONCE]
        with bench.engine.begin() as connection:
            found += suppression_check.check(connection, some, keys, now, type=kind, tenant=tenant)
    return found
