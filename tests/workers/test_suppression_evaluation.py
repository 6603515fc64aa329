"""What processing and reprocessing do to the suppression list."""

import json
import random
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest

from shared.events.event import Event
from shared.receipts import store as receipt_store
from shared.reprocessing import reprocess
from shared.reprocessing.reprocess import Difference
from shared.sources.source import Source
from shared.suppression import queries as suppression_queries
from shared.suppression import store as suppressions
from shared.suppression.store import Entry
from shared.vocabulary import Classification, EventType
from simulator.mail import Happening, make_message
from simulator.providers.mailchannels.webhooks import MailChannels
from tests.support.system import System, replace_parser
from workers import process_receipts as draining
from workers import reprocess_receipts
from workers import suppressions as workers_suppressions

ANN, BOB = "ann@example.net", "bob@example.net"
BEGIN = datetime.now(UTC).replace(microsecond=0) - timedelta(days=10)


def event(kind: str, *recipients: str, hour: float = 0, message: str = "m-1", **fields: Any) -> dict[str, Any]:
    """Return one MailChannels event, this many hours after BEGIN."""
    return {
        "event": kind,
        "email": "shop@example.com",
        "customer_handle": "acct",
        "timestamp": int((BEGIN + timedelta(hours=hour)).timestamp()),
        "request_id": message,
        "recipients": list(recipients or (ANN,)),
        **fields,
    }


def hard(*recipients: str, **fields: Any) -> dict[str, Any]:
    return event("hard-bounced", *recipients, **{"status": "5.1.1", **fields})


def soft(number: int, **fields: Any) -> dict[str, Any]:
    """A message of its own that bounced softly."""
    return event("soft-bounced", message=f"s-{number}", hour=number, status="4.2.2", **fields)


@pytest.fixture
def source(system: System) -> Source:
    return system.add_source("main", "mailchannels", {"customer_handles": ["acct"], "public_keys": {}})


