"""Tables stay small: partitions exist before they are needed, and retention deletes old rows."""

import json
from datetime import UTC, datetime, timedelta
from unittest.mock import Mock
from uuid import uuid4

import pytest

from shared import ids
from shared.auth import audit, idempotency
from shared.operations import retention
from shared.postgres import partitions
from tests.support.system import System
from workers import maintenance
from workers import process_receipts as draining

NOW = datetime.now(UTC)
RETENTION = timedelta(days=30)
LONG_AGO = NOW - RETENTION - timedelta(days=15)

MAINTENANCE_LOCK = 0x71D1466  # of which every process of every version has to take the same


def partitions_of(system: System, table: str = "receipts") -> list[str]:
    """Their names, in the order of time."""
    rows = system.rows(
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = %(table)s::regclass ORDER BY 1", table=table
    )
    return [name for (name,) in rows]


def make_partitions(system: System, now: datetime) -> list[str]:
    with system.ctx.engine.begin() as connection:
        return partitions.create_missing(connection, now=now)


def receive_at(system: System, moment: datetime) -> None:
    """A receipt of that time, processed."""
    system.execute(
        "INSERT INTO receipts (id, source_id, received_at, headers, body) VALUES (%(id)s, 1, %(at)s, '{}', '')",
        id=ids.receipt_id(moment),
        at=moment,
    )


class TestPartitions:
    def test_are_there_for_weeks_to_come(self, system: System) -> None:
        made = make_partitions(system, NOW + timedelta(weeks=10))
        assert len(made) == 6 * len(partitions.TABLES)
        assert set(made) <= {name for table in partitions.TABLES for name in partitions_of(system, table)}
        for weeks in range(9, 15):
            receive_at(system, NOW + timedelta(weeks=weeks))

    def test_are_made_once(self, system: System) -> None:
        make_partitions(system, NOW + timedelta(weeks=10))
        assert make_partitions(system, NOW + timedelta(weeks=10)) == []

    def test_meet_without_a_gap_at_every_moment(self, system: System) -> None:
        monday = datetime(2031, 3, 3, tzinfo=UTC)
        make_partitions(system, monday)
        for moment in (monday - timedelta(milliseconds=1), monday, monday + timedelta(days=7, milliseconds=-1)):
            receive_at(system, moment)
        rows = system.rows("SELECT tableoid::regclass::text, count(*) FROM receipts GROUP BY 1 ORDER BY 1")
        assert rows == [("receipts_20310224", 1), ("receipts_20310303", 2)]

    def test_that_are_missing_are_made_by_the_hour(self, system: System) -> None:
        newest = partitions_of(system)[-1]
        system.execute(f"DROP TABLE {newest}")
        maintenance.maintain(system.ctx)
        assert newest in partitions_of(system)

    @pytest.mark.parametrize("step", ["delete_expired", "delete_old_history"])
    def test_are_made_whatever_becomes_of_what_is_old(
        self, system: System, monkeypatch: pytest.MonkeyPatch, step: str
    ) -> None:
        newest = partitions_of(system)[-1]
        system.execute(f"DROP TABLE {newest}")
        monkeypatch.setattr(retention, step, Mock(side_effect=RuntimeError("it takes too long")))
        with pytest.raises(RuntimeError):
            maintenance.maintain(system.ctx)
        assert newest in partitions_of(system)


class TestKeysOfReceipts:
    def test_are_deleted_once_they_have_expired(self, system: System) -> None:
        key = "INSERT INTO receipt_keys VALUES (%(key)s, %(id)s, now() + %(left)s)"
        receipt = ids.receipt_id(NOW)
        for left in (timedelta(seconds=-1), timedelta(days=1)):
            system.execute(key, key=uuid4(), id=receipt, left=left)
        with system.ctx.engine.begin() as connection:
            assert retention.delete_expired(connection, NOW - RETENTION)["receipt_keys"] == 1
        assert system.rows("SELECT expires_at > now() FROM receipt_keys") == [(True,)]


