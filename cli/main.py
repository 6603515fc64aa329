"""The `tidings` command. What it can do is a table; a command's module is imported when it is used."""

import sys
from importlib import import_module, metadata
from typing import Any, Final, NamedTuple

import click

from shared.errors import TidingsError


class Entry(NamedTuple):
    """Where a command is, as `module:attribute`, and what it does, in a line for `tidings --help`."""

    target: str
    summary: str


COMMANDS: Final = {
    "up": Entry("cli.commands.up:up", "Run everything: servers, receiver, workers, beat and API."),
    "run": Entry("cli.commands.run:run", "Run one process of the Procfile, in place of this one."),
    "migrate": Entry("cli.commands.migrate:migrate", "Bring the database to the tables that this version expects."),
    "demo": Entry("cli.demo.command:demo", "Show all of it on throwaway data, with simulated providers."),
    "sources": Entry("cli.commands.sources:sources", "Make, look at, check and change the sources of webhooks."),
    "keys": Entry("cli.commands.keys:keys", "Make, list and revoke keys to the API; make keys that encrypt."),
    "rules": Entry(
        "cli.commands.rules:rules", "Check the rules about suppression and alerts, and show those in force."
    ),
    "alerts": Entry("cli.commands.alerts:alerts", "Show and acknowledge alerts, and manage notification channels."),
    "suppressions": Entry(
        "cli.commands.suppressions:suppressions",
        "Manage the suppression list: add, lift, check, explain, import, export.",
    ),
    "subscriptions": Entry(
        "cli.commands.subscriptions:subscriptions", "Say who is told of which changes, where, and how."
    ),
    "deliveries": Entry("cli.commands.deliveries:deliveries", "See what became of every change for every subscriber."),
    "jobs": Entry("cli.commands.jobs:jobs", "Watch and cancel long work."),
    "trace": Entry("cli.commands.trace:trace", "Tell what became of a message."),
    "diagnose": Entry("cli.commands.diagnose:diagnose", "Say why a message is where it is, and what to do next."),
    "reconcile": Entry(
        "cli.commands.reconcile:reconcile", "Ask the providers what they could not deliver, and have it sent again."
    ),
    "reprocess": Entry("cli.commands.reprocess:reprocess", "Process again what was received."),
    "simulate": Entry("cli.commands.simulate:simulate", "Play a provider against a running Tidings."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are used: help is quick, and a fault is one command's."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """The names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import a command; None if there is none of this name."""
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        module, _, attribute = entry.target.partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the table, without importing what is in it."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command. What Tidings itself has to say is said in a sentence, with exit code 2."""
        try:
            return super().invoke(ctx)
        except TidingsError as error:
            click.secho(f"Error: {error}", err=True, fg="red" if sys.stderr.isatty() else None)
            ctx.exit(2)


def _version() -> str:
    try:
        return metadata.version("tidings")
    except metadata.PackageNotFoundError:
        return "not installed"


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(_version(), prog_name="tidings")
def main() -> None:
    """Knows what became of every email."""


if __name__ == "__main__":
    main()
