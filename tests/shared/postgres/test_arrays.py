"""PostgreSQL reads each array as the values that were packed."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine

from shared.postgres import arrays

ID = UUID("01912345-6789-7bcd-8f01-23456789abcd")
TIMES = [datetime(1969, 7, 20, 20, 17, 0, 1, tzinfo=UTC), datetime(2026, 11, 30, tzinfo=timezone(timedelta(hours=2)))]
CASES: dict[str, list[Any]] = {
    "text": ["", "a", None, "NULL", '{"ü": [1, 2]}', "a", "\N{GRINNING FACE}", "x" * 70_000],
    "uuid": [ID, None, ID, UUID(int=0), UUID(int=(1 << 128) - 1)],
    "timestamptz": [*TIMES, None, datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)],
    "smallint": [0, -1, None, 32_767, -32_768],
    "integer": [0, -1, None, (1 << 31) - 1, -(1 << 31)],
    "bigint": [0, -1, None, (1 << 63) - 1, -(1 << 63)],
    "double precision": [0, 7, 0.1, None, -1e300, float("inf")],
}


def read_back(database: Engine, type_: str, values: list[Any]) -> list[Any]:
    with database.connect() as connection:
        packed = {"values": arrays.pack(type_, values)}
        rows = connection.exec_driver_sql(f"SELECT unnest(%(values)b::{type_}[])", packed)
        return [row[0] for row in rows]


@pytest.mark.parametrize("type_", CASES)
def test_values_of_each_type_are_read_as_they_were_given(database: Engine, type_: str) -> None:
    values = CASES[type_]
    assert read_back(database, type_, values) == values
    assert read_back(database, type_, [None, None]) == [None, None]
    assert read_back(database, type_, []) == []


def test_a_uuid_may_be_given_as_hex_digits(database: Engine) -> None:
    assert read_back(database, "uuid", [ID.hex, None]) == [ID, None]


def test_half_of_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(ValueError, match="surrogates"):
        arrays.pack("text", ["\ud800"])


@pytest.mark.parametrize(("type_", "value"), [("smallint", 40_000), ("integer", 1 << 31), ("bigint", 1 << 63)])
def test_a_number_that_the_type_cannot_have_is_refused(type_: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"a value is no {type_}"):
        arrays.pack(type_, [value])
