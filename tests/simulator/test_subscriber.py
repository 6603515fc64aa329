"""The subscriber accepts genuine webhooks, fails in every way that it is configured to, and knows what it missed."""

import http.client
import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest

from cli.embedded.server import eventually
from shared.http import standard_webhooks
from simulator.subscribing import behaviours
from simulator.subscribing.behaviours import Moment
from simulator.subscribing.subscriber import Subscriber

_PATIENCE_SECONDS = 0.3
_LONG_SECONDS = 30.0


@pytest.fixture
def secret() -> str:
    return standard_webhooks.new_secret()


@pytest.fixture
def subscriber(secret: str) -> Iterator[Subscriber]:
    with Subscriber() as subscriber:
        subscriber.trust(secret)
        yield subscriber


class Sender:
    """Tells a subscriber of changes, with signatures of its own making."""

    def __init__(self, subscriber: Subscriber, *secrets: str) -> None:
        self._address = urlsplit(subscriber.endpoint)
        self._secrets = secrets

    def open(self, name: str, timeout_seconds: float = _LONG_SECONDS, **changes: Any) -> http.client.HTTPConnection:
        """The connection on which the change of that name was sent; `changes` are to it, and to its headers."""
        headers = changes.pop("headers", {})
        age = changes.pop("age", timedelta())
        change = {"id": name, "type": "message.delivered", "data": {"message": None, "version": None}} | changes
        body = json.dumps(change).encode()
        signed = standard_webhooks.headers(
            self._secrets, message_id=name, attempted_at=datetime.now(UTC) - age, body=body
        )
        connection = http.client.HTTPConnection(
            self._address.hostname or "", self._address.port, timeout=timeout_seconds
        )
        connection.request("POST", self._address.path, body, {**signed, "Idempotency-Key": name} | headers)
        return connection

    def tell(self, name: str, **changes: Any) -> int:
        """The status that telling of that change is answered with."""
        with closing(self.open(name, **changes)) as connection:
            response = connection.getresponse()
            response.read()
            return response.status

    def tell_of(self, name: str, version: int, message: str = "m", recipient: str = "a@b.example") -> int:
        """The same of a change of a recipient's state."""
        return self.tell(name, data={"message": {"id": message}, "recipient": recipient, "version": version})


@pytest.fixture
def sender(subscriber: Subscriber, secret: str) -> Sender:
    return Sender(subscriber, secret)


def test_what_is_signed_with_its_secret_is_taken_and_counted_by_id(subscriber: Subscriber, sender: Sender) -> None:
    assert [sender.tell(name) for name in ("1-1", "1-2", "1-2")] == [200, 200, 200]
    tally = subscriber.tally
    assert tally.taken == {"1-1": 1, "1-2": 2}
    assert tally.doubled() == {"1-2": 2}
    assert tally.missed(["1-1", "1-2", "1-3"]) == ["1-3"]
    assert (tally.requests, tally.bad_signatures, tally.mislabelled, tally.disordered) == (3, 0, 0, 0)


@pytest.mark.parametrize(
    "forged",
    [
        {"webhook-signature": ""},
        {"webhook-signature": "nothing of the kind"},
        {"webhook-signature": "v1,not base64"},
        {"webhook-signature": "v1,AAAA"},
        {"webhook-id": "1-9"},
        {"webhook-timestamp": "soon"},
    ],
    ids=str,
)
def test_what_is_not_genuine_is_refused_and_not_taken(
    subscriber: Subscriber, sender: Sender, forged: dict[str, str]
) -> None:
    assert sender.tell("1-1", headers=forged) == 401
    assert (subscriber.tally.bad_signatures, subscriber.tally.missed(["1-1"])) == (1, ["1-1"])


def test_a_signature_of_long_ago_is_refused(subscriber: Subscriber, sender: Sender) -> None:
    assert sender.tell("1-1", age=timedelta(minutes=6)) == 401
    assert subscriber.tally.bad_signatures == 1


def test_an_unknown_secret_is_not_trusted(subscriber: Subscriber) -> None:
    assert Sender(subscriber, standard_webhooks.new_secret()).tell("1-1") == 401


