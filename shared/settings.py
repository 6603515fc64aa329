"""Settings, read once from the environment. An error names the variable. The README lists all of them."""

import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kombu.connection import Connection

from shared.errors import TidingsError, suggest

PREFIX = "TIDINGS_"
_OF_OTHERS = frozenset(
    PREFIX + name for name in ("TEST_DATABASE_URL", "TEST_BROKER_URL", "LISTEN", "RECEIVER", "RESOLVER")
)
"""What tests and `deploy/nginx.conf` read."""


class SettingsError(TidingsError):
    """A setting is missing or invalid; the message names the variable and says what is allowed."""


def _integer(lowest: int, highest: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = lowest - 1
        if not lowest <= number <= highest:
            raise SettingsError(f"is {text!r}; it must be a whole number from {lowest} to {highest}.")
        return number

    return read


def _number(lowest: float, highest: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not lowest <= number <= highest:
            raise SettingsError(f"is {text!r}; it must be a number from {lowest} to {highest}.")
        return number

    return read


def _switch(text: str) -> bool:
    if text.lower() not in ("0", "1"):
        raise SettingsError(f"is {text!r}; it must be 0 or 1.")
    return text == "1"


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _networks(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    try:
        return tuple(ip_network(word) for word in _words(text))
    except ValueError as error:
        raise SettingsError(
            f"is {text!r}; it must be networks such as 10.0.0.0/8, separated by commas ({error})."
        ) from None


def _level(text: str) -> str:
    levels = ("debug", "info", "warning", "error")
    if text.lower() not in levels:
        raise SettingsError(f"is {text!r}; it must be one of {', '.join(levels)}.")
    return text.lower()


def _database_url(text: str) -> str:
    """Return the URL that SQLAlchemy understands, of any form that libpq documents."""
    # Here, because beat needs neither of these libraries, of 18 MB.
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict
    from sqlalchemy.engine import URL

    scheme, separator, _ = text.partition("://")
    if separator and scheme not in ("postgresql", "postgres", "postgresql+psycopg"):
        raise SettingsError(
            f"has the scheme {scheme!r}; it must be a URL such as postgresql://user:password@host/name."
        )
    try:
        parts = conninfo_to_dict(text.replace("+psycopg://", "://", 1))
    except ProgrammingError as error:
        reason = str(error).strip()
        if "parameter" not in reason:
            reason = re.sub(r'"[^"]*"', "…", reason)  # it may quote the password
        raise SettingsError(f"is not a valid URL such as postgresql://user:password@host/name: {reason}.") from None
    hosts, ports = str(parts.pop("host", "")).split(","), str(parts.pop("port", "")).split(",")
    if not all(port.isdecimal() for port in filter(None, ports)):
        raise SettingsError("has an invalid port; it must be a URL such as postgresql://user:password@host:5432/name.")
    if separator and len(hosts) == 1 and not hosts[0].startswith("/") and "ssl=" not in text:
        return text
    user, password, name = (str(parts.pop(part)) if part in parts else None for part in ("user", "password", "dbname"))
    ports = ports * len(hosts) if len(ports) == 1 else ports
    places = [
        f"{host}:{port}" if port and not host.startswith("/") else host for host, port in zip(hosts, ports, strict=True)
    ]
    query: dict[str, Any] = {**parts, "host": places} if any(places) else {**parts}
    if hosts[0].startswith("/") and ports[0]:
        query["port"] = ports[0]
    return URL.create("postgresql", user, password, database=name, query=query).render_as_string(hide_password=False)


def _broker_url(text: str) -> str:
    known = ("redis", "rediss", "redis+socket", "amqp", "amqps", "pyamqp", "librabbitmq")
    for url in text.split(";"):  # a list of brokers, of which Celery uses the first that it reaches
        scheme, separator, rest = url.strip().partition("://")
        if not separator or scheme not in known:
            raise SettingsError(
                f"has the scheme {scheme if separator else ''!r}; it must be a URL of Redis or RabbitMQ, such as"
                f" redis://host:6379/0. Known schemes are {', '.join(known)}."
            )
        try:
            Connection(url.strip())  # type: ignore[no-untyped-call]  # it connects when it is first used
            if scheme in ("redis", "rediss"):
                int(urlsplit(f"//{rest}").path.strip("/") or 0)
        except (ValueError, TypeError, KeyError, ImportError):  # without the message, which may quote the password
            raise SettingsError(
                "is not a URL that Celery can use, such as redis://:password@host:6379/0: its port, database or an"
                " option is invalid, or a package is missing. Percent-encode special characters of the password."
            ) from None
    return text


def _setting(default: Any, read: Callable[[str], Any] = str) -> Any:
    return field(default=default, metadata={"read": read})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of an installation. Durations are in seconds, sizes in bytes."""

    database_url: str = _setting("", _database_url)
    broker_url: str = _setting("", _broker_url)
    secret_keys: tuple[str, ...] = _setting((), _words)
    admin_key: str = _setting("")
    host: str = _setting("127.0.0.1")
    receiver_port: int = _setting(8080, _integer(0, 65535))
    api_port: int = _setting(8081, _integer(0, 65535))
    receiver_processes: int = _setting(2, _integer(1, 64))
    worker_processes: int = _setting(2, _integer(1, 64))
    max_body_bytes: int = _setting(5 * 1024 * 1024, _integer(1024, 1024 * 1024 * 1024))
    quarantine_rows: int = _setting(1000, _integer(0, 1_000_000))
    quarantine_bytes: int = _setting(16 * 1024 * 1024, _integer(0, 1024 * 1024 * 1024))
    batch_size: int = _setting(1000, _integer(1, 10_000))
    max_attempts: int = _setting(5, _integer(1, 100))
    retention_days: int = _setting(30, _integer(1, 3650))
    spam_quarantine_score: float = _setting(6.0, _number(0, 1000))
    api_rate: float = _setting(100.0, _number(0, 1_000_000))
    api_burst: int = _setting(200, _integer(1, 1_000_000))
    proxies: int = _setting(0, _integer(0, 10))
    console_mask: bool = _setting(False, _switch)
    egress_allow: tuple[IPv4Network | IPv6Network, ...] = _setting((), _networks)
    log_level: str = _setting("info", _level)
    rules: Path | None = _setting(None, lambda text: Path(text).expanduser().absolute())  # noqa: RUF009 - a path does not change

    def require(self, *names: str) -> None:
        """Raise SettingsError unless each of these settings has a value."""
        missing = [PREFIX + name.upper() for name in names if not getattr(self, name)]
        if missing:
            raise SettingsError(
                f"{' and '.join(missing)} must be set. `tidings up` sets them for you; "
                "the README has a table of all settings."
            )


def shared_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables by which commands must judge as the processes do; empty where one is not set."""
    names = [PREFIX + name.upper() for name in ("egress_allow", "retention_days", "max_attempts", "max_body_bytes",
             "spam_quarantine_score", "quarantine_rows", "quarantine_bytes")]  # fmt: skip
    return {name: environment.get(name, "").strip() for name in names}


def read(environment: Mapping[str, str] | None = None) -> Settings:
    """Return the settings of this process. Raises SettingsError, which names the invalid variable."""
    environment = os.environ if environment is None else environment
    known = [PREFIX + entry.name.upper() for entry in fields(Settings)]
    for name in sorted(environment):
        if name.startswith(PREFIX) and name not in (*known, *_OF_OTHERS):
            raise SettingsError(
                f"{name} is not a setting.{suggest(name, known)} The README has a table of all settings."
            )
    values: dict[str, Any] = {}
    for entry in fields(Settings):
        name = PREFIX + entry.name.upper()
        text = environment.get(name, "").strip()
        if not text:
            continue
        try:
            values[entry.name] = entry.metadata["read"](text)
        except SettingsError as error:
            raise SettingsError(f"{name} {error}") from None
    return Settings(**values)
