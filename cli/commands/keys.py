"""`tidings keys`: the keys to the API, and the keys that secrets are encrypted with."""

from pathlib import Path

import click
from rich.table import Table

from cli import context
from shared import encryption
from shared.auth import keys as auth_keys
from shared.auth import store as api_keys
from shared.auth.keys import Scope
from shared.errors import TidingsError

_SCOPES = click.Choice([str(scope) for scope in Scope])


@click.group
def keys() -> None:
    """Make, list and revoke keys to the API; make keys for TIDINGS_SECRET_KEYS."""


@keys.command
@click.argument("name")
@click.option("--scope", type=_SCOPES, default=str(Scope.READ), show_default=True, help="What it may be used for.")
@click.option("--tenant", help="Only for what is of this tenant; for everything, if not given.")
@context.data_option
def create(name: str, scope: str, tenant: str | None, data: Path) -> None:
    """Make a key called NAME and print it. It is not kept: nobody can print it again."""
    if tenant == "":
        raise click.UsageError("--tenant is empty, which is no tenant; leave it out for a key to everything.")
    with context.opened(data) as bench, bench.engine.begin() as connection:
        made = auth_keys.create_key(connection, name, Scope(scope), tenant)
        context.audit(connection, "key.created", f"key:{made.row.id}", name=name, scope=scope, tenant=tenant)
    click.echo(made.secret)
    of_tenant = f" of tenant {tenant}" if tenant else ""
    click.echo(
        f"Key {made.row.id}, {scope}{of_tenant}: shown this once. Send it as `Authorization: Bearer <key>`.", err=True
    )


@keys.command("list")
@context.data_option
def list_keys(data: Path) -> None:
    """List the keys to the API."""
    with context.opened(data) as bench, bench.engine.begin() as connection:
        rows = api_keys.listed(connection)
    table = Table("id", "name", "begins with", "scope", "tenant", "made", "last used", "revoked")
    for row in rows:
        times = (row.created_at, row.last_used_at, row.revoked_at)
        table.add_row(
            str(row.id),
            row.name,
            row.prefix,
            row.scope,
            row.tenant or "all",
            *(f"{at:%Y-%m-%d %H:%M}" if at else "" for at in times),
        )
    if rows:
        context.console().print(table)
    else:
        click.echo("There are no keys but TIDINGS_ADMIN_KEY. Make one with `tidings keys create NAME`.")


@keys.command
@click.argument("key_id", type=click.IntRange(1, 2**63 - 1))
@context.data_option
def revoke(key_id: int, data: Path) -> None:
    """Revoke the key with the number KEY_ID, from now on."""
    with context.opened(data) as bench, bench.engine.begin() as connection:
        if not api_keys.revoke(connection, key_id):
            raise TidingsError(f"There is no valid key {key_id}; `tidings keys list` shows the keys there are.")
        context.audit(connection, "key.revoked", f"key:{key_id}")
    click.echo(f"Key {key_id} is revoked.")


@keys.command
def secret() -> None:
    """Print a fresh key for TIDINGS_SECRET_KEYS. To rotate, put it in front of those in use."""
    click.echo(encryption.new_key())
