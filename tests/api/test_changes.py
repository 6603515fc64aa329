"""The change feed: a reader that follows the cursor gets each change once, however transactions overlap."""

import json
import threading
from typing import Any

import pytest

from shared.changes import log
from shared.postgres import pagination
from tests.support.system import System, mailchannels_event

ANN, BOB = "ann@example.net", "bob@example.net"


def follow(system: System, cursor: str | None = None, **query: Any) -> tuple[list[dict[str, Any]], str]:
    """All changes behind the cursor, and the cursor behind them."""
    found: list[dict[str, Any]] = []
    while True:
        page = system.get("/v1/changes", **query, **({"cursor": cursor} if cursor else {}))
        found += page["items"]
        if not page["items"] and page["next_cursor"] == cursor:
            return found, page["next_cursor"]
        cursor = page["next_cursor"]


def test_an_empty_log_has_a_cursor_too(system: System) -> None:
    page = system.get("/v1/changes")
    assert page["items"] == []
    system.create_source()
    system.process_events(mailchannels_event("delivered", ANN))
    (change,) = system.get("/v1/changes", cursor=page["next_cursor"])["items"]
    assert change["type"] == "message.delivered"


def test_a_change_contains_message_recipient_and_event(system: System) -> None:
    system.create_source()
    system.process_events(mailchannels_event("processed", ANN))
    system.process_events(mailchannels_event("hard-bounced", ANN, second=5, status="5.1.1"))
    changes, _ = follow(system)
    change = changes[-1]
    assert change["type"] == "message.bounced"
    assert change["timestamp"].endswith("Z")
    data = change["data"]
    assert (data["recipient"], data["status"], data["previous_status"]) == (ANN, "bounced", "queued")
    assert (data["message"]["request_id"], data["message"]["source"]) == ("r1", "main")
    assert data["event"]["classification"] == "invalid_recipient"
    assert "provider_object" not in data["event"]
    assert system.get(f"/v1/events/{data['event']['id']}")["type"] == "bounced"


@pytest.mark.parametrize("limit", [1, 2, 50])
def test_changes_come_in_order_once_each(system: System, limit: int) -> None:
    system.create_source()
    for number in range(5):
        system.process_events(mailchannels_event("open", ANN, second=number))
    changes, cursor = follow(system, limit=limit)
    assert len(changes) == len({change["id"] for change in changes}) == 5
    system.process_events(mailchannels_event("click", ANN, second=9))
    assert [change["type"] for change in follow(system, cursor, limit=limit)[0]] == ["message.clicked"]
    assert [change["id"] for change in follow(system, changes[2]["id"])[0][:2]] == [c["id"] for c in changes[3:]]


@pytest.mark.parametrize("types", ["message_opened", "message.%", "message.opend", "message.opened,x"])
@pytest.mark.parametrize("path", ["/v1/changes", "/v1/changes/stream"])
def test_a_type_that_does_not_exist_is_refused_by_name(system: System, path: str, types: str) -> None:
    answer = system.call("GET", path, types=types)
    assert (answer.status_code, list(answer.get_json()["errors"])) == (422, ["types"])
    assert types.rpartition(",")[2] in answer.get_json()["detail"]


@pytest.mark.parametrize(
    ("types", "expected"),
    [
        ("message.opened", 2),
        ("message.*", 3),
        ("message.opened, message.delivered", 3),
        ("*", 3),
        ("inbound.*", 0),
        (",", 3),
    ],
)
def test_types_limit_the_feed_to_matching_changes(
    system: System, types: str, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "MAX_ROWS_READ", 2)
    system.create_source()
    system.process_events(
        mailchannels_event("delivered", ANN),
        mailchannels_event("open", ANN, second=1),
        mailchannels_event("open", BOB, second=2),
    )
    changes, _ = follow(system, types=types)
    assert len(changes) == expected