class Parser:
    """The provider's parser, which the test can break and mend."""

    def __init__(self, source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
        self._right = source.provider.parse
        self.classifies: Mapping[str, Classification] = {}
        self.takes: Mapping[EventType, EventType] = {}
        replace_parser(monkeypatch, source, self._parse)

    def _parse(self, body: bytes, credentials: Any, /) -> list[Event]:
        return [
            msgspec.structs.replace(
                event,
                type=self.takes.get(event.type, event.type),
                classification=self.classifies.get(event.classification or "", event.classification),
            )
            for event in self._right(body, credentials)
        ]


@pytest.fixture
def parser(source: Source, monkeypatch: pytest.MonkeyPatch) -> Parser:
    return Parser(source, monkeypatch)


def receive(system: System, source: Source, *happened: dict[str, Any]) -> UUID:
    """A receipt that says this, drained."""
    receipt = system.store_receipt(source, json.dumps(happened).encode())
    draining.process_due(system.ctx)
    return receipt


def process_again(system: System, *receipts: UUID) -> None:
    with system.ctx.engine_sync_commit.begin() as connection:
        assert receipt_store.queue_reprocessing(connection, receipts) == len(receipts)
    reprocess_receipts.reprocess_due(system.ctx)
    workers_suppressions.evaluate_soft_bounces(system.ctx)


def preview(system: System, receipt: UUID) -> Difference:
    with system.ctx.engine_sync_commit.connect() as connection, connection.begin() as transaction:
        found = reprocess.preview(connection, receipt, system.ctx.vault)
        transaction.rollback()
    return found


def entries(system: System, recipient: str = ANN) -> list[Entry]:
    with system.ctx.engine.connect() as connection:
        return suppression_queries.get_entries(connection, system.ctx.hasher.hash_address(recipient))


def reasons(system: System, recipient: str = ANN) -> list[str]:
    return [entry.reason for entry in entries(system, recipient)]


def announced(system: System) -> list[str]:
    return [change for change in system.change_types() if change.startswith("suppression.")]


def lift(system: System, recipient: str = ANN, now: datetime | None = None) -> None:
    with system.ctx.engine_sync_commit.begin() as connection:
        suppressions.lift(
            connection,
            keys=[system.ctx.hasher.hash_address(recipient)],
            tenant=None,
            reason=None,
            actor="eve",
            note=None,
            now=now,
        )


class TestDraining:
    def test_suppresses_recipients_in_the_transaction_that_stores_the_events(
        self, system: System, source: Source
    ) -> None:
        receipt = receive(system, source, hard(ANN), event("delivered", BOB))
        [entry] = entries(system)
        assert (entry.address, entry.reason, entry.classification) == (ANN, "hard_bounce", "invalid_recipient")
        assert (entry.source, entry.since) == ("main", BEGIN)
        assert entry.evidence_event_id is not None
        assert receipt.int < entry.evidence_event_id.int <= receipt.int + 2
        assert entries(system, BOB) == []

    def test_takes_a_recipient_and_a_tenant_of_any_length(self, system: System) -> None:
        rng = random.Random(1)
        tenant, endless, longest = (
            "".join(chr(rng.randrange(0x20000, 0x2A000)) for _ in range(length)) for length in (512, 490, 76)
        )
        source = system.add_source("long", "mailchannels", {"customer_handles": [tenant], "public_keys": {}})
        bounce = soft(1, customer_handle=tenant, recipients=[f"{name}@post.example" for name in (endless, longest)])
        assert system.receipt_state(receive(system, source, bounce)) == ("processed", None)
        assert system.rows("SELECT recipient FROM soft_bounces") == [(f"{longest}@post.example",)]

    def test_announces_the_event_and_then_the_suppression(self, system: System, source: Source) -> None:
        receive(system, source, hard(ANN))
        assert system.change_types() == ["message.bounced", "suppression.added"]
        system.assert_nothing_doubled()

    def test_of_what_was_sent_twice_says_nothing_more(self, system: System, source: Source) -> None:
        receive(system, source, hard(ANN))
        lift(system)
        receive(system, source, hard(ANN), event("open"))
        assert entries(system) == []

    def test_suppresses_no_address_for_events_of_another_account(self, system: System, source: Source) -> None:
        receive(system, source, hard(ANN, customer_handle="another"))
        assert entries(system) == []

    def test_suppresses_no_address_that_the_provider_dropped_for_its_own_list(
        self, system: System, source: Source
    ) -> None:
        receive(system, source, event("dropped", status="550", reason="recipient is suppressed"))
        assert entries(system) == []

    def test_rolls_back_with_its_batch(self, system: System, source: Source) -> None:
        system.execute("ALTER TABLE suppressions ADD CONSTRAINT poison CHECK (address <> 'ann@example.net')")
        receive(system, source, hard(ANN))
        assert system.rows("SELECT 1 FROM events") == []
        system.execute("ALTER TABLE suppressions DROP CONSTRAINT poison")
        system.make_receipts_due()
        draining.process_due(system.ctx)
        assert reasons(system) == ["hard_bounce"]

    def test_takes_the_words_of_a_story_for_what_they_are(self, system: System) -> None:
        """A real dialect: what the simulated provider posts about one message with three fates."""
        provider = MailChannels(seed=1)
        source = system.add_source("mc", "mailchannels", provider.credentials())
        message = make_message(
            random.Random(1),
            1,
            sender="shop@example.com",
            recipients=(ANN, BOB),
            subject="x",
            submitted_at=BEGIN,
        )
        happened = [
            Happening(kind=EventType.COMPLAINED, at=BEGIN, message=message, recipients=(ANN,)),
            Happening(kind=EventType.UNSUBSCRIBED, at=BEGIN, message=message, recipients=(BOB,)),
        ]
        system.store_receipt(source, provider.body(happened))
        draining.process_due(system.ctx)
        assert (reasons(system, ANN), reasons(system, BOB)) == (["complaint"], ["unsubscribe"])
        [entry] = entries(system, BOB)
        assert entry.types == ["non_transactional"]


class TestProcessingAgain:
    def test_announces_nothing_that_is_there_already(self, system: System, source: Source) -> None:
        receipts = [receive(system, source, hard(ANN)), receive(system, source, event("complained", hour=1))]
        before = entries(system)
        process_again(system, *receipts)
        assert entries(system) == before
        assert announced(system) == ["suppression.added"] * 2

    def test_never_suppresses_again_what_a_person_has_lifted(self, system: System, source: Source) -> None:
        receipts = [
            receive(system, source, hard(ANN), event("unsubscribed", hour=1)),
            receive(system, source, event("complained", hour=2)),
            receive(system, source, *(soft(number) for number in range(6))),
        ]
        workers_suppressions.evaluate_soft_bounces(system.ctx)
        assert len(reasons(system)) == 4
        lift(system)
        process_again(system, *receipts)
        assert entries(system) == []

    def test_does_not_bring_back_what_was_received_while_the_lift_waited_or_by_a_clock_that_is_ahead(
        self, system: System, source: Source
    ) -> None:
        asked_at = datetime.now(UTC)
        receipt = receive(system, source, hard(ANN, timestamp=datetime.now(UTC).timestamp()))
        [entry] = entries(system)
        assert entry.since > asked_at
        lift(system, now=asked_at)
        process_again(system, receipt)
        assert entries(system) == []
        assert system.rows("SELECT lifted_at FROM suppression_lifts") == [(entry.since,)]

    def test_withdraws_what_the_events_no_longer_support(self, system: System, source: Source, parser: Parser) -> None:
        parser.classifies = {"policy_rejection": Classification.INVALID_RECIPIENT}
        receipt = receive(system, source, hard(ANN, status="5.7.1"), hard(BOB, message="m-2"))
        assert reasons(system) == ["hard_bounce"]
        parser.classifies = {}
        process_again(system, receipt)
        assert entries(system) == []
        assert reasons(system, BOB) == ["hard_bounce"]
        assert announced(system) == ["suppression.added", "suppression.added", "suppression.removed"]
        assert system.rows("SELECT action FROM suppression_history ORDER BY id")[-1] == ("withdrawn",)

    def test_lets_another_event_stand_in_for_one_that_was_none(
        self, system: System, source: Source, parser: Parser
    ) -> None:
        parser.classifies = {"policy_rejection": Classification.INVALID_RECIPIENT}
        wrong = receive(system, source, hard(ANN, status="5.7.1"))
        receive(system, source, hard(ANN, message="m-2", hour=5))
        parser.classifies = {}
        process_again(system, wrong)
        [entry] = entries(system)
        assert entry.since == BEGIN + timedelta(hours=5)

    def test_stores_the_result_of_the_fixed_parser(self, system: System, source: Source, parser: Parser) -> None:
        parser.takes = {EventType.COMPLAINED: EventType.UNKNOWN}
        receipt = receive(system, source, event("complained"))
        assert entries(system) == []
        parser.takes = {}
        process_again(system, receipt)
        assert reasons(system) == ["complaint"]

    def test_restores_an_unsubscription_that_was_not_withdrawn(
        self, system: System, source: Source, parser: Parser
    ) -> None:
        receive(system, source, event("unsubscribed", hour=1))
        parser.takes = {EventType.OPENED: EventType.SUBSCRIBED}
        receipt = receive(system, source, event("open", hour=2))
        assert entries(system) == []
        parser.takes = {}
        process_again(system, receipt)
        assert reasons(system) == ["unsubscribe"]
        process_again(system, receipt)
        assert reasons(system) == ["unsubscribe"]

    def test_counts_soft_bounces_by_what_they_are_now(self, system: System, source: Source, parser: Parser) -> None:
        parser.classifies = {"spam_block": Classification.TRANSIENT_FAILURE}
        receipts = [receive(system, source, soft(number)) for number in range(4)]
        receipts.append(receive(system, source, soft(4) | {"status": "4.7.28"}))
        workers_suppressions.evaluate_soft_bounces(system.ctx)
        assert reasons(system) == ["soft_bounce"]
        parser.classifies = {}
        process_again(system, *receipts)
        assert entries(system) == []
        assert announced(system) == ["suppression.added", "suppression.removed"]

    def test_of_a_delivery_that_was_none_suppresses_for_the_soft_bounces(
        self, system: System, source: Source, parser: Parser
    ) -> None:
        receive(system, source, *(soft(number) for number in range(5)))
        parser.takes = {EventType.OPENED: EventType.DELIVERED}
        receipt = receive(system, source, event("open", hour=9))
        workers_suppressions.evaluate_soft_bounces(system.ctx)
        assert entries(system) == []
        parser.takes = {}
        process_again(system, receipt)
        assert reasons(system) == ["soft_bounce"]


class TestAPreview:
    def test_shows_the_suppressions_that_would_come_and_go_and_changes_none(
        self, system: System, source: Source, parser: Parser
    ) -> None:
        parser.classifies = {"policy_rejection": Classification.INVALID_RECIPIENT}
        parser.takes = {EventType.COMPLAINED: EventType.UNKNOWN}
        receipt = receive(system, source, hard(ANN, status="5.7.1"), event("complained", BOB))
        parser.classifies, parser.takes = {}, {}
        found = preview(system, receipt).as_json()["suppressions"]
        assert [(one["action"], one["address"], one["reason"]) for one in found] == [
            ("withdrawn", ANN, "hard_bounce"),
            ("added", BOB, "complaint"),
        ]
        json.dumps(found)
        assert (reasons(system, ANN), reasons(system, BOB)) == (["hard_bounce"], [])

    def test_shows_those_of_soft_bounces_too(self, system: System, source: Source, parser: Parser) -> None:
        parser.classifies = {"spam_block": Classification.TRANSIENT_FAILURE}
        receive(system, source, *(soft(number) for number in range(4)))
        receipt = receive(system, source, soft(4) | {"status": "4.7.28"})
        workers_suppressions.evaluate_soft_bounces(system.ctx)
        parser.classifies = {}
        [change] = preview(system, receipt).suppressions
        assert (change.action, change.entry["reason"]) == ("withdrawn", "soft_bounce")
        assert reasons(system) == ["soft_bounce"]

    def test_of_what_would_not_change_shows_none(self, system: System, source: Source) -> None:
        receipt = receive(system, source, hard(ANN), *(soft(number) for number in range(6)))
        workers_suppressions.evaluate_soft_bounces(system.ctx)
        assert preview(system, receipt).suppressions == []
