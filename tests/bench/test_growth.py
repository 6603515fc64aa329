"""The long history of the growth benchmark is what the product would have written, and can be measured.

The copies are compared with the rows that the receiver and the workers have stored for the sample. So a change of the
schema that the copies do not follow makes a test fail.
"""

import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from bench import growth, growth_fill, growth_measure
from bench.growth import Ground
from bench.growth_measure import Measured
from bench.processes import BenchError
from shared import ids

EVENTS = 1200
NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    directory = Path(tempfile.mkdtemp(prefix="tidings-growth-test-"))
    directory.chmod(0o711)
    try:
        with Ground(directory, {**growth_fill.FILL_SETTINGS, "shared_buffers": "128MB"}) as ground:
            yield ground
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="module")
def content(ground: Ground) -> dict[str, Any]:
    return growth_fill.fill(*ground.sides, "realistic", EVENTS, NOW)


def one(connection: psycopg.Connection, query: str) -> Any:
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def kinds_of(connection: psycopg.Connection, table: str) -> dict[str, tuple[int, int, bool]]:
    """By column: rows with a value, the sum of their lengths, and whether most are UUIDs of the last two months."""
    columns = connection.execute(
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute"
        " WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
        [table],
    ).fetchall()
    found = {}
    for name, type_ in columns:
        period = "now() - interval '61 days' AND now()"
        recent = f'uuid_extract_timestamp("{name}") BETWEEN {period}' if type_ == "uuid" else "NULL"
        length = f'sum(length("{name}"))' if type_ == "text" else f'sum(pg_column_size("{name}"))'
        if type_ in ("bigint", "xid8", "json", "jsonb", "bytea"):
            length = "0"  # a greater number, or compression, may take another number of bytes
        numbers = f'count("{name}"), count(*) FILTER (WHERE {recent}), coalesce({length}, 0)::bigint'
        row = connection.execute(f"SELECT {numbers} FROM {table}".encode()).fetchone()
        assert row is not None
        found[name] = (row[0], row[2], 2 * row[1] > row[0])
    return found


MERGED_OR_DELETED = {"minute_counts", "metric_totals", "soft_bounces", "receipt_keys"}


def test_every_column_of_the_copies_is_like_that_of_processed_events(ground: Ground, content: dict[str, Any]) -> None:
    replicas = content["replicas"]
    assert replicas >= 3
    with ground.sides[0].connect() as empty, ground.sides[1].connect() as filled:
        for table in content["rows of a replica"]:
            if table in MERGED_OR_DELETED:
                continue
            expected = {
                name: (replicas * values, replicas * length, kind)
                for name, (values, length, kind) in kinds_of(empty, table).items()
            }
            assert kinds_of(filled, table) == expected, table


def test_every_table_that_the_product_wrote_to_is_filled(ground: Ground, content: dict[str, Any]) -> None:
    with ground.sides[0].connect() as empty:
        written = {
            table
            for table in growth_fill.list_tables(empty)
            if table not in growth_fill.TRANSIENT and one(empty, f"SELECT count(*) FROM {table}")
        }
    assert written == set(content["rows of a replica"])
    assert written >= {"receipts", "events", "messages", "recipient_states", "state_changes", "suppressions"}


@pytest.mark.parametrize(
    ("table", "missing"),
    [
        ("events", "receipts AS r WHERE left(r.id::text, 31) = left(o.id::text, 31)"),
        ("events", "messages AS m WHERE m.id = o.message_id"),
        ("events", "event_keys AS k WHERE k.key = o.key AND k.event_id = o.id AND k.minute = o.key_minute"),
        ("events", "recipient_states AS s WHERE s.message_id = o.message_id AND s.recipient = o.recipient"),
        ("events", "event_objects AS e WHERE o.object_at >= 0 OR left(e.id::text, 31) = left(o.id::text, 31)"),
        ("recipient_states", "events AS e WHERE e.id = o.status_event_id AND e.key = o.status_key"),
        (
            "state_changes",
            "events AS e WHERE e.id = o.event_id AND coalesce(o.message_id, e.message_id) = e.message_id",
        ),
    ],
)
def test_rows_of_the_copies_belong_together(ground: Ground, content: dict[str, Any], table: str, missing: str) -> None:
    with ground.sides[1].connect() as filled:
        assert one(filled, f"SELECT count(*) FROM {table}") > 0
        assert one(filled, f"SELECT count(*) FROM {table} AS o WHERE NOT EXISTS (SELECT FROM {missing})") == 0


def test_the_history_covers_the_whole_period_until_now(ground: Ground, content: dict[str, Any]) -> None:
    period = growth_fill.SPAN / content["replicas"]
    with ground.sides[1].connect() as filled:
        assert one(filled, "SELECT count(DISTINCT source_id) FROM messages") == growth_fill.SOURCES
        for number in range(content["replicas"]):
            begin = NOW - growth_fill.SPAN + number * period
            within = f"BETWEEN '{ids.first_at(begin)}' AND '{ids.first_at(begin + period)}'"
            assert (
                one(filled, f"SELECT count(*) FROM events WHERE id {within}") == content["rows of a replica"]["events"]
            )
            days = one(filled, f"SELECT count(DISTINCT received_at::date) FROM receipts WHERE id {within}")
            assert days > 1


@pytest.mark.parametrize(
    ("table", "column"),
    [("events", "id"), ("receipts", "id"), ("messages", "id"), ("state_changes", "id"), ("event_keys", "event_id")],
)
def test_rows_are_inserted_in_the_order_of_time(
    ground: Ground, content: dict[str, Any], table: str, column: str
) -> None:
    rows = f"SELECT {column} < lag({column}) OVER (PARTITION BY tableoid ORDER BY ctid) AS is_early FROM {table}"
    with ground.sides[1].connect() as filled:
        # A short row may take the space that was too small for the row before it.
        assert one(filled, f"SELECT avg(is_early::integer) FROM ({rows}) AS row") < 0.05


def test_the_keys_of_a_replica_are_of_many_minutes(ground: Ground, content: dict[str, Any]) -> None:
    with ground.sides[1].connect() as filled:
        assert one(filled, "SELECT count(DISTINCT minute) FROM event_keys") > 10 * content["replicas"]


def test_maintenance_has_run_over_the_history(ground: Ground, content: dict[str, Any]) -> None:
    with ground.sides[1].connect() as filled:
        assert one(filled, f"SELECT min(first_at) > '{NOW}'::timestamptz - interval '44 days' FROM soft_bounces")
        hours = f"minute < '{NOW}'::timestamptz - interval '3 hours' AND minute <> date_trunc('hour', minute)"
        assert one(filled, f"SELECT count(*) FROM minute_counts WHERE {hours}") == 0
        assert one(filled, "SELECT count(*) FROM minute_counts WHERE minute = date_trunc('hour', minute)") > 0


def test_messages_are_indexed_except_for_few_that_wait(ground: Ground, content: dict[str, Any]) -> None:
    with ground.sides[1].connect() as filled:
        waiting = one(filled, "SELECT coalesce(sum(cardinality(message_ids)), 0) FROM search_queue")
        indexed = one(filled, "SELECT coalesce(sum(entries), 0) FROM search_signatures")
        assert waiting + indexed == content["messages"]


def test_filling_alone_needs_a_directory(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        growth.main(["--fill-only"])
    assert "--fill-only needs --data" in capsys.readouterr().err


def test_new_rows_have_other_numbers_than_the_copies(ground: Ground, content: dict[str, Any]) -> None:
    with ground.sides[1].connect() as filled:
        for table in ("state_changes", "suppression_history"):
            highest = one(filled, f"SELECT max(id) FROM {table}")
            assert highest > content["rows of a replica"][table]
            assert one(filled, f"SELECT nextval(pg_get_serial_sequence('{table}', 'id'))") > highest


def test_a_table_whose_copies_would_have_the_same_key_is_named(ground: Ground, content: dict[str, Any]) -> None:
    with ground.sides[1].connect() as filled:
        filled.execute("CREATE TEMPORARY TABLE odd (word text PRIMARY KEY, number integer)")
        growth_fill.check_unique(filled, "odd", {"word"})
        with pytest.raises(BenchError, match=r"different keys \(word\) for the table odd"):
            growth_fill.check_unique(filled, "odd", {"number"})


def test_both_databases_are_measured_and_shown(ground: Ground, content: dict[str, Any]) -> None:
    found = (Measured(), Measured())
    growth_measure.accept_and_process(ground.sides, found, "realistic", growth_measure.SINGLE, 0.2, 5)
    for side, measured in growth_measure.in_turn(ground.sides, found, 1):
        growth_measure.read_lists(side, measured, 0.1)
    assert [one.wrong for one in found] == [[], []]
    assert found[0].numbers.keys() == found[1].numbers.keys() >= {"accepted", "single WAL", "single pages read"}
    assert "/v1/stats" in found[1].lists
    assert found[1].pages.keys() == {*growth_measure.PAGES, *growth_measure.SEARCHES}
    with ground.sides[1].connect() as filled:
        sizes = growth_fill.list_sizes(filled)
        size = one(filled, "SELECT pg_database_size(current_database())")
    page = growth.section(
        "realistic",
        content | {"sizes": sizes, "bytes": size},
        found,
        "Memory is not limited.",
        {"shared_buffers": "1GB", "max_wal_size": "2GB"},
    )
    assert "| accepted, single events |" in page
    assert "| `/v1/stats` |" in page
    assert "|  | recipient_states_pkey |" in page
