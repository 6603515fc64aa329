"""Pending receipts have their effect once, whatever fails, and a bad one delays no other."""

import json
import multiprocessing
import signal
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import msgspec
import psycopg
import pytest
from sqlalchemy.exc import OperationalError

from shared.broker import PROCESS_RECEIPTS
from shared.errors import LeaseLostError
from shared.events.event import Event
from shared.ids import event_id
from shared.messages import store as state
from shared.receipts import store as receipts
from shared.receipts.store import ClaimedReceipt
from shared.sources import service
from shared.sources import store as sources
from shared.sources.source import Source
from simulator import load
from simulator.providers.mailchannels.webhooks import MailChannels
from tests.support import state_checks
from tests.support.system import System, replace_parser
from workers import maintenance, reprocess_receipts
from workers import process_receipts as draining
from workers.receipt_batch import ProcessedCounts

CLOUDMAILIN = {"username": "user", "password": "secret"}
LARGE = 1 << 30


def delivery(name: str, kind: str = "delivery") -> bytes:
    """One event about a message to `name`."""
    return json.dumps({"events": [{"kind": kind, "recipient": f"{name}@example.net", "message_id": name}]}).encode()


@pytest.fixture
def source(system: System) -> Source:
    return system.add_source("cm", "cloudmailin", CLOUDMAILIN)


def claim(
    system: System, *, limit: int = 100, max_bytes: int = LARGE, lease_seconds: int = 30
) -> tuple[UUID, list[ClaimedReceipt]]:
    token = uuid4()
    with system.ctx.engine.begin() as connection:
        claimed = receipts.claim(connection, limit=limit, max_bytes=max_bytes, token=token, lease_seconds=lease_seconds)
    return token, claimed


def mend(system: System, source: Source, credentials: dict[str, str]) -> None:
    """Give the source these credentials."""
    with system.ctx.engine.begin() as connection:
        sources.update(connection, source.id, credentials=system.ctx.vault.seal(credentials))


def let_workers_die(system: System, times: int) -> None:
    """Claim all receipts this many times, and do nothing else."""
    for _ in range(times):
        claim(system)
        system.make_receipts_due()


def drain_when_due(system: System) -> ProcessedCounts:
    system.make_receipts_due()
    return draining.process_due(system.ctx)


def poison(system: System, recipient: str) -> None:
    """Have the database refuse every event of this recipient."""
    system.execute(f"ALTER TABLE events ADD CONSTRAINT poison CHECK (recipient <> '{recipient}')")


def refuse(system: System, recipient: str, sqlstate: str) -> None:
    """Have the database refuse every event of this recipient with an error of this class."""
    statement = f"RAISE 'refused' USING ERRCODE = '{sqlstate}'"
    system.execute(f"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {statement}; END $$")
    system.execute(
        "CREATE TRIGGER refuse BEFORE INSERT ON events FOR EACH ROW"
        f" WHEN (NEW.recipient = '{recipient}') EXECUTE FUNCTION refuse()"
    )


def bounce_of(recipients: Sequence[str], request_id: str = "r1") -> bytes:
    """One hard bounce of MailChannels, of all these recipients."""
    fields = {
        "customer_handle": "acmeco",
        "event": "hard-bounced",
        "timestamp": 1_790_000_000,
        "request_id": request_id,
    }
    return json.dumps([{**fields, "recipients": recipients, "reason": "no such user " * 50}]).encode()


