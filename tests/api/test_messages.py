"""Messages: found by any of their identifiers, with a state for every recipient."""

import csv
import io
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from shared.messages import queries
from tests.support.system import BEGIN, System, mailchannels_event

ANN, BOB = "ann@example.net", "bob@example.net"
REASON = "550 5.1.1 no such user"


@pytest.fixture(scope="module")
def populated(shared_system: System) -> System:
    """Three messages: r1 is delivered to Ann and bounces for Bob, r2 is deferred, r3 is of another source."""
    shared_system.create_source()
    shared_system.create_source("other")
    ids: dict[str, Any] = {"request_id": "r1"}
    shared_system.process_events(
        mailchannels_event("processed", ANN, smtp_id="<first@shop.example>", **ids),
        mailchannels_event("processed", BOB, smtp_id="<second@shop.example>", **ids),
        mailchannels_event("delivered", ANN, second=10, smtp_id="<first@shop.example>", **ids),
        mailchannels_event(
            "hard-bounced", BOB, second=20, smtp_id="<second@shop.example>", status="550", reason=REASON, **ids
        ),
        mailchannels_event(
            "open", ANN, second=30, smtp_id="<first@shop.example>", user_agent="Mail/1.0", ip="192.0.2.7", **ids
        ),
        at=BEGIN,
    )
    shared_system.process_events(
        mailchannels_event("soft-bounced", ANN, request_id="r2"), at=BEGIN + timedelta(hours=1)
    )
    shared_system.process_events(
        mailchannels_event("delivered", "carl@example.net", request_id="r3", email="news@example.org"),
        slug="other",
        at=BEGIN + timedelta(hours=2),
    )
    return shared_system


def requests(system: System, **query: Any) -> list[str]:
    return [item["request_id"] for item in system.list_items("/v1/messages", **query)]


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
        ({"source": "other", "status": "queued"}, []),
        ({"recipient": ANN, "request_id": "r2"}, ["r2"]),
        ({"recipient": BOB, "request_id": "r2"}, []),
        ({"since": "2026-01-01T00:30:00Z"}, ["r3", "r2"]),
        ({"since": "2026-01-01T01:30:00+01:00"}, ["r3", "r2"]),
        ({"until": "2026-01-01T00:30:00Z"}, ["r1"]),
        ({"since": "2026-01-01T00:30:00Z", "until": "2026-01-01T01:30:00Z"}, ["r2"]),
    ],
    ids=str,
)
def test_messages_are_found(populated: System, query: dict[str, str], expected: list[str]) -> None:
    assert requests(populated, **query) == expected
    assert requests(populated, limit=1, **query) == expected


def test_a_message_is_found_by_our_id_and_by_the_providers(system: System) -> None:
    system.create_source(provider="cloudmailin", username="u", password="a long password")
    receipt_id = system.queue_body(
        b'{"events": [{"kind": "delivery", "recipient": "a@example.net", "message_id": "m-1"}]}'
    )
    system.process_receipt(receipt_id)
    (found,) = system.get("/v1/messages", message_id="m-1")["items"]
    assert found["provider_message_id"] == "m-1"
    assert system.get("/v1/messages", message_id=found["id"])["items"] == [found]
    assert system.get(f"/v1/messages/{found['id']}") == found


def test_a_message_shows_what_became_of_each_recipient(populated: System) -> None:
    (message,) = populated.get("/v1/messages", request_id="r1")["items"]
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


def test_the_timeline_is_in_the_order_of_what_happened(system: System) -> None:
    system.create_source()
    system.process_events(mailchannels_event("open", ANN, second=30))
    system.process_events(
        mailchannels_event("delivered", ANN, second=10),
        mailchannels_event("click", ANN, second=40, url="https://x.example"),
    )
    system.process_events(mailchannels_event("processed", ANN, second=0))
    (message,) = system.get("/v1/messages")["items"]
    for limit in (1, 50):
        found = system.list_items(f"/v1/messages/{message['id']}/events", limit=limit)
        assert [event["type"] for event in found] == ["queued", "delivered", "opened", "clicked"]
    assert found[3]["url"] == "https://x.example"


@pytest.mark.parametrize("path", ["", "/events"])
def test_an_unknown_message_is_not_found(shared_system: System, path: str) -> None:
    assert shared_system.call("GET", f"/v1/messages/{uuid4()}{path}").status_code == 404
    assert shared_system.call("GET", f"/v1/messages/{uuid4().hex}{path}").status_code == 404


