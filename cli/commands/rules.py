"""`tidings rules`: whether a rules file is right, and what is in force."""

from pathlib import Path

import click

from cli import context
from shared import rules as written
from shared import settings
from shared.rules import Overview, RulesError

_NO_FILE = "TIDINGS_RULES names no file"


@click.group
def rules() -> None:
    """Check the rules about suppression and alerts, and show those in force.

    They are those of the file that TIDINGS_RULES names; what it does not mention is as docs/rules.md says. A worker
    reads the file again when it changes, and refuses it if it is wrong.
    """


@rules.command
@click.argument("file", required=False, type=click.Path(path_type=Path))
def check(file: Path | None) -> None:
    """Say all that is wrong with FILE, or with the file that TIDINGS_RULES names.

    Each line is `file:line:column: field: what was expected, what was found`. Exits with 1 if anything is wrong.
    """
    path = file or settings.read().rules
    if path is None:
        raise click.UsageError(f"{_NO_FILE}: say which file to check.")
    try:
        _, found = written.read_file(path)
    except RulesError as error:
        click.echo("\n".join(error.lines))
        click.echo(f"{_counted(len(error.problems), 'error')}; nothing of this file would be in force.", err=True)
        raise SystemExit(1) from None
    active = sum(rule.enabled for rule in found.alerts)
    click.echo(f"{path}: good; {_counted(active, 'rule')} about alerts would be in force.")


@rules.command
@click.option("--default", "as_default", is_flag=True, help="Print the defaults, with their comments, to begin with.")
@context.data_option
def show(as_default: bool, data: Path) -> None:
    """Show the rules in force as a document, and where they come from."""
    if as_default:
        click.echo(written.default_text(), nl=False)
        return
    with context.opened(data) as bench, bench.engine.begin() as connection:
        found = written.overview(connection)
    for line in _origin(found):
        click.echo(f"# {line}")
    click.echo(written.text_of(found.rules), nl=False)
    of_api = [rule for rule in found.of_api if rule.name not in found.names]
    for rule in of_api:
        click.echo(f"# In force too, made over the API by {rule.created_by}: {rule.name}")
    for rule in found.of_api:
        if rule not in of_api:
            click.echo(f"# Not in force, because a rule above has its name: {rule.name}, made over the API")


def _origin(found: Overview) -> list[str]:
    if found.path is None:
        named = settings.read().rules
        return ["The defaults are in force.", *([f"No worker has accepted {named}."] if named else [])]
    origin = f"{found.path}, accepted at {found.accepted_at:%Y-%m-%d %H:%M:%S} UTC"
    try:
        text, _ = written.read_file(Path(found.path))
    except RulesError as error:
        return [f"In force is what {origin} said; as it is now it is refused:", *error.lines]
    if text != found.text:
        return [f"In force is what {origin} said; it has been changed, and workers take that up within seconds."]
    return [f"In force is {origin}."]


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
