"""A quarantined webhook is admitted if its provider proves to have sent it, and rejected otherwise."""

import base64
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from cli.embedded.server import eventually
from cli.supervisor import ports
from shared.broker import VERIFY
from shared.postgres import stored_requests
from shared.receipts import store as receipts
from shared.sources import store as sources
from shared.sources.public_keys import LOOKUP_WINDOW_SECONDS, MAX_LOOKUPS, KeyServers
from shared.sources.source import Source
from simulator.keys import Ed25519Key
from simulator.providers.ark.webhooks import Ark
from simulator.providers.base import Dialect, Forgery
from simulator.providers.mailchannels.webhooks import MailChannels
from simulator.server import ProviderServer
from tests.support.system import System, open_system
from workers import process_receipts as draining
from workers import verification

RIGHT = {"username": "user", "password": "secret"}
MISTYPED = {"username": "user", "password": "sceret"}
BASIC = {"Authorization": "Basic " + base64.b64encode(b"user:secret").decode()}
KEYS_PATH = "/mc/tx/v1/webhook/public-key"


def delivered(name: str) -> bytes:
    """MailChannels' word of one delivery."""
    event = {
        "email": "shop@example.com",
        "customer_handle": "acmeco",
        "timestamp": 1767225600,
        "event": "delivered",
        "request_id": name,
        "recipients": [f"{name}@example.net"],
    }
    return json.dumps([event]).encode()


def soft_bounce(name: str) -> bytes:
    """CloudMailin's word of a delivery that was put off: no id, no time."""
    event = {"kind": "soft_bounce", "recipient": f"{name}@example.net", "message_id": name}
    return json.dumps({"events": [event]}).encode()


@dataclass
class QuarantineEnv:
    """A provider that publishes keys, and the source that it posts to."""

    system: System
    dialect: MailChannels
    source: Source
    server: ProviderServer

    def park(self, body: bytes, *, dialect: Dialect | None = None) -> UUID:
        headers = (dialect or self.dialect).sign(body, datetime.now(UTC))
        return self.system.quarantine(self.source, body, headers, key_id="some key")

    @property
    def asked(self) -> int:
        return self.server.requests.get(KEYS_PATH, 0)


@pytest.fixture
def env(system: System) -> Iterator[QuarantineEnv]:
    """The provider has gone over to a key that the source does not hold."""
    dialect = MailChannels(seed=3)
    with ProviderServer({"mc": dialect}) as server:
        source = system.add_source("mc", "mailchannels", dialect.credentials(), **server.settings("mc"))
        dialect.rotate()
        yield QuarantineEnv(system, dialect, source, server)


class TestAnUnknownKey:
    def test_is_fetched_and_what_it_signed_is_admitted_announced_and_processed(self, env: QuarantineEnv) -> None:
        receipt = env.park(delivered("ann"))
        verification.verify_due(env.system.ctx)
        assert env.system.receipt_state(receipt) == ("pending", None)
        assert env.system.notifier.tasks

        draining.process_due(env.system.ctx)

        assert env.system.recipient_statuses() == {"ann@example.net": "delivered"}
        [(keys, version)] = env.system.rows("SELECT fetched_keys, version FROM sources")
        assert list(keys) == [env.dialect.key_id]
        assert version > env.source.version, "receivers would not look at it again"

    def test_is_asked_for_once_however_many_requests_name_it(self, env: QuarantineEnv) -> None:
        for number in range(5):
            env.park(delivered(f"n{number}"))
        verification.verify_due(env.system.ctx)
        env.park(delivered("later"))
        verification.verify_due(env.system.ctx)
        assert env.asked == 1
        assert env.system.rows("SELECT count(*) FROM pending_receipts") == [(6,)]

    def test_of_a_key_set_is_fetched_too(self, system: System) -> None:
        dialect = Ark()
        with ProviderServer({"ark": dialect}) as server:
            source = system.add_source("ark", "ark", dialect.credentials(), **server.settings("ark"))
            dialect.rotate()
            body = json.dumps({"event": "DomainDNSError", "timestamp": 1767225600, "payload": {"domain": "x"}}).encode()
            receipt = system.quarantine(source, body, dialect.sign(body, datetime.now(UTC)), dialect.key_id)
            verification.verify_due(system.ctx)
        assert system.receipt_state(receipt) == ("pending", None)

    def test_that_the_provider_does_not_know_is_a_forgery(self, env: QuarantineEnv) -> None:
        signed = env.dialect.forge(delivered("ann"), datetime.now(UTC), Forgery.UNKNOWN_KEY)
        receipt = env.system.quarantine(env.source, signed.body, signed.headers, key_id="nobody")
        verification.verify_due(env.system.ctx)
        assert env.system.receipt_state(receipt) == ("rejected", "unknown_key")
        assert env.system.notifier.tasks == []

    def test_whose_name_a_forger_borrowed_does_not_let_him_in(self, env: QuarantineEnv) -> None:
        body = delivered("ann")
        forger = MailChannels(seed=666)
        forger._keys = {env.dialect.key_id: Ed25519Key.make(env.dialect.key_id, b"f" * 32)}  # noqa: SLF001
        forged = env.park(body, dialect=forger)
        genuine = env.park(delivered("bob"))
        verification.verify_due(env.system.ctx)
        assert env.system.receipt_state(forged) == ("rejected", "bad_signature")
        assert env.system.receipt_state(genuine) == ("pending", None)

    def test_is_judged_by_the_time_at_which_its_request_arrived(self, env: QuarantineEnv) -> None:
        receipt = env.park(delivered("ann"))
        an_hour_ago = datetime.now(UTC) - timedelta(hours=1)
        old = env.dialect.sign(delivered("ann"), an_hour_ago)
        env.system.execute(
            "UPDATE receipts SET received_at = %(at)s, content = %(content)s",
            at=an_hour_ago,
            content=stored_requests.pack(
                json.dumps({name.lower(): value for name, value in old.items()}), delivered("ann")
            ),
        )
        verification.verify_due(env.system.ctx)
        assert env.system.receipt_state(receipt) == ("pending", None)

    def test_costs_the_provider_little_even_in_a_flood_of_invented_names(self, env: QuarantineEnv) -> None:
        for number in range(30):
            body = delivered(f"n{number}")
            forger = MailChannels(seed=1000 + number)
            env.park(body, dialect=forger)
        verification.verify_due(env.system.ctx)
        assert env.asked == 20
        states = dict(env.system.rows("SELECT state, count(*) FROM parked_receipts GROUP BY state"))
        assert states == {"rejected": 20, "unverified": 10}


