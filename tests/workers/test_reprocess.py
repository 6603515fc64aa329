"""Processing again: what was received says what it says by the parser of now, and nothing is told twice."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from shared.errors import PayloadError
from shared.events.event import Event
from shared.receipts import store as receipts
from shared.reprocessing import previews, reprocess
from shared.reprocessing.reprocess import Difference
from shared.sources.source import Source
from shared.vocabulary import EventType
from simulator.mail import Happening
from simulator.providers.ark.webhooks import Ark
from tests.workers.workshop import Workshop
from workers import process_receipts as draining

CLOUDMAILIN = {"username": "user", "password": "secret"}
TABLES = (
    "events",
    "event_keys",
    "messages",
    "recipient_states",
    "state_changes",
    "pending_receipts",
    "parked_receipts",
)


def told(*kinds: str) -> bytes:
    """These events, about one message to one recipient."""
    events = [{"kind": kind, "recipient": "ann@example.net", "message_id": "m-1"} for kind in kinds]
    return json.dumps({"events": events}).encode()


class Parser:
    """The provider's parser, which the test can break and mend."""

    def __init__(self, source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
        self._right = source.provider.parse
        self.reads_nothing = False
        self.takes: dict[EventType, EventType] = {}
        self.overlooks: set[EventType] = set()
        monkeypatch.setattr(source.provider, "parse", self._parse)

    def _parse(self, body: bytes, credentials: Any, /) -> list[Event]:
        if self.reads_nothing:
            raise PayloadError("this version of the parser does not understand it")
        found = [event for event in self._right(body, credentials) if event.type not in self.overlooks]
        return [replace(event, type=self.takes.get(event.type, event.type)) for event in found]

    def mend(self) -> None:
        self.reads_nothing, self.takes, self.overlooks = False, {}, set()


@pytest.fixture
def source(workshop: Workshop) -> Source:
    return workshop.add_source("cm", "cloudmailin", CLOUDMAILIN)


@pytest.fixture
def parser(source: Source, monkeypatch: pytest.MonkeyPatch) -> Parser:
    return Parser(source, monkeypatch)


def process_again(workshop: Workshop, *receipts: UUID) -> None:
    with workshop.ctx.engine_sync_commit.begin() as connection:
        assert reprocess.queue(connection, receipts) == len(receipts)
    draining.drain(workshop.ctx)


def preview(workshop: Workshop, receipt: UUID) -> Difference:
    with workshop.ctx.engine_sync_commit.connect() as connection, connection.begin() as transaction:
        found = previews.of_receipt(connection, receipt, workshop.ctx.vault)
        transaction.rollback()
    assert found is not None
    return found


def counters(workshop: Workshop) -> list[tuple[Any, ...]]:
    return workshop.rows("SELECT status, opens, clicks, remarks FROM recipient_states")


class TestADeadReceipt:
    def test_is_processed_after_the_parser_was_mended(self, workshop: Workshop, source: Source, parser: Parser) -> None:
        parser.reads_nothing = True
        receipt = workshop.receive(source, told("delivery", "open"))
        draining.drain(workshop.ctx)
        assert workshop.standing(receipt) == ("dead", "unreadable")

        parser.mend()
        process_again(workshop, receipt)

        assert workshop.standing(receipt) == ("processed", None)
        assert counters(workshop) == [("delivered", 1, 0, 1)]

    def test_is_announced_as_it_would_have_been_at_first(
        self, workshop: Workshop, source: Source, parser: Parser
    ) -> None:
        workshop.receive(source, told("delivery"))
        draining.drain(workshop.ctx)
        parser.reads_nothing = True
        receipt = workshop.receive(source, told("open"))
        draining.drain(workshop.ctx)
        parser.mend()
        process_again(workshop, receipt)
        assert workshop.changes() == ["message.delivered", "message.opened"]

    def test_whose_events_concern_no_message_is_announced_too(
        self, workshop: Workshop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ark = Ark()
        source = workshop.add_source("ark", "ark", ark.credentials())
        parser = Parser(source, monkeypatch)
        parser.reads_nothing = True
        receipt = workshop.receive(source, ark.body([Happening(kind=EventType.DOMAIN_DNS_ERROR, at=datetime.now(UTC))]))
        draining.drain(workshop.ctx)
        parser.mend()
        process_again(workshop, receipt)
        assert workshop.changes() == ["domain.dns_error"]

    def test_is_dead_again_if_nothing_has_changed(self, workshop: Workshop, source: Source) -> None:
        receipt = workshop.receive(source, b"not JSON")
        draining.drain(workshop.ctx)
        process_again(workshop, receipt)
        assert workshop.standing(receipt) == ("dead", "unreadable")

    def test_has_all_its_attempts_again(self, workshop: Workshop, source: Source) -> None:
        receipt = workshop.receive(source, told("delivery"))
        workshop.run("UPDATE pending_receipts SET attempts = 5")
        draining.drain(workshop.ctx)
        assert workshop.standing(receipt) == ("dead", "attempts_exhausted")
        process_again(workshop, receipt)
        assert workshop.standing(receipt) == ("processed", None)
        assert counters(workshop) == [("delivered", 0, 0, 0)]


class TestAProcessedReceipt:
    def test_says_what_the_mended_parser_reads(self, workshop: Workshop, source: Source, parser: Parser) -> None:
        parser.takes = {EventType.BOUNCED: EventType.DELIVERED}
        receipt = workshop.receive(source, told("bounce"))
        draining.drain(workshop.ctx)
        assert counters(workshop) == [("delivered", 0, 0, 0)]

        parser.mend()
        process_again(workshop, receipt)

        assert counters(workshop) == [("bounced", 0, 0, 0)]
        assert workshop.rows("SELECT type FROM events") == [("bounced",)]
        assert workshop.changes() == ["message.delivered", "message.bounced"]
        assert workshop.rows("SELECT previous_status, status, version FROM state_changes ORDER BY id") == [
            (None, "delivered", 1),
            ("delivered", "bounced", 2),
        ]

    def test_takes_back_what_it_counted_too_much_and_leaves_what_others_counted(
        self, workshop: Workshop, source: Source, parser: Parser
    ) -> None:
        workshop.receive(source, told("delivery", "open"))
        parser.takes = {EventType.CLICKED: EventType.OPENED}
        receipt = workshop.receive(source, told("click", "open"))
        draining.drain(workshop.ctx)
        assert counters(workshop) == [("delivered", 3, 0, 3)]

        parser.mend()
        process_again(workshop, receipt)

        assert counters(workshop) == [("delivered", 2, 1, 3)]

    def test_whose_events_are_gone_takes_their_state_with_it(
        self, workshop: Workshop, source: Source, parser: Parser
    ) -> None:
        receipt = workshop.receive(source, told("delivery"))
        draining.drain(workshop.ctx)
        parser.overlooks = {EventType.DELIVERED}
        process_again(workshop, receipt)
        assert counters(workshop) == []
        assert workshop.rows("SELECT 1 FROM events") == workshop.rows("SELECT 1 FROM event_keys") == []

    def test_tells_nothing_again_if_nothing_has_changed(self, workshop: Workshop, source: Source) -> None:
        receipts = [workshop.receive(source, told("registration", "delivery", "open", kind)) for kind in ("x", "y")]
        draining.drain(workshop.ctx)
        said = "SELECT status, previous_status, opens, status_event_id FROM recipient_states"
        before, announced = workshop.rows(said), workshop.changes()
        process_again(workshop, *receipts)
        process_again(workshop, *receipts)
        assert workshop.rows(said) == before
        assert workshop.changes() == announced
        workshop.nothing_is_doubled()

    def test_tells_only_what_is_new_in_it(self, workshop: Workshop, source: Source, parser: Parser) -> None:
        parser.overlooks = {EventType.CLICKED}
        receipt = workshop.receive(source, told("delivery", "open", "click"))
        draining.drain(workshop.ctx)
        parser.mend()
        process_again(workshop, receipt)
        assert counters(workshop) == [("delivered", 1, 1, 2)]
        assert workshop.changes() == ["message.delivered", "message.opened", "message.clicked"]

    def test_of_several_that_changed_each_is_replaced(self, workshop: Workshop, source: Source, parser: Parser) -> None:
        parser.takes = {EventType.OPENED: EventType.READ}
        receipts = [workshop.receive(source, told("open") + b" " * number) for number in range(5)]
        draining.drain(workshop.ctx)
        assert workshop.rows("SELECT reads, opens FROM recipient_states") == [(5, 0)]
        parser.mend()
        process_again(workshop, *receipts)
        assert workshop.rows("SELECT reads, opens FROM recipient_states") == [(0, 5)]

    def test_that_became_unreadable_is_dead_and_keeps_what_it_said(
        self, workshop: Workshop, source: Source, parser: Parser
    ) -> None:
        receipt = workshop.receive(source, told("delivery"))
        draining.drain(workshop.ctx)
        parser.reads_nothing = True
        process_again(workshop, receipt)
        assert workshop.standing(receipt) == ("dead", "unreadable")
        assert counters(workshop) == [("delivered", 0, 0, 0)]


class TestAPreview:
    def contents(self, workshop: Workshop) -> dict[str, list[tuple[Any, ...]]]:
        return {table: sorted(workshop.rows(f"SELECT t::text FROM {table} AS t")) for table in TABLES}

    def test_shows_the_difference_and_changes_nothing(self, workshop: Workshop, source: Source, parser: Parser) -> None:
        parser.takes = {EventType.BOUNCED: EventType.DELIVERED}
        parser.overlooks = {EventType.OPENED}
        receipt = workshop.receive(source, told("bounce", "open"))
        draining.drain(workshop.ctx)
        parser.mend()
        before = self.contents(workshop)

        found = preview(workshop, receipt)

        assert self.contents(workshop) == before
        assert (found.events_before, found.events_after) == (1, 2)
        [(old, new)] = found.states
        assert old is not None
        assert new is not None
        assert (old.status, old.opens, new.status, new.opens) == ("delivered", 0, "bounced", 1)
        json.dumps(found.as_json())

    def test_of_a_dead_receipt_shows_what_it_would_bring(
        self, workshop: Workshop, source: Source, parser: Parser
    ) -> None:
        parser.reads_nothing = True
        receipt = workshop.receive(source, told("delivery"))
        draining.drain(workshop.ctx)
        with pytest.raises(PayloadError):
            preview(workshop, receipt)
        parser.mend()
        found = preview(workshop, receipt)
        assert (found.events_before, found.events_after) == (0, 1)
        [(old, new)] = found.states
        assert old is None
        assert new is not None
        assert new.status == "delivered"
        assert workshop.standing(receipt) == ("dead", "unreadable")

    def test_of_what_would_not_change_shows_no_state(self, workshop: Workshop, source: Source) -> None:
        receipt = workshop.receive(source, told("delivery", "open"))
        draining.drain(workshop.ctx)
        found = preview(workshop, receipt)
        assert (found.events_before, found.events_after, list(found.states)) == (2, 2, [])


def test_what_comes_in_meanwhile_does_not_wait_for_all_of_it(workshop: Workshop, source: Source) -> None:
    old = [workshop.receive(source, told(*["delivery"] * count)) for count in range(1, 3 * receipts.MOST_AGAIN)]
    while draining.drain(workshop.ctx).receipts:
        pass
    with workshop.ctx.engine_sync_commit.begin() as connection:
        reprocess.queue(connection, old)
    workshop.receive(source, told("bounce"))
    draining.drain(workshop.ctx, longest_run_seconds=0.0)
    assert workshop.rows("SELECT reprocess, count(*) FROM pending_receipts GROUP BY 1") == [
        (True, len(old) - receipts.MOST_AGAIN)
    ]


def test_what_comes_in_is_found_without_looking_at_what_is_processed_again(workshop: Workshop, source: Source) -> None:
    workshop.run(
        "INSERT INTO pending_receipts (receipt_id, source_id, bytes, available_at, reprocess)"
        " SELECT ('00000000-0000-0000-0000-' || lpad(to_hex(n), 12, '0'))::uuid, %(source)s, 1, now(), true"
        " FROM generate_series(1, 20000) AS n",
        source=source.id,
    )
    workshop.run("ANALYZE pending_receipts")
    workshop.receive(source, told("delivery"))
    with workshop.ctx.engine.begin() as connection:
        values = {"limit": 400, "limit_again": 0, "most_bytes": 1 << 20, "token": UUID(int=1), "lease_seconds": 30}
        plan = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {receipts._CLAIM}", values).scalar_one()
    assert "pending_receipts_live" in str(plan)
    assert not re.search(r"'Rows Removed by Filter': [1-9]", str(plan))


def test_what_is_unverified_cannot_be_processed_this_way(workshop: Workshop, source: Source) -> None:
    receipt = workshop.park(source, told("delivery"), {"Authorization": "Basic Zm9yOmdlZA=="})
    with workshop.ctx.engine_sync_commit.begin() as connection:
        assert reprocess.queue(connection, [receipt]) == 0
    assert workshop.standing(receipt)[0] == "unverified"


def test_a_rejected_request_is_let_in_when_a_person_says_so(workshop: Workshop, source: Source) -> None:
    receipt = workshop.park(source, told("delivery"), {"Authorization": "Basic Zm9yOmdlZA=="})
    workshop.run("UPDATE parked_receipts SET state = 'rejected'")
    process_again(workshop, receipt)
    assert workshop.standing(receipt) == ("processed", None)
    assert counters(workshop) == [("delivered", 0, 0, 0)]


def test_receipts_are_selected_by_source_state_and_time(workshop: Workshop, source: Source) -> None:
    other = workshop.add_source("other", "cloudmailin", CLOUDMAILIN)
    dead = workshop.receive(source, b"not JSON")
    fine = workshop.receive(source, told("delivery"))
    elsewhere = workshop.receive(other, told("delivery"))
    draining.drain(workshop.ctx)
    with workshop.ctx.engine_sync_commit.connect() as connection:
        assert reprocess.select(connection) == sorted([dead, fine, elsewhere])
        assert reprocess.select(connection, source_id=source.id) == sorted([dead, fine])
        assert reprocess.select(connection, state="dead") == [dead]
        assert reprocess.select(connection, limit=1) == [min(dead, fine, elsewhere)]
        [(at,)] = workshop.rows("SELECT max(received_at) + interval '1 s' FROM receipts")
        assert reprocess.select(connection, since=at) == []
        assert reprocess.select(connection, until=at, source_id=other.id) == [elsewhere]
