"""What anyone can post, and what breaks, tried on one running installation: `tidings up` with all its processes."""

import asyncio
import base64
import csv
import hmac
import io
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import psycopg
import pytest

from api.resources.jobs import MAX_OPEN_OF_KEY
from api.streaming.connections import ConnectionLimits
from shared.vocabulary import EventType
from simulator.connection import Exchange, post_once
from simulator.mail import Happening
from simulator.providers.ark.webhooks import Ark, Form
from simulator.providers.base import Dialect, Forgery, Headers
from simulator.providers.mailchannels.webhooks import MailChannels
from simulator.providers.mailwebhook.webhooks import MailWebhook
from simulator.server import ProviderServer
from tests.support import http_sink, traffic
from tests.support.http_sink import HttpSink, answer
from tests.support.simulator_http import Answer, Caller
from tests.support.supervised_system import Up, command, environment, running, wait_until

QUARANTINE_ROWS = 40
"""Of each source; the installation is started with this limit."""
_numbers = count(1)


@dataclass(frozen=True)
class Installation:
    """A running `tidings up`, used as its operators and the providers use it."""

    up: Up

    def request(self, method: str, path: str, body: Any = None, *, key: str = "", **query: str | int) -> Answer:
        """Send a request to the API, with all rights unless a key is given."""
        facts = self.up.ready()
        headers = {"Authorization": f"Bearer {key or facts['admin_key']}", "Content-Type": "application/json"}
        return Caller(base=facts["api_url"], headers=headers, timeout_seconds=60.0)(method, path, body, **query)

    def call(self, method: str, path: str, body: Any = None, *, key: str = "", **query: str | int) -> Any:
        """Send a request that must succeed; return the document of its answer."""
        found = self.request(method, path, body, key=key, **query)
        assert 200 <= found.status < 300, found
        return found.document if found.content else None

    def items(self, path: str, **query: str) -> list[dict[str, Any]]:
        """Return the first items of a list."""
        found: list[dict[str, Any]] = self.call("GET", path, **query, limit=100)["items"]
        return found

    def create_key(self, name: str, scope: str) -> dict[str, Any]:
        """Create an API key; the answer has its `id` and its `key`."""
        created: dict[str, Any] = self.call("POST", "/v1/keys", {"name": name, "scope": scope})
        return created

    def add_source(self, dialect: Dialect, settings: dict[str, Any] | None = None, **credentials: Any) -> str:
        """Add a source; return its slug. It has no API key, so that the real API is never called."""
        slug = f"{dialect.NAME}-{next(_numbers)}"
        given = {name: value for name, value in dialect.credentials().items() if name != "api_key"}
        body = {"slug": slug, "provider": dialect.NAME, "credentials": given | credentials, "settings": settings or {}}
        self.call("POST", "/v1/sources", body)
        return slug

    def change_source(self, slug: str, **changes: Any) -> None:
        self.call("PATCH", f"/v1/sources/{slug}", changes)

    def post(self, slug: str, body: bytes, headers: Headers) -> Exchange:
        """Post a webhook."""
        url = f"{self.up.ready()['receiver_url']}/webhooks/{slug}"
        return post_once(url, body, headers, timeout_seconds=60)

    def deliver(self, slug: str, dialect: Dialect, body: bytes, **headers: str) -> str:
        """Post a genuine webhook, which must be acknowledged; return its receipt."""
        found = self.post(slug, body, {**dialect.sign(body, datetime.now(UTC)), **headers})
        assert found.status == 200, found
        receipt: str = json.loads(found.body)["receipt"]
        return receipt

    def receipt_state(self, receipt: str) -> str:
        state: str = self.call("GET", f"/v1/receipts/{receipt}")["state"]
        return state

    def wait_for_receipt(self, receipt: str, state: str) -> None:
        wait_until(lambda: self.receipt_state(receipt) == state)

    def events(self, **query: str) -> list[dict[str, Any]]:
        return self.items("/v1/events", **query)

    def wait_for_events(self, number: int, **query: str) -> list[dict[str, Any]]:
        wait_until(lambda: len(self.events(**query)) >= number)
        found = self.events(**query)
        assert len(found) == number, found
        return found

    def is_suppressed(self, *addresses: str) -> list[bool]:
        results = self.call("POST", "/v1/suppressions/check", {"addresses": addresses})["results"]
        return [result["suppressed"] for result in results]

    def firing(self, **expected: str) -> list[dict[str, Any]]:
        """Return the firing alerts with these values."""
        alerts = self.items("/v1/alerts", state="firing")
        return [alert for alert in alerts if all(alert[name] == value for name, value in expected.items())]

    def command(self, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """Run a command on the data of this installation, in a separate process."""
        return subprocess.run(
            command(*words, "--data", str(self.up.data)),
            env=environment(COLUMNS="250", **settings),
            cwd=self.up.data,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )

    @contextmanager
    def suspended(self, group: str) -> Iterator[None]:
        """Suspend the processes of a group with SIGSTOP, until the context is left."""
        pids = self.up.pids(group)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)


