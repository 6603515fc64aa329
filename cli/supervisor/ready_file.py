"""The ready file, which tells other programs the URLs and process ids."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import redis
from kombu.connection import Connection
from kombu.exceptions import OperationalError


def count_workers(broker_url: str) -> float:
    """Return how many workers wait for messages of this broker; infinity if the broker cannot tell.

    Celery's `ping` would need remote control in every worker, which is off.
    """
    if not broker_url.startswith(("redis://", "rediss://")):
        return math.inf
    # Not redis-py's `from_url`: it understands neither lists of brokers nor all options of Celery.
    options = {"socket_connect_timeout": 2, "socket_timeout": 2}
    with Connection(broker_url, transport_options=options) as broker:  # type: ignore[no-untyped-call]
        try:
            broker.ensure_connection(max_retries=1, interval_start=0, timeout=2)
            clients: list[dict[str, str]] = broker.default_channel.client.client_list()
            return sum(client["cmd"] == "brpop" for client in clients)
        except redis.ResponseError:  # a managed Redis may forbid this command
            return math.inf
        except (redis.RedisError, OperationalError):
            return 0


class ReadyFile:
    """The ready file, at one or several paths. Written atomically, readable by its owner only."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths
        self.facts: Mapping[str, Any] = {}
        self._written: Mapping[str, Any] | None = None

    def write(self, pids: Mapping[str, list[int]]) -> None:
        """Write the file if its content has changed."""
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
        """Remove the file."""
        for path in self.paths:
            path.unlink(missing_ok=True)
        self._written = None
