"""`tidings apply` and `tidings config`: the configuration as a file, and the one in effect."""

from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import click
import msgspec
import yaml
from rich.console import Console

from api.resources.alert_channels import NewChannel
from api.resources.keys import NewKey
from api.resources.sources import NewSource
from api.resources.subscription_fields import NewSubscription
from cli import context, declarations
from cli.declarations import Outcome
from cli.formatting import escape, print_line
from cli.local_api import LocalApi
from shared import foreign_text
from shared.broker import VERIFY
from shared.operations.configuration import describe_settings
from shared.rules.document import RulesError

_SIGNS: Final = {"created": "[green]+[/]", "changed": "[yellow]~[/]"}
_SECTIONS: Final = {
    "sources": ("/v1/sources", NewSource),
    "channels": ("/v1/alert-channels", NewChannel),
    "subscriptions": ("/v1/subscriptions", NewSubscription),
    "keys": ("/v1/keys", NewKey),
}
"""The lists of the API that are configuration, and the schema with the fields that a person sets."""
_ABOUT_RULE: Final = ("origin", "in_force", "created_at", "updated_at", "created_by")
_MAX_ITEMS: Final = 10_000


@click.command()
@click.option(
    "-f",
    "--file",
    "path",
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="YAML or JSON with lists of sources, subscriptions, channels, rules and keys.",
)
@click.option("--dry-run", is_flag=True, help="Change nothing; show what would change.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")
@context.data_option
def apply(path: Path, dry_run: bool, as_json: bool, data: Path) -> None:
    """Create and change sources, subscriptions, channels, alert rules and API keys to match FILE.

    All or nothing. What FILE does not name stays as it is; repeating it changes nothing. The values env:NAME and
    file:PATH stand for the value of a variable and the content of a file.

    Errors are printed as FILE:line:column: field: what was expected, what was found. Exits with 1 if anything is wrong.
    """
    try:
        declared = declarations.read(path)
        with context.open_context(data) as ctx:
            outcomes = declarations.apply(ctx, declared, dry_run=dry_run)
            if not dry_run and any(one.kind == "source" and one.action == "changed" for one in outcomes):
                ctx.notify(VERIFY)
    except RulesError as error:
        click.echo(foreign_text.show("\n".join(error.lines), lines=True), err=True)
        click.echo("Nothing was changed.", err=True)
        raise SystemExit(1) from None
    if dry_run:  # a secret that was generated is not in use
        outcomes = [Outcome(**{**asdict(one), "secret": None}) for one in outcomes]
    if as_json:
        for one in outcomes:
            click.echo(msgspec.json.encode(asdict(one)))
        return
    _print(context.console(), outcomes, dry_run=dry_run)


def _print(console: Console, outcomes: list[Outcome], *, dry_run: bool) -> None:
    for one in outcomes:
        if one.action == "unchanged":
            continue
        console.print(f"{_SIGNS[one.action]} {one.kind} {escape(one.name)}", highlight=False, soft_wrap=True)
        for name, change in one.changes.items():
            if isinstance(change, dict):
                before, after = (msgspec.json.encode(change[side]).decode() for side in ("before", "after"))
                print_line(console, "    ", f"{name}: {before} → {after}")
            else:
                print_line(console, "    ", f"{name}: {change}")
        if one.secret:
            console.print(f"    secret, shown only once: {escape(one.secret)}", highlight=False, soft_wrap=True)
    counts = ", ".join(
        f"{sum(one.action == action for one in outcomes)} {action}" for action in ("created", "changed", "unchanged")
    )
    console.print(f"{counts}. Nothing was changed: this is a dry run." if dry_run else f"{counts}.")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@context.data_option
def config(as_json: bool, data: Path) -> None:
    """Show the configuration in effect, with secrets masked: settings, sources, channels, subscriptions, rules, keys.

    The lists have the form that `tidings apply` reads; rules_of_file are those of the rules file, or the defaults.
    """
    with context.open_context(data) as ctx:
        api = LocalApi(ctx)
        found: dict[str, Any] = {"settings": describe_settings(ctx.settings)}
        for section, (path, schema) in _SECTIONS.items():
            names = [field.data_key or name for name, field in schema().load_fields.items()]
            items = [
                item for page, _ in api.list_pages(path, {}, _MAX_ITEMS) for item in map(msgspec.json.decode, page)
            ]
            found[section] = [
                {name: item[name] for name in names if name in item}
                for item in items
                if section != "keys" or item["revoked_at"] is None
            ]
        pages = api.list_pages("/v1/alert-rules", {}, _MAX_ITEMS)
        rules = [item for page, _ in pages for item in map(msgspec.json.decode, page)]
        for section, origin in (("rules", "api"), ("rules_of_file", "file")):
            found[section] = [
                {name: value for name, value in rule.items() if name not in _ABOUT_RULE}
                for rule in rules
                if rule["origin"] == origin
            ]
    if as_json:
        click.echo(msgspec.json.encode(found))
        return
    text = yaml.safe_dump(found, sort_keys=False, allow_unicode=True, width=100)
    click.echo(foreign_text.show(text, lines=True), nl=False)
