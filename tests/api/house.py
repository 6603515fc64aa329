"""A Tidings without its processes: a real database, the real API, and events processed by the real statements."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from urllib.parse import urlencode
from uuid import UUID, uuid4

from flask.testing import FlaskClient
from sqlalchemy import Engine
from werkzeug.test import TestResponse

from api.app import create_app
from api.core.resource import Deps
from shared import ids
from shared.doorbell import Doorbell
from shared.encryption import Vault, new_key
from shared.messages import store as state
from shared.postgres import engine, partitions
from shared.receipts import normalize
from shared.receipts import store as receipts
from shared.receipts.store import Receipt
from shared.settings import Settings
from shared.sources import store as sources
from shared.sources.source import open_source

ADMIN_KEY = "the key of the test's administrator"
HANDLE = "acct"
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


class Bell(Doorbell):
    """Counts how often it was rung."""

    def __init__(self) -> None:
        self.rings = 0

    def ring(self, task: str = "") -> bool:  # noqa: ARG002
        self.rings += 1
        return True


@dataclass
class House:
    """What a test talks to. `key` is sent with every request; None sends none."""

    engine: Engine
    vault: Vault
    client: FlaskClient
    bell: Bell
    key: str | None = ADMIN_KEY
    headers: dict[str, str] = field(default_factory=dict)

    def call(self, method: str, path: str, body: Any = None, **query: Any) -> TestResponse:
        """One request; whatever it answers."""
        headers = dict(self.headers)
        if self.key is not None:
            headers["Authorization"] = f"Bearer {self.key}"
        target = f"{path}?{urlencode(query)}" if query else path
        return self.client.open(target, method=method, headers=headers, json=body)

    def get(self, path: str, **query: Any) -> Any:
        """What a GET answers, which must be 200."""
        answer = self.call("GET", path, **query)
        assert answer.status_code == 200, answer.text
        return answer.get_json()

    def items(self, path: str, **query: Any) -> list[dict[str, Any]]:
        """The items of all pages."""
        found: list[dict[str, Any]] = []
        while True:
            page = self.get(path, **query)
            found += page["items"]
            if page["next_cursor"] is None:
                return found
            query["cursor"] = page["next_cursor"]

    def source(self, slug: str = "main", provider: str = "mailchannels", **credentials: Any) -> int:
        """A source, made by the API; its id."""
        given = credentials or {"customer_handles": [HANDLE]}
        answer = self.call("POST", "/v1/sources", {"slug": slug, "provider": provider, "credentials": given})
        assert answer.status_code == 201, answer.text
        with self.engine.begin() as connection:
            row = sources.find(connection, slug)
        assert row is not None
        return row.id

    def keep(self, body: bytes, slug: str = "main", at: datetime | None = None, **fields: Any) -> UUID:
        """A receipt that waits in the queue."""
        at = at or datetime.now(UTC)
        with self.engine.begin() as connection:
            row = sources.find(connection, slug)
            assert row is not None
            receipt = Receipt(
                id=ids.receipt_id(at),
                source_id=row.id,
                received_at=at,
                key=uuid4().hex,
                key_expires_at=at + timedelta(days=1),
                body=body,
                **{"idempotency_key": None, "remote_ip": "192.0.2.1", "headers": "{}", **fields},
            )
            receipts.record(connection, [receipt])
        return receipt.id

    def receive(self, *happenings: Mapping[str, Any], slug: str = "main", at: datetime | None = None) -> UUID:
        """A receipt with these events of MailChannels, processed."""
        body = json.dumps([{"customer_handle": HANDLE, **happening} for happening in happenings]).encode()
        receipt_id = self.keep(body, slug, at)
        self.process(receipt_id)
        return receipt_id

    def process(self, receipt_id: UUID) -> None:
        """Do with a receipt what a worker does."""
        with self.engine.begin() as connection:
            token = uuid4()
            (claimed,) = [
                found
                for found in receipts.claim(connection, limit=100, most_bytes=10**9, token=token, lease_seconds=60)
                if found.id == receipt_id
            ]
            (row,) = sources.by_ids(connection, [claimed.source_id])
            source = open_source(row, self.vault)
            events = normalize.rows(source, claimed.id, claimed.received_at, claimed.body)
            state.apply(connection, cast("Any", events))
            receipts.finish(connection, [claimed.id], token)
            connection.exec_driver_sql("UPDATE pending_receipts SET lease_until = NULL, lease_token = NULL")

    def execute(self, statement: str, **values: Any) -> list[Any]:
        """Rows of a statement, committed."""
        with self.engine.begin() as connection:
            result = connection.exec_driver_sql(statement, values)
            return list(result) if result.returns_rows else []


def happening(kind: str, *recipients: str, second: int = 0, request_id: str = "r1", **fields: Any) -> dict[str, Any]:
    """One event of MailChannels, so many seconds after BEGIN."""
    return {
        "event": kind,
        "email": "shop@example.com",
        "timestamp": int(BEGIN.timestamp()) + second,
        "request_id": request_id,
        "recipients": list(recipients),
        **fields,
    }


@contextmanager
def opened(database_url: str, secret_key: str = "", **settings: Any) -> Iterator[House]:
    """A Tidings in this database."""
    made = engine.create(database_url, application="test", pool_size=4, synchronous_commit=False)
    with made.begin() as connection:
        partitions.ensure(connection, now=BEGIN, weeks_ahead=0)
    vault, bell = Vault([secret_key or new_key()]), Bell()
    configured = Settings(admin_key=ADMIN_KEY, **{"api_rate": 0, **settings})
    app = create_app(Deps(settings=configured, engine=made, vault=vault, doorbell=bell))
    yield House(engine=made, vault=vault, client=app.test_client(), bell=bell)
    made.dispose()
