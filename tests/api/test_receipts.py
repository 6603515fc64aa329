"""Receipts and refusals: the bytes that arrived, and the state of each receipt."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from shared import ids
from shared.broker import VERIFY
from shared.errors import VerificationError
from shared.receipts import quarantine
from shared.receipts import store as receipts
from shared.receipts.store import Refusal, record_refusals
from shared.receipts.stored_form import redact_headers, unseal_headers
from shared.vocabulary import ReceiptState, RefusalReason
from tests.support.system import System, mailchannels_event

BODIES = [b"", b"\0\x01\xff\xfe", b'{"a": "\\u0000"}', bytes(range(256)) * 40, "schön\r\n".encode("latin-1")]


@pytest.mark.parametrize("body", BODIES, ids=repr)
def test_the_body_comes_back_byte_for_byte(system: System, body: bytes) -> None:
    system.create_source()
    receipt_id = system.queue_body(body)
    answer = system.call("GET", f"/v1/receipts/{receipt_id}/raw")
    assert answer.data == body
    assert answer.content_type == "application/octet-stream"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Disposition"].startswith("attachment")
    assert system.get(f"/v1/receipts/{receipt_id}")["bytes"] == len(body)


def park(system: System, receipt_id: UUID, state: ReceiptState) -> None:
    system.execute(
        "WITH gone AS (DELETE FROM pending_receipts WHERE receipt_id = %(id)s RETURNING *) INSERT INTO parked_receipts"
        " (receipt_id, source_id, state, reason, detail, bytes, attempts, available_at, parked_at)"
        " SELECT receipt_id, source_id, %(state)s, 'why', 'in detail', bytes, 3, now(), now() FROM gone",
        id=receipt_id,
        state=str(state),
    )


def test_each_receipt_says_where_it_stands_and_is_listed_there(system: System) -> None:
    system.create_source()
    made = {state: system.queue_body(state.encode()) for state in ReceiptState}
    for state in (ReceiptState.DEAD, ReceiptState.REJECTED, ReceiptState.UNVERIFIED):
        park(system, made[state], state)
    system.execute("DELETE FROM pending_receipts WHERE receipt_id = %(id)s", id=made[ReceiptState.PROCESSED])
    for state, receipt_id in made.items():
        (found,) = system.get("/v1/receipts", state=state)["items"]
        assert (found["id"], found["state"]) == (str(receipt_id), state)
    dead = system.get(f"/v1/receipts/{made[ReceiptState.DEAD]}")
    assert (dead["reason"], dead["detail"], dead["attempts"]) == ("why", "in detail", 3)
    assert len(system.get("/v1/receipts")["items"]) == len(ReceiptState)


def test_a_pending_receipt_shows_its_last_error(system: System) -> None:
    system.create_source()
    receipt_id = system.queue_body(b"[]")
    system.execute("UPDATE pending_receipts SET attempts = 2, last_error = 'the last error'")
    found = system.get(f"/v1/receipts/{receipt_id}")
    assert (found["state"], found["attempts"], found["last_error"]) == ("pending", 2, "the last error")


def test_a_receipt_names_its_events(system: System) -> None:
    system.create_source()
    other = system.process_events(mailchannels_event("open", "a@example.net"))
    receipt_id = system.process_events(mailchannels_event("delivered", "a@example.net", "b@example.net"))
    found = system.get(f"/v1/receipts/{receipt_id}")
    assert found["event_ids"] == [str(UUID(int=receipt_id.int + 1)), str(UUID(int=receipt_id.int + 2))]
    assert found["event_count"] == 2
    assert system.get(f"/v1/receipts/{other}")["event_count"] == 1


def test_headers_that_are_kept_sealed_are_not_shown(system: System) -> None:
    system.create_source()
    kept = redact_headers({"authorization": "Basic c2VjcmV0", "user-agent": "esp"}, system.vault)
    receipt_id = system.queue_body(b"[]", headers=json.dumps(kept))
    assert system.get(f"/v1/receipts/{receipt_id}")["headers"] == {"authorization": "(withheld)", "user-agent": "esp"}


@pytest.mark.parametrize("name", ["x-original-url", "x-original-uri", "x-forwarded-uri", "x-envoy-original-path"])
def test_a_url_that_a_proxy_repeats_is_kept_like_the_query(system: System, name: str) -> None:
    given = {name: "/webhooks/main?secret=s3cret-of-the-url"}
    assert redact_headers(given) == {}
    kept = redact_headers(given, system.vault)
    assert "s3cret" not in kept[name]
    assert unseal_headers(kept, system.vault) == given


def test_headers_of_the_connection_are_kept_only_for_another_verification(system: System) -> None:
    given = {"host": "receiver.example", "content-length": "2", "content-type": "application/json", "user-agent": "esp"}
    assert redact_headers(given) == {"content-type": "application/json", "user-agent": "esp"}
    assert redact_headers(given, system.vault) == given


def test_pages_neither_skip_nor_repeat_while_receipts_arrive(system: System) -> None:
    system.create_source()
    first = [str(system.queue_body(b"%d" % number)) for number in range(11)]
    seen: list[str] = []
    query: dict[str, Any] = {"limit": 4}
    while True:
        page = system.get("/v1/receipts", **query)
        seen += [item["id"] for item in page["items"]]
        system.queue_body(b"meanwhile")
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]
    assert sorted(seen) == sorted(first)
    assert seen == sorted(seen, reverse=True)


def test_receipts_are_found_by_source_and_time(system: System) -> None:
    system.create_source("one")
    system.create_source("two")
    at = datetime.now(UTC)
    early = system.queue_body(b"1", "one", at - timedelta(hours=2))
    late = system.queue_body(b"2", "two", at)
    assert [item["id"] for item in system.list_items("/v1/receipts", source="one")] == [str(early)]
    border = (at - timedelta(hours=1)).isoformat()
    assert [item["id"] for item in system.list_items("/v1/receipts", since=border)] == [str(late)]
    assert [item["id"] for item in system.list_items("/v1/receipts", until=border)] == [str(early)]
    assert len(system.list_items("/v1/receipts", since="1960-01-01T00:00:00Z")) == 2
    assert system.list_items("/v1/receipts", until="1960-01-01T00:00:00Z") == []


def test_what_a_deleted_source_received_is_still_found_by_its_name(system: System) -> None:
    system.create_source()
    receipt_id = system.queue_body(b"[]")
    system.call("DELETE", "/v1/sources/main")
    assert [item["id"] for item in system.list_items("/v1/receipts", source="main")] == [str(receipt_id)]


@pytest.mark.parametrize("state", [ReceiptState.PROCESSED, ReceiptState.DEAD, ReceiptState.REJECTED])
def test_a_receipt_is_queued_again(system: System, state: ReceiptState) -> None:
    system.create_source()
    receipt_id = system.process_events(mailchannels_event("delivered", "a@example.net"))
    if state is not ReceiptState.PROCESSED:
        receipt_id = system.queue_body(b"[]")
        park(system, receipt_id, state)
    answer = system.call("POST", f"/v1/receipts/{receipt_id}/reprocess")
    assert (answer.status_code, answer.get_json()["queued"]) == (202, 1)
    assert "a worker" in answer.get_json()["waits_for"]
    assert system.get(f"/v1/receipts/{receipt_id}")["state"] == "pending"
    assert len(system.notifier.tasks) == 1


def test_an_unverified_receipt_is_not_let_in_by_reprocessing(system: System) -> None:
    system.create_source()
    receipt_id = system.queue_body(b"[]")
    park(system, receipt_id, ReceiptState.UNVERIFIED)
    assert system.call("POST", f"/v1/receipts/{receipt_id}/reprocess").status_code == 409
    assert system.get(f"/v1/receipts/{receipt_id}")["state"] == "unverified"


def test_a_receipt_whose_body_was_erased_says_so_and_is_not_processed_again(system: System) -> None:
    system.create_source()
    receipt_id = system.process_events(mailchannels_event("delivered", "a@example.net"))
    system.execute("UPDATE receipts SET bytes = NULL, content = NULL, headers = '{}'")
    system.execute("INSERT INTO erased_receipts VALUES (%(id)s, '2026-01-02T03:04:05Z')", id=receipt_id)
    shown = system.get(f"/v1/receipts/{receipt_id}")
    assert (shown["state"], shown["bytes"], shown["event_count"]) == ("processed", 0, 1)
    assert shown["erased_at"].startswith("2026-01-02T03:04:05")
    raw = system.call("GET", f"/v1/receipts/{receipt_id}/raw")
    assert (raw.status_code, raw.get_json()["title"]) == (410, "Gone")
    assert "deleted at 2026-01-02T03:04:05" in raw.get_json()["detail"]
    for dry_run in ("false", "true"):
        answer = system.call("POST", f"/v1/receipts/{receipt_id}/reprocess", dry_run=dry_run)
        assert answer.status_code == 409
        assert "deleted" in answer.get_json()["detail"]
    assert system.get(f"/v1/receipts/{receipt_id}")["state"] == "processed"
    assert len(system.notifier.tasks) == 0


def test_a_dry_run_shows_the_difference_and_makes_none(system: System) -> None:
    system.create_source()
    receipt_id = system.process_events(mailchannels_event("delivered", "a@example.net"))
    system.call("PATCH", "/v1/sources/main", {"credentials": {"customer_handles": ["another"]}})
    answer = system.call("POST", f"/v1/receipts/{receipt_id}/reprocess", dry_run="true")
    assert answer.status_code == 200
    difference = answer.get_json()["difference"]
    assert difference["events_before"] == 1
    assert difference["states"][0]["before"]["status"] == "delivered"
    assert difference["states"][0]["after"] is None
    assert system.get(f"/v1/receipts/{receipt_id}")["state"] == "processed"
    assert system.get(f"/v1/receipts/{receipt_id}")["event_count"] == 1
    assert system.notifier.tasks == [VERIFY]  # of the change of the source


def test_a_dry_run_of_a_body_that_cannot_be_read_says_so(system: System) -> None:
    system.create_source()
    receipt_id = system.queue_body(b"no JSON")
    answer = system.call("POST", f"/v1/receipts/{receipt_id}/reprocess", dry_run="true")
    assert answer.status_code == 409
    assert "JSON" in answer.get_json()["detail"]


@pytest.mark.parametrize("path", ["", "/raw", "/reprocess", "/reprocess?dry_run=true"])
def test_an_unknown_receipt_is_not_found(shared_system: System, path: str) -> None:
    method = "POST" if "reprocess" in path else "GET"
    assert shared_system.call(method, f"/v1/receipts/{uuid4()}{path}").status_code == 404
    assert shared_system.call(method, f"/v1/receipts/no-id{path}").status_code == 404


def test_refusals_are_listed_with_their_reason(system: System) -> None:
    at = datetime.now(UTC)
    with system.engine.begin() as connection:
        record_refusals(connection, [refusal(at, number) for number in range(5)])
    found = system.list_items("/v1/refusals", limit=2)
    assert len(found) == 5
    assert [item["id"] for item in found] == sorted((item["id"] for item in found), reverse=True)
    (first,) = system.list_items("/v1/refusals", source="main-0")
    assert (first["reason"], first["status_code"], first["remote_ip"]) == ("bad_signature", 401, "192.0.2.1")
    assert first["headers"] == {"user-agent": "esp"}
    assert len(system.list_items("/v1/refusals", reason="stale")) == 2
    assert system.list_items("/v1/refusals", since=(at + timedelta(seconds=9)).isoformat()) == []


def refusal(at: datetime, number: int) -> Refusal:
    return Refusal(
        id=ids.receipt_id(at + timedelta(seconds=number)),
        source=f"main-{number}",
        refused_at=at,
        status_code=401,
        reason="stale" if number % 2 else "bad_signature",
        detail="Signature verification failed for key 'k1'",
        remote_ip="192.0.2.1",
        headers='{"user-agent": "esp"}',
        bytes=10,
    )


def test_an_unverified_receipt_shows_the_key_it_waits_for(system: System) -> None:
    system.create_source()
    pending = system.queue_body(b"[]")
    system.execute("DELETE FROM pending_receipts")
    at = datetime.now(UTC)
    with system.engine.begin() as connection:
        row = connection.exec_driver_sql("SELECT source_id FROM receipts").scalar_one()
        quarantine.add(
            connection,
            receipts.Receipt(
                id=ids.receipt_id(at), source_id=row, received_at=at, key=uuid4().hex, key_expires_at=at,
                idempotency_key=None, remote_ip=None, headers="{}", body=b"[]",
            ),
            VerificationError(RefusalReason.UNKNOWN_KEY, "…", key_id="k9"),
            max_rows=10, max_bytes=1000,
        )  # fmt: skip
    (found,) = system.get("/v1/receipts", state="unverified")["items"]
    assert found["key_id"] == "k9"
    assert found["id"] != str(pending)