@pytest.fixture(scope="module")
def installation(session_dir: Path) -> Iterator[Installation]:
    """One installation for all tests of this file, which leave it running."""
    data = session_dir / "hardening"
    data.mkdir()
    settings = {
        "TIDINGS_EGRESS_ALLOW": "127.0.0.0/8",
        "TIDINGS_QUARANTINE_ROWS": str(QUARANTINE_ROWS),
        "TIDINGS_API_RATE": "0",
    }
    with running(data, **settings) as up:
        yield Installation(up)


@pytest.fixture
def sink() -> Iterator[HttpSink]:
    with http_sink.http_sink() as sink:
        yield sink


def mailchannels_body(handle: str, request_id: str, kind: str = "delivered", **fields: Any) -> bytes:
    """Build a webhook of one event."""
    event = {
        "email": "shop@example.com",
        "customer_handle": handle,
        "timestamp": int(time.time()),
        "event": kind,
        "request_id": request_id,
        "recipients": [f"{request_id}@post.example"],
    }
    return json.dumps([event | fields]).encode()


def inbound_bodies(dialect: MailWebhook, number: int, *, seed: int) -> list[bytes]:
    """Build the webhooks of some inbound emails."""
    messages = {one.subject_message.uuid: one for one in traffic.happenings(number, seed=seed)}
    return [
        dialect.body(
            [
                Happening(
                    kind=EventType.INBOUND,
                    at=one.at,
                    message=one.subject_message,
                    recipients=one.subject_message.recipients,
                )
            ]
        )
        for one in messages.values()
    ]


def sign_mail(body: bytes, key_id: str, secret: str, *, key: str) -> Headers:
    """Sign any bytes as MailWebhook does, with this idempotency key."""
    at = str(int(time.time()))
    digest = hmac.digest(secret.encode(), at.encode() + b"." + body, "sha256")
    signature = f"t={at}, kid={key_id}, v1={base64.b64encode(digest).decode()}"
    return {"X-MailWebhook-Signature": signature, "X-Idempotency-Key": key, "Idempotency-Key": key}


def ark_body(dialect: Ark, *, seed: int) -> bytes:
    """Build a webhook of one delivery."""
    happenings = traffic.happenings(20, seed=seed)
    return dialect.body([next(one for one in happenings if one.kind is EventType.DELIVERED)])


class TestAFloodOfUnknownKeys:
    """B4: webhooks whose signature names a key that nobody has."""

    def test_never_refuses_a_genuine_webhook_under_a_rotated_secret(self, installation: Installation) -> None:
        dialect, neighbour = MailWebhook(seed=401), MailWebhook(seed=402)
        slug, other = installation.add_source(dialect), installation.add_source(neighbour)
        genuine, late, forged = inbound_bodies(dialect, 3, seed=403)
        assert installation.command("sources", "quarantine", slug).returncode == 0
        dialect.rotate()
        kept = installation.deliver(slug, dialect, genuine)
        statuses = []
        for number in range(3 * QUARANTINE_ROWS):
            headers = sign_mail(forged, f"nobody-{number}", "guess", key=f"key-{number}")
            statuses.append(installation.post(slug, forged, headers).status)
        assert statuses == [200] * (QUARANTINE_ROWS - 1) + [503] * (2 * QUARANTINE_ROWS + 1)
        assert installation.receipt_state(kept) == "unverified"
        turned_away = installation.post(slug, late, dialect.sign(late, datetime.now(UTC)))
        assert turned_away.status == 503, "the provider sends it again"

        [mail] = inbound_bodies(neighbour, 1, seed=404)
        installation.wait_for_receipt(installation.deliver(other, neighbour, mail), "processed")
        assert installation.receipt_state(kept) == "unverified", "the other source did not wait for this one"

        installation.change_source(slug, credentials=dialect.credentials())
        again = installation.deliver(slug, dialect, late)
        for receipt in (kept, again):
            installation.wait_for_receipt(receipt, "processed")
        assert len(installation.events(source=slug)) == 2

    def test_is_decided_by_the_key_set_of_the_provider(self, installation: Installation) -> None:
        dialect = Ark()
        with ProviderServer({"ark": dialect}) as server:
            slug = installation.add_source(dialect, settings=server.settings("ark"))
            body = ark_body(dialect, seed=405)
            dialect.rotate()
            headers = dialect.sign(body, datetime.now(UTC))
            forged = []
            for number in range(QUARANTINE_ROWS - 1):
                found = installation.post(slug, body, headers | {"X-Ark-Signature-KID": f"nobody-{number}"})
                assert found.status in {200, 503}
                if found.status == 200:
                    forged.append(json.loads(found.body)["receipt"])
            installation.wait_for_receipt(installation.deliver(slug, dialect, body), "processed")
            for receipt in forged:
                installation.wait_for_receipt(receipt, "rejected")
        assert len(installation.events(source=slug)) == 1


