"""The Python client against the API, and its verification against what Tidings signs."""

import base64
import itertools
import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tidings_client import ApiError, Client, CursorStore, TakenOverError, VerificationError, consume, verify

from shared.http import standard_webhooks
from shared.http.standard_webhooks import Scheme
from tests.support.api_server import served
from tests.support.system import ADMIN_KEY, System, mailchannels_event, open_system

ANN = "ann@x.example"


@pytest.fixture
def system(database_url: str) -> Iterator[System]:
    with open_system(database_url) as opened:
        opened.create_source()
        yield opened


@pytest.fixture
def client(system: System, database_url: str) -> Iterator[Client]:
    with served(database_url, TIDINGS_SECRET_KEYS=system.secret_key) as server:
        yield Client(f"http://127.0.0.1:{server.port}", ADMIN_KEY)


def report(system: System, *requests: str) -> None:
    system.process_events(*(mailchannels_event("delivered", ANN, request_id=name) for name in requests))


class TestRequests:
    def test_announce_find_check_and_diagnose_a_message(self, client: Client) -> None:
        made = client.messages.announce(
            "main", sender="shop@x.example", recipients=[ANN], request_id="r1", submitted_at=datetime.now(UTC)
        )
        again = client.messages.announce("main", sender="shop@x.example", recipients=[ANN], request_id="r1")
        assert again["id"] == made["id"]
        assert [one["id"] for one in client.messages.search(recipient=ANN)] == [made["id"]]
        assert client.diagnose(made["id"])["verdict"] == "underway"
        client.call("POST", "/v1/suppressions", {"address": ANN, "reason": "manual"})
        checked = client.suppressions.check([ANN, "bob@x.example"], type="transactional")
        assert [one["suppressed"] for one in checked] == [True, False]

    def test_read_lists_page_by_page(self, client: Client, system: System) -> None:
        report(system, *map(str, range(7)))
        found = list(client.messages.search(recipient=ANN, limit=2, until=datetime.now(UTC)))
        assert len({one["id"] for one in found}) == 7
        assert len(list(client.events(recipient=ANN, limit=3))) == 7

    def test_say_what_is_wrong(self, client: Client) -> None:
        with pytest.raises(ApiError, match="nobody") as refused:
            client.messages.announce("nobody", sender="a@x.example", recipients=[ANN], request_id="1")
        assert refused.value.status in (404, 422)
        with pytest.raises(ApiError, match="401"):
            list(Client(client.url, "no key").events())
        with pytest.raises(ValueError, match="time zone"):
            list(client.messages.search(since=datetime(2026, 1, 1)))  # noqa: DTZ001 - the error
        with pytest.raises(ValueError, match="https"):
            Client("127.0.0.1:8081", "key")


class TestConsuming:
    @pytest.fixture(params=["sqlite", "postgres"])
    def connection(self, request: pytest.FixtureRequest, database_url: str, tmp_path: Path) -> Iterator[Any]:
        if request.param == "sqlite":
            opened: Any = sqlite3.connect(tmp_path / "app.db")
        else:
            opened = psycopg.connect(database_url)
        with closing(opened):
            opened.execute("CREATE TABLE work (id TEXT PRIMARY KEY)")
            opened.commit()
            yield opened

    def store(self, connection: Any) -> CursorStore:
        return CursorStore(connection, placeholder="?" if isinstance(connection, sqlite3.Connection) else "%s")

    def take(self, client: Client, connection: Any, number: int, fails_at: int = -1) -> None:
        """Work on this number of changes; a repeated one violates the primary key."""
        mark = "?" if isinstance(connection, sqlite3.Connection) else "%s"
        changes = consume(client, "main", self.store(connection), types=["message.*"], wait=0)
        for count, change in enumerate(changes, 1):
            connection.execute(f"INSERT INTO work VALUES ({mark})", (change.id,))
            if count == fails_at:
                raise RuntimeError("a fault of the application")
            if count == number:
                next_change = itertools.islice(changes, 1)  # asking for the next one commits
                for _ in next_change:
                    pass
                return

    def worked(self, connection: Any) -> int:
        return int(connection.execute("SELECT count(*) FROM work").fetchone()[0])

    def test_commits_the_cursor_with_the_work_and_repeats_what_failed(
        self, client: Client, system: System, connection: Any
    ) -> None:
        report(system, *map(str, range(6)))
        with pytest.raises(RuntimeError):
            self.take(client, connection, 6, fails_at=4)
        connection.rollback()
        assert self.worked(connection) == 3
        self.take(client, connection, 2)
        connection.rollback()
        assert self.worked(connection) == 5

    def test_of_two_programs_with_one_name_is_noticed(self, client: Client, system: System, connection: Any) -> None:
        report(system, "1", "2", "3")
        first = consume(client, "main", self.store(connection), wait=0)
        next(first)
        next(first)
        connection.execute("UPDATE tidings_cursors SET position = '0-0'")
        connection.commit()
        with pytest.raises(TakenOverError):
            list(itertools.islice(first, 2))


