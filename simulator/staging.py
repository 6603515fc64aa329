"""Turns a scenario into requests that are ready to be signed, and the expected state of every message."""

import itertools
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from shared.vocabulary import EventType
from simulator import stories as repertoire
from simulator import story
from simulator.mail import Happening, Message, make_message
from simulator.providers.base import Dialect, Forgery, Signed, make_request
from simulator.scenarios import Scenario
from simulator.story import Fate, Story

_SPREAD_SECONDS = 20 * 3600
"""The messages of a play are submitted over this time; the longest story ends an hour or so later."""

_NAMES = (
    "maria",
    "jonas",
    "aiko",
    "pedro",
    "lena",
    "omar",
    "ines",
    "tomas",
    "nadia",
    "felix",
    "sara",
    "milan",
)
_DOMAINS = ("mail.example", "post.example", "web.example")


class Answer(StrEnum):
    """The expected outcome of a request."""

    TAKEN = "taken"
    KEPT_APART = "kept apart"
    """Answered with 200, and rejected later because no key matches."""
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Posting:
    """A request that is complete but for its signature, which has to be fresh."""

    body: bytes
    events: int
    key_id: str | None = None
    forgery: Forgery | None = None
    answer: Answer = Answer.TAKEN

    def request(self, dialect: Dialect, now: datetime) -> Signed:
        """Return the request as it is sent now."""
        if self.forgery:
            return dialect.forge(self.body, now, self.forgery)
        return make_request(dialect, self.body, now, self.key_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """The expected state of one recipient of one message."""

    story: str
    message: Message
    recipient: str
    fate: Fate


@dataclass(frozen=True, slots=True, kw_only=True)
class Play:
    """A scenario made ready for one provider.

    `strangers` are messages that only forged requests name: nothing may be known of them. `notices` counts the events
    that concern no message; `events` is the number of all events, one for each recipient, without repetitions.
    """

    postings: Sequence[Posting]
    expectations: Sequence[Expectation]
    strangers: Sequence[Message]
    notices: Mapping[EventType, int]
    events: int

    def count(self, answer: Answer) -> int:
        """Return the number of requests with this expected answer."""
        return sum(posting.answer is answer for posting in self.postings)


def stage(scenario: Scenario, dialect: Dialect, *, count: int, seed: int, now: datetime) -> Play:
    """Return the play of `count` messages, all of which were submitted within the day before `now`.

    Calls `dialect.rotate` where the scenario changes keys, so take its `credentials` afterwards. Raises
    ValueError if the provider cannot play the scenario.
    """
    rng = random.Random(seed)
    obstacle = scenario.obstacle(dialect.TRAITS)
    if obstacle:
        raise ValueError(f"{dialect.NAME} cannot play {scenario.name}: it {obstacle}")
    begin = now.replace(microsecond=0) - timedelta(days=1)
    stories = _tell(scenario, dialect, count, rng, begin)
    kinds = dialect.TRAITS.speaks if scenario.notices else frozenset()
    notices = [tell(begin) for kind, tell in repertoire.NOTICES.items() if kind in kinds]
    all_happenings = story.by_time(stories + notices)
    if dialect.TRAITS.one_recipient:
        all_happenings = [
            replace(happening, recipients=happening.recipients[number : number + 1])
            for happening in all_happenings
            for number in range(max(len(happening.recipients), 1))
        ]
    happenings = list(all_happenings)
    again = rng.sample(happenings, int(len(happenings) * scenario.repeats))
    if scenario.shuffled:
        happenings += again
        rng.shuffle(happenings)
    bodies = _make_bodies(scenario, dialect, happenings, rng)
    for body in rng.sample(bodies, int(len(bodies) * scenario.repeats)):
        bodies.insert(rng.randint(0, len(bodies)), body)
    postings = _with_keys(scenario, dialect, bodies)
    strangers: list[Message] = []
    if scenario.forgeries:
        strangers = [_message(number, 1, dialect, rng, begin) for number in range(count, count + 3)]
        postings = _with_forgeries(scenario, dialect, postings, stories, strangers, rng)
    return Play(
        postings=postings,
        expectations=[
            Expectation(story=one.name, message=one.message, recipient=recipient, fate=fate)
            for one in stories
            if one.message
            for recipient, fate in one.fates.items()
        ],
        strangers=strangers,
        notices=Counter(notice.happenings[0].kind for notice in notices),
        events=sum(max(len(happening.recipients), 1) for happening in all_happenings),
    )


def _tell(scenario: Scenario, dialect: Dialect, count: int, rng: random.Random, begin: datetime) -> list[Story]:
    tellers = [teller for teller in scenario.stories if story.tellable(teller, dialect.TRAITS)]
    weights = [scenario.stories[teller] for teller in tellers]
    # Each story once before chance decides, so that a few messages have them all.
    chosen = [*tellers, *rng.choices(tellers, weights, k=max(count - len(tellers), 0))][:count]
    stories = []
    for number, teller in enumerate(chosen):
        submitted_at = begin + timedelta(seconds=number * _SPREAD_SECONDS // count)
        message = _message(number, repertoire.RECIPIENTS.get(teller, 1), dialect, rng, submitted_at)
        stories.append(story.fit(teller(message, rng), dialect.TRAITS))
    return stories


def _message(number: int, recipients: int, dialect: Dialect, rng: random.Random, submitted_at: datetime) -> Message:
    numbers = range(10 * number, 10 * number + recipients)
    people = [f"{_NAMES[(n // 10 + n) % len(_NAMES)]}.{n}@{_DOMAINS[n % len(_DOMAINS)]}" for n in numbers]
    inbound = _inbound(dialect)
    return make_message(
        rng,
        number,
        sender=people[0] if inbound else "billing@shop.example",
        recipients=("orders@in.example",) if inbound else tuple(people),
        subject=f"Order {number}" if inbound else f"Invoice {2000 + number}",
        submitted_at=submitted_at,
        tag="invoices" if number % 2 else None,
    )


def _make_bodies(
    scenario: Scenario, dialect: Dialect, happenings: Sequence[Happening], rng: random.Random
) -> list[tuple[bytes, int]]:
    """Return the bodies, each with the number of its events."""
    least, most = (min(size, dialect.TRAITS.events_per_body) for size in scenario.bodies)
    rest = iter(happenings)
    bodies = []
    while batch := list(itertools.islice(rest, rng.randint(least, most))):
        bodies.append((dialect.body(batch), len(batch)))
    return bodies


def _with_keys(scenario: Scenario, dialect: Dialect, bodies: Sequence[tuple[bytes, int]]) -> list[Posting]:
    points = scenario.new_keys if dialect.TRAITS.rotates else ()
    changes = [int(point * len(bodies)) for point in points]
    postings = []
    for index, (body, events) in enumerate(bodies):
        for _ in range(changes.count(index)):
            dialect.rotate()
        postings.append(Posting(body=body, events=events, key_id=dialect.key_id))
    return postings


def _with_forgeries(
    scenario: Scenario,
    dialect: Dialect,
    postings: list[Posting],
    stories: Sequence[Story],
    strangers: Sequence[Message],
    rng: random.Random,
) -> list[Posting]:
    kinds = sorted(scenario.forgeries & dialect.TRAITS.forgeries)
    wanted = max(len(kinds), int(len(postings) * scenario.forged))
    for forgery in itertools.islice(itertools.cycle(kinds), wanted):
        # Half of them would change what is known of a message; the others would make one up.
        message = rng.choice(strangers if rng.random() < 0.5 else [one.message for one in stories if one.message])
        if _inbound(dialect):
            message = rng.choice(strangers)
        lie = Happening(
            kind=EventType.INBOUND if _inbound(dialect) else EventType.BOUNCED,
            # A bounce after everything else would decide the state of the message, were it believed.
            at=message.submitted_at + timedelta(hours=3),
            message=message,
            recipients=message.recipients[:1],
        )
        answer = Answer.REFUSED
        if forgery is Forgery.FOREIGN:
            answer = Answer.TAKEN  # the provider did sign it, but it must have no effect
        elif forgery is Forgery.UNKNOWN_KEY and dialect.TRAITS.publishes_keys:
            answer = Answer.KEPT_APART
        posting = Posting(body=dialect.body([lie]), events=1, forgery=forgery, answer=answer)
        postings.insert(rng.randint(0, len(postings)), posting)
    return postings


def _inbound(dialect: Dialect) -> bool:
    return dialect.TRAITS.speaks == {EventType.INBOUND}