class TestASourceThatChanged:
    """A change that was answered is in force for the next receipt."""

    def test_has_its_new_customer_handle_for_a_webhook_that_arrives_at_once(self, system: System) -> None:
        source = system.add_source("mc", "mailchannels", MailChannels(seed=1).credentials())
        event = {"email": "a@example.com", "customer_handle": "brand-new", "timestamp": 1_700_000_000,
                 "event": "delivered", "recipients": ["ann@example.net"], "smtp_id": "<1@example.com>"}  # fmt: skip
        body = json.dumps([event]).encode()
        system.store_receipt(source, body)
        draining.process_due(system.ctx)
        assert system.recipient_statuses() == {}, "the account is foreign"
        with system.ctx.engine.begin() as connection:
            service.change(connection, system.ctx.vault, "mc", credentials={"customer_handles": ["brand-new"]})
        system.store_receipt(source, json.dumps([{**event, "smtp_id": "<2@example.com>"}]).encode())
        draining.process_due(system.ctx)
        assert system.recipient_statuses() == {"ann@example.net": "delivered"}

    def test_is_used_by_a_reprocessing_that_is_asked_for_at_once(self, system: System) -> None:
        source = system.add_source("mc", "mailchannels", MailChannels(seed=1).credentials())
        event = {"email": "a@example.com", "customer_handle": "brand-new", "timestamp": 1_700_000_000,
                 "event": "delivered", "recipients": ["ann@example.net"], "smtp_id": "<1@example.com>"}  # fmt: skip
        receipt_id = system.store_receipt(source, json.dumps([event]).encode())
        draining.process_due(system.ctx)
        with system.ctx.engine.begin() as connection:
            service.change(connection, system.ctx.vault, "mc", credentials={"customer_handles": ["brand-new"]})
            receipts.queue_reprocessing(connection, [receipt_id])
        reprocess_receipts.reprocess_due(system.ctx)
        assert system.recipient_statuses() == {"ann@example.net": "delivered"}


class TestWhatIsPending:
    @pytest.mark.parametrize("ahead", [timedelta(hours=23), timedelta(days=2), timedelta(days=5000)])
    def test_is_superseded_by_a_later_webhook_although_that_claims_another_day(
        self, system: System, source: Source, ahead: timedelta
    ) -> None:
        now = datetime.now(UTC)
        for kind, at in (("delivery", now + ahead), ("bounce", now + timedelta(hours=24))):
            event = {"kind": kind, "recipient": "ann@example.net", "message_id": "m", "timestamp": at.isoformat()}
            system.store_receipt(source, json.dumps({"events": [event]}).encode())
            draining.process_due(system.ctx)
        assert system.recipient_statuses() == {"ann@example.net": "bounced"}

    def test_becomes_events_and_states_and_leaves_the_queue(self, system: System, source: Source) -> None:
        ids = [system.store_receipt(source, delivery(name)) for name in ("ann", "bob")]
        done = draining.process_due(system.ctx)
        assert (done.receipts, done.new_events, done.dead) == (2, 2, 0)
        assert system.recipient_statuses() == {"ann@example.net": "delivered", "bob@example.net": "delivered"}
        assert [system.receipt_state(id_) for id_ in ids] == [("processed", None)] * 2

    def test_is_worked_on_until_nothing_is_left_however_small_the_batches(self, system: System, source: Source) -> None:
        for number in range(5):
            system.store_receipt(source, delivery(f"n{number}"))
        done = ProcessedCounts()
        while (token_and_claimed := claim(system, limit=2))[1]:
            token, claimed = token_and_claimed
            assert len(claimed) <= 2
            draining.process_batch(system.ctx, claimed, token, done)
        assert done.receipts == 5

    def test_is_left_for_another_task_that_is_notified_when_the_time_is_over(
        self, system: System, source: Source
    ) -> None:
        system.store_receipt(source, delivery("ann"))
        assert draining.process_due(system.ctx, max_seconds=-1).receipts == 1
        assert system.notifier.tasks.count(PROCESS_RECEIPTS) == 1
        assert draining.process_due(system.ctx).receipts == 0
        assert system.notifier.tasks.count(PROCESS_RECEIPTS) == 1

    def test_is_found_by_the_sweep_without_a_wake_up(self, system: System, source: Source) -> None:
        system.store_receipt(source, delivery("ann"))
        draining.process_due(system.ctx)
        assert system.recipient_statuses() == {"ann@example.net": "delivered"}

    def test_of_a_source_that_was_deleted_meanwhile_is_worked_on_all_the_same(
        self, system: System, source: Source
    ) -> None:
        system.store_receipt(source, delivery("ann"))
        system.execute("UPDATE sources SET deleted_at = now()")
        assert draining.process_due(system.ctx).receipts == 1


