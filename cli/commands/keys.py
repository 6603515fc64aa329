"""`tidings keys`: API keys, and keys for TIDINGS_SECRET_KEYS."""

from pathlib import Path

import click

from cli import context
from cli.formatting import escape, print_access, print_json_rows
from cli.options import WholeHelpGroup
from shared import encryption
from shared.auth import keys as auth_keys
from shared.auth.keys import Scope
from shared.errors import TidingsError

_SCOPES = click.Choice([str(scope) for scope in Scope])


@click.group(cls=WholeHelpGroup)
def keys() -> None:
    """Create, list and revoke API keys; generate a key for TIDINGS_SECRET_KEYS."""


@keys.command
@click.argument("name")
@click.option("--scope", type=_SCOPES, default=str(Scope.READ), show_default=True, help="What the key allows.")
@click.option("--tenant", help="The only tenant that the key may access. Default: all.")
@context.data_option
def create(name: str, scope: str, tenant: str | None, data: Path) -> None:
    """Create a key called NAME and print it. The key is not stored and cannot be printed again."""
    if tenant == "":
        raise click.UsageError("--tenant is empty. Leave it out for a key to all tenants.")
    with context.open_context(data) as ctx, ctx.engine.begin() as connection:
        made = auth_keys.create_key(connection, name, Scope(scope), tenant)
        context.audit(connection, "key.created", f"key:{made.row.id}", name=name, scope=scope, tenant=tenant)
    click.echo(made.secret)
    of_tenant = f" of tenant {tenant}" if tenant else ""
    click.echo(
        f"Key {made.row.id}, {scope}{of_tenant}, is shown only once. Send it as `Authorization: Bearer <key>`.",
        err=True,
    )


@keys.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@context.data_option
def list_keys(as_json: bool, data: Path) -> None:
    """List the API keys."""
    with context.open_context(data) as ctx, ctx.engine.begin() as connection:
        rows = auth_keys.list_keys(connection)
    if as_json:
        names = ("id", "name", "prefix", "scope", "tenant", "created_at", "last_used_at", "revoked_at")
        print_json_rows(rows, names)
        return
    console = context.console()
    for row in rows:
        console.print(f"{row.id}  [bold]{escape(row.name)}[/]  {row.scope}  {row.prefix}…", highlight=False)
        times = {"created": row.created_at, "last used": row.last_used_at, "revoked": row.revoked_at}
        print_access(console, row.tenant, times)
    if not rows:
        click.echo("There are no keys besides TIDINGS_ADMIN_KEY. Create one with `tidings keys create NAME`.")


@keys.command
@click.argument("key_id", type=click.IntRange(1, 2**63 - 1))
@context.data_option
def revoke(key_id: int, data: Path) -> None:
    """Revoke the key KEY_ID."""
    with context.open_context(data) as ctx, ctx.engine.begin() as connection:
        if not auth_keys.revoke_key(connection, key_id):
            raise TidingsError(f"There is no valid key {key_id}. `tidings keys list` shows all keys.")
        context.audit(connection, "key.revoked", f"key:{key_id}")
    click.echo(f"Key {key_id} was revoked.")


@keys.command
def secret() -> None:
    """Generate a key for TIDINGS_SECRET_KEYS. To rotate, put it in front of the keys in use."""
    click.echo(encryption.new_key())