def test_while_a_secret_is_replaced_one_of_two_signatures_is_enough(subscriber: Subscriber, secret: str) -> None:
    new = standard_webhooks.new_secret()
    assert Sender(subscriber, new, secret).tell("1-1") == 200
    subscriber.trust(new)
    assert Sender(subscriber, new).tell("1-2") == 200


@pytest.mark.parametrize("wrong", [{"headers": {"Idempotency-Key": "other"}}, {"id": "1-2"}], ids=["key", "body"])
def test_a_change_that_bears_two_names_is_noted(
    subscriber: Subscriber, sender: Sender, wrong: dict[str, object]
) -> None:
    sender.tell("1-1", **wrong)
    assert subscriber.tally.mislabelled == 1


def test_older_news_of_the_same_recipient_is_out_of_order(subscriber: Subscriber, sender: Sender) -> None:
    for name, version in (("1-1", 1), ("1-3", 3), ("1-2", 2)):
        sender.tell_of(name, version)
    assert subscriber.tally.disordered == 1


def test_a_repetition_and_news_of_others_are_not_out_of_order(subscriber: Subscriber, sender: Sender) -> None:
    sender.tell_of("1-1", 1)
    sender.tell_of("1-2", 2)
    sender.tell_of("1-1", 1)
    sender.tell_of("1-3", 1, message="n")
    sender.tell_of("1-4", 1, recipient="c@d.example")
    assert subscriber.tally.disordered == 0


@pytest.mark.parametrize("status", [400, 404, 410, 425, 500, 503])
def test_a_status_other_than_2xx_takes_nothing(subscriber: Subscriber, sender: Sender, status: int) -> None:
    subscriber.behave(behaviours.answering(status))
    assert sender.tell("1-1") == status
    assert subscriber.tally.missed(["1-1"]) == ["1-1"]
    assert subscriber.tally.decided == {status: 1}


def test_it_can_ask_to_be_left_alone(subscriber: Subscriber, sender: Sender) -> None:
    subscriber.behave(behaviours.answering(429, retry_after="7"))
    with closing(sender.open("1-1")) as connection:
        response = connection.getresponse()
        assert (response.status, response.getheader("Retry-After")) == (429, "7")


def test_it_can_be_slow(subscriber: Subscriber, sender: Sender) -> None:
    subscriber.behave(behaviours.slow(_PATIENCE_SECONDS * 2))
    with closing(sender.open("1-1", timeout_seconds=_PATIENCE_SECONDS)) as connection, pytest.raises(TimeoutError):
        connection.getresponse()
    assert sender.tell("1-2") == 200
    assert eventually(lambda: subscriber.tally.missed(["1-1", "1-2"]) == [], timeout_seconds=_LONG_SECONDS)


def test_it_can_hang_without_having_taken_anything(subscriber: Subscriber, sender: Sender) -> None:
    subscriber.behave(behaviours.hanging())
    with closing(sender.open("1-1", timeout_seconds=_PATIENCE_SECONDS)) as connection, pytest.raises(TimeoutError):
        connection.getresponse()
    assert subscriber.tally.missed(["1-1"]) == ["1-1"]


def test_a_hanging_request_ends_when_the_subscriber_stops(secret: str) -> None:
    with Subscriber(behaviours.hanging()) as subscriber:
        subscriber.trust(secret)
        connection = Sender(subscriber, secret).open("1-1")
        while not subscriber.tally.requests:
            time.sleep(0.01)
    with closing(connection), pytest.raises(ConnectionResetError):
        connection.getresponse()


def test_it_can_drip(subscriber: Subscriber, sender: Sender) -> None:
    subscriber.behave(behaviours.dripping())
    with closing(sender.open("1-1")) as connection:
        client = connection.sock
        response = connection.getresponse()
        assert response.status == 200
        assert response.read(1) == b"."
        client.settimeout(_PATIENCE_SECONDS)
        with pytest.raises(TimeoutError):
            response.read(1)


