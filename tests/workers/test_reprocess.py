"""Reprocessing: receipts are parsed again by the current parser, and no change is logged twice."""

import json
import re
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest
from sqlalchemy import Connection
from sqlalchemy import event as sqlalchemy_event

from shared.broker import REPROCESS
from shared.errors import PayloadError
from shared.events.event import Event
from shared.postgres.pagination import Span
from shared.receipts import queries
from shared.receipts import store as receipt_store
from shared.receipts import store as receipts
from shared.reprocessing import reprocess
from shared.reprocessing.reprocess import Difference
from shared.sources.source import Source
from shared.vocabulary import EventType, ReceiptState
from simulator.mail import Happening
from simulator.providers.ark.webhooks import Ark
from tests.support.system import System, replace_parser
from workers import process_receipts as draining
from workers import reprocess_receipts

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


def receipt_body(*kinds: str) -> bytes:
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
        replace_parser(monkeypatch, source, self._parse)

    def _parse(self, body: bytes, credentials: Any, /) -> list[Event]:
        if self.reads_nothing:
            raise PayloadError("this version of the parser does not understand it")
        found = [event for event in self._right(body, credentials) if event.type not in self.overlooks]
        return [msgspec.structs.replace(event, type=self.takes.get(event.type, event.type)) for event in found]

    def mend(self) -> None:
        self.reads_nothing, self.takes, self.overlooks = False, {}, set()


@pytest.fixture
def source(system: System) -> Source:
    return system.add_source("cm", "cloudmailin", CLOUDMAILIN)


@pytest.fixture
def parser(source: Source, monkeypatch: pytest.MonkeyPatch) -> Parser:
    return Parser(source, monkeypatch)


def process_again(system: System, *receipts: UUID) -> None:
    with system.ctx.engine_sync_commit.begin() as connection:
        assert receipt_store.queue_reprocessing(connection, receipts) == len(receipts)
    reprocess_receipts.reprocess_due(system.ctx)


def preview(system: System, receipt: UUID) -> Difference:
    with system.ctx.engine_sync_commit.connect() as connection, connection.begin() as transaction:
        found = reprocess.preview(connection, receipt, system.ctx.vault)
        transaction.rollback()
    return found


def counters(system: System) -> list[tuple[Any, ...]]:
    return system.rows("SELECT status, opens, clicks, remarks FROM recipient_states")


