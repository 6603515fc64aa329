"""When is everything ready, and the file that says so."""

import http.client
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where one of our doors listens."""

    host: str
    port: int

    @property
    def reachable_host(self) -> str:
        """The host to connect to: one that listens everywhere is reached on this machine."""
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104

    @property
    def url(self) -> str:
        """Without a slash at the end."""
        host = self.reachable_host
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    def answers(self, path: str) -> bool:
        """Whether a GET of this path is answered with 200 now."""
        connection = http.client.HTTPConnection(self.reachable_host, self.port, timeout=2)
        try:
            connection.request("GET", path)
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


def consumers(broker_url: str) -> float:
    """How many workers wait for messages of this broker now; infinitely many where it cannot be asked.

    Celery's own `ping` would need every worker to listen for remote commands, for the sake of this question.
    """
    if not broker_url.startswith(("redis://", "rediss://")):
        return math.inf
    connection = redis.Redis.from_url(broker_url, socket_timeout=2, socket_connect_timeout=2)
    try:
        return sum(client["cmd"] == "brpop" for client in connection.client_list())
    except redis.ResponseError:  # a managed Redis may keep this command to itself
        return math.inf
    except redis.RedisError:
        return 0
    finally:
        connection.close()


@dataclass(slots=True)
class ReadyFile:
    """The file that tells others where everything is, in one place or several. Written whole or not at all, for its
    owner only.
    """

    paths: Sequence[Path]
    facts: Mapping[str, Any] = field(default_factory=dict)
    _written: Mapping[str, Any] | None = None

    def write(self, pids: Mapping[str, list[int]]) -> None:
        """Write the file if what it says has changed."""
        content = {**self.facts, "pids": dict(pids)}
        if content == self._written:
            return
        for path in self.paths:
            draft = path.with_name(f".{path.name}.{os.getpid()}")
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)  # the admin key is in it
            with os.fdopen(descriptor, "w") as file:
                json.dump(content, file, indent=2)
                file.write("\n")
            draft.replace(path)
        self._written = content

    def remove(self) -> None:
        """Nothing is ready any more."""
        for path in self.paths:
            path.unlink(missing_ok=True)
        self._written = None
