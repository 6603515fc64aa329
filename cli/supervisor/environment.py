"""The Procfile's commands, and the environment that they run in."""

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from kombu.connection import Connection

from cli.supervisor.data_dir import DataDirectory
from cli.supervisor.ports import Address
from shared.encryption import Vault, new_key
from shared.errors import TidingsError
from shared.settings import Settings, SettingsError

ROOT = Path(__file__).parents[2]
RELEASE = "release"  # runs once before all others, as on the hosts that read Procfiles
_LINE = re.compile(r"(?P<name>[A-Za-z0-9_-]+):\s*(?P<command>.+)")


def read_procfile() -> dict[str, str]:
    """Return the shell commands by process name, in the order of the lines. Raises TidingsError."""
    path = ROOT / "Procfile"
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        raise TidingsError(f"{path} does not exist. Run `tidings up` from a checkout of Tidings.") from None
    commands: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise TidingsError(f"Line {number} of the Procfile is {line!r}; it must be `name: command`.")
        commands[match["name"]] = match["command"]
    return commands


def build_environment(
    configuration: Settings, directory: DataDirectory, receiver: Address, api: Address
) -> dict[str, str]:
    """Return the settings of every process. Missing secrets are generated once and kept in the data directory.

    Raises SettingsError or SecretsError, which name the invalid setting.
    """
    _check_broker_password(configuration.broker_url)
    keys = configuration.secret_keys or (directory.secret("secret_keys", new_key),)
    Vault(keys)
    return {
        "TIDINGS_HOST": receiver.host,
        "TIDINGS_RECEIVER_PORT": str(receiver.port),
        "TIDINGS_API_PORT": str(api.port),
        "TIDINGS_SECRET_KEYS": ",".join(keys),
        "TIDINGS_ADMIN_KEY": configuration.admin_key or directory.secret("admin_key"),
        "TIDINGS_DATABASE_URL": configuration.database_url,
        "TIDINGS_BROKER_URL": configuration.broker_url,
        "TIDINGS_RULES": str(configuration.rules or ""),
    }


def merge_environment(changes: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment with changes, and with this installation's commands first on PATH."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1", **changes}


def _check_broker_password(url: str) -> None:
    """Raise SettingsError if the broker refuses the user name or password. One that is away may come back."""
    if not url:
        return
    options = {"max_retries": 0, "socket_connect_timeout": 2, "socket_timeout": 2}
    with Connection(url, connect_timeout=2, transport_options=options) as broker:  # type: ignore[no-untyped-call]
        try:
            broker.ensure_connection(max_retries=1, interval_start=0, timeout=3)
            broker.default_channel.close()
        except Exception as error:  # noqa: BLE001 - every transport has its own classes
            if re.search(r"auth|password|access.refused|WRONGPASS|NOPERM", str(error), re.IGNORECASE):
                raise SettingsError(f"TIDINGS_BROKER_URL: the broker refuses the login: {error}.") from None