def test_a_change_behind_one_that_may_still_come_is_held_back(system: System) -> None:
    """Ids are drawn in one order and committed in another: the reader waits for who drew first."""
    insert = "INSERT INTO state_changes (type, source_id) VALUES (%(type)s, 1)"
    system.create_source()
    with system.engine.connect() as slow:
        slow.exec_driver_sql(insert, {"type": "slow"})
        system.execute(insert, type="quick")
        assert follow(system)[0] == []
        slow.commit()
    assert [change["type"] for change in follow(system)[0]] == ["slow", "quick"]


def test_a_transaction_that_began_first_and_drew_last_is_not_missed(system: System) -> None:
    insert = "INSERT INTO state_changes (type, source_id) VALUES (%(type)s, 1)"
    system.create_source()
    with system.engine.connect() as early, system.engine.connect() as late:
        early.exec_driver_sql("SELECT pg_current_xact_id()")
        late.exec_driver_sql(insert, {"type": "late"})
        early.exec_driver_sql(insert, {"type": "early"})
        early.commit()
        first, cursor = follow(system)
        late.commit()
    rest, _ = follow(system, cursor)
    assert [change["type"] for change in first + rest] == ["early", "late"]


def test_a_reader_beside_many_writers_misses_nothing(system: System) -> None:
    system.create_source()
    writers = [threading.Thread(target=write, args=(system, number)) for number in range(3)]
    for writer in writers:
        writer.start()
    seen: list[str] = []
    cursor = None
    while any(writer.is_alive() for writer in writers):
        page = system.get("/v1/changes", **({"cursor": cursor} if cursor else {}), limit=7)
        seen += [change["type"] for change in page["items"]]
        cursor = page["next_cursor"]
    seen += [change["type"] for change in follow(system, cursor)[0]]
    assert sorted(seen) == sorted(f"{writer}.{number}" for writer in range(3) for number in range(60))


def write(system: System, writer: int) -> None:
    for number in range(0, 60, 3):
        with system.engine.begin() as connection:
            for offset in range(3):
                connection.exec_driver_sql(
                    "INSERT INTO state_changes (type, source_id) VALUES (%(type)s, 1)",
                    {"type": f"{writer}.{number + offset}"},
                )


@pytest.mark.parametrize("cursor", ["1", "1-", "-1-1", "1-1-1", "a-b", "9" * 19 + "-1", "1-" + "9" * 30])
def test_a_cursor_that_is_none_is_refused(shared_system: System, cursor: str) -> None:
    assert shared_system.call("GET", "/v1/changes", cursor=cursor).status_code == 400


def test_the_walk_is_bounded() -> None:
    assert pagination.MAX_ROWS_READ <= 50_000


def test_a_change_of_the_suppression_list_contains_the_entry(system: System) -> None:
    """It is about no message; the event is its evidence, where there is one."""
    system.create_source()
    system.process_events(mailchannels_event("delivered", ANN))
    entry = {"address": ANN, "reason": "complaint", "types": ["transactional"], "expires_at": None}
    system.execute(
        "INSERT INTO state_changes (type, source_id, recipient, event_id, data)"
        " SELECT 'suppression.added', source_id, %(ann)s, id, %(data)s::jsonb FROM events",
        ann=ANN,
        data=json.dumps(entry),
    )
    changes, _ = follow(system, types="suppression.*")
    [change] = changes
    assert change["type"] == "suppression.added"
    assert change["data"]["suppression"] == entry
    assert (change["data"]["source"], change["data"]["recipient"], change["data"]["message"]) == ("main", ANN, None)
    assert change["data"]["event"]["type"] == "delivered"
    assert change["data"]["alert"] is None
    [other] = [change for change in follow(system)[0] if change["type"] == "message.delivered"]
    assert other["data"]["suppression"] is None


def test_a_change_of_no_single_source_is_in_the_feed_too(system: System) -> None:
    alert = {"rule": "bounces", "severity": "critical"}
    system.execute(
        "INSERT INTO state_changes (type, data) VALUES ('alert.firing', %(data)s::jsonb)", data=json.dumps(alert)
    )
    [change] = follow(system)[0]
    assert (change["data"]["source"], change["data"]["alert"]) == (None, alert)


