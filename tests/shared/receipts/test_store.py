"""A webhook is recorded once, and a repetition is recognized for a certain time."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from shared import ids
from shared.erasure import store as erasure
from shared.errors import VerificationError
from shared.receipts import quarantine
from shared.receipts import store as receipts
from shared.receipts.store import Receipt
from shared.vocabulary import RefusalReason

NOW = datetime.now(UTC)
HOUR = timedelta(hours=1)
TABLES = ("receipts", "receipt_keys", "pending_receipts", "parked_receipts")


@pytest.fixture
def connection(database: Engine) -> Iterator[Connection]:
    with database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        yield connection


def arrived(
    key: str = "k", *, at: datetime = NOW, expires_at: datetime | None = None, body: bytes = b"{}", source_id: int = 1
) -> Receipt:
    return Receipt(
        id=ids.receipt_id(at),
        source_id=source_id,
        received_at=at,
        key=key.encode().hex().zfill(32),
        key_expires_at=expires_at or at + HOUR,
        idempotency_key=None,
        remote_ip=None,
        headers="{}",
        body=body,
    )


def count(connection: Connection) -> dict[str, int]:
    counted = {table: connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one() for table in TABLES}
    return {table: rows for table, rows in counted.items() if rows}


def park(connection: Connection, receipt: Receipt, *, rows: int = 10, size: int = 100) -> bool | None:
    error = VerificationError(RefusalReason.UNKNOWN_KEY, "", key_id="k")
    return quarantine.add(connection, receipt, error, max_rows=rows, max_bytes=size)


def set_aside(connection: Connection, receipt: Receipt, state: str) -> None:
    receipts.record(connection, [receipt])
    token = uuid4()
    claim(connection, token)
    receipts.mark_dead(connection, receipt.id, token, reason="failed", detail="")
    connection.exec_driver_sql("UPDATE parked_receipts SET state = %(state)s", {"state": state})


def claim(connection: Connection, token: UUID | None = None, *, statement: str = receipts.CLAIM) -> list[UUID]:
    claimed = receipts.claim(
        connection, statement=statement, limit=10, max_bytes=1000, token=token or uuid4(), lease_seconds=30
    )
    return [receipt.id for receipt in claimed]


class TestRecording:
    def test_stores_and_queues_what_is_new(self, connection: Connection) -> None:
        one, other = arrived("a"), arrived("b")
        assert receipts.record(connection, [one, other]) == {one.id, other.id}
        assert count(connection) == {"receipts": 2, "receipt_keys": 2, "pending_receipts": 2}

    def test_makes_due_at_once_what_comes_from_a_receiver_whose_clock_is_ahead(self, connection: Connection) -> None:
        verified, unverified = arrived("a", at=NOW + HOUR), arrived("b", at=NOW + HOUR)
        receipts.record(connection, [verified])
        park(connection, unverified)
        assert claim(connection) == [verified.id]
        found = quarantine.claim(connection, sources=1, limit=1, max_bytes=1, lease_seconds=1)
        assert [request.id for request in found] == [unverified.id]

    def test_neither_stores_nor_queues_a_repetition(self, connection: Connection) -> None:
        receipts.record(connection, [arrived("a")])
        assert receipts.record(connection, [arrived("a")]) == set()
        assert count(connection) == {"receipts": 1, "receipt_keys": 1, "pending_receipts": 1}

    def test_distinguishes_new_receipts_from_repetitions_within_a_batch(self, connection: Connection) -> None:
        known = arrived("a")
        receipts.record(connection, [known])
        new = arrived("b")
        assert receipts.record(connection, [arrived("a"), new]) == {new.id}
        keys = [known.key, new.key, arrived("c").key]
        assert receipts.ids_by_key(connection, keys) == {known.key: known.id, new.key: new.id}

    def test_knows_a_repetition_by_its_key_and_not_by_its_body(self, connection: Connection) -> None:
        assert len(receipts.record(connection, [arrived("a", body=b"same"), arrived("b", body=b"same")])) == 2
        assert receipts.record(connection, [arrived("a", body=b"other")]) == set()

    def test_knows_a_repetition_after_the_first_was_processed(self, connection: Connection) -> None:
        first = arrived("a")
        receipts.record(connection, [first])
        token = uuid4()
        claim(connection, token)
        receipts.finish(connection, [first.id], token)
        assert receipts.record(connection, [arrived("a")]) == set()

    def test_keeps_every_byte(self, connection: Connection) -> None:
        body = bytes(range(256)) * 3
        receipt = arrived(body=body)
        receipts.record(connection, [receipt])
        assert receipts.get_body(connection, receipt.id) == (1, NOW, body)
        assert receipts.get_body(connection, uuid4()) is None

    def test_of_a_key_twice_in_one_batch_is_refused_whole(self, connection: Connection) -> None:
        with pytest.raises(DBAPIError):
            receipts.record(connection, [arrived("a"), arrived("a")])
        assert count(connection) == {}


class TestTheWindowOfAKey:
    def test_is_closed_when_its_time_has_passed_and_then_the_same_is_news(self, connection: Connection) -> None:
        receipts.record(connection, [arrived(expires_at=NOW + timedelta(seconds=60))])
        later = arrived(at=NOW + timedelta(seconds=60))
        assert receipts.record(connection, [later]) == {later.id}
        assert receipts.ids_by_key(connection, [later.key]) == {later.key: later.id}
        assert count(connection) == {"receipts": 2, "receipt_keys": 1, "pending_receipts": 2}

    def test_is_open_until_then(self, connection: Connection) -> None:
        receipts.record(connection, [arrived(expires_at=NOW + timedelta(seconds=60))])
        assert receipts.record(connection, [arrived(at=NOW + timedelta(seconds=59))]) == set()

    def test_restarts_with_the_newer_receipt(self, connection: Connection) -> None:
        receipts.record(connection, [arrived(expires_at=NOW + timedelta(seconds=60))])
        receipts.record(connection, [arrived(at=NOW + timedelta(seconds=61))])
        assert receipts.record(connection, [arrived(at=NOW + timedelta(seconds=62))]) == set()

    def test_is_not_prolonged_by_repetitions(self, connection: Connection) -> None:
        receipts.record(connection, [arrived(expires_at=NOW + timedelta(seconds=60))])
        receipts.record(connection, [arrived(at=NOW + timedelta(seconds=59), expires_at=NOW + HOUR)])
        assert len(receipts.record(connection, [arrived(at=NOW + timedelta(seconds=61))])) == 1


class TestParking:
    def test_keeps_a_request_out_of_the_queue(self, connection: Connection) -> None:
        assert park(connection, arrived())
        assert count(connection) == {"receipts": 1, "receipt_keys": 1, "parked_receipts": 1}
        assert claim(connection) == []

    def test_distinguishes_a_repetition_from_a_full_quarantine(self, connection: Connection) -> None:
        assert park(connection, arrived("a"), rows=2) is True
        assert park(connection, arrived("a"), rows=2) is False
        assert park(connection, arrived("b"), rows=1) is None
        assert park(connection, arrived("b", body=b"x" * 99)) is None
        assert park(connection, arrived("b", source_id=2), rows=1) is True

    def test_of_a_request_that_was_rejected_before_is_possible_again(self, connection: Connection) -> None:
        first = arrived("a")
        park(connection, first)
        quarantine.reject(connection, first.id, reason="unknown_key", detail="")
        assert park(connection, arrived("a"), rows=2) is True
        assert park(connection, arrived("a"), rows=2) is False
        assert count(connection) == {"receipts": 2, "receipt_keys": 1, "parked_receipts": 2}


class TestRejecting:
    def reject(self, connection: Connection, name: str, source_id: int = 1) -> UUID:
        receipt = arrived(name, body=b"x" * 10, source_id=source_id)
        park(connection, receipt)
        quarantine.reject(connection, receipt.id, reason="unknown_key", detail="")
        return receipt.id

    @pytest.mark.parametrize("limits", [{"max_rows": 2, "max_bytes": 99}, {"max_rows": 99, "max_bytes": 29}])
    def test_keeps_the_newest_of_each_source_and_nothing_else_of_the_others(
        self, connection: Connection, limits: dict[str, int]
    ) -> None:
        other = self.reject(connection, "other", source_id=2)
        mine = sorted(self.reject(connection, name) for name in "abcd")
        assert quarantine.delete_oldest_rejected(connection, 1, **limits) == 2
        left = set(connection.exec_driver_sql("SELECT receipt_id FROM parked_receipts").scalars())
        assert left == {*mine[2:], other}
        assert count(connection) == {"receipts": 3, "parked_receipts": 3}


class TestQueueingAgain:
    @pytest.mark.parametrize("state", ["dead", "rejected"])
    def test_brings_back_what_was_set_aside(self, connection: Connection, state: str) -> None:
        receipt = arrived()
        set_aside(connection, receipt, state)
        assert receipts.queue_reprocessing(connection, [receipt.id]) == 1
        assert count(connection) == {"receipts": 1, "receipt_keys": 1, "pending_receipts": 1}

    def test_brings_back_what_was_processed(self, connection: Connection) -> None:
        receipt = arrived()
        receipts.record(connection, [receipt])
        token = uuid4()
        claim(connection, token)
        receipts.finish(connection, [receipt.id], token)
        assert receipts.queue_reprocessing(connection, [receipt.id]) == 1
        assert claim(connection, statement=receipts.CLAIM_REPROCESS) == [receipt.id]

    def test_leaves_unverified_receipts_unchanged(self, connection: Connection) -> None:
        receipt = arrived()
        park(connection, receipt)
        assert receipts.queue_reprocessing(connection, [receipt.id]) == 0
        assert "pending_receipts" not in count(connection)

    def test_passes_over_what_there_is_not(self, connection: Connection) -> None:
        assert receipts.queue_reprocessing(connection, [uuid4()]) == 0

    def test_twice_queues_once(self, connection: Connection) -> None:
        receipt = arrived()
        set_aside(connection, receipt, "dead")
        assert receipts.queue_reprocessing(connection, [receipt.id]) == 1
        assert receipts.queue_reprocessing(connection, [receipt.id]) == 1
        assert claim(connection, statement=receipts.CLAIM_REPROCESS) == [receipt.id]

    def test_leaves_the_first_processing_as_it_is_and_makes_it_due(self, connection: Connection) -> None:
        receipt = arrived()
        receipts.record(connection, [receipt])
        connection.exec_driver_sql("UPDATE pending_receipts SET available_at = now() + interval '1 hour'")
        assert receipts.queue_reprocessing(connection, [receipt.id]) == 1
        assert claim(connection, statement=receipts.CLAIM_REPROCESS) == []
        assert claim(connection) == [receipt.id]


def test_two_receivers_that_store_the_same_at_once_store_it_once(database: Engine) -> None:
    with database.begin() as first:
        assert len(receipts.record(first, [arrived("a")])) == 1
        with database.connect() as impatient, impatient.begin():
            impatient.exec_driver_sql("SET LOCAL lock_timeout = '200ms'")
            with pytest.raises(DBAPIError, match="lock timeout"):  # it waits to see what becomes of the first
                receipts.record(impatient, [arrived("a")])
    with database.begin() as second:
        assert receipts.record(second, [arrived("a")]) == set()


def store_as_before(connection: Connection, receipt: Receipt) -> None:
    """Have a stored receipt look as the version before 0024 has stored it."""
    connection.exec_driver_sql(
        "UPDATE receipts SET headers = %(headers)s, body = %(body)s, bytes = NULL, content = NULL WHERE id = %(id)s",
        {"id": receipt.id, "headers": receipt.headers, "body": receipt.body},
    )


def test_receipts_stored_before_are_processed_reprocessed_and_recognized(connection: Connection) -> None:
    receipt = replace(arrived(body=b'{"old": 1}'), headers='{"x-old":"1"}')
    receipts.record(connection, [receipt])
    store_as_before(connection, receipt)
    token = uuid4()
    (claimed,) = receipts.claim(connection, limit=9, max_bytes=9999, token=token, lease_seconds=9)
    assert claimed.body == receipt.body
    receipts.mark_dead(connection, receipt.id, token, reason="", detail="")
    assert connection.exec_driver_sql("SELECT bytes FROM parked_receipts").all() == [(10,)]
    assert receipts.queue_reprocessing(connection, [receipt.id]) == 1
    assert connection.exec_driver_sql("SELECT bytes FROM pending_receipts").all() == [(10,)]
    assert receipts.find_replays(connection, [receipt]) == set()
    assert receipts.find_replays(connection, [replace(receipt, body=b"")]) == {receipt.key}


def test_what_cannot_be_read_any_more_makes_no_replay(connection: Connection) -> None:
    """The duplicate is answered like any other: it stores nothing, and does not fail the requests beside it."""
    receipt = replace(arrived(), is_single_use=True)
    assert receipts.accept(connection, [receipt]) == ({receipt.id}, {}, set())
    connection.exec_driver_sql("UPDATE receipts SET content = 'damaged' WHERE id = %(id)s", {"id": receipt.id})
    again = replace(receipt, id=ids.receipt_id(NOW))
    assert receipts.accept(connection, [again]) == (set(), {receipt.key: receipt.id}, set())


def test_a_receipt_that_is_erased_is_not_reprocessed(connection: Connection) -> None:
    receipt = arrived()
    receipts.record(connection, [receipt])
    erasure.delete_bodies(connection, [receipt.id], NOW)
    assert receipts.queue_reprocessing(connection, [receipt.id]) == 0
    assert receipts.get_body(connection, receipt.id) == (1, NOW, None)
