"""Requests signed ahead of time, on all cores, so that signing takes no time from what is measured.

The receiver accepts a signature for 300 seconds, and up to 30 seconds ahead of its clock, so signed requests must be
sent within the following minutes.
"""

import itertools
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from shared.errors import TidingsError
from simulator import load
from simulator.providers.mailchannels.webhooks import MailChannels

SLUG: Final = "bench"
_PATH: Final = f"/webhooks/{SLUG}"
_HOST: Final = "receiver.example"
_KEY_SEED: Final = 1
_EVENTS_OF_CHUNK: Final = 3000  # a thousand messages with all that happens to them
_AHEAD: Final = timedelta(seconds=25)
_LIFE: Final = timedelta(seconds=300)


class StaleError(TidingsError):
    """Requests that would be sent when their signatures have expired."""


def dialect() -> MailChannels:
    """Return the simulated provider; every process makes it with the same keys."""
    return MailChannels(seed=_KEY_SEED)


@dataclass(frozen=True, slots=True)
class Signed:
    """Requests as they are sent, and until when the receiver accepts them."""

    requests: list[bytes]
    until: datetime

    def for_seconds(self, seconds: float) -> list[bytes]:
        """Return the requests for a run of this length. Raises StaleError."""
        if datetime.now(UTC) + timedelta(seconds=seconds) > self.until:
            raise StaleError("the machine is too slow: signatures would expire within the run; use fewer --seconds")
        return self.requests


@dataclass(frozen=True, slots=True)
class _Chunk:
    count: int
    events: int
    seed: int
    signed_at: datetime


def sign(count: int, *, events: int = 1, seed: int) -> Signed:
    """Return this number of different requests with this number of events each, by seed."""
    signed_at = datetime.now(UTC) + _AHEAD
    chunks = list(_chunks(count, events, seed, signed_at))
    if len(chunks) == 1:
        return Signed(_make(chunks[0]), signed_at + _LIFE)
    # Spawned rather than forked, so that they inherit neither threads nor connections.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=context) as pool:
        made = list(itertools.chain.from_iterable(pool.map(_make, chunks)))
    return Signed(made, signed_at + _LIFE)


def one(seed: int) -> bytes:
    """Return a single request."""
    return sign(1, seed=seed).requests[0]


def _chunks(count: int, events: int, seed: int, signed_at: datetime) -> Iterator[_Chunk]:
    size = max(1, _EVENTS_OF_CHUNK // events)
    for number, first in enumerate(range(0, count, size)):
        yield _Chunk(min(size, count - first), events, seed * 1_000_000 + number, signed_at)


def _make(chunk: _Chunk) -> list[bytes]:
    made = load.requests(
        dialect(),
        chunk.count,
        path=_PATH,
        host=_HOST,
        now=chunk.signed_at,
        events=chunk.events,
        seed=chunk.seed,
    )
    return list(made)
