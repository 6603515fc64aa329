"""Requests for load generators are complete, distinct and correctly signed."""

import json
from datetime import UTC, datetime

from simulator import load
from simulator.providers.mailchannels.webhooks import MailChannels
from tests.simulator.test_dialects import check_mailchannels

NOW = datetime(2026, 3, 2, 8, 15, 4, tzinfo=UTC)


def requests(count: int, events: int = 1, seed: int = 1) -> list[bytes]:
    dialect = MailChannels(seed=1)
    return list(
        load.requests(dialect, count, path="/webhooks/x", host="127.0.0.1:8080", now=NOW, events=events, seed=seed)
    )


def test_requests_are_as_they_go_over_the_wire() -> None:
    head, _, body = requests(1)[0].partition(b"\r\n\r\n")
    first, *lines = head.decode("ascii").split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert first == "POST /webhooks/x HTTP/1.1"
    assert headers["Content-Length"] == str(len(body))
    assert headers["Host"] == "127.0.0.1:8080"
    dialect = MailChannels(seed=1)
    check_mailchannels(dialect, headers, body, dialect.key_id)


def test_no_two_events_are_alike_and_each_message_has_three() -> None:
    events = [json.loads(request.partition(b"\r\n\r\n")[2])[0] for request in requests(6000)]
    assert len({json.dumps(event) for event in events}) == 6000
    assert len({event["smtp_id"] for event in events}) == 2000
    assert {event["event"] for event in events} == {"processed", "delivered", "open"}


def test_bodies_contain_the_requested_number_of_events() -> None:
    bodies = [json.loads(request.partition(b"\r\n\r\n")[2]) for request in requests(7, events=100)]
    assert [len(body) for body in bodies] == [100] * 7


def test_another_seed_gives_other_requests() -> None:
    assert not set(requests(10)) & set(requests(10, seed=2))
