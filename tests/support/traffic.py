"""What providers send, and how they go on about it: whatever is not answered with 200 is sent again."""

import http.client
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit
from uuid import UUID

from shared.vocabulary import EventType
from simulator import replies
from simulator.mail import Happening, make_message
from simulator.providers.base import QUERY, Dialect, Headers, make_request

NO_ANSWER = 0
DEADLY = b"deadly to every worker of tests.chaos.crashing_worker that reads it"
HUNGRY = b"for this one the workers of tests.chaos.crashing_worker allocate memory without end"
SLEEPY = b"for this one the workers of tests.chaos.crashing_worker stop, as if they were suspended"
_TIMEOUT_SECONDS = 60.0
_IDLE_SECONDS = 1.0
"""The receiver closes a connection that has been idle for three."""
_SEND_SECONDS = 120.0
"""After this time a body that was not acknowledged fails the test; its threads would keep the test process alive."""
_PAUSE_SECONDS = 0.05
_LONGEST_BODY = 6

_LIVES = (
    (EventType.QUEUED, EventType.DELIVERED, EventType.OPENED, EventType.OPENED, EventType.CLICKED),
    (EventType.QUEUED, EventType.DEFERRED, EventType.DEFERRED, EventType.BOUNCED),
    (EventType.QUEUED, EventType.DELIVERED, EventType.OPENED, EventType.UNSUBSCRIBED, EventType.COMPLAINED),
    (EventType.REJECTED,),
)


@dataclass(frozen=True, slots=True)
class Sent:
    """One answer: its status (NO_ANSWER for none), its headers by lower-case name, and how long it took."""

    status: int
    headers: Headers
    seconds: float
    receipt: UUID | None = None


@dataclass
class Acknowledged:
    """The responses to a run of webhooks. `receipts` are those of every 200, by body."""

    statuses: Counter[int] = field(default_factory=Counter)
    receipts: dict[bytes, set[UUID]] = field(default_factory=dict)
    slowest_seconds: float = 0.0

    @property
    def ids(self) -> set[UUID]:
        return {receipt for receipts in self.receipts.values() for receipt in receipts}


def happenings(messages: int, *, seed: int) -> list[Happening]:
    """Make the events of `messages` messages in random order, no two of one message at the same second."""
    rng = random.Random(seed)
    begin = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
    found = []
    for number in range(messages):
        message = make_message(
            rng,
            number,
            sender="billing@shop.example",
            recipients=(f"customer.{number}@post.example",),
            subject=f"Invoice {number}",
            submitted_at=begin,
        )
        for position, kind in enumerate(rng.choice(_LIVES)):
            found.append(
                Happening(
                    kind=kind,
                    at=begin + timedelta(seconds=7 * position),
                    message=message,
                    recipients=message.recipients,
                    reply=replies.NO_SUCH_USER if kind in (EventType.BOUNCED, EventType.DEFERRED) else None,
                    url="https://shop.example/" if kind is EventType.CLICKED else None,
                )
            )
    rng.shuffle(found)
    return found


def bodies(dialect: Dialect, events: Sequence[Happening], *, seed: int, repeats: float = 0.1) -> list[bytes]:
    """Put the happenings into bodies of a few; some are repeated in another body."""
    rng = random.Random(seed)
    found, first = [], 0
    while first < len(events):
        size = rng.randint(1, _LONGEST_BODY)
        batch = list(events[first : first + size])
        if rng.random() < repeats:
            batch.append(rng.choice(events))
        found.append(dialect.body(batch))
        first += size
    return found


def paced(bodies: Sequence[bytes], *, seconds: float, until: threading.Event | None = None) -> Iterator[bytes]:
    """Yield the bodies over `seconds` at least; the last tenth only after the event `until`."""
    began_at = time.monotonic()
    for number, body in enumerate(bodies):
        time.sleep(max(0.0, began_at + seconds * number / len(bodies) - time.monotonic()))
        if until and number >= len(bodies) * 9 // 10:
            assert until.wait(_SEND_SECONDS)
        yield body