class TestVerification:
    def signed(self, body: bytes, *secrets: str, at: datetime | None = None) -> dict[str, str]:
        at = at or datetime.now(UTC)
        return dict(standard_webhooks.headers(secrets, message_id="1-1", attempted_at=at, body=body))

    BODY = json.dumps({"id": "1-1", "type": "message.sent", "timestamp": "t", "data": {"status": "sent"}}).encode()

    @pytest.mark.parametrize("scheme", Scheme)
    def test_accepts_what_tidings_signs_also_during_a_rotation(self, scheme: Scheme) -> None:
        secret, old = standard_webhooks.new_secret(scheme), standard_webhooks.new_secret()
        known = standard_webhooks.public_key(secret) or secret
        headers = self.signed(self.BODY, old, secret)
        change = verify(self.BODY, {name.title(): value for name, value in headers.items()}, [known])
        assert (change.id, change.type, change.data) == ("1-1", "message.sent", {"status": "sent"})
        with pytest.raises(VerificationError):
            verify(self.BODY + b" ", headers, [known])
        with pytest.raises(VerificationError):
            verify(self.BODY, headers, [standard_webhooks.new_secret()])

    @pytest.mark.parametrize("field", ["webhook-id", "webhook-timestamp", "webhook-signature"])
    @pytest.mark.parametrize(
        "value", ["", "²", "-1", "9" * 400, "v1", "v1,", "v1,%%%", "v1a,AAAA", "é", "\ud800", "x" * 9999]
    )
    def test_raises_one_error_whatever_the_headers_are(self, field: str, value: str) -> None:
        secret, private = standard_webhooks.new_secret(), standard_webhooks.new_secret(Scheme.V1A)
        headers = {**self.signed(self.BODY, secret), field: value}
        with pytest.raises(VerificationError):
            verify(self.BODY, headers, [secret, standard_webhooks.public_key(private) or ""])

    def test_refuses_what_is_old_and_what_is_no_change(self) -> None:
        secret = standard_webhooks.new_secret()
        old = datetime.fromtimestamp(time.time() - 301, UTC)
        for body, headers in ((self.BODY, self.signed(self.BODY, secret, at=old)), (b"[]", self.signed(b"[]", secret))):
            with pytest.raises(VerificationError):
                verify(body, headers, [secret])

    @pytest.mark.parametrize(
        "secret", ["", "whsec_", "whsec_é", "whsk_" + base64.b64encode(bytes(64)).decode(), "whpk_AAAA"]
    )
    def test_refuses_a_secret_that_is_none_without_showing_it(self, secret: str) -> None:
        with pytest.raises(ValueError, match="a secret must be whsec_ or whpk_, followed by base64"):
            verify(self.BODY, {}, [secret])
