"""`tidings up`, `run` and `migrate`: start the processes of Tidings, and prepare the database."""

import os
import signal
from pathlib import Path
from types import FrameType

import click
from sqlalchemy.exc import ArgumentError, OperationalError

from cli import context
from cli.supervisor import environment, ports
from cli.supervisor.ports import Address
from cli.supervisor.system import Options, SupervisedSystem
from shared import settings
from shared.errors import TidingsError
from shared.postgres import engine
from shared.postgres import migrate as migrations
from shared.settings import Settings, SettingsError

_PORT = click.IntRange(0, 65535)


class StopSignals:
    """Counts SIGTERM, SIGHUP and SIGINT (Ctrl-C)."""

    def __init__(self) -> None:
        self.count = 0
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1


@click.command
@click.option(
    "--data",
    default=".tidings",
    show_default=True,
    type=click.Path(path_type=Path),
    help="The data directory.",
)
@click.option("--host", help="The address that receiver and API listen on.  [default: TIDINGS_HOST]")
@click.option("--receiver-port", type=_PORT, help="0 picks a free port.  [default: TIDINGS_RECEIVER_PORT]")
@click.option("--api-port", type=_PORT, help="0 picks a free port.  [default: TIDINGS_API_PORT]")
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Number of workers. Each has TIDINGS_WORKER_PROCESSES processes.",
)
@click.option(
    "--ready-file", type=click.Path(path_type=Path), help="Write this file, as JSON, when everything is ready."
)
@click.option("--verbose", is_flag=True, help="Show the logs of the processes, which are also in DATA/logs.")
def up(
    data: Path,
    host: str | None,
    receiver_port: int | None,
    api_port: int | None,
    workers: int,
    ready_file: Path | None,
    verbose: bool,
) -> None:
    """Run every process of the Procfile and keep it running.

    Starts an embedded PostgreSQL unless TIDINGS_DATABASE_URL is set, and an embedded Redis unless
    TIDINGS_BROKER_URL is set. SIGTERM or Ctrl-C stops everything in order; a second one stops it at once.
    """
    stop_signals = StopSignals()
    configuration = settings.read()
    host = host or configuration.host
    options = Options(
        configuration=configuration,
        data=data,
        receiver=Address(host=host, port=_port(receiver_port, configuration, "receiver", host)),
        api=Address(host=host, port=_port(api_port, configuration, "api", host)),
        workers=workers,
        ready_file=ready_file.absolute() if ready_file else None,
        verbose=verbose,
    )
    with SupervisedSystem(options, lambda: stop_signals.count) as system:
        system.run()


def _port(option: int | None, configuration: Settings, server: str, host: str) -> int:
    """Return the port for a server. Raises SettingsError, which names the setting, if the port is not free."""
    port = getattr(configuration, f"{server}_port") if option is None else option
    if port == 0:
        return ports.free_port(host)
    if not ports.is_port_free(port, host):
        name = f"TIDINGS_{server.upper()}_PORT" if option is None else f"--{server}-port"
        raise SettingsError(
            f"{name} {port} is not available: another process uses {host}:{port}, or this user may not listen on it. "
            "Stop that process, or choose another port."
        )
    return int(port)


@click.command
@click.argument("name")
def run(name: str) -> None:
    """Run the process NAME of the Procfile (receiver, worker, deliverer, beat, api, release), for containers.

    The process replaces this one, and starts no servers: TIDINGS_DATABASE_URL, TIDINGS_BROKER_URL and
    TIDINGS_SECRET_KEYS must be set.
    """
    commands = environment.read_procfile()
    if name not in commands:
        raise TidingsError(f"The Procfile has no process {name!r}. Its processes are: {', '.join(commands)}.")
    configuration = settings.read()
    configuration.require("database_url", "broker_url", "secret_keys")
    os.chdir(environment.ROOT)
    variables = environment.merge_environment({"TIDINGS_RULES": str(configuration.rules or "")})
    os.execve("/bin/sh", ["sh", "-c", f"exec {commands[name]}"], variables)  # noqa: S606


@click.command
@context.data_option
def migrate(data: Path) -> None:
    """Migrate the database of TIDINGS_DATABASE_URL to the schema of this version.

    You can run it at any time. If several run at once, one migrates and the others wait. Without
    TIDINGS_DATABASE_URL, it is the database of the running `tidings up`.
    """
    configuration = context.read_configuration(data)[0]
    try:
        revision = migrations.upgrade(configuration.database_url)
    except ArgumentError:
        raise SettingsError(
            "TIDINGS_DATABASE_URL is not a valid URL; it must be like postgresql://user:password@host:5432/name."
        ) from None
    except OperationalError as error:
        raise SettingsError(f"TIDINGS_DATABASE_URL: {engine.explain(error)}") from None
    click.echo(f"The database is at revision {revision}.")