class TestAFlood:
    """Forged requests with invented key ids."""

    def test_leaves_a_genuine_request_its_turn_and_its_attempts(self, env: QuarantineEnv) -> None:
        for number in range(25):
            env.park(delivered(f"n{number}"), dialect=MailChannels(seed=1000 + number))
        genuine = env.park(delivered("ann"))
        verification.verify_due(env.system.ctx)
        assert env.system.receipt_state(genuine)[0] == "unverified"
        assert env.system.rows("SELECT DISTINCT attempts FROM parked_receipts WHERE state = 'unverified'") == [(0,)]

        env.system.make_receipts_due()
        verification.verify_due(env.system.add_worker())  # another process has lookups of its own
        assert env.system.receipt_state(genuine) == ("pending", None)

    def test_under_a_key_set_is_decided_by_one_fetch(self, system: System) -> None:
        dialect = Ark()
        with ProviderServer({"ark": dialect}) as server:
            source = system.add_source("ark", "ark", dialect.credentials(), **server.settings("ark"))
            dialect.rotate()
            body = json.dumps({"event": "DomainDNSError", "timestamp": 1767225600, "payload": {"domain": "x"}}).encode()
            headers = dialect.sign(body, datetime.now(UTC))
            forged = [
                system.quarantine(source, body + b" " * number, {**headers, "X-Ark-Signature-KID": f"k{number}"}, "k")
                for number in range(60)
            ]
            genuine = system.quarantine(source, body, headers, dialect.key_id)
            verification.verify_due(system.ctx)
            assert sum(server.requests.values()) == 1
        assert {system.receipt_state(one) for one in forged} == {("rejected", "unknown_key")}
        assert system.receipt_state(genuine) == ("pending", None)

    def test_is_kept_within_the_limits_of_the_quarantine_when_it_is_rejected(self, database_url: str) -> None:
        with open_system(database_url, quarantine_rows=5) as system, ProviderServer({"mc": MailChannels()}) as server:
            dialect = MailChannels(seed=666)
            source = system.add_source("mc", "mailchannels", {"customer_handles": ["a"]}, **server.settings("mc"))
            for number in range(12):
                body = delivered(f"n{number}")
                system.quarantine(source, body, dialect.sign(body, datetime.now(UTC)), dialect.key_id)
            verification.verify_due(system.ctx)
            counted = [system.rows(f"SELECT count(*) FROM {table}") for table in ("receipts", "receipt_keys")]
            assert counted == [[(5,)], [(0,)]]

    def test_that_waits_for_a_silent_key_server_delays_no_other_source(self, env: QuarantineEnv) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            keys_url = f"http://127.0.0.1:{silent.getsockname()[1]}{KEYS_PATH}"
            flooded = env.system.add_source("flooded", "mailchannels", {"customer_handles": ["a"]}, keys_url=keys_url)
            for number in range(30):
                body = delivered(f"n{number}")
                headers = MailChannels(seed=1000 + number).sign(body, datetime.now(UTC))
                env.system.quarantine(flooded, body, headers, "k")
            genuine = env.park(delivered("ann"))
            with ThreadPoolExecutor(1) as pool:
                running = pool.submit(verification.verify_due, env.system.ctx)
                assert eventually(lambda: env.system.receipt_state(genuine)[0] == "pending", timeout_seconds=10)
                assert not running.done(), "the key server of the other source is still asked"
        charged = env.system.rows("SELECT count(*) FROM parked_receipts WHERE attempts > 0")
        assert charged == [(1,)], "one request asked"