class TestClaims:
    def test_take_the_oldest_first_and_pass_over_what_another_holds(self, system: System, source: Source) -> None:
        ids = [system.store_receipt(source, delivery(f"n{number}")) for number in range(4)]
        _, first = claim(system, limit=2)
        _, second = claim(system)
        assert [claimed.id for claimed in first] + [claimed.id for claimed in second] == sorted(ids)

    def test_do_not_wait_for_one_another(self, system: System, source: Source) -> None:
        for number in range(4):
            system.store_receipt(source, delivery(f"n{number}"))
        with system.ctx.engine.begin() as slow:
            held = receipts.claim(slow, limit=3, max_bytes=LARGE, token=uuid4(), lease_seconds=30)
            _, others = claim(system)
        assert (len(held), len(others)) == (3, 1)

    def test_are_bounded_by_bytes_but_always_take_one(self, system: System, source: Source) -> None:
        body = delivery("ann")
        for number in range(4):
            system.store_receipt(source, body + b" " * number)
        assert len(claim(system, max_bytes=1)[1]) == 1
        assert len(claim(system, max_bytes=len(body) + 2)[1]) == 2
        assert len(claim(system)[1]) == 1

    def test_count_as_an_attempt_even_without_an_error(self, system: System, source: Source) -> None:
        system.store_receipt(source, delivery("ann"))
        for attempt in (1, 2, 3):
            [claimed] = claim(system, lease_seconds=0)[1]
            assert claimed.attempts == attempt

    def test_leave_receipts_that_are_not_due(self, system: System, source: Source) -> None:
        system.store_receipt(source, delivery("ann"))
        system.execute("UPDATE pending_receipts SET available_at = now() + interval '1 minute'")
        assert claim(system)[1] == []


class TestLeases:
    def test_that_ran_out_are_taken_over_and_their_holder_writes_nothing(self, system: System, source: Source) -> None:
        ids = [system.store_receipt(source, delivery(name, "open")) for name in ("ann", "bob")]
        stale_token, stale = claim(system, lease_seconds=0)
        assert draining.process_due(system.ctx).receipts == 2

        late = ProcessedCounts()
        draining.process_batch(system.ctx, stale, stale_token, late)

        assert (late.receipts, late.new_events, late.dead) == (0, 0, 0)
        assert system.rows("SELECT opens FROM recipient_states") == [(1,), (1,)]
        assert [system.receipt_state(id_)[0] for id_ in ids] == ["processed"] * 2
        system.assert_nothing_doubled()

    def test_that_ran_out_are_no_licence_to_touch_what_another_works_on(self, system: System, source: Source) -> None:
        receipt = system.store_receipt(source, b"not JSON")
        stale_token, [stale] = claim(system, lease_seconds=0)
        token, _ = claim(system)
        with system.ctx.engine.begin() as connection:
            receipts.mark_dead(connection, receipt, stale_token, reason="unreadable", detail="")
            receipts.retry(connection, receipt, stale_token, error="", delay_seconds=60)
            with pytest.raises(LeaseLostError):
                receipts.finish(connection, [receipt], stale_token)
        assert system.rows("SELECT lease_token, attempts FROM pending_receipts") == [(token, 2)]
        assert stale.attempts == 1

    def test_that_were_partly_lost_cost_only_what_was_lost(self, system: System, source: Source) -> None:
        ids = [system.store_receipt(source, delivery(name)) for name in ("ann", "bob")]
        token, claimed = claim(system)
        system.execute(
            "UPDATE pending_receipts SET lease_token = %(t)s WHERE receipt_id = %(id)s", t=uuid4(), id=ids[0]
        )
        done = ProcessedCounts()
        draining.process_batch(system.ctx, claimed, token, done)
        assert done.receipts == 1
        assert [system.receipt_state(id_)[0] for id_ in ids] == ["pending", "processed"]


