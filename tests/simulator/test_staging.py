"""A play follows its scenario."""

import json
from datetime import UTC, datetime
from itertools import pairwise

import pytest

from shared.vocabulary import EventType, Status
from simulator.providers.base import Enveloping, Forgery
from simulator.providers.mailchannels.webhooks import MailChannels
from simulator.providers.registry import DIALECTS
from simulator.scenarios import SCENARIOS, Scenario
from simulator.staging import Answer, Play, stage

NOW = datetime(2026, 3, 2, 8, 15, 4, tzinfo=UTC)
PLAYABLE = [
    pytest.param(name, scenario, id=f"{name}-{scenario.name}")
    for name, make in DIALECTS.items()
    for scenario in SCENARIOS.values()
    if not scenario.obstacle(make.TRAITS)
]


def play_of(name: str, scenario: Scenario, count: int = 40, seed: int = 1) -> Play:
    return stage(scenario, DIALECTS[name](), count=count, seed=seed, now=NOW)


@pytest.mark.parametrize(("name", "scenario"), PLAYABLE)
def test_the_same_seed_gives_the_same_play(name: str, scenario: Scenario) -> None:
    dialect = DIALECTS[name]()  # one for both: each has another secret, which may be in the body
    one, other = (stage(scenario, dialect, count=40, seed=1, now=NOW) for _ in range(2))
    assert [posting.body for posting in one.postings] == [posting.body for posting in other.postings]
    assert one.expectations == other.expectations


@pytest.mark.parametrize(("name", "scenario"), PLAYABLE)
def test_another_seed_gives_other_messages(name: str, scenario: Scenario) -> None:
    def ids(play: Play) -> set[str]:
        return {expectation.message.smtp_id for expectation in play.expectations}

    assert not ids(play_of(name, scenario)) & ids(play_of(name, scenario, seed=2))


@pytest.mark.parametrize(("name", "scenario"), PLAYABLE)
def test_every_posting_can_be_signed(name: str, scenario: Scenario) -> None:
    dialect = DIALECTS[name]()
    for posting in stage(scenario, dialect, count=20, seed=1, now=NOW).postings:
        request = posting.request(dialect, NOW)
        for header in request.headers.values():
            header.encode("latin-1")
        assert posting.forgery or isinstance(dialect, Enveloping) or request.body == posting.body


@pytest.mark.parametrize(("name", "scenario"), PLAYABLE)
def test_only_forgeries_are_refused(name: str, scenario: Scenario) -> None:
    for posting in play_of(name, scenario).postings:
        if posting.answer is not Answer.TAKEN:
            assert posting.forgery
        if posting.forgery:
            assert posting.answer is not Answer.TAKEN or posting.forgery is Forgery.FOREIGN


def test_what_a_provider_cannot_play_is_an_error_that_says_why() -> None:
    with pytest.raises(ValueError, match="ark cannot play batch: it sends one event per request"):
        play_of("ark", SCENARIOS["batch"])


def test_the_forged_scenario_has_every_forgery() -> None:
    postings = play_of("mailchannels", SCENARIOS["forged"]).postings
    assert {posting.forgery for posting in postings} == {None, *Forgery} - {Forgery.STALE, Forgery.FUTURE}


def test_the_batch_scenario_fills_its_bodies() -> None:
    play = play_of("mailchannels", SCENARIOS["batch"], count=1000)
    sizes = [posting.events for posting in play.postings]
    assert set(sizes[:-1]) == {1000}
    assert [len(json.loads(posting.body)) for posting in play.postings] == sizes


def test_the_unknown_key_scenario_signs_with_a_key_that_the_operator_has_not() -> None:
    dialect = MailChannels()
    play = stage(SCENARIOS["unknown-key"], dialect, count=5, seed=1, now=NOW)
    keys = {posting.key_id for posting in play.postings}
    assert len(keys) == 1
    assert not keys & set(dialect.credentials()["public_keys"])


def test_a_rotation_changes_the_key_once_half_way() -> None:
    keys = [posting.key_id for posting in play_of("mailchannels", SCENARIOS["rotation"]).postings]
    assert [index for index, (one, next_one) in enumerate(pairwise(keys)) if one != next_one] == [len(keys) // 2 - 1]


def test_late_traffic_repeats_and_reorders() -> None:
    play = play_of("mailchannels", SCENARIOS["late-and-duplicate"])
    events = [event for posting in play.postings for event in json.loads(posting.body)]
    texts = [json.dumps(event) for event in events]
    times = [event["timestamp"] for event in events]
    assert len(set(texts)) < len(texts)
    assert times != sorted(times)
    assert len({posting.body for posting in play.postings}) < len(play.postings)


def test_a_crowd_has_all_stories_before_any_twice() -> None:
    play = play_of("mailchannels", SCENARIOS["mixed"], count=20)
    assert {expectation.fate.status for expectation in play.expectations} == {
        Status.DELIVERED,
        Status.BOUNCED,
        Status.DEFERRED,
        Status.REJECTED,
        Status.QUEUED,
    }


def test_notices_belong_to_no_message() -> None:
    play = play_of("ark", SCENARIOS["mixed"])
    assert play.notices == {
        EventType.DOMAIN_DNS_ERROR: 1,
        EventType.SEND_LIMIT_APPROACHING: 1,
        EventType.SEND_LIMIT_EXCEEDED: 1,
    }


def test_everything_has_happened_by_now() -> None:
    play = play_of("mailchannels", SCENARIOS["mixed"], count=200)
    latest = max(event["timestamp"] for posting in play.postings for event in json.loads(posting.body))
    assert latest <= NOW.timestamp()
