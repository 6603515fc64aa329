"""Refusals are listed or counted, and a flood of them stays within limits of rows and bytes."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine

from receiver.refusal_log import MAX_HEADER_BYTES, MAX_KINDS, MAX_ROWS, MAX_ROWS_OF_KIND, RefusalLog
from shared import ids
from shared.postgres import engine
from shared.receipts.store import Refusal

NOW = datetime.now(UTC).replace(second=1, microsecond=0)


@pytest.fixture
def database(database_url: str) -> Iterator[Engine]:
    made = engine.create_engine(database_url, application="test")
    yield made
    made.dispose()


def refusal(source: str = "mc", reason: str = "bad_signature", at: datetime = NOW, headers: str = "{}") -> Refusal:
    return Refusal(
        id=ids.receipt_id(at),
        source=source,
        refused_at=at,
        status_code=401,
        reason=reason,
        detail="",
        remote_ip="192.0.2.1",
        headers=headers,
        bytes=2,
    )


def stored(database: Engine, *refusals: Refusal) -> list[tuple[str, int, int]]:
    """Record refusals; the source, the size of the headers and the count of each row."""
    log = RefusalLog(database)
    for one in refusals:
        log.record(replace(one, id=ids.receipt_id(one.refused_at)))
    log.close()
    with database.connect() as connection:
        rows = connection.exec_driver_sql("SELECT source, length(headers::text), count FROM refusals ORDER BY id")
        return [(row[0], row[1], row[2]) for row in rows]


def test_the_first_of_a_kind_are_listed_and_the_others_are_counted(database: Engine) -> None:
    flood = [refusal()] * (MAX_ROWS_OF_KIND + 500)
    rows = stored(database, *flood, refusal("other"), refusal(reason="stale"))
    assert [count for *_, count in rows if count > 1] == [500]
    assert len(rows) == MAX_ROWS_OF_KIND + 1 + 2


def test_every_minute_begins_anew(database: Engine) -> None:
    flood = [refusal()] * MAX_ROWS_OF_KIND + [refusal(at=NOW + timedelta(minutes=1))] * MAX_ROWS_OF_KIND
    assert [count for *_, count in stored(database, *flood)] == [1] * 2 * MAX_ROWS_OF_KIND


def test_headers_are_kept_up_to_a_limit_of_bytes(database: Engine) -> None:
    headers = '{"a": "%s"}' % ("x" * 8000)
    rows = stored(database, *[refusal(headers=headers)] * MAX_ROWS_OF_KIND)
    sizes = [size for _, size, _ in rows]
    assert max(sizes) == len(headers)
    assert sum(sizes) <= MAX_HEADER_BYTES + 2 * MAX_ROWS_OF_KIND


@pytest.mark.parametrize("reason", ["unknown_source", "too_large"])
def test_invented_source_names_do_not_add_rows(database: Engine, reason: str) -> None:
    rows = stored(database, *[refusal(f"made-up-{number}", reason) for number in range(5000)])
    assert sum(count for *_, count in rows) == 5000
    assert len(rows) <= MAX_ROWS + MAX_KINDS
