"""Requests for load generators: distinct, signed in advance, as the bytes that go over the wire."""

import itertools
import random
from collections.abc import Iterator
from datetime import datetime, timedelta

from shared.vocabulary import EventType
from simulator.mail import Happening, make_message
from simulator.providers.mailchannels.webhooks import MailChannels

_LIFE = (EventType.QUEUED, EventType.DELIVERED, EventType.OPENED)
"""The events of every message, and so their number per message."""

_STEP = timedelta(seconds=2)


def happenings(count: int, *, seed: int, begin: datetime) -> Iterator[Happening]:
    """Generate distinct happenings, three to a message; those of one message come in order, far apart.

    A thousand messages are under way at a time, so that a message's events arrive in different requests.
    """
    rng = random.Random(seed)
    made = 0
    for first in itertools.count(step=1000):
        crowd = [
            make_message(
                rng,
                number,
                sender="billing@shop.example",
                recipients=(f"customer.{number}@post.example",),
                subject=f"Invoice {number}",
                submitted_at=begin,
            )
            for number in range(first, first + min(1000, count - made))
        ]
        for stage, kind in enumerate(_LIFE):
            for message in crowd:
                if made == count:
                    return
                yield Happening(kind=kind, at=begin + stage * _STEP, message=message, recipients=message.recipients)
                made += 1


def bodies(dialect: MailChannels, count: int, *, events: int = 1, seed: int = 1, begin: datetime) -> Iterator[bytes]:
    """Return this number of bodies with this number of events each."""
    stream = happenings(count * events, seed=seed, begin=begin)
    for _ in range(count):
        yield dialect.body(list(itertools.islice(stream, events)))


def requests(
    dialect: MailChannels,
    count: int,
    *,
    path: str,
    host: str,
    now: datetime,
    events: int = 1,
    seed: int = 1,
) -> Iterator[bytes]:
    """Build complete HTTP/1.1 requests, all signed at `now`: a receiver accepts them for 300 seconds.

    Another seed gives other messages, so runs that follow one another need not start from an empty database.
    """
    for body in bodies(dialect, count, events=events, seed=seed, begin=now - timedelta(hours=1)):
        yield raw_request(path, host, dialect.sign(body, now), body)


def raw_request(path: str, host: str, headers: dict[str, str], body: bytes) -> bytes:
    """Return a request as it goes over the wire; its connection stays open."""
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