MESSAGES = """
    INSERT INTO messages (id, source_id, created_at, first_event_at, tenant, tag)
    SELECT ('00000000-0000-0000-0000-00000000000' || n)::uuid, (SELECT id FROM sources), now(), now(),
        nullif(tenant, ''), tag
    FROM (VALUES (1, 'acme', 'spring'), (2, '', 'autumn')) AS m (n, tenant, tag)
"""
CHANGES = """
    INSERT INTO state_changes (type, source_id, message_id, recipient, data)
    SELECT type, (SELECT id FROM sources), ('00000000-0000-0000-0000-00000000000' || n)::uuid, recipient, data::jsonb
    FROM (VALUES
        ('message.sent', '1', 'ann@example.net', NULL), ('message.bounced', '2', 'bob@example.org', NULL),
        ('suppression.added', NULL, 'bob@example.org', '{"tenant": "acme"}'), ('alert.firing', NULL, NULL, '{}')
    ) AS c (type, n, recipient, data)
"""


@pytest.fixture
def varied(system: System) -> System:
    """A log with changes of several kinds, and of two messages, one of them a tenant's."""
    system.create_source()
    system.execute(MESSAGES)
    system.execute(CHANGES)
    system.create_source("empty")
    return system


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, ["message.sent", "message.bounced", "suppression.added", "alert.firing"]),
        ({"sources": "main"}, ["message.sent", "message.bounced", "suppression.added", "alert.firing"]),
        ({"sources": "empty"}, []),
        ({"tenant": "acme"}, ["message.sent", "suppression.added"]),
        ({"tenant": "acme", "types": "message.*"}, ["message.sent"]),
        ({"tags": "winter,autumn"}, ["message.bounced"]),
        ({"recipient_domain": "EXAMPLE.org"}, ["message.bounced", "suppression.added"]),
        ({"message_id": "00000000-0000-0000-0000-000000000002"}, ["message.bounced"]),
        ({"message_id": "00000000-0000-0000-0000-000000000003"}, []),
    ],
)
def test_the_feed_has_only_changes_that_match_every_filter(
    varied: System, query: dict[str, str], expected: list[str]
) -> None:
    for limit in (1, 50):
        assert [change["type"] for change in follow(varied, limit=limit, **query)[0]] == expected


def test_the_key_of_a_tenant_sees_only_changes_of_the_tenant(varied: System) -> None:
    varied.key = varied.call("POST", "/v1/keys", {"name": "acme's", "tenant": "acme"}).get_json()["key"]
    assert [change["type"] for change in follow(varied)[0]] == ["message.sent", "suppression.added"]
    assert varied.call("GET", "/v1/changes", tenant="other").status_code == 403


@pytest.mark.parametrize(
    "query", [{"recipient_domain": "no domain"}, {"message_id": "7"}, {"wait": "61"}, {"kinds": "message.*"}]
)
def test_invalid_filters_are_refused(shared_system: System, query: dict[str, str]) -> None:
    assert shared_system.call("GET", "/v1/changes", **query).status_code == 422


def test_deleted_changes_are_gone_and_the_error_has_the_cursor_to_continue_from(system: System) -> None:
    for name in ("gone", "last that is gone", "kept"):
        system.execute("INSERT INTO state_changes (type) VALUES (%(type)s)", type=name)
    first, last, kept = (change["id"] for change in follow(system)[0])
    system.execute("INSERT INTO change_floor SELECT true, transaction, id FROM state_changes WHERE type LIKE 'last %%'")
    system.execute("DELETE FROM state_changes WHERE type LIKE '%%gone'")
    answer = system.call("GET", "/v1/changes", cursor=first)
    assert (answer.status_code, answer.content_type) == (410, "application/problem+json")
    problem: Any = answer.get_json()
    assert (problem["status"], problem["oldest_cursor"]) == (410, last)
    for cursor in (problem["oldest_cursor"], None, "0-0"):
        assert [change["id"] for change in follow(system, cursor)[0]] == [kept]


def test_without_an_event_loop_no_request_waits(system: System) -> None:
    assert system.get("/v1/changes", wait=60)["items"] == []
    answer = system.call("GET", "/v1/changes/stream")
    assert (answer.status_code, answer.content_type) == (200, "text/event-stream")
