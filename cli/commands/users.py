"""Users of the console: add, list and disable them, and set passwords."""

import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from cli import context
from cli.formatting import escape, print_access, print_json_rows
from cli.options import WholeHelpGroup
from shared.auth import sessions
from shared.auth import users as auth_users
from shared.auth.keys import Caller, Role, Scope
from shared.errors import NotFoundError


@click.group(cls=WholeHelpGroup)
def users() -> None:
    """Manage the users of the console."""


def _read_password() -> str:
    """Return a new password: typed twice at a terminal, or the first line of the input."""
    if sys.stdin.isatty():
        return str(click.prompt("Password", hide_input=True, confirmation_prompt=True))
    return sys.stdin.readline().rstrip("\n")


@users.command
@click.argument("email")
@click.option("--role", type=click.Choice([str(role) for role in Role]), default=str(Role.VIEWER), show_default=True)
@click.option("--tenant", help="The only tenant whose data the user sees and changes; all if not given.")
@context.data_option
def add(email: str, role: str, tenant: str | None, data: Path) -> None:
    """Add the user EMAIL. The password is asked for, or is the first line of the input."""
    password = _read_password()
    with context.open_context(data) as ctx, ctx.engine.begin() as connection:
        row = auth_users.create_user(connection, email, Role(role), password, tenant=tenant)
        context.audit(connection, "user.created", f"user:{row.id}", role=role, tenant=tenant)
    click.echo(f"{row.email} may sign in as {role}.")


@users.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@context.data_option
def list_(as_json: bool, data: Path) -> None:
    """List the users."""
    with context.open_context(data) as ctx, ctx.engine.begin() as connection:
        rows = auth_users.list_users(connection)
    if as_json:
        names = ("id", "email", "role", "tenant", "created_at", "last_sign_in_at", "disabled_at")
        print_json_rows(rows, names)
        return
    console = context.console()
    for row in rows:
        console.print(f"[bold]{escape(row.email)}[/]  {row.role}", highlight=False)
        times = {"created": row.created_at, "signed in": row.last_sign_in_at, "disabled": row.disabled_at}
        print_access(console, row.tenant, times)
    if not rows:
        click.echo("There are no users. Add one with `tidings users add EMAIL`, or sign in with an API key.")


@users.command
@click.argument("email")
@context.data_option
def disable(email: str, data: Path) -> None:
    """Disable the user EMAIL and end all its sessions."""
    with context.open_context(data) as ctx, ctx.engine.begin() as connection:
        row = auth_users.disable_user(connection, email, datetime.now(UTC))
        if row is None:
            raise NotFoundError(f"No user {email!r} is enabled. `tidings users list` shows all users.")
        context.audit(connection, "user.disabled", f"user:{row.id}")
    click.echo(f"{row.email} is disabled. `tidings users password` enables it again.")


@users.command
@click.argument("email")
@context.data_option
def password(email: str, data: Path) -> None:
    """Set a new password of the user EMAIL, enable it, and end all its sessions."""
    new = _read_password()
    with context.open_context(data) as ctx, ctx.engine.begin() as connection:
        row = auth_users.set_password(connection, email, new)
        if row is None:
            raise NotFoundError(f"There is no user {email!r}. `tidings users list` shows all users.")
        context.audit(connection, "user.password_set", f"user:{row.id}")
    click.echo(f"{row.email} has a new password.")


@users.command
@context.data_option
def link(data: Path) -> None:
    """Print the path of a one-time sign-in link for an administrator, valid for half an hour."""
    with context.open_context(data) as ctx, ctx.engine.begin() as connection:
        caller = Caller(name="TIDINGS_ADMIN_KEY", scope=Scope.ADMIN)
        admin_key = ctx.settings.admin_key
        token = sessions.create_session(connection, caller, datetime.now(UTC), admin_key=admin_key, as_link=True)
        context.audit(connection, "session.link_created", "console")
    click.echo(f"/console/login?link={token}")
