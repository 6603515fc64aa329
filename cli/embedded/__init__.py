"""Embedded servers: PostgreSQL and a Redis-compatible server from the installed wheels.

`tidings up` and the tests start them. Production uses other servers.
"""

from cli.embedded.postgresql import Postgres
from cli.embedded.redis import Redis
from cli.embedded.server import Server

postgres = Postgres
redis = Redis

__all__ = ["Postgres", "Redis", "Server", "postgres", "redis"]
