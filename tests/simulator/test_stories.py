"""Stories end as declared, whatever happens to their events on the way."""

import random
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.messages import state
from shared.vocabulary import EventType
from simulator import stories
from simulator.mail import Message, make_message
from simulator.providers.registry import DIALECTS
from simulator.story import OPTIONAL, Story, Teller, fit, tellable

ALL_KINDS = frozenset(EventType)
TELLERS = list(stories.TELLERS)


def a_message(rng: random.Random) -> Message:
    return make_message(
        rng,
        1,
        sender="billing@shop.example",
        recipients=("a@customer.example", "b@customer.example", "c@customer.example"),
        subject="Invoice",
        submitted_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def a_story(teller: Teller, seed: int) -> Story:
    rng = random.Random(seed)
    return teller(a_message(rng), rng)


def fold(story: Story, recipient: str, order: list[int]) -> state.State:
    """What the events of one recipient, and those that name nobody, come to in this order."""
    facts = [
        state.Fact(key=str(index), type=event.kind, at=event.at)
        for index, event in enumerate(story.happenings)
        if recipient in event.recipients or not event.recipients
    ]
    return state.fold(facts[index % len(facts)] for index in order)


@given(st.sampled_from(TELLERS), st.integers(0, 99), st.data())
def test_a_story_folds_to_its_ending_in_any_order_and_repetition(
    teller: Teller, seed: int, data: st.DataObject
) -> None:
    story = a_story(teller, seed)
    every = list(range(len(story.happenings)))
    order = data.draw(st.permutations(every)) + data.draw(st.lists(st.sampled_from(every), max_size=5))
    for recipient, fate in story.fates.items():
        folded = fold(story, recipient, order)
        assert folded.status == fate.status
        assert bool(folded.opened_at) == fate.opened
        assert bool(folded.clicked_at) == fate.clicked
        assert bool(folded.complained_at) == fate.complained
        assert folded.unsubscribed == fate.unsubscribed


@pytest.mark.parametrize("teller", TELLERS)
@pytest.mark.parametrize("name", DIALECTS)
def test_leaving_out_what_a_provider_has_no_words_for_does_not_change_the_ending(name: str, teller: Teller) -> None:
    traits = DIALECTS[name].TRAITS
    if not tellable(teller, traits):
        return
    whole = a_story(teller, 1)
    fitted = fit(whole, traits)
    assert {event.kind for event in whole.happenings} - {event.kind for event in fitted.happenings} <= OPTIONAL
    for recipient, fate in fitted.fates.items():
        folded = fold(fitted, recipient, list(range(len(fitted.happenings))))
        assert folded.status == fate.status == whole.fates[recipient].status
        assert bool(folded.opened_at) == fate.opened


@pytest.mark.parametrize("teller", TELLERS)
def test_every_story_is_sent_by_some_provider(teller: Teller) -> None:
    assert any(tellable(teller, make.TRAITS) for make in DIALECTS.values())


def test_every_fate_belongs_to_a_recipient_of_the_message() -> None:
    for teller in TELLERS:
        story = a_story(teller, 1)
        assert story.message
        assert set(story.fates) <= set(story.message.recipients)


def test_a_provider_without_times_sends_no_story_that_depends_on_the_order() -> None:
    traits = DIALECTS["cloudmailin"].TRAITS
    assert not tellable(stories.bounce_after_delivery, traits)
    assert not tellable(stories.still_trying, traits)
    assert tellable(stories.different_fates, traits)


def test_the_same_seed_makes_the_same_story() -> None:
    for teller in TELLERS:
        assert a_story(teller, 7) == a_story(teller, 7)
