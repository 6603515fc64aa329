"""A thousand subscriptions at one sink, and changes for them."""

import http.client
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import psycopg

from bench.processes import BenchError
from bench.sides import Side
from cli.supervisor import ports
from cli.supervisor.ports import Address
from shared import backoff, ids
from shared.encryption import Vault
from shared.http import standard_webhooks
from shared.subscriptions.model import SigningSecret
from shared.subscriptions.secrets import seal_secrets

SUBSCRIPTIONS: Final = 1000
SHARED_BY: Final = 10
"""Subscriptions that want the same tag `ten-…`; of a tag `one-…` there is one."""

_TABLES: Final = "subscriptions, endpoint_health, deliveries, pending_deliveries, delivery_attempts"
SUBSCRIBE: Final = """
INSERT INTO subscriptions (id, name, url, types, tags, headers, secrets, payload, timeout_s, retry_schedule,
    concurrency, ordered, state, state_since, created_at, updated_at)
VALUES (%(id)s, 'bench', %(url)s, '{*}', %(tags)s, %(headers)s, %(secrets)s, 'tidings', 30, %(schedule)s, 10, false,
    'active', now(), now(), now())
"""
_INTRODUCE: Final = """
INSERT INTO messages (id, source_id, created_at, first_event_at, provider_message_id, sender, subject, tag)
SELECT md5(tag)::uuid, (SELECT min(id) FROM sources), now(), now(), md5(tag), 'sales@example.net', 'Your order', tag
FROM unnest(%(tags)s::text[]) AS tag ON CONFLICT DO NOTHING
"""
_CHANGE: Final = """
INSERT INTO state_changes (type, source_id, message_id, recipient, status, previous_status, version)
SELECT 'message.delivered', m.source_id, m.id, 'ann@example.org', 'delivered', 'sent', 2
FROM unnest(%(tags)s::text[]) AS asked (tag) JOIN messages AS m ON m.id = md5(asked.tag)::uuid
RETURNING transaction::text::bigint, id, extract(epoch FROM changed_at)::float8
"""

Logged = tuple[int, int, float]
"""Transaction and id of a change, and when it was logged, in seconds since 1970."""


class Audience:
    """The subscriptions of one side, and the sink that all of them name."""

    def __init__(self, side: Side) -> None:
        self._side = side
        self._vault = Vault([side.place.secret_key])
        self.sink = Address(host="127.0.0.1", port=ports.free_port("127.0.0.1"))
        side.processes.start("sink", f"{sys.executable} -m bench.sink {self.sink.port}")
        side.processes.wait_until(lambda: self.sink.answers("/arrivals"), "sink")

    def gather(self, connection: psycopg.Connection, *, hanging: bool = False) -> None:
        """Forget all deliveries, and subscribe again; with `hanging` there is one more, which never answers."""
        connection.execute(f"TRUNCATE {_TABLES}".encode())
        names = [(f"one-{number}", f"ten-{number // SHARED_BY}") for number in range(SUBSCRIPTIONS)]
        rows = [new_subscription(self._vault, f"{self.sink.url}/{tags[0]}", tags) for tags in names]
        rows += [new_subscription(self._vault, f"{self.sink.url}/hang", ("ten-0",))] if hanging else []
        with connection.cursor() as cursor:
            cursor.executemany(SUBSCRIBE, rows)
        connection.execute(_INTRODUCE, {"tags": [tag for pair in names for tag in pair]})
        connection.execute("ANALYZE subscriptions, messages")

    def log(self, connection: psycopg.Connection, tags: Sequence[str]) -> list[Logged]:
        """Log a change for each of these tags, in one transaction."""
        return [(row[0], row[1], row[2]) for row in connection.execute(_CHANGE, {"tags": list(tags)})]

    def arrivals(self) -> list[tuple[str, float]]:
        """Change and time of each delivery that has arrived since this was last asked."""
        connection = http.client.HTTPConnection(self.sink.host, self.sink.port, timeout=10)
        connection.request("GET", "/arrivals")
        lines = connection.getresponse().read().decode().splitlines()
        connection.close()
        return [(name, float(at)) for name, _, at in (line.partition(" ") for line in lines)]

    def wait_for(self, deliveries: int, patience_seconds: float) -> list[tuple[str, float]]:
        """Return the arrivals once the given number has come. Raises BenchError if they do not come."""
        found = self.arrivals()
        until = time.monotonic() + patience_seconds
        while len(found) < deliveries:
            if time.monotonic() > until:
                raise BenchError(f"{self._side.name}: of {deliveries} deliveries only {len(found)} have arrived")
            time.sleep(0.05)
            found += self.arrivals()
        return found


def new_subscription(vault: Vault, url: str, tags: Sequence[str]) -> dict[str, object]:
    """Return what `SUBSCRIBE` inserts."""
    secret = SigningSecret(value=standard_webhooks.new_secret())
    return {
        "id": ids.receipt_id(datetime.now(UTC)),
        "url": url,
        "tags": list(tags),
        "headers": vault.seal({}),
        "secrets": seal_secrets([secret], vault),
        "schedule": list(backoff.DELIVERY_SCHEDULES["default"]),
    }
