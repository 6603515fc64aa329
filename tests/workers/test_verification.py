"""What is kept apart is admitted when its provider turns out to have sent it, and rejected when not; nothing else."""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from cli.supervisor import ports
from shared.receipts import store as receipts
from shared.sources import store as sources
from shared.sources.source import Source
from simulator.keys import Ed25519Key
from simulator.providers.ark.webhooks import Ark
from simulator.providers.base import Dialect, Forgery
from simulator.providers.mailchannels.webhooks import MailChannels
from simulator.server import ProviderServer
from tests.workers.workshop import Workshop
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
class Stage:
    """A provider that publishes keys, and the source that it posts to."""

    workshop: Workshop
    dialect: MailChannels
    source: Source
    server: ProviderServer

    def park(self, body: bytes, *, dialect: Dialect | None = None) -> UUID:
        headers = (dialect or self.dialect).sign(body, datetime.now(UTC))
        return self.workshop.park(self.source, body, headers, key_id="some key")

    @property
    def asked(self) -> int:
        return self.server.requests.get(KEYS_PATH, 0)


@pytest.fixture
def stage(workshop: Workshop) -> Iterator[Stage]:
    """The provider has gone over to a key that the source does not hold."""
    dialect = MailChannels(seed=3)
    with ProviderServer({"mc": dialect}) as server:
        source = workshop.add_source("mc", "mailchannels", dialect.credentials(), **server.settings("mc"))
        dialect.rotate()
        yield Stage(workshop, dialect, source, server)


class TestAnUnknownKey:
    def test_is_fetched_and_what_it_signed_is_admitted_announced_and_processed(self, stage: Stage) -> None:
        receipt = stage.park(delivered("ann"))
        verification.verify(stage.workshop.ctx)
        assert stage.workshop.standing(receipt) == ("pending", None)
        assert stage.workshop.bell.rings

        draining.drain(stage.workshop.ctx)

        assert stage.workshop.statuses() == {"ann@example.net": "delivered"}
        [(keys, version)] = stage.workshop.rows("SELECT fetched_keys, version FROM sources")
        assert list(keys) == [stage.dialect.key_id]
        assert version > stage.source.version, "receivers would not look at it again"

    def test_is_asked_for_once_however_many_requests_name_it(self, stage: Stage) -> None:
        for number in range(5):
            stage.park(delivered(f"n{number}"))
        verification.verify(stage.workshop.ctx)
        stage.park(delivered("later"))
        verification.verify(stage.workshop.ctx)
        assert stage.asked == 1
        assert stage.workshop.rows("SELECT count(*) FROM pending_receipts") == [(6,)]

    def test_of_a_key_set_is_fetched_too(self, workshop: Workshop) -> None:
        dialect = Ark()
        with ProviderServer({"ark": dialect}) as server:
            source = workshop.add_source("ark", "ark", dialect.credentials(), **server.settings("ark"))
            dialect.rotate()
            body = json.dumps({"event": "DomainDNSError", "timestamp": 1767225600, "payload": {"domain": "x"}}).encode()
            receipt = workshop.park(source, body, dialect.sign(body, datetime.now(UTC)), dialect.key_id)
            verification.verify(workshop.ctx)
        assert workshop.standing(receipt) == ("pending", None)

    def test_that_the_provider_does_not_know_is_a_forgery(self, stage: Stage) -> None:
        signed = stage.dialect.forge(delivered("ann"), datetime.now(UTC), Forgery.UNKNOWN_KEY)
        receipt = stage.workshop.park(stage.source, signed.body, signed.headers, key_id="nobody")
        verification.verify(stage.workshop.ctx)
        assert stage.workshop.standing(receipt) == ("rejected", "unknown_key")
        assert stage.workshop.bell.rings == []

    def test_whose_name_a_forger_borrowed_does_not_let_him_in(self, stage: Stage) -> None:
        body = delivered("ann")
        forger = MailChannels(seed=666)
        forger._keys = {stage.dialect.key_id: Ed25519Key.make(stage.dialect.key_id, b"f" * 32)}
        forged = stage.park(body, dialect=forger)
        genuine = stage.park(delivered("bob"))
        verification.verify(stage.workshop.ctx)
        assert stage.workshop.standing(forged) == ("rejected", "bad_signature")
        assert stage.workshop.standing(genuine) == ("pending", None)

    def test_is_judged_by_the_time_at_which_its_request_arrived(self, stage: Stage) -> None:
        receipt = stage.park(delivered("ann"))
        an_hour_ago = datetime.now(UTC) - timedelta(hours=1)
        old = stage.dialect.sign(delivered("ann"), an_hour_ago)
        stage.workshop.run(
            "UPDATE receipts SET received_at = %(at)s, headers = %(headers)s::json",
            at=an_hour_ago,
            headers=json.dumps({name.lower(): value for name, value in old.items()}),
        )
        verification.verify(stage.workshop.ctx)
        assert stage.workshop.standing(receipt) == ("pending", None)

    def test_costs_the_provider_little_even_in_a_flood_of_invented_names(self, stage: Stage) -> None:
        for number in range(30):
            body = delivered(f"n{number}")
            forger = MailChannels(seed=1000 + number)
            stage.park(body, dialect=forger)
        verification.verify(stage.workshop.ctx)
        assert stage.asked == 20
        states = dict(stage.workshop.rows("SELECT state, count(*) FROM parked_receipts GROUP BY state"))
        assert states == {"rejected": 20, "unverified": 10}


