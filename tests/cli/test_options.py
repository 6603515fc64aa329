"""Option types of commands: instants, and choices."""

from datetime import UTC, datetime
from enum import StrEnum

import click
import pytest

from cli.options import MOMENT, OneOf


class Fruit(StrEnum):
    APPLE = "apple"
    PEAR = "pear"


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("2026-03-02", datetime(2026, 3, 2, tzinfo=UTC)),
        ("2026-03-02T08:15", datetime(2026, 3, 2, 8, 15, tzinfo=UTC)),
        ("2026-03-02T08:15:04", datetime(2026, 3, 2, 8, 15, 4, tzinfo=UTC)),
        ("2026-03-02T08:15:04Z", datetime(2026, 3, 2, 8, 15, 4, tzinfo=UTC)),
    ],
)
def test_a_moment_is_in_utc_however_short_it_is_written(given: str, meant: datetime) -> None:
    found = MOMENT(given)
    assert (found, found.tzinfo) == (meant, UTC)


@pytest.mark.parametrize("given", ["", "yesterday", "2026-03-02T08:15:04+01:00", "2026-02-30"])
def test_an_invalid_time_is_rejected_with_the_valid_formats(given: str) -> None:
    with pytest.raises(click.BadParameter, match="does not match the formats '%Y-%m-%d'"):
        MOMENT(given)


def test_a_word_becomes_a_member_of_its_enumeration() -> None:
    assert OneOf(Fruit)("pear") is Fruit.PEAR


def test_another_word_is_refused_with_those_there_are() -> None:
    with pytest.raises(click.BadParameter, match="'apple', 'pear'"):
        OneOf(Fruit)("plum")
