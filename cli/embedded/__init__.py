"""Embedded servers: a PostgreSQL and a Redis-compatible server that come with the installation.

`tidings up` and the tests start them; production uses servers of its own.
"""

from cli.embedded.postgresql import Postgres
from cli.embedded.redis import Redis
from cli.embedded.server import EmbeddedError, Server

postgres = Postgres
redis = Redis

__all__ = ["EmbeddedError", "Postgres", "Redis", "Server", "postgres", "redis"]
