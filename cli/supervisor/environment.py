"""What every process is told by its environment: settings that were checked, and secrets that were made."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from kombu.transport import TRANSPORT_ALIASES

from cli.supervisor.data_dir import DataDirectory
from cli.supervisor.ready_file import Address
from shared.encryption import Vault, new_key
from shared.settings import Settings, SettingsError

_DATABASES: Final = ("postgresql", "postgres", "postgresql+psycopg")


def settle(configuration: Settings, directory: DataDirectory, receiver: Address, api: Address) -> dict[str, str]:
    """The settings of every process. Secrets that are not set are made once and kept in the data directory.

    Raises SettingsError or SecretsError, which name the setting that is wrong.
    """
    _check_scheme("TIDINGS_DATABASE_URL", configuration.database_url, _DATABASES)
    _check_scheme("TIDINGS_BROKER_URL", configuration.broker_url, TRANSPORT_ALIASES)
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


def environment_with(changes: Mapping[str, str]) -> dict[str, str]:
    """Our environment with changes, and with our own installation's commands found first."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1", **changes}


def _check_scheme(name: str, url: str, known: Mapping[str, str] | tuple[str, ...]) -> None:
    scheme, separator, _ = url.partition("://")
    if url and not (separator and scheme in known):
        example = "postgresql://user:password@host/name" if known is _DATABASES else "redis://host:6379/0"
        raise SettingsError(f"{name} should be like {example}, not {scheme!r} and something.")
