"""Events: flat, searchable, with the provider's own object."""

import json
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from shared.messages import queries
from shared.receipts import store as receipts
from tests.support.system import BEGIN, System, mailchannels_event
from workers import process_receipts as draining
from workers import reprocess_receipts

ANN, BOB = "ann@example.net", "bob@example.net"


@pytest.fixture(scope="module")
def populated(shared_system: System) -> System:
    """Events of two messages and of two sources."""
    shared_system.create_source()
    shared_system.create_source("other")
    shared_system.process_events(
        mailchannels_event("processed", ANN, BOB, smtp_id="<m1>"), mailchannels_event("open", second=9), at=BEGIN
    )
    shared_system.process_events(
        mailchannels_event("hard-bounced", BOB, status="5.1.1", reason="no"), at=BEGIN + timedelta(hours=1)
    )
    shared_system.process_events(
        mailchannels_event("delivered", ANN, request_id="r2"), slug="other", at=BEGIN + timedelta(hours=2)
    )
    return shared_system


def test_events_that_were_set_aside_are_found_by_that_and_by_their_ids(system: System) -> None:
    system.create_source()
    foreign = mailchannels_event("delivered", ANN, request_id="lost", smtp_id="<m@x>", customer_handle="stranger")
    system.process_events(mailchannels_event("delivered", BOB), at=BEGIN)
    receipt = system.process_events(foreign, {**foreign, "event": "open"}, at=BEGIN)
    for query in ({"set_aside": "true"}, {"request_id": "lost"}, {"smtp_id": "<m@x>", "set_aside": "true"}):
        found = system.list_items("/v1/events", **query, limit=1)
        assert [event["type"] for event in found] == ["unknown"] * 2
        assert all("another account" in event["problem"] for event in found)
        assert {event["tenant"] for event in found} == {"stranger"}
    assert [event["type"] for event in system.list_items("/v1/events", set_aside="false")] == ["delivered"]
    assert [found["id"] for found in system.list_items("/v1/receipts", set_aside="true", limit=1)] == [str(receipt)]


def test_an_event_of_a_sub_account_counts_once_a_setting_names_it_and_its_receipt_is_processed_again(
    system: System,
) -> None:
    system.create_source()
    receipt = system.process_events(mailchannels_event("delivered", ANN, customer_handle="acct_sub"), at=BEGIN)
    answer = system.call("PATCH", "/v1/sources/main", {"settings": {"sub_accounts": "acct_*"}})
    assert answer.status_code == 200
    assert system.call("POST", f"/v1/receipts/{receipt}/reprocess").status_code == 202
    reprocess_receipts.reprocess_due(system.ctx)
    assert [event["type"] for event in system.list_items("/v1/events")] == ["delivered"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, ["delivered", "bounced", "opened", "queued", "queued"]),
        ({"type": "queued"}, ["queued", "queued"]),
        ({"recipient": "ANN@example.net"}, ["delivered", "opened", "queued"]),
        ({"recipient": BOB}, ["bounced", "opened", "queued"]),
        ({"recipient": BOB, "type": "bounced"}, ["bounced"]),
        ({"recipient": BOB, "source": "other"}, []),
        ({"recipient": "nobody@example.net"}, []),
        ({"source": "other"}, ["delivered"]),
        ({"since": "2026-01-01T00:30:00Z"}, ["delivered", "bounced"]),
        ({"since": "2026-01-01T00:30:00Z", "recipient": BOB}, ["bounced"]),
        ({"until": "2026-01-01T00:30:00Z", "type": "opened"}, ["opened"]),
        ({"request_id": "r1"}, ["bounced", "opened", "queued", "queued"]),
        ({"request_id": "r1", "recipient": BOB}, ["bounced", "opened", "queued"]),
        ({"request_id": "r1", "set_aside": "true"}, []),
        ({"request_id": "r2"}, ["delivered"]),
        ({"request_id": "r3"}, []),
        ({"smtp_id": "<m1>"}, ["bounced", "opened", "queued", "queued"]),
        ({"smtp_id": "m1", "request_id": "r2"}, []),
        ({"smtp_id": "m3"}, []),
        ({"domain": "Example.NET"}, ["delivered", "bounced", "opened", "queued", "queued"]),
        ({"domain": "@example.net", "request_id": "r2"}, ["delivered"]),
        ({"domain": "example.org"}, []),
        ({"domain": "ample.net"}, []),
    ],
    ids=str,
)
def test_events_are_found(populated: System, query: dict[str, str], expected: list[str]) -> None:
    for limit in (2, 50):
        assert [item["type"] for item in populated.list_items("/v1/events", limit=limit, **query)] == expected


def test_events_are_found_by_our_id_of_their_message_and_that_of_the_provider(populated: System) -> None:
    (message,) = populated.get("/v1/messages", request_id="r2")["items"]
    found = populated.list_items("/v1/events", message_id=message["id"])
    assert [(event["type"], event["message_id"]) for event in found] == [("delivered", message["id"])]
    assert populated.list_items("/v1/events", message_id=message["id"], domain="example.org") == []
    assert populated.list_items("/v1/events", message_id=str(uuid4())) == []


def test_events_of_a_frequent_domain_are_found_among_the_newest(
    populated: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "MAX_OF_DOMAIN", 1)
    found = populated.list_items("/v1/events", domain="example.net", limit=2)
    assert [item["type"] for item in found] == ["delivered", "bounced", "opened", "queued", "queued"]


