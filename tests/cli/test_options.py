"""Option types of commands: instants, and choices."""

from datetime import UTC, datetime, timedelta
from enum import StrEnum

import click
import pytest
from click.testing import CliRunner

from cli.main import main
from cli.options import MOMENT, NEXT_MOMENT, OneOf


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
    with pytest.raises(click.BadParameter, match="is not a time; give one in UTC, such as 2026-03-02"):
        MOMENT(given)


def test_a_time_of_day_is_the_next_one() -> None:
    now = datetime.now(UTC)
    for minutes in (-90, 90):
        meant = (now + timedelta(minutes=minutes)).replace(second=0, microsecond=0)
        expected = meant + timedelta(days=1) if minutes < 0 else meant
        assert NEXT_MOMENT(f"{meant:%H:%M}") == expected
    assert NEXT_MOMENT("2026-03-02T08:15") == datetime(2026, 3, 2, 8, 15, tzinfo=UTC)


@pytest.mark.parametrize("given", ["24:00", "noon", "12"])
def test_what_is_no_time_is_refused_with_examples(given: str) -> None:
    with pytest.raises(click.BadParameter, match=r"such as 12:00 \(the next one\), 2026-03-02T08:15"):
        NEXT_MOMENT(given)


def test_a_word_becomes_a_member_of_its_enumeration() -> None:
    assert OneOf(Fruit)("pear") is Fruit.PEAR


def test_another_word_is_refused_with_those_there_are() -> None:
    with pytest.raises(click.BadParameter, match="'apple', 'pear'"):
        OneOf(Fruit)("plum")


@pytest.mark.parametrize("words", ["suppressions import /dev/zero", "sources try /dev/zero --mapping {}"])
def test_a_file_that_never_ends_is_refused(words: str) -> None:
    result = CliRunner().invoke(main, words.split())
    assert result.exit_code == 2
    assert "/dev/zero cannot be read: it is larger than 65536 KiB" in result.output
