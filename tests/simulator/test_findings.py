"""Violated expectations are found."""

from datetime import UTC, datetime
from typing import Any

import pytest

from shared.vocabulary import Status
from simulator.findings import Finding, difference, settle
from simulator.providers.mailchannels.webhooks import MailChannels
from simulator.scenarios import SCENARIOS
from simulator.staging import Expectation, stage


@pytest.fixture
def expectation() -> Expectation:
    play = stage(SCENARIOS["happy"], MailChannels(), count=1, seed=1, now=datetime(2026, 3, 2, tzinfo=UTC))
    return play.expectations[0]


def known(**changes: Any) -> dict[str, Any]:
    usual = {
        "status": "delivered",
        "opened": True,
        "clicked": True,
        "complained": False,
        "unsubscribed": False,
    }
    return usual | changes


def test_an_expected_result_has_no_difference(expectation: Expectation) -> None:
    assert expectation.fate.status is Status.DELIVERED
    assert difference(expectation, known()) is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"status": "bounced"}, "status is bounced, not delivered"),
        ({"opened": False}, "opened is False, not True"),
        ({"complained": True}, "complained is True, not False"),
    ],
)
def test_every_difference_is_named(expectation: Expectation, changes: dict[str, Any], words: str) -> None:
    assert difference(expectation, known(**changes)) == words


def test_an_unknown_recipient_is_a_difference(expectation: Expectation) -> None:
    assert difference(expectation, None) == "is not known"


def test_a_check_is_repeated_until_it_holds() -> None:
    answers = iter(["not yet", "not yet", None])
    found = settle([lambda: Finding(about="it", difference=next(answers))], within_seconds=5)
    assert [finding.held for finding in found] == [True]


def test_a_check_that_never_holds_is_given_up_at_the_deadline() -> None:
    found = settle([lambda: Finding(about="it", difference="never")], within_seconds=0.1)
    assert [finding.difference for finding in found] == ["never"]