class TestAChangeThatWasAnswered:
    """B6: it is in force for what comes next, in every process."""

    def test_of_customer_handles_loses_no_event_that_arrives_at_once(self, installation: Installation) -> None:
        dialect = MailChannels(seed=601)
        slug = installation.add_source(dialect)
        receipts = []
        for number in range(8):
            installation.change_source(slug, credentials={"customer_handles": [f"account-{number}"]})
            receipts.append(installation.deliver(slug, dialect, mailchannels_body(f"account-{number}", f"h{number}")))
            installation.wait_for_receipt(receipts[-1], "processed")
        assert [event["type"] for event in installation.events(source=slug)] == ["delivered"] * 8

    def test_of_customer_handles_is_used_by_a_reprocessing_that_is_asked_for_at_once(
        self, installation: Installation
    ) -> None:
        dialect = MailChannels(seed=602)
        slug = installation.add_source(dialect)
        receipt = installation.deliver(slug, dialect, mailchannels_body("late", "late-1"))
        installation.wait_for_events(1, source=slug, set_aside="true")
        installation.change_source(slug, credentials={"customer_handles": ["late"]})
        assert installation.call("POST", f"/v1/receipts/{receipt}/reprocess")["queued"] == 1
        installation.wait_for_events(1, source=slug, type="delivered")
        assert installation.events(source=slug, set_aside="true") == []

    def test_of_secrets_accepts_what_they_sign_at_once(self, installation: Installation) -> None:
        dialect = MailWebhook(seed=603)
        slug = installation.add_source(dialect)
        for body in inbound_bodies(dialect, 5, seed=604):
            dialect.rotate()
            installation.change_source(slug, credentials=dialect.credentials())
            receipt = installation.deliver(slug, dialect, body)
            assert installation.receipt_state(receipt) in {"pending", "processed"}, "not quarantined"

    def test_of_subscriptions_holds_for_an_event_that_arrives_at_once(
        self, installation: Installation, sink: HttpSink
    ) -> None:
        dialect = MailChannels(seed=605)
        slug = installation.add_source(dialect)
        wanted = {"url": f"{sink.url}/first", "types": ["message.delivered"], "sources": [slug]}
        subscription = installation.call("POST", "/v1/subscriptions", wanted)["id"]
        installation.deliver(slug, dialect, mailchannels_body("acmeco", "new"))
        wait_until(lambda: len(sink.received) == 1)

        path = f"/v1/subscriptions/{subscription}"
        installation.call("PATCH", path, {"url": f"{sink.url}/second", "types": ["message.bounced"]})
        installation.deliver(slug, dialect, mailchannels_body("acmeco", "new", "open"))
        installation.deliver(slug, dialect, mailchannels_body("acmeco", "moved", "hard-bounced"))
        wait_until(lambda: len(sink.received) == 2)
        assert [(request.path, request.json["type"]) for request in sink.received] == [
            ("/first", "message.delivered"),
            ("/second", "message.bounced"),
        ]
        installation.call("DELETE", path)

    def test_of_a_rule_decides_about_the_alert(self, installation: Installation) -> None:
        dialect = MailChannels(seed=606)
        slug = installation.add_source(dialect)
        rule = {"name": slug, "kind": "event", "types": ["complained"], "per": "source", "sources": [slug],
                "window_minutes": 60, "warning": 1000}  # fmt: skip
        installation.call("POST", "/v1/alert-rules", rule)
        receipt = installation.deliver(slug, dialect, mailchannels_body("acmeco", "angry", "complained"))
        installation.wait_for_receipt(receipt, "processed")
        assert installation.firing(rule=slug) == []
        installation.call("PATCH", f"/v1/alert-rules/{slug}", {"warning": 1})
        wait_until(lambda: bool(installation.firing(rule=slug)))
        installation.call("DELETE", f"/v1/alert-rules/{slug}")

    def test_of_a_key_holds_for_its_next_request(self, installation: Installation) -> None:
        created = installation.create_key("soon revoked", "read")
        assert installation.request("GET", "/v1/sources", key=created["key"]).status == 200
        installation.call("DELETE", f"/v1/keys/{created['id']}")
        assert installation.request("GET", "/v1/sources", key=created["key"]).status == 401


