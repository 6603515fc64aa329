"""`tidings up`: run everything on this machine."""

import signal
from pathlib import Path
from types import FrameType

import click

from cli.supervisor import ports
from cli.supervisor.ready_file import Address
from cli.supervisor.system import Running, Wishes
from shared import settings
from shared.settings import Settings, SettingsError

_PORT = click.IntRange(0, 65535)


class Interruption:
    """Whether somebody wants us to stop, by SIGTERM, SIGHUP or Ctrl-C, and how much."""

    def __init__(self) -> None:
        self.times = 0
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._note)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.times += 1


@click.command
@click.option(
    "--data",
    default=".tidings",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Where data is kept.",
)
@click.option("--host", help="The address that receiver and API listen on.  [default: TIDINGS_HOST]")
@click.option("--receiver-port", type=_PORT, help="0 picks a free one.  [default: TIDINGS_RECEIVER_PORT]")
@click.option("--api-port", type=_PORT, help="0 picks a free one.  [default: TIDINGS_API_PORT]")
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="How many worker processes.")
@click.option("--ready-file", type=click.Path(path_type=Path), help="Written as JSON when everything is ready.")
@click.option("--verbose", is_flag=True, help="Show what the processes log; it is also in DATA/logs.")
def up(
    data: Path,
    host: str | None,
    receiver_port: int | None,
    api_port: int | None,
    workers: int,
    ready_file: Path | None,
    verbose: bool,
) -> None:
    """Run every process of the Procfile, and keep it running.

    Starts an embedded PostgreSQL and an embedded Redis unless TIDINGS_DATABASE_URL and TIDINGS_BROKER_URL
    name others. SIGTERM or Ctrl-C stops everything in order, a second one at once.
    """
    interruption = Interruption()
    configuration = settings.read()
    host = host or configuration.host
    wishes = Wishes(
        configuration=configuration,
        data=data,
        receiver=Address(host=host, port=_port(receiver_port, configuration, "receiver", host)),
        api=Address(host=host, port=_port(api_port, configuration, "api", host)),
        workers=workers,
        ready_file=ready_file.absolute() if ready_file else None,
        verbose=verbose,
    )
    with Running(wishes, lambda: interruption.times) as running:
        running.run()


def _port(option: int | None, configuration: Settings, door: str, host: str) -> int:
    """The port that was asked for, free. Raises SettingsError, which names the setting, if it is taken."""
    port = getattr(configuration, f"{door}_port") if option is None else option
    if port == 0:
        return ports.free(host)
    if not ports.is_free(port, host):
        name = f"TIDINGS_{door.upper()}_PORT" if option is None else f"--{door}-port"
        raise SettingsError(
            f"{name} {port}: something else listens on this port of {host} already, or it is not allowed."
        )
    return int(port)