def test_while_the_key_server_is_down_requests_wait_and_are_admitted_when_it_is_back(workshop: Workshop) -> None:
    dialect = MailChannels(seed=3)
    port = ports.free()
    keys_url = f"http://127.0.0.1:{port}{KEYS_PATH}"
    source = workshop.add_source("mc", "mailchannels", dialect.credentials(), keys_url=keys_url)
    dialect.rotate()
    body = delivered("ann")
    receipt = workshop.park(source, body, dialect.sign(body, datetime.now(UTC)), dialect.key_id)

    delays = []
    for _ in range(3):
        verification.verify(workshop.ctx)
        assert workshop.standing(receipt)[0] == "unverified"
        [(delay, detail)] = workshop.rows(
            "SELECT extract(epoch FROM available_at - now())::float, detail FROM parked_receipts"
        )
        delays.append(delay)
        assert keys_url in detail
        verification.verify(workshop.ctx)
        workshop.come_due()
    assert delays == pytest.approx([10, 20, 40], abs=3)

    with ProviderServer({"mc": dialect}, port=port):
        verification.verify(workshop.ctx)
    assert workshop.standing(receipt) == ("pending", None)


def test_an_answer_that_holds_no_key_is_asked_for_again_rather_than_taken_for_a_no(workshop: Workshop) -> None:
    dialect = MailChannels(seed=3)
    with ProviderServer({"ark": Ark()}) as wrong:  # answers, with another kind of document
        source = workshop.add_source("mc", "mailchannels", dialect.credentials(), keys_url=wrong.keys_url("ark") or "")
        dialect.rotate()
        body = delivered("ann")
        receipt = workshop.park(source, body, dialect.sign(body, datetime.now(UTC)), dialect.key_id)
        verification.verify(workshop.ctx)
    assert workshop.standing(receipt)[0] == "unverified"


class TestARepetition:
    def test_of_what_came_by_the_straight_way_is_let_go(self, stage: Stage) -> None:
        body = delivered("ann")
        stage.workshop.receive(stage.source, body)
        again = stage.park(body)
        verification.verify(stage.workshop.ctx)
        draining.drain(stage.workshop.ctx)
        assert stage.workshop.standing(again) == ("processed", None)
        assert stage.workshop.rows("SELECT count(*) FROM events") == [(1,)]
        stage.workshop.nothing_is_doubled()

    def test_by_the_straight_way_of_what_was_admitted_is_recognised(self, stage: Stage) -> None:
        body = delivered("ann")
        stage.park(body)
        verification.verify(stage.workshop.ctx)
        repetition = stage.workshop.arrived(stage.source, body, {})
        with stage.workshop.ctx.engine.begin() as connection:
            assert receipts.record(connection, [repetition]) == set()

    def test_is_none_if_the_earlier_one_s_window_had_closed(self, workshop: Workshop) -> None:
        source = workshop.add_source("cm", "cloudmailin", RIGHT)
        body = soft_bounce("ann")
        workshop.receive(source, body)
        workshop.run("UPDATE receipt_keys SET expires_at = now() - interval '1 hour'")
        again = workshop.park(source, body, BASIC)
        verification.verify(workshop.ctx)
        assert workshop.standing(again) == ("pending", None)