def test_an_event_is_flat_and_keeps_what_the_provider_said(populated: System) -> None:
    (event,) = populated.get("/v1/events", type="bounced")["items"]
    assert event["recipient"] == BOB
    assert event["sender"] == "shop@example.com"
    assert event["request_id"] == "r1"
    assert (event["classification"], event["classification_code"]) == ("invalid_recipient", 10)
    assert event["enhanced_code"] == "5.1.1"
    assert event["occurred_at"] == "2026-01-01T00:00:00Z"
    assert event["received_at"] == "2026-01-01T01:00:00Z"
    assert event["provider_object"]["event"] == "hard-bounced"
    assert populated.get(f"/v1/events/{event['id']}") == event
    assert populated.get(f"/v1/messages/{event['message_id']}")["request_id"] == "r1"


def test_the_providers_object_is_passed_through_as_it_was_sent(system: System) -> None:
    system.create_source()
    exact = (
        '{"event": "delivered", "customer_handle": "acct", "a": 1, "a": 2, "big": 1e400, "odd": "\\ud800\\u0000",'
        ' "recipients": ["a@example.net"], "request_id": "r1"}'
    )
    system.process_receipt(system.queue_body(f"[{exact}]".encode()))
    assert f'"provider_object":{exact}' in system.call("GET", "/v1/events").text
    (message,) = system.get("/v1/messages")["items"]
    assert system.get(f"/v1/messages/{message['id']}/report")["verdict"] == "delivered"


def test_an_unknown_event_is_not_found(shared_system: System) -> None:
    assert shared_system.call("GET", f"/v1/events/{uuid4()}").status_code == 404


def test_an_unknown_type_is_refused_with_those_there_are(shared_system: System) -> None:
    answer = shared_system.call("GET", "/v1/events", type="exploded")
    assert answer.status_code == 422
    assert "bounced" in answer.get_json()["errors"]["type"][0]


def test_pages_neither_skip_nor_repeat_while_events_arrive(system: System) -> None:
    system.create_source()
    for number in range(6):
        system.process_events(mailchannels_event("open", ANN, BOB, second=number), at=BEGIN + timedelta(minutes=number))
    seen: list[str] = []
    query: dict[str, Any] = {"limit": 5}
    while True:
        page = system.get("/v1/events", **query)
        seen += [item["id"] for item in page["items"]]
        system.process_events(mailchannels_event("click", ANN), at=BEGIN + timedelta(days=1))
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]
    assert len(seen) == len(set(seen)) == 12
    assert seen == sorted(seen, reverse=True)


@pytest.mark.parametrize("timestamp", ["soon", None, "2999-01-01T00:00:00Z", 1])
def test_an_event_without_a_usable_time_decides_nothing_against_one_with_a_time(
    system: System, timestamp: object
) -> None:
    system.create_source()
    system.process_events(mailchannels_event("hard-bounced", "ann@example.net"))
    system.process_events({**mailchannels_event("delivered", "ann@example.net"), "timestamp": timestamp})
    (message,) = system.list_items("/v1/messages")
    assert [entry["status"] for entry in message["recipients"]] == ["bounced"]
    assert len(system.list_items("/v1/events")) == 2


def test_what_the_events_of_one_object_share_is_stored_once_and_shown_with_each(system: System) -> None:
    source = system.add_source("mw", "mailwebhook", {"signing_secrets": {"k": "secret"}})
    recipients = [f"r{number}@example.net" for number in range(100)]
    body = json.dumps(
        {
            "schema": {"name": "mailwebhook.generic", "version": 1},
            "event": {"id": "e1"},
            "envelope": {"rcpt_to": recipients},
            "message": {"message_id": "<m@example.com>", "subject": "hello", "from": {"email": "shop@example.com"}},
            "body": {"text": "x" * 400_000},
            "meta": {"spam": {"score": 9.5}},
        }
    )
    system.store_receipt(source, body.encode())
    draining.process_due(system.ctx)
    # Sent again, with one more recipient, whose event is the only one that is new.
    system.store_receipt(source, body.replace("r99@", "new@").encode())
    draining.process_due(system.ctx)

    assert system.rows("SELECT count(*), count(provider_object) FROM events") == [(101, 0)]
    assert system.rows("SELECT count(*), sum(length(data::text)) < 40000 FROM event_objects") == [(2, True)]
    assert system.rows("SELECT max(length(data::text)) < 100 FROM events") == [(True,)]
    first = system.get("/v1/events", limit=50)
    assert 1 < len(first["items"]) < 50
    assert first["items"][0]["recipient"] == "new@example.net"
    for event in first["items"]:
        assert event["subject"] == "hello"
        assert event["details"]["spam"] == {"score": 9.5}
        assert "r3@example.net" in event["details"]["rcpt_to"]
        assert len(event["provider_object"]["body"]["text"]) == 400_000
    message = system.get("/v1/messages")["items"][0]["id"]
    assert 1 < len(system.get(f"/v1/messages/{message}/events", limit=50)["items"]) < 50
    assert system.get("/v1/events", cursor=first["next_cursor"])["items"][0]["id"] < first["items"][-1]["id"]


def test_reprocessing_replaces_what_the_events_of_one_object_share(system: System) -> None:
    source = system.add_source("mc", "mailchannels", {"customer_handles": ["acct"]})
    item = mailchannels_event("delivered", ANN, BOB) | {"customer_handle": "acct"}
    receipt = system.store_receipt(source, json.dumps([item]).encode())
    draining.process_due(system.ctx)
    system.execute("UPDATE event_objects SET data = '{}', provider_object = '{}'")
    with system.engine.begin() as connection:
        receipts.queue_reprocessing(connection, [receipt])
    assert reprocess_receipts.reprocess_due(system.ctx).receipts == 1
    for event in system.get("/v1/events")["items"]:
        assert event["sender"] == "shop@example.com"
        assert event["provider_object"]["recipients"] == [ANN, BOB]
    system.assert_nothing_doubled()
