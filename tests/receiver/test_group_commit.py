"""Group commit: what is settled, and how, whatever happens to the database."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from receiver.errors import StorageUnavailableError
from receiver.group_commit import StoredReceipt
from shared import ids
from shared.encryption import Vault, new_key
from shared.postgres import migrate
from shared.receipts.store import Receipt
from tests.support.cluster import frozen
from tests.support.receiver import Received, receiving


def receipt(number, *, key=None, remote_ip=None):
    now = datetime.now(UTC)
    return Receipt(
        id=ids.receipt_id(now),
        source_id=1,
        received_at=now,
        key=f"{key or number:032x}",
        key_expires_at=now + timedelta(days=1),
        idempotency_key=None,
        remote_ip=remote_ip,
        headers="{}",
        body=b"%d" % number,
    )


def store_at_once(receiver, receipts):
    return receiver.parts.loop.call_each(partial(receiver.writer.store, one) for one in receipts)


def test_fifty_requests_at_once_are_all_committed_each_with_its_own_receipt(receiver):
    receipts = [receipt(number) for number in range(50)]
    assert store_at_once(receiver, receipts) == [StoredReceipt(one.id) for one in receipts]
    assert receiver.rows("SELECT count(*) FROM pending_receipts") == [(50,)]


def test_the_same_request_fifty_times_at_once_is_one_receipt(receiver):
    receipts = [receipt(number, key=7) for number in range(50)]
    outcomes = store_at_once(receiver, receipts)
    assert len({outcome.receipt_id for outcome in outcomes}) == 1
    assert sorted(outcome.is_repeated for outcome in outcomes) == [False] + [True] * 49
    assert receiver.rows("SELECT count(*) FROM receipts") == [(1,)]


def test_one_bad_row_fails_one_request(receiver):
    receipts = [receipt(number, remote_ip="\0" if number == 3 else None) for number in range(10)]
    outcomes = store_at_once(receiver, receipts)
    failed = [number for number, outcome in enumerate(outcomes) if isinstance(outcome, StorageUnavailableError)]
    assert failed == [3]
    assert receiver.rows("SELECT count(*) FROM receipts") == [(9,)]


def test_a_missing_partition_is_made(receiver):
    with receiver.database.begin() as connection:
        tables = connection.exec_driver_sql(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'receipts'::regclass"
        ).all()
        for (table,) in tables:
            connection.exec_driver_sql(f"DROP TABLE {table}")
    assert isinstance(receiver.call(receiver.writer.store, receipt(1)), StoredReceipt)


def test_partitions_that_cannot_be_made_fail_the_requests_and_not_the_writer(receiver):
    with receiver.database.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE receipts RENAME TO away")
        connection.exec_driver_sql("CREATE TABLE receipts (LIKE away) PARTITION BY RANGE (id)")
        connection.exec_driver_sql("DROP TABLE events CASCADE")
    outcomes = store_at_once(receiver, [receipt(number) for number in range(3)])
    assert all(isinstance(outcome, StorageUnavailableError) for outcome in outcomes)
    with pytest.raises(StorageUnavailableError):
        receiver.call(receiver.writer.check)
    time.sleep(1.1)
    receiver.call(receiver.writer.check)


@dataclass
class Alone:
    """A writer whose database server is the test's own, and to be ill-treated."""

    parts: Received

    def keep(self, number):
        return self.parts.loop.call(self.parts.deps.writer.store, receipt(number))

    def keep_until_refused(self):
        """What serves the writer's connection may outlive its killed server by a moment."""
        for number in range(2, 1000):
            try:
                self.keep(number)
            except StorageUnavailableError:
                return
        pytest.fail("a writer kept a thousand receipts in a database that is gone")

    def check(self):
        self.parts.loop.call(self.parts.deps.writer.check)


@pytest.fixture
def server(make_postgres):
    made = make_postgres()
    migrate.upgrade(made.url)
    return made


@pytest.fixture
def alone(server):
    with receiving(server.url, Vault([new_key()])) as parts:
        yield Alone(parts)


def test_a_database_that_is_gone_fails_requests_and_a_database_that_is_back_serves_them(server, alone):
    assert isinstance(alone.keep(1), StoredReceipt)
    server.kill()
    alone.keep_until_refused()
    with pytest.raises(StorageUnavailableError):
        alone.check()
    server.start()
    assert isinstance(alone.keep(1000), StoredReceipt)
    alone.check()


def test_a_database_that_has_stopped_turns_requests_away_at_once(server, alone):
    assert isinstance(alone.keep(1), StoredReceipt)
    with frozen(server):
        with pytest.raises(StorageUnavailableError, match="did not commit"):
            alone.keep(2)
        with pytest.raises(StorageUnavailableError, match="does not respond"):
            alone.keep(3)
    until = time.monotonic() + 10
    while True:
        try:
            assert isinstance(alone.keep(4), StoredReceipt)
        except StorageUnavailableError:
            assert time.monotonic() < until
            time.sleep(0.05)
        else:
            break