class TestADeadReceipt:
    def test_is_processed_after_the_parser_was_fixed(self, system: System, source: Source, parser: Parser) -> None:
        parser.reads_nothing = True
        receipt = system.store_receipt(source, receipt_body("delivery", "open"))
        draining.process_due(system.ctx)
        assert system.receipt_state(receipt) == ("dead", "unreadable")

        parser.mend()
        process_again(system, receipt)

        assert system.receipt_state(receipt) == ("processed", None)
        assert counters(system) == [("delivered", 1, 0, 1)]

    def test_is_announced_as_it_would_have_been_at_first(self, system: System, source: Source, parser: Parser) -> None:
        system.store_receipt(source, receipt_body("delivery"))
        draining.process_due(system.ctx)
        parser.reads_nothing = True
        receipt = system.store_receipt(source, receipt_body("open"))
        draining.process_due(system.ctx)
        parser.mend()
        process_again(system, receipt)
        assert system.change_types() == ["message.delivered", "message.opened"]

    def test_whose_events_concern_no_message_is_announced_too(
        self, system: System, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ark = Ark()
        source = system.add_source("ark", "ark", ark.credentials(), events_without_tenant="accept")
        parser = Parser(source, monkeypatch)
        parser.reads_nothing = True
        receipt = system.store_receipt(
            source, ark.body([Happening(kind=EventType.DOMAIN_DNS_ERROR, at=datetime.now(UTC))])
        )
        draining.process_due(system.ctx)
        parser.mend()
        process_again(system, receipt)
        assert system.change_types() == ["domain.dns_error"]

    def test_is_dead_again_if_nothing_has_changed(self, system: System, source: Source) -> None:
        receipt = system.store_receipt(source, b"not JSON")
        draining.process_due(system.ctx)
        process_again(system, receipt)
        assert system.receipt_state(receipt) == ("dead", "unreadable")

    def test_has_all_its_attempts_again(self, system: System, source: Source) -> None:
        receipt = system.store_receipt(source, receipt_body("delivery"))
        system.execute("UPDATE pending_receipts SET attempts = 5")
        draining.process_due(system.ctx)
        assert system.receipt_state(receipt) == ("dead", "attempts_exhausted")
        process_again(system, receipt)
        assert system.receipt_state(receipt) == ("processed", None)
        assert counters(system) == [("delivered", 0, 0, 0)]


class TestAProcessedReceipt:
    def test_shows_the_result_of_the_fixed_parser(self, system: System, source: Source, parser: Parser) -> None:
        parser.takes = {EventType.BOUNCED: EventType.DELIVERED}
        receipt = system.store_receipt(source, receipt_body("bounce"))
        draining.process_due(system.ctx)
        assert counters(system) == [("delivered", 0, 0, 0)]

        parser.mend()
        process_again(system, receipt)

        assert counters(system) == [("bounced", 0, 0, 0)]
        assert system.rows("SELECT type FROM events") == [("bounced",)]
        assert system.change_types() == ["message.delivered", "message.bounced", "suppression.added"]
        assert system.rows(
            "SELECT previous_status, status, version FROM state_changes WHERE status <> '' ORDER BY id"
        ) == [
            (None, "delivered", 1),
            ("delivered", "bounced", 2),
        ]

    def test_takes_back_what_it_counted_too_much_and_leaves_what_others_counted(
        self, system: System, source: Source, parser: Parser
    ) -> None:
        system.store_receipt(source, receipt_body("delivery", "open"))
        parser.takes = {EventType.CLICKED: EventType.OPENED}
        receipt = system.store_receipt(source, receipt_body("click", "open"))
        draining.process_due(system.ctx)
        assert counters(system) == [("delivered", 3, 0, 3)]

        parser.mend()
        process_again(system, receipt)

        assert counters(system) == [("delivered", 2, 1, 3)]

    def test_whose_events_are_gone_takes_their_state_with_it(
        self, system: System, source: Source, parser: Parser
    ) -> None:
        receipt = system.store_receipt(source, receipt_body("delivery"))
        draining.process_due(system.ctx)
        parser.overlooks = {EventType.DELIVERED}
        process_again(system, receipt)
        assert counters(system) == []
        assert system.rows("SELECT 1 FROM events") == system.rows("SELECT 1 FROM event_keys") == []

    def test_logs_no_change_if_nothing_has_changed(self, system: System, source: Source) -> None:
        receipts = [
            system.store_receipt(source, receipt_body("registration", "delivery", "open", kind)) for kind in ("x", "y")
        ]
        draining.process_due(system.ctx)
        said = "SELECT status, previous_status, opens, status_event_id FROM recipient_states"
        before, announced = system.rows(said), system.change_types()
        process_again(system, *receipts)
        process_again(system, *receipts)
        assert system.rows(said) == before
        assert system.change_types() == announced
        system.assert_nothing_doubled()

    def test_logs_new_changes_only(self, system: System, source: Source, parser: Parser) -> None:
        parser.overlooks = {EventType.CLICKED}
        receipt = system.store_receipt(source, receipt_body("delivery", "open", "click"))
        draining.process_due(system.ctx)
        parser.mend()
        process_again(system, receipt)
        assert counters(system) == [("delivered", 1, 1, 2)]
        assert system.change_types() == ["message.delivered", "message.opened", "message.clicked"]

    def test_of_several_that_changed_each_is_replaced(self, system: System, source: Source, parser: Parser) -> None:
        parser.takes = {EventType.OPENED: EventType.READ}
        receipts = [system.store_receipt(source, receipt_body("open") + b" " * number) for number in range(5)]
        draining.process_due(system.ctx)
        assert system.rows("SELECT reads, opens FROM recipient_states") == [(5, 0)]
        parser.mend()
        process_again(system, *receipts)
        assert system.rows("SELECT reads, opens FROM recipient_states") == [(0, 5)]

    def test_that_became_unreadable_is_dead_and_keeps_what_it_said(
        self, system: System, source: Source, parser: Parser
    ) -> None:
        receipt = system.store_receipt(source, receipt_body("delivery"))
        draining.process_due(system.ctx)
        parser.reads_nothing = True
        process_again(system, receipt)
        assert system.receipt_state(receipt) == ("dead", "unreadable")
        assert counters(system) == [("delivered", 0, 0, 0)]


class TestAPreview:
    def contents(self, system: System) -> dict[str, list[tuple[Any, ...]]]:
        return {table: sorted(system.rows(f"SELECT t::text FROM {table} AS t")) for table in TABLES}

    def test_shows_the_difference_and_changes_nothing(self, system: System, source: Source, parser: Parser) -> None:
        parser.takes = {EventType.BOUNCED: EventType.DELIVERED}
        parser.overlooks = {EventType.OPENED}
        receipt = system.store_receipt(source, receipt_body("bounce", "open"))
        draining.process_due(system.ctx)
        parser.mend()
        before = self.contents(system)

        found = preview(system, receipt)

        assert self.contents(system) == before
        assert (found.events_before, found.events_after) == (1, 2)
        [(old, new)] = found.states
        assert old is not None
        assert new is not None
        assert (old.status, old.opens, new.status, new.opens) == ("delivered", 0, "bounced", 1)
        json.dumps(found.as_json())

    def test_of_a_dead_receipt_shows_what_it_would_bring(self, system: System, source: Source, parser: Parser) -> None:
        parser.reads_nothing = True
        receipt = system.store_receipt(source, receipt_body("delivery"))
        draining.process_due(system.ctx)
        with pytest.raises(PayloadError):
            preview(system, receipt)
        parser.mend()
        found = preview(system, receipt)
        assert (found.events_before, found.events_after) == (0, 1)
        [(old, new)] = found.states
        assert old is None
        assert new is not None
        assert new.status == "delivered"
        assert system.receipt_state(receipt) == ("dead", "unreadable")

    def test_of_what_would_not_change_shows_no_state(self, system: System, source: Source) -> None:
        receipt = system.store_receipt(source, receipt_body("delivery", "open"))
        draining.process_due(system.ctx)
        found = preview(system, receipt)
        assert (found.events_before, found.events_after, list(found.states)) == (2, 2, [])


def test_what_comes_in_meanwhile_does_not_wait_for_all_of_it(system: System, source: Source) -> None:
    old = [
        system.store_receipt(source, receipt_body(*["delivery"] * count))
        for count in range(1, 3 * reprocess_receipts.MAX_BATCH)
    ]
    while draining.process_due(system.ctx).receipts:
        pass
    with system.ctx.engine_sync_commit.begin() as connection:
        receipt_store.queue_reprocessing(connection, old)
    system.store_receipt(source, receipt_body("bounce"))
    reprocess_receipts.reprocess_due(system.ctx, max_seconds=0.0)
    assert system.notifier.tasks[-1] == REPROCESS
    draining.process_due(system.ctx)
    assert system.rows("SELECT reprocess, count(*) FROM pending_receipts GROUP BY 1") == [
        (True, len(old) - reprocess_receipts.MAX_BATCH)
    ]


def test_what_comes_in_is_found_without_looking_at_what_is_processed_again(system: System, source: Source) -> None:
    system.execute(
        "INSERT INTO pending_receipts (receipt_id, source_id, bytes, available_at, reprocess)"
        " SELECT ('00000000-0000-0000-0000-' || lpad(to_hex(n), 12, '0'))::uuid, %(source)s, 1, now(), true"
        " FROM generate_series(1, 20000) AS n",
        source=source.id,
    )
    system.execute("ANALYZE pending_receipts")
    system.store_receipt(source, receipt_body("delivery"))
    explained: list[str] = []

    def explain(connection: Connection, cursor: Any, statement: str, parameters: Any, *_: Any) -> tuple[str, Any]:
        explained.append(cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters).fetchone()[0])
        return statement, parameters

    with system.ctx.engine.begin() as connection:
        sqlalchemy_event.listen(connection, "before_cursor_execute", explain, retval=True)
        receipts.claim(connection, limit=400, max_bytes=1 << 20, token=UUID(int=1), lease_seconds=30)
    (plan,) = explained
    assert "pending_receipts_live" in str(plan)
    assert not re.search(r"'Rows Removed by Filter': [1-9]", str(plan))