def test_an_event_without_a_recipient_applies_to_recipients_named_later(system: System) -> None:
    system.create_source()
    system.process_events(mailchannels_event("open", second=5))
    (message,) = system.get("/v1/messages")["items"]
    assert [(entry["recipient"], entry["status"]) for entry in message["recipients"]] == [(None, "sent")]
    system.process_events(mailchannels_event("delivered", ANN, BOB, second=1))
    (message,) = system.get("/v1/messages")["items"]
    assert [(entry["recipient"], entry["opened"]) for entry in message["recipients"]] == [(ANN, True), (BOB, True)]
    assert requests(system, status="delivered", recipient=BOB) == ["r1"]


def test_a_status_with_a_domain_is_that_of_a_recipient_of_the_domain(system: System) -> None:
    system.create_source()
    other = "eve@example.org"
    system.process_events(
        mailchannels_event("delivered", ANN, request_id="r1"),
        mailchannels_event("hard-bounced", other, request_id="r1", status="550", reason=REASON),
    )
    assert requests(system, status="bounced", domain="example.net") == []
    assert requests(system, status="bounced", domain="example.org") == ["r1"]


def test_pages_neither_skip_nor_repeat_while_messages_arrive(system: System) -> None:
    system.create_source()
    for number in range(11):
        system.process_events(
            mailchannels_event("delivered", ANN, request_id=f"r{number}"), at=BEGIN + timedelta(minutes=number)
        )
    seen: list[str] = []
    query: dict[str, Any] = {"limit": 4, "recipient": ANN}
    while True:
        page = system.get("/v1/messages", **query)
        seen += [item["request_id"] for item in page["items"]]
        system.process_events(
            mailchannels_event("delivered", ANN, request_id=f"later {len(seen)}"), at=BEGIN + timedelta(days=1)
        )
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]
    assert seen == [f"r{number}" for number in range(10, -1, -1)]


