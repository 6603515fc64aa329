"""The traffic of a busy provider: recent events of many messages, most of them delivered."""

import itertools
import random
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from simulator import stories
from simulator.mail import Happening, make_message
from simulator.providers.mailchannels.webhooks import MailChannels
from simulator.story import Teller, fit

_STORIES: Final[Mapping[Teller, int]] = {
    stories.delivered: 600,
    stories.read: 250,
    stories.hard_bounce: 25,
    stories.soft_bounce_then_delivered: 60,
    stories.soft_bounces_then_failed: 10,
    stories.dropped: 10,
    stories.unsubscribe: 5,
    stories.complaint: 1,
}
"""Of a thousand messages, about: a sender in good standing."""

_SECONDS: Final = 5
_MESSAGES: Final = 2000  # under way at a time
_DOMAINS: Final = tuple(f"domain{number}.example" for number in range(200))


def bodies(dialect: MailChannels, count: int, *, events: int, seed: int, now: datetime) -> Iterator[bytes]:
    """Return bodies with this number of events each, from the seconds before `now`."""
    stream = _happenings(dialect, random.Random(seed), now)
    for _ in range(count):
        yield dialect.body(list(itertools.islice(stream, events)))


def _happenings(dialect: MailChannels, rng: random.Random, now: datetime) -> Iterator[Happening]:
    for first in itertools.count(step=_MESSAGES):
        crowd = [
            happening for number in range(first, first + _MESSAGES) for happening in _story(dialect, rng, number, now)
        ]
        rng.shuffle(crowd)
        yield from crowd


def _story(dialect: MailChannels, rng: random.Random, number: int, now: datetime) -> Iterator[Happening]:
    (teller,) = rng.choices(list(_STORIES), list(_STORIES.values()))
    message = make_message(
        rng,
        number,
        sender=f"billing@shop{number % 3}.example",
        recipients=(f"customer.{rng.randrange(10**9)}@{rng.choice(_DOMAINS)}",),
        subject=f"Invoice {number}",
        submitted_at=now,
    )
    for happening in fit(teller(message, rng), dialect.TRAITS).happenings:
        yield replace(happening, at=now - timedelta(seconds=rng.randrange(_SECONDS)))
