"""`tidings status` and `tidings doctor`: whether the installation works, what is wrong with it, and how to fix it."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from cli import context
from cli.formatting import echo
from shared.operations import doctor as checks
from shared.operations import status as statuses
from shared.operations.doctor import Installation

WIDTH: Final = 80
_UNITS: Final = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
_SIZES: Final = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3))


@click.command
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@context.data_option
def status(as_json: bool, data: Path) -> None:
    """Show the status of the installation: what needs a person, worst first, then every stage.

    Exits with 0 if all is well, with 1 if something needs a person, and with 2 if the database cannot be read.
    """
    with context.open_context(data) as ctx:
        vault = ctx.vault
        with ctx.engine.begin() as connection:
            found = statuses.read(connection, vault)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    else:
        for line in describe(found):
            echo(line)
    if found["problems"]:
        click.get_current_context().exit(1)


@click.command
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@context.data_option
def doctor(as_json: bool, data: Path) -> None:
    """Check the installation, and say for each finding how to fix it.

    Run it where the processes run, with their settings: it checks this machine's limits, disk and clock too. Exits
    with 0 without findings, and with 1 with any.
    """
    with context.open_context(data) as ctx:
        made, problems = checks.examine(Installation(settings=ctx.settings, data=data), ctx.engine)
    if as_json:
        found = [{"check": problem.about, "found": problem.found, "mend": problem.mend} for problem in problems]
        document = {"checks": made, "findings": found}
        click.echo(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())
    else:
        for problem in problems:
            for line in describe_problem(*problem):
                echo(line)
        without = [name for name in made if name not in {problem.about for problem in problems}]
        for line in wrap(f"✓ {', '.join(without)}", "", "  "):
            echo(line)
        count = "1 finding" if len(problems) == 1 else f"{len(problems) or 'no'} findings"
        click.echo(f"{len(made)} checks, {count}")
    if problems:
        click.get_current_context().exit(1)


def describe(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of a status, each at most 80 columns wide unless an id or a command is longer."""
    now = found["at"]
    problems = found["problems"]
    yield f"{now:%Y-%m-%d %H:%M:%S} UTC: " + ("all is well" if not problems else describe_count(problems))
    for problem in problems:
        yield from describe_problem(problem["about"], problem["found"], problem["mend"])
    yield ""
    yield f"{'stage':<26}{'number':>10}  {'oldest':<12}{'in the last day':>16}"
    for one in found["stages"]:
        age = "" if one["oldest_age_seconds"] is None else describe_seconds(one["oldest_age_seconds"])
        recent = "" if one["recent"] is None else f"{one['recent']:,}"
        yield f"  {one['stage'].replace('_', ' '):<24}{one['count']:>10,}  {age:<12}{recent:>16}".rstrip()
    yield f"  {'alerts firing':<24}{len(found['alerts']):>10,}"
    yield ""
    yield "role        last worked"
    for one in found["roles"]:
        yield f"  {one['role']:<10}{describe_age(now, one['last_activity_at'])}{' (absent)' if one['absent'] else ''}"
    yield ""
    yield "source"
    for source in sorted(found["sources"], key=lambda one: (one["problem"] is None, not one["set_aside_last_day"])):
        yield from wrap(f"{source['source']} ({source['provider']}): {describe_source(now, source)}", "  ", "    ")
    if not found["sources"]:
        yield "  none yet: tidings sources add"
    yield ""
    database = found["database"]
    yield "broker      " + ("usable" if found["broker"]["up"] else "unusable")
    yield (
        f"database    PostgreSQL {database['version']}, {describe_size(database['size_bytes'])},"
        f" revision {database['revision']}"
    )
    yield f"            partitions for {database['partition_weeks_ahead']} weeks ahead"
    yield (
        f"            oldest transaction {describe_seconds(database['oldest_transaction_age_seconds'])},"
        f" change feed {describe_seconds(database['change_feed_lag_seconds'])} behind"
    )


def describe_count(problems: Sequence[object]) -> str:
    """Return how many problems need a person."""
    return "1 problem needs a person" if len(problems) == 1 else f"{len(problems)} problems need a person"


def describe_problem(about: str, found: str, mend: str) -> Iterator[str]:
    """Yield the lines of a problem and of its fix. The fix is not wrapped: it may be a command to copy."""
    yield from wrap(f"✗ {about}: {found}", "", "  ")
    yield f"  → {context.complete_command(mend)}"


def describe_source(now: datetime, source: Mapping[str, Any]) -> str:
    """Return what is known about a source: its problem, its last event and refusal, and what was set aside."""
    parts = [source["problem"]] if source["problem"] else []
    parts.append(f"last event {describe_age(now, source['last_event_at'])}")
    if source["last_refusal_at"] is not None:
        parts.append(f"last refusal {describe_age(now, source['last_refusal_at'])} ({source['last_refusal_reason']})")
    if source["set_aside_last_day"]:
        count = source["set_aside_last_day"]
        parts.append(f"{count:,} event{'' if count == 1 else 's'} set aside in the last day")
    return "; ".join(parts)


def describe_age(now: datetime, at: datetime | None) -> str:
    """Return how long ago something was; `never` if it was not."""
    return "never" if at is None else f"{describe_seconds(max(0.0, (now - at).total_seconds()))} ago"


def describe_seconds(seconds: float) -> str:
    """Return a duration in its largest whole unit, such as `3 min`."""
    for unit, size in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return "0 s"


def describe_size(size: float) -> str:
    """Return a number of bytes in its largest unit, such as `3.4 GB`."""
    for unit, factor in _SIZES:
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size:.0f} bytes"


def wrap(text: str, first: str, rest: str) -> Sequence[str]:
    """Return the text in lines of 80 columns; words such as ids are not cut."""
    return textwrap.wrap(
        " ".join(text.split()),
        WIDTH,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )
