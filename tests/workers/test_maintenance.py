"""The tables stay small: partitions are there before they are needed, and what retention has passed goes."""

import json
from datetime import UTC, datetime, timedelta
from unittest.mock import Mock
from uuid import uuid4

import pytest

from shared import ids
from shared.operations import retention
from shared.postgres import partitions
from tests.workers.workshop import Workshop
from workers import maintenance
from workers import process_receipts as draining

NOW = datetime.now(UTC)
RETENTION = timedelta(days=30)
LONG_AGO = NOW - RETENTION - timedelta(days=15)


def partitions_of(workshop: Workshop, table: str = "receipts") -> list[str]:
    """Their names, in the order of time."""
    rows = workshop.rows(
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = %(table)s::regclass ORDER BY 1", table=table
    )
    return [name for (name,) in rows]


def make_partitions(workshop: Workshop, now: datetime) -> list[str]:
    with workshop.ctx.engine.begin() as connection:
        return partitions.ensure(connection, now=now)


def receive_at(workshop: Workshop, moment: datetime) -> None:
    """A receipt of that time, processed."""
    workshop.run(
        "INSERT INTO receipts (id, source_id, received_at, headers, body) VALUES (%(id)s, 1, %(at)s, '{}', '')",
        id=ids.receipt_id(moment),
        at=moment,
    )


class TestPartitions:
    def test_are_there_for_weeks_to_come(self, workshop: Workshop) -> None:
        made = make_partitions(workshop, NOW + timedelta(weeks=10))
        assert len(made) == 6 * len(partitions.TABLES)
        assert set(made) <= {name for table in partitions.TABLES for name in partitions_of(workshop, table)}
        for weeks in range(9, 15):
            receive_at(workshop, NOW + timedelta(weeks=weeks))

    def test_are_made_once(self, workshop: Workshop) -> None:
        make_partitions(workshop, NOW + timedelta(weeks=10))
        assert make_partitions(workshop, NOW + timedelta(weeks=10)) == []

    def test_meet_without_a_gap_at_every_moment(self, workshop: Workshop) -> None:
        monday = datetime(2031, 3, 3, tzinfo=UTC)
        make_partitions(workshop, monday)
        for moment in (monday - timedelta(milliseconds=1), monday, monday + timedelta(days=7, milliseconds=-1)):
            receive_at(workshop, moment)
        rows = workshop.rows("SELECT tableoid::regclass::text, count(*) FROM receipts GROUP BY 1 ORDER BY 1")
        assert rows == [("receipts_20310224", 1), ("receipts_20310303", 2)]

    def test_that_are_missing_are_made_by_the_hour(self, workshop: Workshop) -> None:
        newest = partitions_of(workshop)[-1]
        workshop.run(f"DROP TABLE {newest}")
        maintenance.maintain(workshop.ctx)
        assert newest in partitions_of(workshop)

    @pytest.mark.parametrize("trimming", ["trim", "trim_history"])
    def test_are_made_whatever_becomes_of_what_is_old(
        self, workshop: Workshop, monkeypatch: pytest.MonkeyPatch, trimming: str
    ) -> None:
        newest = partitions_of(workshop)[-1]
        workshop.run(f"DROP TABLE {newest}")
        monkeypatch.setattr(retention, trimming, Mock(side_effect=RuntimeError("it takes too long")))
        with pytest.raises(RuntimeError):
            maintenance.maintain(workshop.ctx)
        assert newest in partitions_of(workshop)


class TestWhatRetentionHasPassed:
    def test_is_dropped_by_the_partition_and_the_rest_stays(self, workshop: Workshop) -> None:
        kept = NOW - RETENTION + timedelta(hours=1)
        make_partitions(workshop, LONG_AGO)
        oldest = partitions_of(workshop)[0]
        make_partitions(workshop, kept)
        receive_at(workshop, LONG_AGO)
        receive_at(workshop, kept)
        receive_at(workshop, NOW)

        maintenance.maintain(workshop.ctx)

        assert workshop.rows("SELECT received_at FROM receipts ORDER BY 1") == [(kept,), (NOW,)]
        assert oldest not in partitions_of(workshop)

    def test_is_trimmed_from_the_tables_that_tell_repetitions_apart(self, workshop: Workshop) -> None:
        old, young = ids.receipt_id(LONG_AGO), ids.receipt_id(NOW)
        for receipt, at in ((old, LONG_AGO), (young, NOW)):
            workshop.run("INSERT INTO receipt_keys VALUES (%(key)s, %(id)s, %(at)s)", key=uuid4(), id=receipt, at=at)
            workshop.run("INSERT INTO event_keys VALUES (%(key)s, %(id)s)", key=uuid4(), id=ids.event_id(receipt, 0))
            workshop.run(
                "INSERT INTO refusals VALUES (%(id)s, 's', %(at)s, 401, 'stale', '', NULL, '{}', 0)",
                id=receipt,
                at=at,
            )
            workshop.run(
                "INSERT INTO parked_receipts (receipt_id, source_id, state, reason, detail, bytes, available_at,"
                " parked_at) VALUES (%(id)s, 1, 'dead', 'failed', '', 0, %(at)s, %(at)s)",
                id=receipt,
                at=at,
            )
        with workshop.ctx.engine.begin() as connection:
            trimmed = retention.trim(connection, NOW - RETENTION)
        for table in ("receipt_keys", "refusals", "parked_receipts", "event_keys"):
            assert trimmed[table] == 1
            assert len(workshop.rows(f"SELECT * FROM {table}")) == 1

    def test_is_let_go_of_although_somebody_reads_it_only_later(self, workshop: Workshop) -> None:
        make_partitions(workshop, LONG_AGO)
        receive_at(workshop, LONG_AGO)
        with workshop.ctx.engine.connect() as reader:
            reader.exec_driver_sql("SELECT count(*) FROM receipts")
            maintenance.maintain(workshop.ctx)
            assert workshop.rows("SELECT count(*) FROM receipts") == [(1,)]
        maintenance.maintain(workshop.ctx)
        assert workshop.rows("SELECT count(*) FROM receipts") == [(0,)]

    def test_leaves_what_is_younger_usable(self, workshop: Workshop) -> None:
        make_partitions(workshop, LONG_AGO)
        maintenance.maintain(workshop.ctx)
        source = workshop.add_source("cm", "cloudmailin", {"username": "user", "password": "secret"})
        body = {"events": [{"kind": "delivery", "recipient": "ann@example.net", "message_id": "m"}]}
        workshop.receive(source, json.dumps(body).encode())
        assert draining.drain(workshop.ctx).new_events == 1
        assert workshop.rows("SELECT count(*) FROM receipts JOIN events ON receipt_id = receipts.id") == [(1,)]


def test_two_workers_do_not_maintain_at_once(workshop: Workshop) -> None:
    make_partitions(workshop, LONG_AGO)
    before = partitions_of(workshop)
    with workshop.ctx.engine.connect() as other:
        other.exec_driver_sql(f"SELECT pg_advisory_lock({maintenance._LOCK})")
        maintenance.maintain(workshop.ctx)
        assert partitions_of(workshop) == before
        other.exec_driver_sql(f"SELECT pg_advisory_unlock({maintenance._LOCK})")
    maintenance.maintain(workshop.ctx)
    assert set(partitions_of(workshop)) < set(before)


class TestTheLogOfChanges:
    """It is kept as long as everything else, and let go of without anybody noticing."""

    @staticmethod
    def write(workshop: Workshop, *types: str) -> None:
        for name in types:
            workshop.run("INSERT INTO state_changes (type) VALUES (%(type)s)", type=name)

    @staticmethod
    def days_pass(workshop: Workshop, days: int) -> None:
        workshop.run("UPDATE change_marks SET at = at - make_interval(days => %(days)s)", days=days)

    def test_is_let_go_of_when_retention_has_passed(self, workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(maintenance, "_CHANGES_AT_ONCE", 2)
        workshop.run("UPDATE fan_out SET transaction = '999999999', id = 1")
        self.write(workshop, *("old",) * 5)
        maintenance.maintain(workshop.ctx)
        self.write(workshop, "young")
        self.days_pass(workshop, 29)
        maintenance.maintain(workshop.ctx)
        assert len(workshop.changes()) == 6
        self.days_pass(workshop, 2)
        maintenance.maintain(workshop.ctx)
        assert workshop.changes() == ["young"]
        assert workshop.rows("SELECT id FROM change_floor") == [(5,)]

    def test_waits_for_those_who_turn_it_into_deliveries(self, workshop: Workshop) -> None:
        self.write(workshop, "old")
        maintenance.maintain(workshop.ctx)
        self.days_pass(workshop, 31)
        maintenance.maintain(workshop.ctx)
        assert workshop.changes() == ["old"]
        workshop.run("UPDATE fan_out SET transaction = '999999999', id = 1")
        maintenance.maintain(workshop.ctx)
        assert workshop.changes() == []

    def test_is_let_go_of_by_one_at_a_time(self, workshop: Workshop) -> None:
        workshop.run("UPDATE fan_out SET transaction = '999999999', id = 1")
        self.write(workshop, "old")
        maintenance.maintain(workshop.ctx)
        self.days_pass(workshop, 31)
        with workshop.ctx.engine.connect() as other:
            other.exec_driver_sql(f"SELECT pg_advisory_lock({maintenance._LOCK})")
            maintenance.let_go_of_changes(workshop.ctx, NOW - RETENTION)
            assert workshop.changes() == ["old"]
            other.exec_driver_sql(f"SELECT pg_advisory_unlock({maintenance._LOCK})")
        maintenance.let_go_of_changes(workshop.ctx, NOW - RETENTION)
        assert workshop.changes() == []