def test_a_failing_key_server_is_not_asked_again_for_new_requests_and_for_few_keys_at_a_time() -> None:
    now = [0.0]
    servers = KeyServers(lambda: now[0])
    servers.fail(1, seconds=10)
    assert not servers.may_ask(1, is_new=True)
    assert servers.may_ask(1, is_new=False), "a request whose own delay has passed"
    assert servers.may_ask(2, is_new=True)
    now[0] = 10
    asked = [servers.may_ask(1, is_new=True) for _ in range(MAX_LOOKUPS + 1)]
    assert asked == [True] * MAX_LOOKUPS + [False]
    now[0] += LOOKUP_WINDOW_SECONDS
    assert servers.may_ask(1, is_new=True)


def test_while_the_key_server_is_down_requests_wait_and_are_admitted_when_it_is_back(system: System) -> None:
    dialect = MailChannels(seed=3)
    port = ports.free_port()
    keys_url = f"http://127.0.0.1:{port}{KEYS_PATH}"
    source = system.add_source("mc", "mailchannels", dialect.credentials(), keys_url=keys_url)
    dialect.rotate()
    body = delivered("ann")
    receipt = system.quarantine(source, body, dialect.sign(body, datetime.now(UTC)), dialect.key_id)

    delays = []
    for _ in range(3):
        verification.verify_due(system.ctx)
        assert system.receipt_state(receipt)[0] == "unverified"
        [(delay, detail)] = system.rows(
            "SELECT extract(epoch FROM available_at - now())::float, detail FROM parked_receipts"
        )
        delays.append(delay)
        assert keys_url in detail
        verification.verify_due(system.ctx)
        system.make_receipts_due()
    assert delays == pytest.approx([10, 20, 40], abs=3)

    with ProviderServer({"mc": dialect}, port=port):
        verification.verify_due(system.ctx)
    assert system.receipt_state(receipt) == ("pending", None)


def test_an_answer_that_holds_no_key_is_asked_for_again_rather_than_taken_for_a_no(system: System) -> None:
    dialect = MailChannels(seed=3)
    with ProviderServer({"ark": Ark()}) as wrong:  # answers, with another kind of document
        source = system.add_source("mc", "mailchannels", dialect.credentials(), keys_url=wrong.keys_url("ark") or "")
        dialect.rotate()
        body = delivered("ann")
        receipt = system.quarantine(source, body, dialect.sign(body, datetime.now(UTC)), dialect.key_id)
        verification.verify_due(system.ctx)
    assert system.receipt_state(receipt)[0] == "unverified"


class TestARepetition:
    def test_of_a_webhook_that_was_accepted_directly_is_dropped(self, env: QuarantineEnv) -> None:
        body = delivered("ann")
        env.system.store_receipt(env.source, body)
        again = env.park(body)
        verification.verify_due(env.system.ctx)
        draining.process_due(env.system.ctx)
        assert env.system.receipt_state(again) == ("processed", None)
        assert env.system.rows("SELECT count(*) FROM events") == [(1,)]
        env.system.assert_nothing_doubled()

    def test_by_the_straight_way_of_what_was_admitted_is_recognised(self, env: QuarantineEnv) -> None:
        body = delivered("ann")
        env.park(body)
        verification.verify_due(env.system.ctx)
        repetition = env.system.build_receipt(env.source, body, {})
        with env.system.ctx.engine.begin() as connection:
            assert receipts.record(connection, [repetition]) == set()

    def test_is_none_if_the_earlier_one_s_window_had_closed(self, system: System) -> None:
        source = system.add_source("cm", "cloudmailin", RIGHT)
        body = soft_bounce("ann")
        system.store_receipt(source, body)
        system.execute("UPDATE receipt_keys SET expires_at = now() - interval '1 hour'")
        again = system.quarantine(source, body, BASIC)
        verification.verify_due(system.ctx)
        assert system.receipt_state(again) == ("pending", None)