class TestWhileASecretIsMended:
    """The grace period of a source whose credentials are wrong."""

    @pytest.fixture
    def source(self, workshop: Workshop) -> Source:
        until = datetime.now(UTC) + timedelta(hours=1)
        return workshop.add_source("cm", "cloudmailin", MISTYPED, quarantine_until=until.isoformat())

    def mend(self, workshop: Workshop, source: Source) -> None:
        with workshop.ctx.engine.begin() as connection:
            sources.update(connection, source.id, credentials=workshop.ctx.vault.seal(RIGHT))
        workshop.come_due()

    def test_requests_wait_and_are_admitted_afterwards(self, workshop: Workshop, source: Source) -> None:
        receipt = workshop.park(source, soft_bounce("ann"), BASIC)
        verification.verify(workshop.ctx)
        assert workshop.standing(receipt)[0] == "unverified"

        self.mend(workshop, source)
        verification.verify(workshop.ctx)
        draining.drain(workshop.ctx)

        assert workshop.standing(receipt) == ("processed", None)
        assert workshop.statuses() == {"ann@example.net": "deferred"}

    def test_the_credentials_that_came_are_stored_sealed_only(self, workshop: Workshop, source: Source) -> None:
        workshop.park(source, soft_bounce("ann"), BASIC)
        [(headers,)] = workshop.rows("SELECT headers::text FROM receipts")
        assert BASIC["Authorization"].split()[1] not in headers

    def test_forged_requests_are_rejected_once_it_is_mended_and_the_time_is_over(
        self, workshop: Workshop, source: Source
    ) -> None:
        guess = {"Authorization": "Basic " + base64.b64encode(b"user:guess").decode()}
        forged = workshop.park(source, soft_bounce("eve"), guess)
        self.mend(workshop, source)
        with workshop.ctx.engine.begin() as connection:
            sources.update(connection, source.id, settings={})
        verification.verify(workshop.ctx)
        assert workshop.standing(forged) == ("rejected", "bad_credentials")

    def test_nothing_is_given_up_before_the_time_is_over(self, workshop: Workshop, source: Source) -> None:
        receipt = workshop.park(source, soft_bounce("ann"), BASIC)
        workshop.run("UPDATE parked_receipts SET attempts = 500")
        verification.verify(workshop.ctx)
        assert workshop.standing(receipt)[0] == "unverified"


def test_a_source_that_cannot_be_opened_holds_no_other_source_up(stage: Stage) -> None:
    workshop = stage.workshop
    broken = workshop.add_source("cm", "cloudmailin", RIGHT)
    waiting = workshop.park(broken, soft_bounce("ann"), BASIC)
    workshop.run("UPDATE sources SET credentials = 'sealed with a key that is lost' WHERE slug = 'cm'")
    genuine = stage.park(delivered("bob"))

    verification.verify(workshop.ctx)

    assert workshop.standing(genuine) == ("pending", None)
    assert workshop.standing(waiting)[0] == "unverified"
    [(detail,)] = workshop.rows("SELECT detail FROM parked_receipts")
    assert "TIDINGS_SECRET_KEYS" in detail


@pytest.mark.parametrize("value", ["sealed:abc", "sealed:\xff", "sealed:"])
def test_a_header_that_only_looks_sealed_by_us_is_taken_as_it_came(stage: Stage, value: str) -> None:
    body = delivered("ann")
    headers = {**stage.dialect.sign(body, datetime.now(UTC)), "X-Note": value}
    receipt = stage.workshop.park(stage.source, body, headers, key_id=stage.dialect.key_id)
    verification.verify(stage.workshop.ctx)
    assert stage.workshop.standing(receipt) == ("pending", None)


def test_two_workers_verify_each_request_once(stage: Stage) -> None:
    receipt = stage.park(delivered("ann"))
    first, second = stage.workshop.ctx, stage.workshop.another_rim()
    verification.verify(first)
    verification.verify(second)
    assert stage.workshop.rows("SELECT receipt_id, attempts FROM pending_receipts") == [(receipt, 0)]
    assert stage.asked == 1
