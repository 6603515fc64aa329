"""A subscription to a topic is confirmed by the worker that fetches the certificate, and by nobody else."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import pytest

from shared.sources.source import Source
from simulator.providers.base import Forgery, make_request
from simulator.providers.ses.webhooks import Ses
from simulator.scenarios import SCENARIOS
from simulator.server import ProviderServer
from simulator.serving import Call, Response, Server
from simulator.staging import stage
from tests.support.system import System
from workers import process_receipts, verification


class Sns(Server):
    """The API at which subscriptions are confirmed: its calls, and the next status codes; 200 by default."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.then: list[int] = []

    def answer(self, call: Call) -> Response:
        """Note the call."""
        self.calls.append(call)
        return Response(status=self.then.pop(0) if self.then else 200, content=b"<ok/>", headers={})


@dataclass
class Topic:
    """A topic that posts to a source, the host of its certificates, and the API at which it is confirmed."""

    system: System
    dialect: Ses
    source: Source
    sns: Sns

    def park(self, body: bytes, key_id: str | None = None) -> UUID:
        headers = self.dialect.sign(body, datetime.now(UTC))
        return self.system.quarantine(self.source, body, headers, key_id=key_id or self.dialect.key_id)

    def event(self) -> bytes:
        play = stage(SCENARIOS["happy"], self.dialect, count=1, seed=1, now=datetime.now(UTC))
        return play.postings[0].body


@pytest.fixture
def topic(system: System) -> Iterator[Topic]:
    dialect = Ses()
    with ProviderServer({"ses": dialect}) as server, Sns() as sns:
        settings = {"keys_url": server.keys_url("ses") or "", "api_base": sns.url}
        source = system.add_source("ses", "ses", dialect.credentials(), **settings)
        yield Topic(system, dialect, source, sns)


def test_an_event_is_admitted_once_the_certificate_is_fetched(topic: Topic) -> None:
    body = make_request(topic.dialect, topic.event(), datetime.now(UTC)).body
    receipt = topic.park(body)
    verification.verify_due(topic.system.ctx)
    assert topic.system.receipt_state(receipt) == ("pending", None)
    process_receipts.process_due(topic.system.ctx)
    assert topic.system.rows("SELECT type FROM events") == [("sent",)]
    assert topic.sns.calls == []


def test_a_subscription_is_confirmed_with_its_topic_and_token(topic: Topic) -> None:
    body = topic.dialect.confirmation(datetime.now(UTC))
    receipt = topic.park(body)
    verification.verify_due(topic.system.ctx)
    assert topic.system.receipt_state(receipt) == ("pending", None)
    (call,) = topic.sns.calls
    document = json.loads(body)
    assert call.query == {
        "Action": "ConfirmSubscription",
        "TopicArn": document["TopicArn"],
        "Token": document["Token"],
    }
    process_receipts.process_due(topic.system.ctx)
    assert topic.system.rows("SELECT type FROM events") == [("test",)]


def test_a_forged_confirmation_is_rejected_and_calls_nobody(topic: Topic) -> None:
    document = json.loads(topic.dialect.confirmation(datetime.now(UTC)))
    receipt = topic.park(json.dumps(document | {"Token": "of-a-forger"}).encode())
    verification.verify_due(topic.system.ctx)
    assert topic.system.receipt_state(receipt) == ("rejected", "bad_signature")
    assert topic.sns.calls == []


def test_a_confirmation_that_is_refused_is_rejected_and_one_that_fails_is_tried_again(topic: Topic) -> None:
    topic.sns.then.append(500)
    receipt = topic.park(topic.dialect.confirmation(datetime.now(UTC)))
    verification.verify_due(topic.system.ctx)
    assert topic.system.receipt_state(receipt)[0] == "unverified"
    topic.sns.then.append(403)
    topic.system.execute("UPDATE parked_receipts SET available_at = now() - interval '1 s'")
    verification.verify_due(topic.system.ctx)
    assert topic.system.receipt_state(receipt) == ("rejected", "unconfirmed")


def test_an_event_signed_with_another_key_is_rejected(topic: Topic) -> None:
    forged = topic.dialect.forge(topic.event(), datetime.now(UTC), Forgery.WRONG_KEY)
    receipt = topic.park(forged.body, json.loads(forged.body)["SigningCertURL"])
    verification.verify_due(topic.system.ctx)
    assert topic.system.receipt_state(receipt) == ("rejected", "bad_signature")
