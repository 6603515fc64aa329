"""Embedded servers: a PostgreSQL and a Redis-compatible server that come with the installation.

`tidings up` and the tests start them; production uses servers of its own.
"""

from ops.embedded.postgresql import Postgres
from ops.embedded.server import EmbeddedError, Server
from ops.embedded.valkey import Redis

postgres = Postgres
redis = Redis

__all__ = ["EmbeddedError", "Postgres", "Redis", "Server", "postgres", "redis"]