class TestWhatFails:
    def test_fails_alone_and_the_rest_of_the_batch_is_processed(self, system: System, source: Source) -> None:
        poison(system, "eve@example.net")
        for name in ("ann", "eve", "bob"):
            system.store_receipt(source, delivery(name))
        done = draining.process_due(system.ctx)
        assert done.receipts == 2
        assert system.recipient_statuses() == {"ann@example.net": "delivered", "bob@example.net": "delivered"}
        [(attempts, error)] = system.rows("SELECT attempts, last_error FROM pending_receipts")
        assert attempts == 1
        assert "poison" in error

    def test_together_is_processed_one_by_one_under_a_renewed_lease(self, system: System, source: Source) -> None:
        poison(system, "eve@example.net")
        system.execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " IF EXISTS (SELECT FROM pending_receipts WHERE lease_until < now() + interval '5 seconds')"
            " THEN RAISE 'a lease is about to end'; END IF; RETURN NEW; END $$"
        )
        system.execute("CREATE TRIGGER refuse BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION refuse()")
        for name in ("ann", "eve", "bob"):
            system.store_receipt(source, delivery(name))
        token, claimed = claim(system, lease_seconds=2)
        done = ProcessedCounts()
        draining.process_batch(system.ctx, claimed, token, done)
        assert done.receipts == 2

    def test_is_tried_again_at_growing_distances_and_ends_dead_with_the_reason(
        self, system: System, source: Source
    ) -> None:
        poison(system, "eve@example.net")
        receipt = system.store_receipt(source, delivery("eve"))
        delays = []
        for _ in range(system.ctx.settings.max_attempts - 1):
            assert drain_when_due(system).dead == 0
            [(delay,)] = system.rows(
                "SELECT extract(epoch FROM available_at - now())::float FROM pending_receipts WHERE lease_until IS NULL"
            )
            delays.append(delay)
        assert delays == pytest.approx([2, 4, 8, 16], abs=1.5)

        assert drain_when_due(system).dead == 1

        assert system.receipt_state(receipt) == ("dead", "failed")
        [(detail, attempts)] = system.rows("SELECT detail, attempts FROM parked_receipts")
        assert "poison" in detail
        assert attempts == system.ctx.settings.max_attempts

    def test_once_is_done_the_next_time_if_the_reason_has_gone(self, system: System, source: Source) -> None:
        poison(system, "eve@example.net")
        system.store_receipt(source, delivery("eve"))
        draining.process_due(system.ctx)
        system.execute("ALTER TABLE events DROP CONSTRAINT poison")
        assert drain_when_due(system).receipts == 1
        assert system.recipient_statuses() == {"eve@example.net": "delivered"}

    @pytest.mark.parametrize("body", [b"", b"not JSON", b"[]", b"\xff\xfe", b"[" * 100_000])
    def test_to_be_parsed_is_dead_at_once_and_the_rest_of_the_batch_is_processed(
        self, system: System, source: Source, body: bytes
    ) -> None:
        receipt = system.store_receipt(source, body)
        system.store_receipt(source, delivery("ann"))
        done = draining.process_due(system.ctx)
        assert (done.receipts, done.dead) == (1, 1)
        assert system.receipt_state(receipt) == ("dead", "unreadable")
        [(detail,)] = system.rows("SELECT detail FROM parked_receipts")
        assert detail

    @pytest.mark.parametrize("fault", ["raises", "unsendable", "unstorable"])
    def test_by_a_fault_of_the_parser_is_retried_and_delays_no_other_receipt(
        self, system: System, source: Source, monkeypatch: pytest.MonkeyPatch, fault: str
    ) -> None:
        parse = source.provider.parse

        def faulty(body: bytes, credentials: object, /) -> list[Event]:
            found = parse(body, credentials)
            if b"eve@" not in body:
                return found
            if fault == "raises":
                raise IndexError("nobody thought of this")
            return [
                msgspec.structs.replace(event, reason="\ud800" if fault == "unsendable" else "\0") for event in found
            ]

        replace_parser(monkeypatch, source, faulty)
        receipt = system.store_receipt(source, delivery("eve"))
        system.store_receipt(source, delivery("ann"))

        assert draining.process_due(system.ctx).receipts == 1
        assert system.recipient_statuses() == {"ann@example.net": "delivered"}
        assert system.receipt_state(receipt) == ("pending", None)
        for _ in range(system.ctx.settings.max_attempts - 1):
            drain_when_due(system)

        assert system.receipt_state(receipt) == ("dead", "failed")
        [(detail,)] = system.rows("SELECT detail FROM parked_receipts")
        assert {"raises": "nobody thought of this", "unsendable": "surrogates", "unstorable": "0x00"}[fault] in detail

    @pytest.mark.parametrize("sqlstate", ["57014", "53200", "54000"])
    def test_by_its_own_size_is_charged_for_it_and_ends_dead_with_the_reason(
        self, system: System, source: Source, sqlstate: str
    ) -> None:
        refuse(system, "eve@example.net", sqlstate)
        receipt = system.store_receipt(source, delivery("eve"))
        system.store_receipt(source, delivery("ann"))
        assert draining.process_due(system.ctx).receipts == 1
        for _ in range(system.ctx.settings.max_attempts - 1):
            drain_when_due(system)
        assert system.receipt_state(receipt) == ("dead", "failed")
        [(detail,)] = system.rows("SELECT detail FROM parked_receipts")
        assert detail == "refused"

    @pytest.mark.parametrize(
        "sqlstate", ["53100", "53300", "55P03", "58030", "42501", "42703", "42P01", "XX001", "23514"]
    )
    def test_by_the_databases_condition_is_not_charged_and_waits(
        self, system: System, source: Source, sqlstate: str
    ) -> None:
        refuse(system, "eve@example.net", sqlstate)
        system.store_receipt(source, delivery("eve"))
        for _ in range(system.ctx.settings.max_attempts + 1):
            drain_when_due(system)
        assert system.rows("SELECT attempts, last_error FROM pending_receipts") == [(0, "refused")]

    def test_because_a_partition_is_missing_is_not_charged_and_waits(self, system: System, source: Source) -> None:
        system.store_receipt(source, delivery("ann"))
        for (name,) in system.rows("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent::regclass::text"
                                   " = 'events'"):  # fmt: skip
            system.execute(f"DROP TABLE {name}")
        for _ in range(system.ctx.settings.max_attempts + 1):
            drain_when_due(system)
        maintenance.maintain(system.ctx)
        assert drain_when_due(system).receipts == 1
        assert system.recipient_statuses() == {"ann@example.net": "delivered"}