def test_a_page_that_reads_much_and_finds_little_goes_on_where_it_ended(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    system.create_source()
    system.process_events(mailchannels_event("hard-bounced", ANN, request_id="the one"), at=BEGIN)
    for number in range(7):
        system.process_events(
            mailchannels_event("delivered", ANN, request_id=f"r{number}"), at=BEGIN + timedelta(hours=1)
        )
    monkeypatch.setattr(queries, "MAX_ROWS_READ_BY_STATUS", 3)
    first = system.get("/v1/messages", status="bounced")
    assert first["items"] == []
    assert first["next_cursor"] is not None
    assert requests(system, status="bounced") == ["the one"]


def test_a_page_with_many_recipients_ends_early(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "MAX_PAGE_RECIPIENTS", 3)
    system.create_source()
    for number, size in enumerate((1, 5, 2, 1, 9)):
        recipients = [f"user{n}@example.net" for n in range(size)]
        system.process_events(
            mailchannels_event("delivered", *recipients, request_id=f"r{number}"), at=BEGIN + timedelta(hours=number)
        )
    pages: list[Any] = []
    cursor: dict[str, str] | None = {}
    while cursor is not None:
        page = system.get("/v1/messages", limit=4, **cursor)
        pages.append([(item["request_id"], len(item["recipients"])) for item in page["items"]])
        cursor = {"cursor": page["next_cursor"]} if page["next_cursor"] else None
    assert pages == [[("r4", 9)], [("r3", 1), ("r2", 2)], [("r1", 5)], [("r0", 1)]]


def test_a_message_with_many_recipients_shows_the_first_and_a_cursor_to_the_rest(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "MAX_RECIPIENTS", 3)
    system.create_source()
    recipients = [f"user{n}@example.net" for n in range(8)]
    system.process_events(mailchannels_event("processed"), mailchannels_event("delivered", *recipients), at=BEGIN)
    [listed] = system.list_items("/v1/messages")
    shown = system.get(f"/v1/messages/{listed['id']}")
    assert shown == listed
    assert [one["recipient"] for one in shown["recipients"]] == recipients[:3]

    path = f"/v1/messages/{listed['id']}/recipients"
    rest = system.get(path, cursor=shown["recipients_cursor"])
    assert [one["recipient"] for one in rest["items"]] == recipients[3:]
    assert rest["next_cursor"] is None
    assert [one["recipient"] for one in system.list_items(path, limit=3)] == recipients
    assert system.list_items(path)[:3] == shown["recipients"]
    assert [one["status"] for one in system.list_items(path, recipient="USER7@example.net")] == ["delivered"]

    [asked_for] = system.list_items("/v1/messages", recipient="user7@example.net")
    assert [one["recipient"] for one in asked_for["recipients"]] == ["user7@example.net", *recipients[:3]]
    [asked_for] = system.list_items("/v1/messages", recipient="user1@example.net")
    assert [one["recipient"] for one in asked_for["recipients"]] == recipients[:3]


def test_a_message_with_few_recipients_has_no_cursor(populated: System) -> None:
    assert populated.get("/v1/messages", request_id="r1")["items"][0]["recipients_cursor"] is None


def test_the_diagnosis_of_a_recipient_finds_it_among_many(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "MAX_RECIPIENTS", 3)
    system.create_source()
    recipients = [f"user{n}@example.net" for n in range(8)]
    system.process_events(mailchannels_event("delivered", *recipients), at=BEGIN)
    [report] = system.get("/v1/diagnosis", request_id="r1", recipient="user7@example.net")["items"]
    assert [one["recipient"] for one in report["recipients"]] == ["user7@example.net"]


def test_times_must_have_a_zone(shared_system: System) -> None:
    for wrong in ("2026-01-01", "2026-01-01T00:00:00", "yesterday", "99999-01-01T00:00:00Z", "T"):
        answer = shared_system.call("GET", "/v1/messages", since=wrong)
        assert answer.status_code == 422
        assert list(answer.get_json()["errors"]) == ["since"]


def test_a_recipient_s_answers_are_recorded_and_are_part_of_the_report(system: System) -> None:
    system.create_source()
    system.process_events(
        mailchannels_event("delivered", "ann@example.net", request_id="r1"),
        mailchannels_event("delivered", "bob@example.net", request_id="r1"),
    )
    path = f"/v1/messages/{system.get('/v1/messages')['items'][0]['id']}/answers"
    body = {"recipient": "Ann@Example.net", "answers": {"spam": "not_found", "rules": "found"}}
    report = system.call("POST", path, body).get_json()
    assert [(one["recipient"], one["place"], one["answer"]) for one in report["escalation"]["answers"]] == [
        ("ann@example.net", "spam", "not_found"),
        ("ann@example.net", "rules", "found"),
    ]
    assert "yes, the message is not there (ann@example.net" in report["report_text"]
    assert report["report_markdown"].startswith("# Message not received (MailChannels)")
    for wrong, field in (
        ({"answers": {"spam": "found"}}, "recipient"),
        ({**body, "answers": {"loft": "found"}}, "answers"),
        ({**body, "answers": {}}, "answers"),
        ({**body, "recipient": "eve@example.net"}, "recipient"),
    ):
        refused = system.call("POST", path, wrong)
        assert (refused.status_code, field in refused.text) == (422, True), wrong


def export(system: System, **query: Any) -> list[dict[str, str]]:
    answer = system.call("GET", "/v1/messages/export", **query)
    assert (answer.status_code, answer.mimetype) == (200, "text/csv")
    assert answer.headers["Content-Disposition"] == 'attachment; filename="messages.csv"'
    return list(csv.DictReader(io.StringIO(answer.text)))


def test_the_messages_that_match_are_exported_page_by_page(system: System) -> None:
    system.create_source()
    system.process_events(
        *(mailchannels_event("processed", f"n{number}@example.net", request_id=f"r-{number}") for number in range(450)),
        mailchannels_event("delivered", "ann@example.net", "bob@example.net", request_id="both"),
        mailchannels_event("hard-bounced", "bob@example.net", request_id="both", second=5, reason="=HYPERLINK(1)"),
    )
    everything = export(system)
    assert len(everything) == len({line["recipient"] for line in everything}) == 452
    found = {line["recipient"]: line for line in export(system, status="bounced")}
    assert found.keys() == {"ann@example.net", "bob@example.net"}, "all recipients of a message that matches"
    assert (found["bob@example.net"]["status"], found["bob@example.net"]["reason"]) == ("bounced", "'=HYPERLINK(1)")
    assert found["bob@example.net"]["id"] == system.get("/v1/messages", request_id="both")["items"][0]["id"]
    assert export(system, recipient="nobody@example.net") == []
    for query in ({"limit": 5}, {"cursor": "x"}, {"since": "yesterday"}):
        assert system.call("GET", "/v1/messages/export", **query).status_code == 422


def test_one_key_cannot_have_all_places_for_exports(system: System) -> None:
    system.create_source()
    system.process_events(mailchannels_event("delivered", "ann@example.net"))
    opened = []
    for _ in range(4):
        opened.append(system.call("GET", "/v1/messages/export"))
        assert b"ann@example.net" in next(opened[-1].iter_encoded())
    refused = system.call("GET", "/v1/messages/export")
    assert (refused.status_code, "places for exports" in refused.get_json()["detail"]) == (429, True)
    for answer in opened:
        answer.close()
    assert len(export(system)) == 1


def test_recipients_beyond_those_of_a_list_are_exported_too(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "MAX_RECIPIENTS", 3)
    system.create_source()
    addresses = [f"{letter}@example.net" for letter in "abcdefgh"]
    system.process_events(mailchannels_event("delivered", *addresses))
    assert sorted(line["recipient"] for line in export(system)) == addresses
