"""Processing many receipts again: counted first, then queued completely, none twice and none left out."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from shared.broker import REPROCESS
from tests.support.databases import DatabasePool, Snapshot
from tests.support.system import BEGIN, HANDLE, System, mailchannels_event, open_system
from workers import process_receipts, reprocess_receipts
from workers.jobs import reprocess as jobs_reprocess


@pytest.fixture(scope="module")
def common(databases: DatabasePool) -> Iterator[tuple[System, Snapshot]]:
    with databases.database() as url, open_system(url, begin=BEGIN) as system:
        yield system, system.take_snapshot()


@pytest.fixture
def system(common: tuple[System, Snapshot]) -> Iterator[System]:
    system, snapshot = common
    system.create_source()
    yield system
    system.reset(snapshot)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that even few are several."""
    monkeypatch.setattr(jobs_reprocess, "BATCH", 2)


def reprocess(system: System, dry_run: bool = False, **filters: Any) -> dict[str, Any]:
    """A job that processed again, when it is done."""
    return system.run_job("POST", "/v1/receipts/reprocess", {"filter": filters, "dry_run": dry_run})


def queued(system: System) -> set[UUID]:
    return {row[0] for row in system.rows("SELECT receipt_id FROM pending_receipts WHERE reprocess")}


@pytest.fixture
def dead(system: System) -> set[UUID]:
    """Receipts that the parser does not understand."""
    found = {system.queue_body(b"not JSON %d" % number) for number in range(5)}
    process_receipts.process_due(system.ctx)
    assert {one["state"] for one in system.list_items("/v1/receipts")} == {"dead"}
    return found


def test_all_that_match_are_queued_over_several_pieces(system: System, dead: set[UUID]) -> None:
    fine = system.process_events(mailchannels_event("delivered", "a@example.net"))
    counted = reprocess(system, dry_run=True)
    assert (counted["kind"], counted["total"], counted["report"]) == ("reprocess", 5, {"to_reprocess": 5, "erased": 0})
    assert queued(system) == set()
    done = reprocess(system)
    assert (done["state"], done["done"], done["total"]) == ("done", 5, 5)
    assert queued(system) == dead
    assert REPROCESS in system.notifier.tasks
    assert fine not in dead
    reprocess_receipts.reprocess_due(system.ctx)
    assert {one["state"] for one in system.list_items("/v1/receipts", state="dead")} == {"dead"}


def test_processed_ones_are_included_when_asked_for(system: System, dead: set[UUID]) -> None:
    fine = system.process_events(mailchannels_event("delivered", "a@example.net"))
    assert reprocess(system, dry_run=True, state="processed")["total"] == 1
    assert reprocess(system, state="all")["total"] == 6
    assert queued(system) == {*dead, fine}


def test_the_events_of_receipts_that_still_wait_are_counted(system: System, dead: set[UUID]) -> None:
    waiting = system.queue_body(
        json.dumps([mailchannels_event("delivered", "a@example.net", customer_handle=HANDLE)]).encode()
    )
    done = reprocess(system, state="all")
    assert (done["total"], queued(system)) == (5, dead)
    process_receipts.process_due(system.ctx)
    assert system.receipt_state(waiting) == ("processed", None)
    system.ctx.observations.flush(system.engine)
    counts = system.client.get("/metrics").text
    assert 'tidings_events_total{source="main",type="delivered"} 1.0' in counts


def test_filters_are_those_of_the_list(system: System, dead: set[UUID]) -> None:
    system.create_source("other")
    at = datetime.now(UTC)
    elsewhere = system.queue_body(b"not JSON", "other", at - timedelta(hours=2))
    process_receipts.process_due(system.ctx)
    assert reprocess(system, dry_run=True, since=(at - timedelta(hours=1)).isoformat())["total"] == 5
    assert reprocess(system, source="other")["total"] == 1
    assert queued(system) == {elsewhere}
    refused = system.call("POST", "/v1/receipts/reprocess", {"filter": {"source": "nobody"}})
    assert refused.status_code == 404
    refused = system.call("POST", "/v1/receipts/reprocess", {"filter": {"state": "unverified"}})
    assert refused.status_code == 422


def test_those_whose_events_were_set_aside_can_be_chosen(system: System) -> None:
    aside = {
        system.process_events(mailchannels_event("delivered", f"a{number}@example.net", customer_handle="stranger"))
        for number in range(3)
    }
    system.process_events(mailchannels_event("delivered", "b@example.net"))
    assert reprocess(system, dry_run=True, set_aside=True, state="dead")["total"] == 0
    assert reprocess(system, dry_run=True, set_aside=False)["total"] == 0  # none of them is dead
    assert reprocess(system, set_aside=True)["total"] == 3
    assert queued(system) == aside


def test_what_arrives_after_the_request_is_left_out(system: System, dead: set[UUID]) -> None:
    answer = system.call("POST", "/v1/receipts/reprocess", {"filter": {}})
    late = system.queue_body(b"not JSON either", at=datetime.now(UTC) + timedelta(seconds=1))
    process_receipts.process_due(system.ctx)
    system.run_jobs()
    assert system.get(answer.headers["Location"])["total"] == 5
    assert late not in queued(system)


def test_erased_receipts_are_counted_apart(system: System) -> None:
    system.process_events(mailchannels_event("delivered", "bob@example.net"))
    fine = system.process_events(mailchannels_event("delivered", "ann@example.net"))
    system.call("POST", "/v1/erasures", {"address": "bob@example.net"})
    system.run_jobs()
    done = reprocess(system, state="all")
    assert done["report"] == {"to_reprocess": 1, "erased": 1}
    assert queued(system) == {fine}
