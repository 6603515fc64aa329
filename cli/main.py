"""The `tidings` command. Subcommands are listed in a table and imported when they are used."""

import errno
import io
import os
import sys
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, Final, NamedTuple

import click

from shared.errors import InvalidFieldError, TidingsError
from shared.foreign_text import show


class Entry(NamedTuple):
    """A subcommand: its location as `module:attribute`, and its line in `tidings --help`."""

    target: str
    summary: str


COMMANDS: Final = {
    "up": Entry("cli.commands.up:up", "Run all processes, and embedded servers where no URL is set."),
    "run": Entry("cli.commands.up:run", "Run one process of the Procfile."),
    "migrate": Entry("cli.commands.up:migrate", "Migrate the database to the schema of this version."),
    "demo": Entry("cli.demo.command:demo", "Demonstrate everything with simulated providers and temporary data."),
    "status": Entry("cli.commands.status:status", "Show the status of the installation, and what needs a person."),
    "doctor": Entry("cli.commands.status:doctor", "Check the installation, and say how to fix what is wrong."),
    "sources": Entry("cli.commands.sources:sources", "Manage and check the sources of webhooks."),
    "apply": Entry("cli.commands.apply:apply", "Make the configuration match a file."),
    "config": Entry("cli.commands.apply:config", "Show the configuration in effect, with secrets masked."),
    "keys": Entry("cli.commands.keys:keys", "Manage API keys; generate encryption keys."),
    "users": Entry("cli.commands.users:users", "Manage the users of the console."),
    "rules": Entry("cli.commands.rules:rules", "Check the rules for suppression and alerts; show the rules in force."),
    "alerts": Entry("cli.commands.alerts:alerts", "Show and acknowledge alerts, and manage notification channels."),
    "suppressions": Entry(
        "cli.commands.suppressions:suppressions", "Manage the suppression list and explain its entries."
    ),
    "subscriptions": Entry(
        "cli.commands.subscriptions:subscriptions", "Manage the webhook subscriptions of applications."
    ),
    "deliveries": Entry("cli.commands.deliveries:deliveries", "Show and replay the deliveries to subscriptions."),
    "jobs": Entry("cli.commands.jobs:jobs", "Show and cancel background jobs."),
    "messages": Entry("cli.commands.lists:messages", "List messages and the status of their recipients."),
    "events": Entry("cli.commands.lists:events", "List normalized events."),
    "receipts": Entry("cli.commands.lists:receipts", "List stored requests of providers and their states."),
    "refusals": Entry("cli.commands.lists:refusals", "List refused requests, with reason and sender."),
    "changes": Entry("cli.commands.lists:changes", "List the change log."),
    "listen": Entry("cli.commands.listen:listen", "Follow the changes, and post each to a local URL."),
    "audit": Entry("cli.commands.lists:audit", "List who changed what."),
    "stats": Entry("cli.commands.lists:stats", "Show figures of the last hour and day."),
    "mcp": Entry("cli.commands.mcp:mcp", "Serve read-only tools for assistants (an extra: tidings[mcp])."),
    "trace": Entry("cli.commands.trace:trace", "Show the history of a message."),
    "diagnose": Entry("cli.commands.diagnose:diagnose", "Explain the state of a message and what to do next."),
    "classify": Entry("cli.commands.classify:classify", "Explain how a mail server's reply is classified."),
    "reconcile": Entry("cli.commands.reconcile:reconcile", "Recover webhooks that a provider failed to deliver."),
    "reprocess": Entry("cli.commands.reprocess:reprocess", "Process stored receipts again."),
    "simulate": Entry("cli.commands.simulate:simulate", "Send simulated webhooks to a running Tidings."),
}


class LazyGroup(click.Group):
    """A group that imports commands when they are used: help is fast, and a broken command breaks no other."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import and return a command; None if the name is unknown."""
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        module, _, attribute = entry.target.partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the table without importing the commands."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command. Print the message of a TidingsError and exit with code 2."""
        _prepare_streams()
        try:
            return super().invoke(ctx)
        except InvalidFieldError as error:
            message = str(error)
            if error.field.rpartition(".")[2] not in message:
                message = f"{error.field}: {message}"
        except TidingsError as error:
            message = str(error)
        except UnicodeEncodeError as error:
            if "surrogates" not in error.reason:
                raise
            message = "An argument is not valid UTF-8."
        except UnicodeDecodeError as error:
            byte = f"0x{error.object[error.start]:02X}"
            message = f"The input is not UTF-8: it has the byte {byte}. Convert it first, for example with iconv."
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            message = f"Cannot write {error.filename or 'the output'}: {error.strerror}."
        click.secho(f"Error: {show(message, lines=True)}", err=True, fg="red" if sys.stderr.isatty() else None)
        raise click.exceptions.Exit(2)


def _prepare_streams() -> None:
    """Open the standard streams that are closed, and write `?` where the locale cannot encode a character."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:  # else the next file or socket would get its number
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115 - for as long as the process runs
        elif name == "stdout" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _version() -> str:
    try:
        return metadata.version("tidings")
    except metadata.PackageNotFoundError:
        return "not installed"


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(_version(), prog_name="tidings")
def main() -> None:
    """Receive, store and process the webhooks of email providers: one record of every message."""


if __name__ == "__main__":
    main()
