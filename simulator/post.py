"""Sends the requests of a play to a receiver, as its provider would."""

import heapq
import http.client
import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Condition, Thread
from urllib.parse import SplitResult, urlsplit

from simulator.dialects.base import Dialect, RetryRule
from simulator.staging import Answer, Posting

NO_ANSWER = 0
"""The status of an attempt that ended without a response."""

_TIMEOUT_SECONDS = 15.0


@dataclass(slots=True)
class Outcomes:
    """What came of sending. `surprises` are postings whose last answer was not as it should be."""

    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    """Seconds from sending to the end of the answer, one for each attempt."""
    surprises: list[tuple[Posting, int]] = field(default_factory=list)
    retries: int = 0
    seconds: float = 0.0

    def quantile(self, share: float) -> float:
        """The latency in seconds that this share of attempts stayed below; 0 if there were none."""
        ordered = sorted(self.latencies)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else 0.0


def send(
    postings: Iterable[Posting],
    dialect: Dialect,
    url: str,
    *,
    connections: int = 4,
    rate: float | None = None,
    retry: RetryRule | None = None,
    on_answer: Callable[[Posting, int], None] | None = None,
) -> Outcomes:
    """Sign each posting at the last moment and POST it to the url; with one connection, in their order.

    `rate` is how many to start in a second; without it, as fast as the answers allow. `on_answer` is called
    for each attempt, from the sending threads.
    """
    line = _Line(postings, rate, retry or RetryRule(), on_answer)
    address = urlsplit(url)
    started = time.monotonic()
    threads = [Thread(target=_work, args=(line, dialect, address), daemon=True) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    line.outcomes.seconds = time.monotonic() - started
    return line.outcomes


@dataclass(order=True, slots=True)
class _Job:
    due: float
    number: int
    posting: Posting = field(compare=False)
    failures: int = field(default=0, compare=False)


class _Line:
    """The postings that wait to be sent, for many threads to take from."""

    def __init__(
        self,
        postings: Iterable[Posting],
        rate: float | None,
        retry: RetryRule,
        on_answer: Callable[[Posting, int], None] | None,
    ) -> None:
        self.outcomes = Outcomes()
        self._retry = retry
        self._on_answer = on_answer
        started, step = time.monotonic(), 1 / rate if rate else 0.0
        self._fresh = (_Job(started + number * step, number, posting) for number, posting in enumerate(postings))
        self._waiting: list[_Job] = []
        self._in_flight = 0
        self._changed = Condition()

    def take(self) -> _Job | None:
        """The next job, when it is due; None when there will be no more."""
        with self._changed:
            while True:
                if not self._waiting:
                    self._waiting.extend(itertools.islice(self._fresh, 1))
                if not self._waiting and not self._in_flight:
                    self._changed.notify_all()
                    return None
                wait = self._waiting[0].due - time.monotonic() if self._waiting else None
                if wait is not None and wait <= 0:
                    self._in_flight += 1
                    return heapq.heappop(self._waiting)
                self._changed.wait(wait)

    def answered(self, job: _Job, status: int, seconds: float) -> None:
        """Count an attempt, and line the posting up again if its provider would."""
        refusal = job.posting.answer is Answer.REFUSED
        with self._changed:
            self._in_flight -= 1
            self.outcomes.statuses[status] += 1
            self.outcomes.latencies.append(seconds)
            if (status == http.client.OK) is refusal and not self._again(job, status):
                self.outcomes.surprises.append((job.posting, status))
            self._changed.notify_all()
        if self._on_answer:
            self._on_answer(job.posting, status)

    def _again(self, job: _Job, status: int) -> bool:
        delay = self._retry.next_delay(job.failures + 1, status)
        if delay is None or http.client.OK <= status < http.client.MULTIPLE_CHOICES:
            return False
        again = _Job(time.monotonic() + delay, job.number, job.posting, job.failures + 1)
        heapq.heappush(self._waiting, again)
        self.outcomes.retries += 1
        return True


def _work(line: _Line, dialect: Dialect, address: SplitResult) -> None:
    connection = _Connection(address)
    while job := line.take():
        headers, body = job.posting.request(dialect, datetime.now(UTC))
        started = time.monotonic()
        status = connection.post(body, headers)
        line.answered(job, status, time.monotonic() - started)
    connection.close()


class _Connection:
    """A keep-alive connection that opens itself again."""

    def __init__(self, address: SplitResult) -> None:
        kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
        self._http = kind(address.hostname or "", address.port, timeout=_TIMEOUT_SECONDS)
        self._path = address.path or "/"
        self._used = False

    def post(self, body: bytes, headers: dict[str, str]) -> int:
        """The status of the answer, or NO_ANSWER."""
        reused, self._used = self._used, True
        try:
            return self._attempt(body, headers)
        except (OSError, http.client.HTTPException):
            self.close()
        if not reused:
            return NO_ANSWER
        # A server may close an idle connection just as the next request is sent on it: that is no failure.
        return self.post(body, headers)

    def _attempt(self, body: bytes, headers: dict[str, str]) -> int:
        self._http.request("POST", self._path, body, headers)
        response = self._http.getresponse()
        response.read()
        return response.status

    def close(self) -> None:
        self._http.close()
        self._used = False