class TestWhatRetentionHasPassed:
    def test_is_dropped_by_the_partition_and_the_rest_stays(self, system: System) -> None:
        kept = NOW - RETENTION + timedelta(days=1)  # a run of all tests may take hours
        make_partitions(system, LONG_AGO)
        oldest = partitions_of(system)[0]
        make_partitions(system, kept)
        receive_at(system, LONG_AGO)
        receive_at(system, kept)
        receive_at(system, NOW)

        maintenance.maintain(system.ctx)

        assert system.rows("SELECT received_at FROM receipts ORDER BY 1") == [(kept,), (NOW,)]
        assert oldest not in partitions_of(system)

    def test_is_trimmed_from_the_tables_that_detect_repetitions(self, system: System) -> None:
        old, young = ids.receipt_id(LONG_AGO), ids.receipt_id(NOW)
        for receipt, at in ((old, LONG_AGO), (young, NOW)):
            system.execute("INSERT INTO event_keys VALUES (%(key)s, %(id)s)", key=uuid4(), id=ids.event_id(receipt, 0))
            system.execute(
                "INSERT INTO refusals VALUES (%(id)s, 's', %(at)s, 401, 'stale', '', NULL, '{}', 0)",
                id=receipt,
                at=at,
            )
            system.execute(
                "INSERT INTO parked_receipts (receipt_id, source_id, state, reason, detail, bytes, available_at,"
                " parked_at) VALUES (%(id)s, 1, 'dead', 'failed', '', 0, %(at)s, %(at)s)",
                id=receipt,
                at=at,
            )
        with system.ctx.engine.begin() as connection:
            trimmed = retention.delete_expired(connection, NOW - RETENTION)
        for table in ("refusals", "parked_receipts", "event_keys"):
            assert trimmed[table] == 1
            assert len(system.rows(f"SELECT * FROM {table}")) == 1

    def test_is_deleted_although_a_reader_is_behind(self, system: System) -> None:
        make_partitions(system, LONG_AGO)
        receive_at(system, LONG_AGO)
        with system.ctx.engine.connect() as reader:
            reader.exec_driver_sql("SELECT count(*) FROM receipts")
            maintenance.maintain(system.ctx)
            assert system.rows("SELECT count(*) FROM receipts") == [(1,)]
        maintenance.maintain(system.ctx)
        assert system.rows("SELECT count(*) FROM receipts") == [(0,)]

    def test_leaves_younger_entries_usable(self, system: System) -> None:
        make_partitions(system, LONG_AGO)
        maintenance.maintain(system.ctx)
        source = system.add_source("cm", "cloudmailin", {"username": "user", "password": "secret"})
        body = {"events": [{"kind": "delivery", "recipient": "ann@example.net", "message_id": "m"}]}
        system.store_receipt(source, json.dumps(body).encode())
        assert draining.process_due(system.ctx).new_events == 1
        assert system.rows(
            "SELECT count(*) FROM receipts AS r JOIN events AS e ON left(e.id::text, 31) = left(r.id::text, 31)"
        ) == [(1,)]


def test_two_workers_do_not_maintain_at_once(system: System) -> None:
    make_partitions(system, LONG_AGO)
    before = partitions_of(system)
    with system.ctx.engine.connect() as other:
        other.exec_driver_sql(f"SELECT pg_advisory_lock({MAINTENANCE_LOCK})")
        maintenance.maintain(system.ctx)
        assert partitions_of(system) == before
        other.exec_driver_sql(f"SELECT pg_advisory_unlock({MAINTENANCE_LOCK})")
    maintenance.maintain(system.ctx)
    assert set(partitions_of(system)) < set(before)


