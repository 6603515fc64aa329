"""Messages: found by whatever names them, with a state for every recipient."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from shared.postgres import pagination
from tests.api.house import BEGIN, House, happening

ANN, BOB = "ann@example.net", "bob@example.net"
REASON = "550 5.1.1 no such user"


@pytest.fixture(scope="module")
def told(still_house: House) -> House:
    """Three messages: r1 is delivered to Ann and bounces for Bob, r2 is deferred, r3 is of another source."""
    still_house.source()
    still_house.source("other")
    ids: dict[str, Any] = {"request_id": "r1"}
    still_house.receive(
        happening("processed", ANN, smtp_id="<first@shop.example>", **ids),
        happening("processed", BOB, smtp_id="<second@shop.example>", **ids),
        happening("delivered", ANN, second=10, smtp_id="<first@shop.example>", **ids),
        happening("hard-bounced", BOB, second=20, smtp_id="<second@shop.example>", status="550", reason=REASON, **ids),
        happening("open", ANN, second=30, smtp_id="<first@shop.example>", user_agent="Mail/1.0", ip="192.0.2.7", **ids),
        at=BEGIN,
    )
    still_house.receive(happening("soft-bounced", ANN, request_id="r2"), at=BEGIN + timedelta(hours=1))
    still_house.receive(
        happening("delivered", "carl@example.net", request_id="r3", email="news@example.org"),
        slug="other",
        at=BEGIN + timedelta(hours=2),
    )
    return still_house


def requests(house: House, **query: Any) -> list[str]:
    return [item["request_id"] for item in house.items("/v1/messages", **query)]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, ["r3", "r2", "r1"]),
        ({"request_id": "r1"}, ["r1"]),
        ({"request_id": "r9"}, []),
        ({"smtp_id": "<first@shop.example>"}, ["r1"]),
        ({"smtp_id": "second@shop.example"}, ["r1"]),
        ({"recipient": ANN}, ["r2", "r1"]),
        ({"recipient": "Ann <ANN@Example.NET>"}, ["r2", "r1"]),
        ({"sender": "SHOP@example.com"}, ["r2", "r1"]),
        ({"status": "bounced"}, ["r1"]),
        ({"status": "delivered"}, ["r3", "r1"]),
        ({"status": "queued"}, []),
        ({"recipient": ANN, "status": "bounced"}, []),
        ({"recipient": BOB, "status": "bounced"}, ["r1"]),
        ({"source": "other"}, ["r3"]),
        ({"source": "nobody"}, []),
        ({"recipient": ANN, "request_id": "r2"}, ["r2"]),
        ({"recipient": BOB, "request_id": "r2"}, []),
        ({"since": "2026-01-01T00:30:00Z"}, ["r3", "r2"]),
        ({"since": "2026-01-01T01:30:00+01:00"}, ["r3", "r2"]),
        ({"until": "2026-01-01T00:30:00Z"}, ["r1"]),
        ({"since": "2026-01-01T00:30:00Z", "until": "2026-01-01T01:30:00Z"}, ["r2"]),
    ],
    ids=str,
)
def test_messages_are_found(told: House, query: dict[str, str], expected: list[str]) -> None:
    assert requests(told, **query) == expected
    assert requests(told, limit=1, **query) == expected


def test_a_message_is_found_by_our_id_and_by_the_providers(house: House) -> None:
    house.source(provider="cloudmailin", username="u", password="a long password")
    receipt_id = house.keep(b'{"events": [{"kind": "delivery", "recipient": "a@example.net", "message_id": "m-1"}]}')
    house.process(receipt_id)
    (found,) = house.get("/v1/messages", message_id="m-1")["items"]
    assert found["provider_message_id"] == "m-1"
    assert house.get("/v1/messages", message_id=found["id"])["items"] == [found]
    assert house.get(f"/v1/messages/{found['id']}") == found


def test_a_message_shows_what_became_of_each_recipient(told: House) -> None:
    (message,) = told.get("/v1/messages", request_id="r1")["items"]
    assert message["source"] == "main"
    assert message["sender"] == "shop@example.com"
    assert message["tenant"] == "acct"
    assert message["created_at"] == "2026-01-01T00:00:00Z"
    ann, bob = message["recipients"]
    assert (ann["recipient"], ann["status"], ann["status_at"]) == (ANN, "delivered", "2026-01-01T00:00:10Z")
    assert (ann["opened"], ann["opens"], ann["opened_at"]) == (True, 1, "2026-01-01T00:00:30Z")
    assert (ann["clicked"], ann["complained"], ann["unsubscribed"], ann["read"]) == (False, False, False, False)
    assert (bob["recipient"], bob["status"], bob["classification"]) == (BOB, "bounced", "invalid_recipient")
    assert (bob["classification_code"], bob["smtp_status"], bob["enhanced_code"]) == (10, "550", "5.1.1")
    assert (bob["reason"], bob["smtp_id"]) == (REASON, "second@shop.example")


def test_the_timeline_is_in_the_order_of_what_happened(house: House) -> None:
    house.source()
    house.receive(happening("open", ANN, second=30))
    house.receive(happening("delivered", ANN, second=10), happening("click", ANN, second=40, url="https://x.example"))
    house.receive(happening("processed", ANN, second=0))
    (message,) = house.get("/v1/messages")["items"]
    for limit in (1, 50):
        found = house.items(f"/v1/messages/{message['id']}/events", limit=limit)
        assert [event["type"] for event in found] == ["queued", "delivered", "opened", "clicked"]
    assert found[3]["url"] == "https://x.example"


@pytest.mark.parametrize("path", ["", "/events"])
def test_an_unknown_message_is_not_found(still_house: House, path: str) -> None:
    assert still_house.call("GET", f"/v1/messages/{uuid4()}{path}").status_code == 404
    assert still_house.call("GET", f"/v1/messages/{uuid4().hex}{path}").status_code == 404


def test_an_event_that_names_nobody_applies_to_everybody_it_names_later(house: House) -> None:
    house.source()
    house.receive(happening("open", second=5))
    (message,) = house.get("/v1/messages")["items"]
    assert [(entry["recipient"], entry["status"]) for entry in message["recipients"]] == [(None, "sent")]
    house.receive(happening("delivered", ANN, BOB, second=1))
    (message,) = house.get("/v1/messages")["items"]
    assert [(entry["recipient"], entry["opened"]) for entry in message["recipients"]] == [(ANN, True), (BOB, True)]
    assert requests(house, status="delivered", recipient=BOB) == ["r1"]


def test_pages_neither_skip_nor_repeat_while_messages_arrive(house: House) -> None:
    house.source()
    for number in range(11):
        house.receive(happening("delivered", ANN, request_id=f"r{number}"), at=BEGIN + timedelta(minutes=number))
    seen: list[str] = []
    query: dict[str, Any] = {"limit": 4, "recipient": ANN}
    while True:
        page = house.get("/v1/messages", **query)
        seen += [item["request_id"] for item in page["items"]]
        house.receive(happening("delivered", ANN, request_id=f"later {len(seen)}"), at=BEGIN + timedelta(days=1))
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]
    assert seen == [f"r{number}" for number in range(10, -1, -1)]


def test_a_page_that_reads_much_and_finds_little_goes_on_where_it_ended(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.source()
    house.receive(happening("hard-bounced", ANN, request_id="the one"), at=BEGIN)
    for number in range(7):
        house.receive(happening("delivered", ANN, request_id=f"r{number}"), at=BEGIN + timedelta(hours=1))
    monkeypatch.setattr(pagination, "MAX_ROWS_READ", 3)
    first = house.get("/v1/messages", status="bounced")
    assert first["items"] == []
    assert first["next_cursor"] is not None
    assert requests(house, status="bounced") == ["the one"]


def test_times_must_have_a_zone(still_house: House) -> None:
    for wrong in ("2026-01-01", "2026-01-01T00:00:00", "yesterday", "99999-01-01T00:00:00Z", "T"):
        answer = still_house.call("GET", "/v1/messages", since=wrong)
        assert answer.status_code == 422
        assert list(answer.get_json()["errors"]) == ["since"]