def test_an_event_of_a_foreign_account_is_listed_shown_and_alerted(installation: Installation) -> None:
    """B7: what is authentic and changes nothing does not vanish."""
    dialect = MailChannels(seed=701)
    slug = installation.add_source(dialect)
    receipt = installation.deliver(slug, dialect, mailchannels_body("stranger", "foreign-1"))
    [event] = installation.wait_for_events(1, source=slug, set_aside="true")
    assert (event["type"], event["request_id"]) == ("unknown", "foreign-1")
    assert "another account" in event["problem"]
    assert [one["id"] for one in installation.items("/v1/receipts", source=slug, set_aside="true")] == [receipt]

    checked = installation.command("sources", "check", slug)
    assert "authentic events that changed nothing in the last 24 hours: 1" in checked.stdout, checked
    diagnosed = installation.command("diagnose", "--request-id", "foreign-1")
    assert "stranger" in diagnosed.stdout, diagnosed

    metrics = installation.request("GET", "/metrics").content.decode()
    assert f'tidings_events_set_aside_total{{reason="other_account",source="{slug}"}} 1.0' in metrics
    wait_until(lambda: bool(installation.firing(kind="set_aside", subject=slug)))
    [alert] = installation.firing(kind="set_aside", subject=slug)
    assert "another account" in alert["summary"]


class TestAnIdempotencyKey:
    """B8: MailWebhook's header, which no signature covers."""

    def test_of_a_dead_receipt_does_not_swallow_the_corrected_body(self, installation: Installation) -> None:
        dialect = MailWebhook(seed=801)
        slug = installation.add_source(dialect)
        [genuine] = inbound_bodies(dialect, 1, seed=802)
        [(key_id, secret)] = dialect.credentials()["signing_secrets"].items()
        receipts = []
        for body, state in ((b"not JSON", "dead"), (genuine, "processed")):
            found = installation.post(slug, body, sign_mail(body, key_id, secret, key="key-1"))
            assert found.status == 200
            receipts.append(json.loads(found.body)["receipt"])
            installation.wait_for_receipt(receipts[-1], state)
        assert len(set(receipts)) == 2
        assert [event["type"] for event in installation.events(source=slug)] == ["inbound"]

    def test_that_was_captured_does_not_swallow_the_genuine_mail(self, installation: Installation) -> None:
        dialect = MailWebhook(seed=803)
        slug = installation.add_source(dialect)
        captured, genuine = inbound_bodies(dialect, 2, seed=804)
        key = dialect.sign(genuine, datetime.now(UTC))["Idempotency-Key"]
        stolen = {"X-Idempotency-Key": key, "Idempotency-Key": key}
        stranger = dialect.forge(captured, datetime.now(UTC), Forgery.WRONG_KEY)
        assert installation.post(slug, stranger.body, stranger.headers | stolen).status == 401
        replayed = installation.deliver(slug, dialect, captured, **stolen)
        receipt = installation.deliver(slug, dialect, genuine)
        assert receipt != replayed
        installation.wait_for_receipt(receipt, "processed")
        found = installation.wait_for_events(2, source=slug)
        assert len({event["smtp_id"] for event in found}) == 2

    def test_of_an_exact_repetition_gives_one_event(self, installation: Installation) -> None:
        dialect = MailWebhook(seed=805)
        slug = installation.add_source(dialect)
        [body] = inbound_bodies(dialect, 1, seed=806)
        receipts = {installation.deliver(slug, dialect, body) for _ in range(10)}
        assert len(receipts) == 1
        [receipt] = receipts
        installation.wait_for_receipt(receipt, "processed")
        assert installation.deliver(slug, dialect, body) in receipts
        assert len(installation.events(source=slug)) == 1