def test_unverified_receipts_cannot_be_processed_this_way(system: System, source: Source) -> None:
    receipt = system.quarantine(source, receipt_body("delivery"), {"Authorization": "Basic Zm9yOmdlZA=="})
    with system.ctx.engine_sync_commit.begin() as connection:
        assert receipt_store.queue_reprocessing(connection, [receipt]) == 0
    assert system.receipt_state(receipt)[0] == "unverified"


def test_a_rejected_request_is_let_in_when_a_person_says_so(system: System, source: Source) -> None:
    receipt = system.quarantine(source, receipt_body("delivery"), {"Authorization": "Basic Zm9yOmdlZA=="})
    system.execute("UPDATE parked_receipts SET state = 'rejected'")
    process_again(system, receipt)
    assert system.receipt_state(receipt) == ("processed", None)
    assert counters(system) == [("delivered", 0, 0, 0)]


def test_receipts_are_selected_by_source_state_and_time(system: System, source: Source) -> None:
    other = system.add_source("other", "cloudmailin", CLOUDMAILIN)
    dead = system.store_receipt(source, b"not JSON")
    fine = system.store_receipt(source, receipt_body("delivery"))
    elsewhere = system.store_receipt(other, receipt_body("delivery"))
    draining.process_due(system.ctx)
    waiting = system.store_receipt(source, receipt_body("open"))
    unverified = system.quarantine(source, receipt_body("click"), {"Authorization": "Basic Zm9yOmdlZA=="})
    rejected = system.quarantine(source, receipt_body("bounce"), {"Authorization": "Basic Zm9yOmdlZA=="})
    system.execute("UPDATE parked_receipts SET state = 'rejected' WHERE receipt_id = %(id)s", id=rejected)

    def find(**filters: Any) -> list[UUID]:
        with system.ctx.engine_sync_commit.connect() as connection:
            return list(queries.list_reprocessable(connection, **filters).items)

    assert {unverified, rejected}.isdisjoint(find())
    assert waiting not in find()
    assert find() == sorted([dead, fine, elsewhere], reverse=True)
    assert find(source="cm") == sorted([dead, fine], reverse=True)
    assert find(state=ReceiptState.DEAD) == [dead]
    assert find(state=ReceiptState.REJECTED) == [rejected]
    assert find(limit=10, set_aside=True) == []
    [(at,)] = system.rows("SELECT max(received_at) + interval '1 s' FROM receipts")
    assert find(span=Span(since=at)) == []
    assert find(span=Span(until=at), source="other") == [elsewhere]
    with system.ctx.engine_sync_commit.begin() as connection:
        receipts.queue_reprocessing(connection, [fine])
    assert find(source="cm") == sorted([dead, fine], reverse=True)


def test_no_object_of_a_provider_is_read_to_select_by_what_was_set_aside(system: System, source: Source) -> None:
    receipt = system.store_receipt(source, receipt_body("unheard-of", "unheard-of", "delivery"))
    draining.process_due(system.ctx)
    statements: list[str] = []
    with system.ctx.engine_sync_commit.connect() as connection:
        sqlalchemy_event.listen(
            connection, "before_cursor_execute", lambda _connection, _cursor, text, *_: statements.append(text)
        )
        assert queries.list_reprocessable(connection, source="cm", set_aside=True).items == [receipt]
        assert queries.list_reprocessable(connection, source="other", set_aside=True).items == []
    assert statements
    assert not [text for text in statements if "provider_object" in text]