class TestLargeReceipts:
    """One object with more recipients than a statement stores."""

    MANY = 2 * state.MAX_EVENTS + 1

    def test_become_events_in_parts_and_leave_the_queue_with_the_last(self, system: System) -> None:
        source = system.add_source("mc", "mailchannels", {"customer_handles": ["acmeco"]})
        receipt = system.store_receipt(source, bounce_of([f"p{number}@example.net" for number in range(self.MANY)]))
        done = draining.process_due(system.ctx)
        assert (done.receipts, done.new_events) == (1, self.MANY)
        assert system.receipt_state(receipt) == ("processed", None)
        assert set(system.recipient_statuses().values()) == {"bounced"}
        assert len(system.recipient_statuses()) == self.MANY
        transactions = system.rows(
            "SELECT count(DISTINCT transaction) FROM state_changes WHERE type <> 'suppression.added'"
        )
        assert transactions == [(3,)]
        system.assert_nothing_doubled()

    def test_are_continued_by_another_worker_after_any_part(self, system: System) -> None:
        source = system.add_source("mc", "mailchannels", {"customer_handles": ["acmeco"]})
        receipt = system.store_receipt(source, bounce_of([f"p{number}@example.net" for number in range(self.MANY)]))
        refuse(system, f"p{self.MANY - 1}@example.net", "53100")
        assert draining.process_due(system.ctx).receipts == 0
        assert system.receipt_state(receipt) == ("pending", None)
        assert len(system.recipient_statuses()) == self.MANY - 1
        system.execute("DROP TRIGGER refuse ON events")
        assert drain_when_due(system).receipts == 1
        assert system.receipt_state(receipt) == ("processed", None)
        assert len(system.recipient_statuses()) == self.MANY
        system.assert_nothing_doubled()

    def test_write_nothing_after_another_worker_has_taken_them_over(self, system: System) -> None:
        source = system.add_source("mc", "mailchannels", {"customer_handles": ["acmeco"]})
        system.store_receipt(source, bounce_of([f"p{number}@example.net" for number in range(self.MANY)]))
        stale_token, stale = claim(system, lease_seconds=0)
        token, _ = claim(system)
        draining.process_batch(system.ctx, stale, stale_token, ProcessedCounts())
        assert system.recipient_statuses() == {}
        assert system.rows("SELECT lease_token, attempts FROM pending_receipts") == [(token, 2)]

    def test_are_all_processed_although_a_claim_takes_one(self, system: System) -> None:
        source = system.add_source("mc", "mailchannels", {"customer_handles": ["acmeco"]})
        for number in range(3):
            system.store_receipt(
                source, bounce_of([f"r{number}@example.net"], f"r{number}") + b" " * receipts.SMALL_BYTES
            )
        assert len(claim(system, lease_seconds=0)[1]) == 1
        assert draining.process_due(system.ctx).receipts == 3

    def test_let_small_ones_pass_that_arrived_later(self, system: System) -> None:
        source = system.add_source("mc", "mailchannels", {"customer_handles": ["acmeco"]})
        system.store_receipt(source, bounce_of([f"p{number}@example.net" for number in range(self.MANY)]))
        for number in range(3):
            system.store_receipt(source, bounce_of([f"n{number}@example.org"], request_id=f"r{number}"))
        assert draining.process_due(system.ctx).receipts == 4
        recipients = [
            row[0] for row in system.rows("SELECT recipient FROM state_changes WHERE event_id IS NOT NULL ORDER BY id")
        ]
        assert recipients.index("n2@example.org") < recipients.index("p0@example.net")