def test_it_can_talk_without_an_end(subscriber: Subscriber, sender: Sender) -> None:
    subscriber.behave(behaviours.oversize())
    with closing(sender.open("1-1")) as connection:
        response = connection.getresponse()
        assert response.getheader("Content-Length") is None
        assert len(response.read(5_000_000)) == 5_000_000
    subscriber.behave(behaviours.healthy())
    assert sender.tell("1-2") == 200


def test_it_can_send_elsewhere(subscriber: Subscriber, sender: Sender) -> None:
    subscriber.behave(behaviours.redirecting("http://127.0.0.1:9/elsewhere"))
    with closing(sender.open("1-1")) as connection:
        response = connection.getresponse()
        assert (response.status, response.getheader("Location")) == (307, "http://127.0.0.1:9/elsewhere")


@pytest.mark.parametrize(("behaviour", "taken"), [(behaviours.resetting, False), (behaviours.forgetful, True)])
def test_it_can_reset_the_connection_before_or_after_it_has_taken_a_change(
    subscriber: Subscriber, sender: Sender, behaviour: Any, taken: bool
) -> None:
    subscriber.behave(behaviour())
    with closing(sender.open("1-1")) as connection, pytest.raises(ConnectionResetError):
        connection.getresponse()
    assert ("1-1" in subscriber.tally.taken) is taken


def test_it_can_break_off_in_the_middle(subscriber: Subscriber, sender: Sender) -> None:
    subscriber.behave(behaviours.cut_off())
    with closing(sender.open("1-1")) as connection, pytest.raises(http.client.IncompleteRead):
        connection.getresponse().read()


def test_it_can_answer_with_bytes_that_are_not_text(subscriber: Subscriber, sender: Sender) -> None:
    subscriber.behave(behaviours.wrong_content())
    with closing(sender.open("1-1")) as connection:
        response = connection.getresponse()
        content = response.read()
    assert response.getheader("Content-Type") == "application/json; charset=utf-8"
    assert b"\x00" in content
    with pytest.raises(UnicodeDecodeError):
        content.decode()


def test_a_flapping_one_fails_at_every_nth_request(subscriber: Subscriber, sender: Sender) -> None:
    subscriber.behave(behaviours.flapping(3))
    assert [sender.tell("1-1") for _ in range(7)] == [200, 200, 503, 200, 200, 503, 200]
    assert subscriber.tally.decided == {200: 5, 503: 2}


def test_a_flapping_one_can_fail_in_another_way(subscriber: Subscriber, sender: Sender) -> None:
    subscriber.behave(behaviours.flapping(2, behaviours.answering(500)))
    assert [sender.tell("1-1") for _ in range(2)] == [200, 500]


def test_a_schedule_goes_from_one_behaviour_to_the_next_by_time() -> None:
    behave = behaviours.scheduled(
        (10, behaviours.answering(503)),
        (5, behaviours.scheduled((2, behaviours.answering(429)), finally_=behaviours.answering(404))),
    )
    answers = {at: behave(Moment(number=1, elapsed_seconds=at)).status for at in (0, 9.9, 10, 11.9, 12, 15, 99)}
    assert answers == {0: 503, 9.9: 503, 10: 429, 11.9: 429, 12: 404, 15: 200, 99: 200}


def test_a_behaviour_restarts_when_it_is_set(subscriber: Subscriber, sender: Sender) -> None:
    sender.tell("1-1")
    subscriber.behave(behaviours.flapping(2))
    assert [sender.tell("1-2") for _ in range(2)] == [200, 503]


def test_no_request_is_lost_from_the_count_when_many_arrive_at_once(subscriber: Subscriber, sender: Sender) -> None:
    names = [f"1-{number}" for number in range(100)]
    subscriber.behave(behaviours.flapping(4))
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(sender.tell, names))
    tally = subscriber.tally
    assert (statuses.count(200), statuses.count(503)) == (75, 25)
    assert tally.missed(names) == [name for name, status in zip(names, statuses, strict=True) if status == 503]


def test_one_that_hangs_up_at_once_does_no_harm(subscriber: Subscriber, sender: Sender) -> None:
    address = urlsplit(subscriber.url)
    with socket.create_connection((address.hostname, address.port)) as connection:
        connection.sendall(b"POST /changes HTTP/1.1\r\n")
    assert sender.tell("1-1") == 200