class TestTheLogOfChanges:
    """It is kept as long as everything else, and its deletion disturbs nothing."""

    @staticmethod
    def write(system: System, *types: str) -> None:
        for name in types:
            system.execute("INSERT INTO state_changes (type) VALUES (%(type)s)", type=name)

    @staticmethod
    def days_pass(system: System, days: int) -> None:
        system.execute("UPDATE change_marks SET at = at - make_interval(days => %(days)s)", days=days)

    def test_is_deleted_when_retention_has_passed(self, system: System, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(maintenance, "CHANGES_PER_TRANSACTION", 2)
        system.execute("UPDATE fan_out SET transaction = '999999999', id = 1")
        self.write(system, *("old",) * 5)
        maintenance.maintain(system.ctx)
        self.write(system, "young")
        self.days_pass(system, 29)
        maintenance.maintain(system.ctx)
        assert len(system.change_types()) == 6
        self.days_pass(system, 2)
        maintenance.maintain(system.ctx)
        assert system.change_types() == ["young"]
        assert system.rows("SELECT id FROM change_floor") == [(5,)]

    def test_waits_for_the_fan_out_into_deliveries(self, system: System) -> None:
        self.write(system, "old")
        maintenance.maintain(system.ctx)
        self.days_pass(system, 31)
        maintenance.maintain(system.ctx)
        assert system.change_types() == ["old"]
        system.execute("UPDATE fan_out SET transaction = '999999999', id = 1")
        maintenance.maintain(system.ctx)
        assert system.change_types() == []

    def test_is_deleted_by_one_worker_at_a_time(self, system: System) -> None:
        system.execute("UPDATE fan_out SET transaction = '999999999', id = 1")
        self.write(system, "old")
        maintenance.maintain(system.ctx)
        self.days_pass(system, 31)
        with system.ctx.engine.connect() as other:
            other.exec_driver_sql(f"SELECT pg_advisory_lock({MAINTENANCE_LOCK})")
            maintenance.delete_old_changes(system.ctx, NOW - RETENTION)
            assert system.change_types() == ["old"]
            other.exec_driver_sql(f"SELECT pg_advisory_unlock({MAINTENANCE_LOCK})")
        maintenance.delete_old_changes(system.ctx, NOW - RETENTION)
        assert system.change_types() == []


def test_floods_are_cut_to_limits_of_each_source_and_in_all_and_the_oldest_go_first(system: System) -> None:
    def refuse(source: str, count: int, size: int = 0, reason: str = "bad_signature") -> None:
        for number in range(count):
            system.execute(
                "INSERT INTO refusals (id, source, refused_at, status_code, reason, detail, headers, bytes)"
                " VALUES (%(id)s, %(source)s, now(), 401, %(reason)s, %(detail)s, '{}', 0)",
                id=ids.receipt_id(NOW + timedelta(seconds=number)),
                source=source,
                reason=reason,
                detail="x" * size,
            )

    def cut(**limits: int) -> dict[str, int]:
        none = dict.fromkeys(retention.REFUSAL_LIMITS, 10**9)
        with system.ctx.engine.begin() as connection:
            retention.delete_oldest_refusals(connection, none | limits)
        return dict(system.rows("SELECT source, count(*) FROM refusals GROUP BY source"))

    refuse("flooded", 8)
    refuse("calm", 2)
    for name in ("made-up-1", "made-up-2", "made-up-3"):
        refuse(name, 2, reason="unknown_source")
    oldest = system.rows("SELECT id FROM refusals WHERE source = 'flooded' ORDER BY id LIMIT 3")
    counts = cut(source_rows=5)
    assert (counts["flooded"], counts["calm"]) == (5, 2)
    assert sum(count for name, count in counts.items() if name.startswith("made-up")) == 5
    assert not set(oldest) & set(system.rows("SELECT id FROM refusals"))
    assert sum(cut(rows=6).values()) == 6
    refuse("large", 3, size=1000)
    assert cut(source_bytes=2100)["large"] == 2
    assert cut(bytes=1100).get("large", 0) == 1


def test_answers_to_idempotent_requests_have_limits_of_rows_and_bytes(system: System) -> None:
    for number in range(4):
        system.execute(
            "INSERT INTO idempotent_answers (key, request_hash, created_at, status_code, body)"
            " VALUES (%(key)s, '', %(at)s, 200, %(body)s)",
            key=uuid4(),
            at=NOW - timedelta(seconds=number),
            body=bytes([number]) * 100,
        )
    for limits, left in (({"max_rows": 3}, 3), ({"max_bytes": 250}, 2)):
        with system.ctx.engine.begin() as connection:
            idempotency.trim(connection, NOW, **limits)
        found = system.rows("SELECT get_byte(body, 0) FROM idempotent_answers ORDER BY 1")
        assert found == [(number,) for number in range(left)], "the newest"


@pytest.mark.parametrize("limits", [{"max_rows": 3}, {"max_bytes": 3 * 25}])
def test_an_actor_with_many_audit_entries_pushes_out_only_its_own(system: System, limits: dict[str, int]) -> None:
    with system.engine.begin() as connection:
        audit.record(connection, actor="key:1:ann", action="source.changed", object="source:main")
        for number in range(8):
            details = {"number": number, "a": "abc"}  # 25 bytes
            audit.record(connection, actor="key:2:eve", action="source.changed", object="source:x", details=details)
        assert audit.trim(connection, **limits) == 5
        left = audit.list_entries(connection).items
    assert sorted(entry.actor for entry in left) == ["key:1:ann", *["key:2:eve"] * 3]