class TestWhatKillsItsWorkers:
    def test_is_tried_again_without_others_of_its_batch_and_after_new_ones(
        self, system: System, source: Source
    ) -> None:
        ids = [system.store_receipt(source, delivery(f"n{number}")) for number in range(4)]
        let_workers_die(system, 1)
        new = system.store_receipt(source, delivery("new"))

        _, claimed = claim(system)

        assert sorted((receipt.id, receipt.attempts) for receipt in claimed) == [(ids[0], 2), (new, 1)]
        assert (
            system.rows(
                "SELECT attempts, lease_until FROM pending_receipts WHERE attempts = 1 AND NOT receipt_id = %(new)s",
                new=new,
            )
            == [(1, None)] * 3
        )

    def test_ends_dead_with_a_reason_and_all_others_are_processed(self, system: System, source: Source) -> None:
        ids = [system.store_receipt(source, delivery(f"n{number}")) for number in range(5)]
        deadly = ids[2]
        for _ in range(20):
            token, claimed = claim(system)
            if not claimed:
                break
            # What a worker does with a batch, as far as it lives.
            attempts = {receipt.id: receipt.attempts for receipt in claimed}
            if attempts.get(deadly, system.ctx.settings.max_attempts + 1) > system.ctx.settings.max_attempts:
                draining.process_batch(system.ctx, claimed, token, ProcessedCounts())
            system.make_receipts_due()
        assert [system.receipt_state(id_) for id_ in ids] == [
            ("dead", "attempts_exhausted") if id_ == deadly else ("processed", None) for id_ in ids
        ]

    def test_is_not_even_read_a_sixth_time(
        self, system: System, source: Source, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def kill(_body: bytes, _credentials: object, /) -> list[Event]:
            raise SystemExit

        replace_parser(monkeypatch, source, kill)
        receipt = system.store_receipt(source, delivery("ann"))
        let_workers_die(system, system.ctx.settings.max_attempts)
        assert draining.process_due(system.ctx).dead == 1
        assert system.receipt_state(receipt) == ("dead", "attempts_exhausted")
        assert system.recipient_statuses() == {}


def test_several_workers_at_once_do_each_thing_once(system: System) -> None:
    dialect = MailChannels(seed=7)
    source = system.add_source("mc", "mailchannels", dialect.credentials())
    begin = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
    happenings = list(load.happenings(600, seed=7, begin=begin))
    for first in range(0, 600, 7):
        batch = happenings[first : first + 7]
        system.store_receipt(source, dialect.body(batch))
        system.store_receipt(source, dialect.body(list(reversed(batch))))  # all of it twice, in other words

    contexts = [system.ctx, *(system.add_worker() for _ in range(3))]
    failures: list[BaseException] = []

    def work(position: int) -> None:
        ctx = contexts[position]
        try:
            while True:
                token = uuid4()
                with ctx.engine.begin() as connection:
                    claimed = receipts.claim(connection, limit=9, max_bytes=LARGE, token=token, lease_seconds=30)
                if not claimed:
                    return
                draining.process_batch(ctx, claimed, token, ProcessedCounts())
        except BaseException as error:  # noqa: BLE001 - shown to the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=work, args=(position,)) for position in range(len(contexts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not failures
    assert system.rows("SELECT count(*) FROM pending_receipts") == [(0,)]
    system.assert_nothing_doubled()
    with system.ctx.engine.connect() as connection:
        assert state_checks.stored_states(connection) == state_checks.expected_states(source.id, happenings)


def test_a_receipt_of_a_broken_source_waits_without_using_attempts_until_the_source_is_fixed(
    system: System, source: Source
) -> None:
    receipt = system.store_receipt(source, delivery("ann"))
    mend(system, source, {"username": "user"})  # the password is gone
    for _ in range(system.ctx.settings.max_attempts + 1):
        assert drain_when_due(system) == ProcessedCounts()
    [(attempts, error)] = system.rows("SELECT attempts, last_error FROM pending_receipts")
    assert attempts == 0
    assert "source cannot be used" in error
    mend(system, source, CLOUDMAILIN)
    assert drain_when_due(system).receipts == 1
    assert system.rows("SELECT id FROM events") == [(event_id(receipt, 0),)]


def test_a_database_that_refuses_for_a_while_charges_no_attempt(
    system: System, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    receipt = system.store_receipt(source, delivery("ann"))

    def full(*_: object) -> None:
        raise OperationalError("INSERT", {}, psycopg.errors.DiskFull("No space left on device"))

    with monkeypatch.context() as patched:
        patched.setattr(state, "apply", full)
        for _ in range(system.ctx.settings.max_attempts + 1):
            assert drain_when_due(system) == ProcessedCounts()
    [(attempts, error)] = system.rows("SELECT attempts, last_error FROM pending_receipts")
    assert (attempts, error) == (0, "No space left on device")
    assert drain_when_due(system).receipts == 1
    assert system.rows("SELECT id FROM events") == [(event_id(receipt, 0),)]


def test_processes_of_one_worker_take_turns() -> None:
    forking = multiprocessing.get_context("fork")
    lines, ready = forking.SimpleQueue(), forking.Event()

    def wait() -> None:
        ready.set()
        draining.wait_for_turn()
        lines.put("second")

    draining.wait_for_turn()
    second = forking.Process(target=wait)
    second.start()
    ready.wait()
    second.join(0.1)
    lines.put("first")
    draining.end_turn()
    second.join()
    assert [lines.get(), lines.get()] == ["first", "second"]


def test_the_turn_of_a_process_that_dies_ends() -> None:
    forking = multiprocessing.get_context("fork")
    holding = forking.Event()

    def hold() -> None:
        draining.wait_for_turn()
        holding.set()
        signal.pause()

    other = forking.Process(target=hold)
    other.start()
    holding.wait()
    other.kill()
    other.join()
    assert draining.wait_for_turn()
    draining.end_turn()


def test_a_receipt_that_cannot_be_read_delays_no_other(system: System, source: Source) -> None:
    later, damaged, good = (system.store_receipt(source, delivery(name)) for name in ("ann", "bob", "cem"))
    # The byte behind magic number and descriptor is the number of the dictionary.
    system.execute(f"UPDATE receipts SET content = set_byte(content, 5, 200) WHERE id = '{later}'")
    system.execute(f"UPDATE receipts SET content = 'x' WHERE id = '{damaged}'")
    draining.process_due(system.ctx)
    assert system.receipt_state(good) == ("processed", None)
    assert system.receipt_state(damaged) == ("dead", "unreadable")
    assert system.receipt_state(later) == ("pending", None)
    ((attempts, error),) = system.rows("SELECT attempts, last_error FROM pending_receipts")
    assert attempts == 0
    assert "update this one" in error
    listed = {UUID(one["id"]): one["detail"] for one in system.get("/v1/receipts")["items"]}
    assert listed.keys() == {later, damaged, good}
    assert "update this one" in listed[later]

    system.execute(f"UPDATE receipts SET content = set_byte(content, 5, 1) WHERE id = '{later}'")
    drain_when_due(system)
    assert system.receipt_state(later) == ("processed", None)
