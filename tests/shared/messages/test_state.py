"""The fold: any order, any duplication, any batching gives the same state."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.messages.state import RANKS, STATUS_EFFECTS, Fact, State, fold, merge, state_of
from shared.vocabulary import EventType, Status

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)

facts = st.builds(
    Fact,
    key=st.integers(0, 30).map(lambda number: f"{number:032x}"),
    type=st.sampled_from(EventType),
    at=st.integers(0, 5).map(lambda seconds: BEGIN + timedelta(seconds=seconds)),
    timed=st.booleans(),
)


def one_fact_per_key(found: Sequence[Fact]) -> list[Fact]:
    return list({fact.key: fact for fact in found}.values())


some_facts = st.lists(facts, max_size=12).map(one_fact_per_key)


def facts_of(*types: EventType) -> list[Fact]:
    return [Fact(key=f"{n:032x}", type=kind, at=BEGIN + timedelta(seconds=n)) for n, kind in enumerate(types)]


@given(some_facts, st.randoms(use_true_random=False))
def test_any_order_and_any_repetition_gives_one_state(found, random):
    shuffled = found + random.choices(found, k=len(found)) if found else []
    random.shuffle(shuffled)
    assert fold(shuffled) == fold(found)


@given(some_facts, some_facts, some_facts)
def test_merging_is_associative_and_commutative_and_has_a_neutral_state(one, two, three):
    everything = one_fact_per_key([*one, *two, *three])
    known = {fact.key: fact for fact in everything}
    a, b, c = (fold(known[fact.key] for fact in part) for part in (one, two, three))
    assert merge(merge(a, b), c) == merge(a, merge(b, c))
    assert merge(a, b) == merge(b, a)
    assert merge(a, a) == a
    assert merge(a, State()) == a


@pytest.mark.parametrize(
    ("types", "expected"),
    [
        ((EventType.QUEUED, EventType.DELIVERED), Status.DELIVERED),
        ((EventType.DELIVERED, EventType.QUEUED), Status.DELIVERED),
        ((EventType.DELIVERED, EventType.DEFERRED), Status.DELIVERED),
        ((EventType.DELIVERED, EventType.BOUNCED), Status.BOUNCED),
        ((EventType.DEFERRED, EventType.SENT), Status.SENT),
        ((EventType.RATE_LIMITED,), Status.DEFERRED),
        ((EventType.OPENED,), Status.SENT),
        ((EventType.OPENED, EventType.QUEUED), Status.QUEUED),
        ((EventType.UNSUBSCRIBED, EventType.DELIVERED), Status.DELIVERED),
        ((EventType.INBOUND,), None),
        ((EventType.UNKNOWN, EventType.TEST), None),
    ],
)
def test_the_status_is_the_last_word_and_a_terminal_word_beats_any_other(types, expected):
    assert fold(facts_of(*types)).status is expected


def test_of_two_terminal_words_at_one_instant_the_later_in_the_list_of_statuses_wins():
    for lesser, greater in (("delivered", "rejected"), ("rejected", "failed"), ("failed", "bounced")):
        pair = [Fact(key=f"{n:032x}", type=EventType(kind), at=BEGIN) for n, kind in enumerate((greater, lesser))]
        assert fold(pair).status == greater
        assert RANKS[Status(lesser)] < RANKS[Status(greater)]


def test_an_event_without_a_usable_time_never_outranks_one_with():
    bounced, delivered = facts_of(EventType.BOUNCED, EventType.DELIVERED)
    assert fold([bounced, replace(delivered, timed=False)]).status is Status.BOUNCED
    assert fold([replace(bounced, timed=False), replace(delivered, timed=False)]).status is Status.DELIVERED
    queued, bounced = facts_of(EventType.QUEUED, EventType.BOUNCED)
    assert fold([queued, replace(bounced, timed=False)]).status is Status.BOUNCED


def test_a_late_delivery_does_not_undo_an_unsubscription():
    state = fold(facts_of(EventType.UNSUBSCRIBED, EventType.DELIVERED))
    assert state.unsubscribed
    assert state.status is Status.DELIVERED


def test_the_last_word_on_the_subscription_holds():
    assert not fold(facts_of(EventType.UNSUBSCRIBED, EventType.SUBSCRIBED)).unsubscribed
    assert fold(facts_of(EventType.SUBSCRIBED, EventType.UNSUBSCRIBED)).unsubscribed


def test_opens_are_counted_once_each():
    opened = facts_of(EventType.OPENED, EventType.OPENED)
    assert len(fold([*opened, *opened]).opens) == 2


def test_every_type_of_event_has_a_weight():
    assert set(STATUS_EFFECTS) == set(EventType)
    for kind in EventType:
        state_of(Fact(key="0" * 32, type=kind, at=BEGIN))
