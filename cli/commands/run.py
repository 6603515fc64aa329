"""`tidings run`: one process of the Procfile. What a container runs."""

import os

import click

from cli.supervisor import environment as supervisor_environment
from cli.supervisor import procfile
from shared import settings
from shared.errors import TidingsError


@click.command
@click.argument("name")
def run(name: str) -> None:
    """Run the process NAME of the Procfile (receiver, worker, deliverer, beat, api, release), in place of this one.

    Nothing else is started: TIDINGS_DATABASE_URL, TIDINGS_BROKER_URL and TIDINGS_SECRET_KEYS must be set.
    """
    commands = procfile.read()
    if name not in commands:
        raise TidingsError(f"The Procfile has no process {name!r}; it has {', '.join(commands)}.")
    configuration = settings.read()
    configuration.require("database_url", "broker_url", "secret_keys")
    os.chdir(procfile.ROOT)
    environment = supervisor_environment.environment_with({"TIDINGS_RULES": str(configuration.rules or "")})
    os.execve("/bin/sh", ["sh", "-c", f"exec {commands[name]}"], environment)  # noqa: S606