class TestWhileASecretIsMended:
    """The grace period of a source whose credentials are wrong."""

    @pytest.fixture
    def source(self, system: System) -> Source:
        until = datetime.now(UTC) + timedelta(hours=1)
        return system.add_source("cm", "cloudmailin", MISTYPED, quarantine_until=until.isoformat())

    def mend(self, system: System, source: Source) -> None:
        with system.ctx.engine.begin() as connection:
            sources.update(connection, source.id, credentials=system.ctx.vault.seal(RIGHT))
        system.make_receipts_due()

    def test_requests_wait_and_are_admitted_afterwards(self, system: System, source: Source) -> None:
        receipt = system.quarantine(source, soft_bounce("ann"), BASIC)
        verification.verify_due(system.ctx)
        assert system.receipt_state(receipt)[0] == "unverified"

        self.mend(system, source)
        verification.verify_due(system.ctx)
        draining.process_due(system.ctx)

        assert system.receipt_state(receipt) == ("processed", None)
        assert system.recipient_statuses() == {"ann@example.net": "deferred"}

    def test_requests_are_verified_at_once_when_a_person_changes_the_credentials(
        self, system: System, source: Source
    ) -> None:
        receipt = system.quarantine(source, soft_bounce("ann"), BASIC)
        verification.verify_due(system.ctx)
        assert system.call("PATCH", "/v1/sources/cm", {"credentials": RIGHT}).status_code == 200
        assert VERIFY in system.notifier.tasks
        verification.verify_due(system.ctx)
        assert system.receipt_state(receipt) == ("pending", None)

    def test_the_credentials_that_came_are_stored_sealed_only(self, system: System, source: Source) -> None:
        system.quarantine(source, soft_bounce("ann"), BASIC)
        [(content,)] = system.rows("SELECT content FROM receipts")
        assert BASIC["Authorization"].split()[1] not in stored_requests.unpack(content)[0]

    def test_forged_requests_are_rejected_after_the_repair_and_the_deadline(
        self, system: System, source: Source
    ) -> None:
        guess = {"Authorization": "Basic " + base64.b64encode(b"user:guess").decode()}
        forged = system.quarantine(source, soft_bounce("eve"), guess)
        self.mend(system, source)
        with system.ctx.engine.begin() as connection:
            sources.update(connection, source.id, settings={})
        verification.verify_due(system.ctx)
        assert system.receipt_state(forged) == ("rejected", "bad_credentials")

    def test_nothing_is_given_up_before_the_time_is_over(self, system: System, source: Source) -> None:
        receipt = system.quarantine(source, soft_bounce("ann"), BASIC)
        system.execute("UPDATE parked_receipts SET attempts = 500")
        verification.verify_due(system.ctx)
        assert system.receipt_state(receipt)[0] == "unverified"


def test_a_source_that_cannot_be_opened_holds_no_other_source_up(env: QuarantineEnv) -> None:
    system = env.system
    broken = system.add_source("cm", "cloudmailin", RIGHT)
    waiting = system.quarantine(broken, soft_bounce("ann"), BASIC)
    system.execute("UPDATE sources SET credentials = 'sealed with a key that is lost' WHERE slug = 'cm'")
    genuine = env.park(delivered("bob"))

    verification.verify_due(system.ctx)

    assert system.receipt_state(genuine) == ("pending", None)
    assert system.receipt_state(waiting)[0] == "unverified"
    [(detail,)] = system.rows("SELECT detail FROM parked_receipts")
    assert "TIDINGS_SECRET_KEYS" in detail


@pytest.mark.parametrize("value", ["sealed:abc", "sealed:\xff", "sealed:"])
def test_a_header_that_only_looks_sealed_by_us_is_taken_as_it_came(env: QuarantineEnv, value: str) -> None:
    body = delivered("ann")
    headers = {**env.dialect.sign(body, datetime.now(UTC)), "X-Note": value}
    receipt = env.system.quarantine(env.source, body, headers, key_id=env.dialect.key_id)
    verification.verify_due(env.system.ctx)
    assert env.system.receipt_state(receipt) == ("pending", None)


def test_two_workers_verify_each_request_once(env: QuarantineEnv) -> None:
    receipt = env.park(delivered("ann"))
    first, second = env.system.ctx, env.system.add_worker()
    verification.verify_due(first)
    verification.verify_due(second)
    assert env.system.rows("SELECT receipt_id, attempts FROM pending_receipts") == [(receipt, 0)]
    assert env.asked == 1


def test_a_request_that_cannot_be_read_delays_no_other(system: System) -> None:
    source = system.add_source("cm", "cloudmailin", RIGHT)
    later, good = (system.quarantine(source, soft_bounce(name), BASIC) for name in ("ann", "bob"))
    system.execute(f"UPDATE receipts SET content = set_byte(content, 5, 200) WHERE id = '{later}'")
    verification.verify_due(system.ctx)
    assert system.receipt_state(good)[0] == "pending"
    ((attempts, detail),) = system.rows("SELECT attempts, detail FROM parked_receipts")
    assert attempts == 0
    assert "update this one" in detail
