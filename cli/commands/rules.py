"""`tidings rules`: check a rules file, and show the rules in force."""

from pathlib import Path

import click

from cli import context
from cli.options import WholeHelpGroup
from shared import foreign_text, settings
from shared.alerts import formatting
from shared.rules import document, store
from shared.rules.document import RulesError
from shared.rules.store import Overview

_NO_FILE = "TIDINGS_RULES names no file"


@click.group(cls=WholeHelpGroup)
def rules() -> None:
    """Check the rules about suppression and alerts, and show those in force.

    TIDINGS_RULES names the rules file. A setting that it leaves out has the default in docs/rules.md. Workers reload
    the file when it changes, and refuse it if it is wrong.
    """


@rules.command
@click.argument("file", required=False, type=click.Path(path_type=Path))
def check(file: Path | None) -> None:
    """Print everything that is wrong with FILE, or with the file that TIDINGS_RULES names.

    Each line is `file:line:column: field: what was expected, what was found`. Exits with 1 if anything is wrong.
    """
    path = file or settings.read().rules
    if path is None:
        raise click.UsageError(f"{_NO_FILE}: name the file to check.")
    try:
        _, found = document.load_file(path)
    except RulesError as error:
        click.echo(foreign_text.show("\n".join(error.lines), lines=True))
        click.echo(f"{formatting.count(len(error.problems), 'error')}; workers would refuse this file.", err=True)
        raise SystemExit(1) from None
    active = sum(rule.enabled for rule in found.alerts)
    click.echo(f"{path} is valid; {formatting.count(active, 'alert rule')} would be in force.")


@rules.command
@click.option(
    "--default", "as_default", is_flag=True, help="Print the defaults with their comments, as a start for a file."
)
@context.data_option
def show(as_default: bool, data: Path) -> None:
    """Show the rules in force as a rules file, and where they come from."""
    if as_default:
        click.echo(document.default_text(), nl=False)
        return
    with context.open_context(data) as ctx, ctx.engine.begin() as connection:
        found = store.overview(connection)
    for line in _origin(found):
        click.echo(f"# {line}")
    click.echo(document.dump(found.rules), nl=False)
    of_api = [rule for rule in found.of_api if rule.name not in found.names]
    for rule in of_api:
        click.echo(f"# In force too, created through the API by {rule.created_by}: {rule.name}")
    for rule in found.of_api:
        if rule not in of_api:
            click.echo(f"# Not in force, because a rule above has its name: {rule.name}, created through the API")


def _origin(found: Overview) -> list[str]:
    if found.path is None:
        named = settings.read().rules
        return ["The defaults are in force.", *([f"No worker has accepted {named}."] if named else [])]
    origin = f"{found.path}, accepted at {found.accepted_at:%Y-%m-%d %H:%M:%S} UTC"
    try:
        text, _ = document.load_file(Path(found.path))
    except RulesError as error:
        return [f"In force is the earlier content of {origin}. Workers refuse the current content:", *error.lines]
    if text != found.text:
        return [f"In force is the earlier content of {origin}. It has been changed; workers reload it within seconds."]
    return [f"In force is {origin}."]