def test_a_source_of_one_tenant_takes_no_event_without_a_tenant_unless_a_setting_allows_it(
    installation: Installation,
) -> None:
    """B9."""
    dialect = Ark(form=Form.BARE)
    slug = installation.add_source(dialect)
    body = ark_body(dialect, seed=901)
    receipt = installation.deliver(slug, dialect, body)
    [event] = installation.wait_for_events(1, source=slug)
    assert event["type"] == "unknown"
    assert "tenant" in event["problem"]
    installation.change_source(slug, settings={"events_without_tenant": "accept"})
    installation.call("POST", f"/v1/receipts/{receipt}/reprocess")
    installation.wait_for_events(1, source=slug, type="delivered")


class TestTwoSpellingsOfOneAddress:
    """B10: composed and decomposed letters, and characters that are shown as nothing."""

    COMPOSED = "rené@post.example"
    DECOMPOSED = "rene\N{COMBINING ACUTE ACCENT}@post.example"
    INVISIBLE = "\N{ZERO WIDTH NO-BREAK SPACE}\N{SOFT HYPHEN}rené@post.example\N{ZERO WIDTH SPACE}"
    QUOTED = '"rené"@POST.example.'

    def test_are_one_in_events_checks_lifts_and_imports(self, installation: Installation) -> None:
        dialect = MailChannels(seed=1001)
        slug = installation.add_source(dialect)
        spellings = [self.COMPOSED, self.DECOMPOSED, self.INVISIBLE, self.QUOTED]
        assert not any(installation.is_suppressed(*spellings))
        bounce = {"recipients": [self.DECOMPOSED], "status": "5.1.1", "reason": "no such user"}
        receipt = installation.deliver(slug, dialect, mailchannels_body("acmeco", "r", "hard-bounced", **bounce))
        installation.wait_for_receipt(receipt, "processed")
        assert all(installation.is_suppressed(*spellings))
        assert len(installation.events(source=slug, recipient=self.QUOTED)) == 1

        installation.call("DELETE", f"/v1/suppressions/{quote(self.INVISIBLE)}")
        assert not any(installation.is_suppressed(*spellings))

        rows = io.StringIO()
        csv.writer(rows).writerows([["address"], [self.QUOTED]])
        path = installation.up.data / "import.csv"
        path.write_text(rows.getvalue(), encoding="utf-8")
        imported = installation.command("suppressions", "import", str(path))
        assert imported.returncode == 0, imported
        wait_until(lambda: all(installation.is_suppressed(*spellings)))


def test_a_wrong_type_in_a_field_that_only_describes_leaves_the_bounce(installation: Installation) -> None:
    """B11."""
    dialect = MailChannels(seed=1101)
    slug = installation.add_source(dialect)
    odd = {"status": 550.0, "reason": ["5.1.1", "no such user"], "user_agent": 7, "url": [True]}
    installation.deliver(slug, dialect, mailchannels_body("acmeco", "odd", "hard-bounced", **odd))
    [event] = installation.wait_for_events(1, source=slug)
    assert (event["type"], event["recipient"], event["smtp_status"]) == ("bounced", "odd@post.example", "550")
    assert event["reason"] == "5.1.1 no such user"
    assert event["details"]["unread"] == ["url"]


