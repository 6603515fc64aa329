"""Sends the requests of a play to a receiver, as its provider would."""

import heapq
import http.client
import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from threading import Condition, Thread

from simulator.connection import Connection, Exchange
from simulator.deliveries import Delivery, DeliveryLog
from simulator.providers.base import Dialect, RetryRule
from simulator.staging import Answer, Posting

NO_ANSWER = 0
"""The status of an attempt that ended without a response."""


@dataclass(slots=True)
class Outcomes:
    """The outcome of sending. `surprises` are postings whose last response was not the expected one."""

    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    """Seconds from sending to the end of the answer, one for each attempt."""
    surprises: list[tuple[Posting, int]] = field(default_factory=list)
    retries: int = 0
    seconds: float = 0.0

    def quantile(self, share: float) -> float:
        """Return the latency in seconds that this share of attempts stayed below; 0 if there were none."""
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
    log: DeliveryLog | None = None,
) -> Outcomes:
    """Sign each posting at the last moment and POST it to the url; with one connection, in their order.

    `rate` is how many to start in a second; without it, as fast as the answers allow. `on_answer` is called
    for each attempt, from the sending threads. Into the `log` of the provider's account goes each attempt that
    is the provider's own; raises ValueError if nothing is enrolled at the url.
    """
    if log and log.webhook_of(url) is None:
        raise ValueError(f"No webhook is enrolled at {url}: a provider would not post there")
    line = _Line(postings, rate, retry or RetryRule(), on_answer, refused_with_200=dialect.TRAITS.refused_with_200)
    started = time.monotonic()
    threads = [Thread(target=_work, args=(line, dialect, url, log), daemon=True) for _ in range(connections)]
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
    delivery: Delivery | None = field(default=None, compare=False)
    """What the log has of the last attempt."""


class _Line:
    """The postings that wait to be sent, for many threads to take from."""

    def __init__(
        self,
        postings: Iterable[Posting],
        rate: float | None,
        retry: RetryRule,
        on_answer: Callable[[Posting, int], None] | None,
        *,
        refused_with_200: bool,
    ) -> None:
        self.outcomes = Outcomes()
        self._refused_with_200 = refused_with_200
        self._retry = retry
        self._on_answer = on_answer
        started, step = time.monotonic(), 1 / rate if rate else 0.0
        self._fresh = (_Job(started + number * step, number, posting) for number, posting in enumerate(postings))
        self._waiting: list[_Job] = []
        self._in_flight = 0
        self._changed = Condition()

    def take(self) -> _Job | None:
        """Return the next job, when it is due; None when there will be no more."""
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

    def answered(self, job: _Job, exchange: Exchange) -> None:
        """Count an attempt, and line the posting up again if its provider would."""
        refusal = job.posting.answer is Answer.REFUSED
        status = NO_ANSWER if exchange.status is None else exchange.status
        is_quiet = refusal and self._refused_with_200 and status == http.client.OK
        with self._changed:
            self._in_flight -= 1
            self.outcomes.statuses[status] += 1
            self.outcomes.latencies.append(exchange.seconds)
            if (status == http.client.OK) is refusal and not is_quiet and not self._again(job, exchange):
                self.outcomes.surprises.append((job.posting, status))
            self._changed.notify_all()
        if self._on_answer:
            self._on_answer(job.posting, status)

    def _again(self, job: _Job, exchange: Exchange) -> bool:
        delay = self._retry.next_delay(job.failures + 1, exchange.status or NO_ANSWER)
        if delay is None or exchange.succeeded:
            return False
        again = replace(job, due=time.monotonic() + delay, failures=job.failures + 1)
        heapq.heappush(self._waiting, again)
        self.outcomes.retries += 1
        return True


def _work(line: _Line, dialect: Dialect, url: str, log: DeliveryLog | None) -> None:
    connection = Connection(url)
    while job := line.take():
        now = datetime.now(UTC)
        request = job.posting.request(dialect, now)
        exchange = connection.post(request.body, request.headers)
        if log and not job.posting.forgery:
            job.delivery = log.record(
                url=url,
                request=request,
                events=job.posting.events,
                created_at=now,
                exchange=exchange,
                attempt=job.failures + 1,
                repeats=job.delivery,
            )
        line.answered(job, exchange)
    connection.close()