class Provider:
    """Sends bodies to any of the receivers, signed just before."""

    def __init__(self, dialect: Dialect, urls: Sequence[str], *, seed: int = 1) -> None:
        self._dialect = dialect
        self._urls = urls
        self._seed = seed

    def post(self, body: bytes, headers: Headers | None = None) -> Sent:
        """Make one attempt, on a new connection."""
        connection = _Connection(self._urls[0])
        try:
            if headers is None:
                headers, body = make_request(self._dialect, body, datetime.now(UTC))
            return connection.post(body, headers)
        finally:
            connection.close()

    def send(
        self,
        bodies: Iterable[bytes],
        *,
        connections: int = 8,
        repeats: float = 0.0,
    ) -> Acknowledged:
        """Send each body until it is answered with 200, some (a share of `repeats`) once more after that.

        Raises TimeoutError for a body that is not answered with 200 in time.
        """
        line = _Line(bodies)
        done = Acknowledged()
        with ThreadPoolExecutor(connections) as pool:
            work = [
                pool.submit(self._work, line, done, random.Random(self._seed + number), repeats)
                for number in range(connections)
            ]
        for one in work:
            one.result()
        return done

    def _work(self, line: "_Line", done: Acknowledged, rng: random.Random, repeats: float) -> None:
        open_connections = {url: _Connection(url) for url in self._urls}
        while (body := line.take()) is not None:
            wanted = 1 + (rng.random() < repeats)
            give_up_at = time.monotonic() + _SEND_SECONDS
            while wanted:
                connection = open_connections[rng.choice(self._urls)]
                headers, sent_body = make_request(self._dialect, body, datetime.now(UTC))
                sent = connection.post(sent_body, headers)
                line.note(done, body, sent)
                if sent.status == http.client.OK:
                    wanted -= 1
                elif time.monotonic() > give_up_at:
                    raise TimeoutError(
                        f"not acknowledged in {_SEND_SECONDS:.0f} s, the last response was {sent.status}"
                    )
                else:
                    time.sleep(_PAUSE_SECONDS)
        for connection in open_connections.values():
            connection.close()


class _Line:
    def __init__(self, bodies: Iterable[bytes]) -> None:
        self._bodies = iter(bodies)
        self._lock = threading.Lock()

    def take(self) -> bytes | None:
        with self._lock:
            return next(self._bodies, None)

    def note(self, done: Acknowledged, body: bytes, sent: Sent) -> None:
        with self._lock:
            done.statuses[sent.status] += 1
            done.slowest_seconds = max(done.slowest_seconds, sent.seconds)
            if sent.receipt is not None:
                done.receipts.setdefault(body, set()).add(sent.receipt)


class _Connection:
    """A keep-alive connection that reconnects, also if the receiver has closed it while it was idle for seconds."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self._http = http.client.HTTPConnection(address.hostname or "", address.port, timeout=_TIMEOUT_SECONDS)
        self._path = address.path
        self._used_at = 0.0

    def post(self, body: bytes, headers: Headers) -> Sent:
        began_at = time.monotonic()
        was_idle = self._http.sock is not None and began_at - self._used_at > _IDLE_SECONDS
        try:
            others = {name: value for name, value in headers.items() if name != QUERY}
            path = f"{self._path}?{headers[QUERY]}" if QUERY in headers else self._path
            self._http.request("POST", path, body, others)
            response = self._http.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            if was_idle and isinstance(error, ConnectionError):
                return self.post(body, headers)
            return Sent(NO_ANSWER, {}, time.monotonic() - began_at)
        self._used_at = time.monotonic()
        found = {name.lower(): value for name, value in response.getheaders()}
        receipt = UUID(json.loads(answer)["receipt"]) if response.status == http.client.OK else None
        return Sent(response.status, found, time.monotonic() - began_at, receipt)

    def close(self) -> None:
        self._http.close()