class TestOneKeyThatTakesWhatItCan:
    """B13: it gets its share, and another key is served."""

    def test_of_streams_and_long_polls(self, installation: Installation) -> None:
        greedy = installation.create_key("greedy with streams", "read")["key"]
        other = installation.create_key("modest with streams", "read")["key"]
        share = ConnectionLimits().max_connections // 2
        address = urlsplit(installation.up.ready()["api_url"])

        async def open_stream(opened: AsyncExitStack, path: str) -> bytes:
            """Return the status of the response, which stays open; of a stream once it has begun."""
            reader, writer = await asyncio.open_connection(address.hostname, address.port)
            opened.callback(writer.close)
            writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {greedy}\r\n\r\n".encode())
            status = (await reader.readline()).split()[1]
            if status == b"200":
                await reader.readuntil(b"id: ")
            return status

        async def scenario() -> None:
            async with AsyncExitStack() as opened:
                for _ in range(share // 100):
                    streams = (open_stream(opened, "/v1/changes/stream") for _ in range(100))
                    assert set(await asyncio.gather(*streams)) == {b"200"}
                for path in ("/v1/changes/stream", "/v1/changes?wait=60&types=domain.dns_error"):
                    assert await open_stream(opened, path) == b"429"
                wanted: dict[str, Any] = {"key": other, "wait": 1, "types": "domain.dns_error"}
                page = await asyncio.to_thread(installation.call, "GET", "/v1/changes", **wanted)
                assert page["next_cursor"]

        asyncio.run(scenario())

    def test_of_jobs(self, installation: Installation) -> None:
        greedy, other = (installation.create_key(name, "admin")["key"] for name in ("greedy", "modest"))
        with installation.suspended("worker"):
            for _ in range(MAX_OPEN_OF_KEY):
                installation.call("POST", "/v1/suppressions/export", {}, key=greedy)
            refused = installation.request("POST", "/v1/suppressions/export", {}, key=greedy)
            assert refused.status == 429
            assert f"{MAX_OPEN_OF_KEY} jobs" in refused.document["detail"]
            asked = installation.call("POST", "/v1/suppressions/export", {}, key=other)["id"]
        wait_until(lambda: installation.call("GET", f"/v1/jobs/{asked}")["state"] == "done")


class TestWhatWasMistyped:
    """B15: it is refused, and the nearest valid name is given."""

    @pytest.mark.parametrize(
        ("method", "path", "body", "words"),
        [
            (
                "POST",
                "/v1/sources",
                {"slug": "x", "provider": "mailchannels", "credentials": {"customer_handles": ["a"], "apikey": "k"}},
                ["credentials.apikey", "Did you mean 'api_key'?"],
            ),
            ("POST", "/v1/sources", {"slug": "x", "provider": "mailchanels", "credentials": {}}, ["mailchannels"]),
            ("GET", "/v1/events?type=bouncd", None, ["type", "bounced"]),
            ("GET", "/v1/receipts?sorce=a", None, ["sorce", "Did you mean 'source'?"]),
            ("GET", "/v1/messages?status=bounced&status=sent", None, ["status", "Must be given once."]),
            ("GET", "/v1/jobs?kind=replays", None, ["kind", "Did you mean 'replay'?"]),
            ("POST", "/v1/subscriptions", {"url": "http://127.0.0.1/", "types": ["message.bounce"]}, ["types"]),
        ],
        ids=lambda value: value if isinstance(value, str) and value.startswith("/") else "",
    )
    def test_at_the_api(
        self, installation: Installation, method: str, path: str, body: Any, words: Sequence[str]
    ) -> None:
        refused = installation.request(method, path, body)
        assert refused.status == 422
        assert all(word in refused.content.decode() for word in words), refused

    @pytest.mark.parametrize(
        ("words", "settings", "said"),
        [
            (("keys", "list"), {"TIDINGS_BATCHSIZE": "10"}, "Did you mean 'TIDINGS_BATCH_SIZE'?"),
            (("sources", "chek"), {}, "chek"),
            (("suppressions", "check", "not an address"), {}, "not an address"),
        ],
    )
    def test_in_a_command(
        self, installation: Installation, words: tuple[str, ...], settings: dict[str, str], said: str
    ) -> None:
        found = installation.command(*words, **settings)
        assert found.returncode == 2, found
        assert said in found.stderr


def test_a_replay_of_one_delivery_is_tried_at_once_although_the_breaker_is_open(
    installation: Installation, sink: HttpSink
) -> None:
    """B16."""
    dialect = MailChannels(seed=1601)
    slug = installation.add_source(dialect)
    wanted = {"url": sink.url, "types": ["message.delivered"], "sources": [slug], "retry_schedule": [3600]}
    path = f"/v1/subscriptions/{installation.call('POST', '/v1/subscriptions', wanted)['id']}"
    sink.always = answer(500)
    for number in range(20):
        installation.deliver(slug, dialect, mailchannels_body("acmeco", f"b{number}"))

    def open_until() -> str | None:
        until: str | None = installation.call("GET", path)["health"]["open_until"]
        return until

    def under_way() -> int:
        with psycopg.connect(installation.up.ready()["database_url"]) as connection:
            found = connection.execute("SELECT count(*) FROM pending_deliveries WHERE lease_until > now()").fetchone()
        return int(found[0]) if found else 0

    wait_until(lambda: open_until() is not None and not under_way())
    sink.always = None
    tried = installation.items("/v1/deliveries", subscription=path.rpartition("/")[2])
    chosen = next(one for one in tried if one["attempts"])
    heard = len(sink.received)
    installation.call("POST", f"/v1/deliveries/{chosen['id']}/replay")
    wait_until(lambda: installation.call("GET", f"/v1/deliveries/{chosen['id']}")["status"] == "delivered")
    assert sink.received[heard].id == chosen["webhook_id"]
    assert open_until() is None
    installation.call("DELETE", path)
