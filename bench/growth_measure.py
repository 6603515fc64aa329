"""Measures Tidings on an empty and on a filled database, in turns."""

import contextlib
import itertools
import json
import os
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, LiteralString
from urllib.parse import urlencode

import psycopg

from bench import caller, growth_fill, load, sampling
from bench.audience import SHARED_BY, SUBSCRIPTIONS, Audience
from bench.caller import Answer, Caller
from bench.growth_fill import GrowthSide
from bench.processes import BenchError
from cli import embedded
from shared import ids
from shared.broker import DELIVER, TaskNotifier

ACCEPT, SINGLE, BODIES, DELIVERIES, CHECKS, LISTS, IDLE = (
    "accept",
    "single",
    "bodies",
    "deliver",
    "suppression",
    "lists",
    "idle",
)
MEASUREMENTS: Final = (ACCEPT, SINGLE, BODIES, DELIVERIES, CHECKS, LISTS, IDLE)
"""The names that `--only` takes."""

EVENTS_OF_BODY: Final = 100
_MAX_ACCEPTED_PER_SECOND: Final = 7_000
_MAX_PER_SECOND: Final = {SINGLE: 4_000, BODIES: 25_000}
_DELIVERIES_PER_SECOND: Final = 1_000
_CALLS: Final = 20  # of each list in a round
_LEAST_CALLS: Final = 5
_CHECKED_AT_ONCE: Final = 100
_IDLE_SECONDS: Final = 30.0
_SETTLE_SECONDS: Final = 15.0
_PATIENCE_SECONDS: Final = 900.0
_DELIVERY_TABLES: Final = "subscriptions, endpoint_health, deliveries, pending_deliveries, delivery_attempts"

FILTERED: Final = (
    *(f"/v1/messages?status={status}" for status in ("queued", "deferred", "delivered", "bounced", "rejected")),
    "/v1/messages?recipient={recipient}",
    "/v1/messages?sender=billing@shop3-1.example",
    "/v1/messages?sender=nobody@shop.example",
    "/v1/messages?smtp_id={smtp_id}",
    "/v1/messages?source=bench-07&status=bounced",
    "/v1/messages?q={recipient}",
    "/v1/messages?q={half}",
    "/v1/messages?q={smtp_id}",
    "/v1/messages?q=domain17.example",
    "/v1/messages?q=nobody@nowhere.example",
    "/v1/messages?q=invoice%2017",
    "/v1/messages?domain=domain17.example",
    "/v1/messages?type=complained",
    "/v1/events?type=bounced",
    "/v1/events?type=unknown",
    "/v1/events?recipient={recipient}",
    "/v1/stats/series?measure=events&by=type&bucket=hour",
    "/v1/stats/series?measure=delivered&bucket=day",
)
"""Lists with a filter, beside those that the API's document names."""

PAGES: Final = (
    "/", "/?span=24h", "/?span=7d", "/messages", "/messages?status=bounced", "/messages?source=bench-07&status=bounced",
    "/messages?type=complained", "/messages?since=1h", "/messages?recipient={recipient}", "/messages/{message}",
    "/events", "/events?type=bounced", "/events?recipient={recipient}", "/events/{event}",
    "/suppressions", "/suppressions?domain=domain17.example", "/suppressions?reason=hard_bounce",
    "/suppressions?active=any", "/suppressions/{recipient}", "/suppression-files",
    "/sources", "/sources/new?provider=ark", "/sources/bench-01",
    "/receipts", "/receipts?source=bench-07", "/receipts/{receipt}", "/refusals", "/refusals?source=bench-01",
    "/subscriptions", "/subscriptions/{subscription}",
    "/deliveries", "/deliveries?status=dead", "/deliveries?subscription={subscription}&status=dead",
    "/deliveries?type=message.bounced", "/deliveries?since=24h", "/deliveries/{delivery}",
    "/alerts", "/alerts/rules", "/alerts/channels", "/jobs", "/keys", "/users", "/audit", "/status",
)  # fmt: skip
"""The pages of the console, and lists with filters."""

SEARCHES: Final = (
    "/messages?q={recipient}",
    "/messages?q={half}",
    "/messages?q={smtp_id}",
    "/messages?q=domain17.example",
    "/messages?q=nobody@nowhere.example",
    "/messages?q=invoice%2017",
    "/suppressions?q={recipient}",
)
"""The searches of the console."""

NO_LISTS: Final = frozenset({"/v1/diagnosis", "/v1/stats/series", "/v1/messages/export"})
"""The first two answer only with a parameter: the id of a message, or a measure. The last one sends all messages."""


@dataclass(slots=True, kw_only=True)
class Measured:
    """What was measured on one database: numbers by name, one for each round, and milliseconds by list and page."""

    numbers: dict[str, list[float]] = field(default_factory=dict)
    lists: dict[str, list[float]] = field(default_factory=dict)
    pages: dict[str, list[float]] = field(default_factory=dict)
    memory: dict[str, float] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def add(self, name: str, value: float) -> None:
        """Add the number of another round."""
        self.numbers.setdefault(name, []).append(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The counters at a moment.

    Of the server: bytes of WAL, and full-page images in it. Of the database: pages read or found in memory, and bytes.
    """

    wal: int
    images: int
    read: int
    hit: int
    size: int


def read_counters(connection: psycopg.Connection) -> Reading:
    """Read the counters, after the other processes have had the time to report theirs."""
    time.sleep(1.2)
    connection.execute("SELECT pg_stat_force_next_flush()")
    row = connection.execute(
        "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint, wal_fpi, blks_read, blks_hit, pg_database_size(datname)"
        " FROM pg_stat_wal, pg_stat_database WHERE datname = current_database()"
    ).fetchone()
    if row is None:
        raise BenchError("PostgreSQL has no statistics of the database")
    return Reading(wal=row[0], images=row[1], read=row[2], hit=row[3], size=row[4])


def accept_and_process(
    sides: Sequence[GrowthSide], found: Sequence[Measured], mix: str, kind: str, seconds: float, number: int
) -> None:
    """On each database, in turn: fill the queue through the receiver, then time the workers alone.

    The empty one, the first of `sides`, is emptied before.
    """
    events = 1 if kind == SINGLE else EVENTS_OF_BODY
    count = int(_MAX_ACCEPTED_PER_SECOND * seconds) if kind == SINGLE else int(_MAX_PER_SECOND[kind] * seconds / events)
    # Other events than those of an earlier run on the same databases.
    requests, _ = growth_fill.make_requests(mix, count, events=events, seed=time.time_ns())
    for side, measured in in_turn(sides, found, number):
        if side is sides[0]:
            side.clear()
        side.start_receiver()
        with side.connect() as connection:
            before = read_counters(connection)
        begin = datetime.now(UTC)
        # As long as it takes, where the rate of accepting is not what is measured.
        limit = seconds if kind == SINGLE else None
        outcome = load.run(side.address, requests, connections=side.connections, seconds=limit)
        if set(outcome.statuses) != {200}:
            measured.wrong.append(f"{kind}, {side.name}: answers were {dict(outcome.statuses)}")
        if kind == SINGLE:
            measured.add("accepted", outcome.rate)
            measured.add("p99 of the answer", outcome.percentile(0.99) * 1000)
            with side.connect() as connection:
                after = read_counters(connection)
            measured.add("accepted WAL", (after.wal - before.wal) / outcome.accepted)
            measured.add("accepted images", (after.images - before.images) / outcome.accepted)
        note_memory(side, measured, "receiver")
        side.processes.stop()
        drain(side, measured, kind, begin)


def drain(side: GrowthSide, measured: Measured, kind: str, begin: datetime) -> None:
    """Have the workers process what waits, with nothing else running.

    The rate is that between the moments when nine tenths and a twentieth of the receipts wait.
    """
    with side.connect() as connection:
        waiting = count_pending(connection)
        before = read_counters(connection)
        samples: list[tuple[float, int]] = []
        try:
            side.start("worker")
            deadline = time.monotonic() + _PATIENCE_SECONDS
            while not samples or samples[-1][1]:
                if time.monotonic() > deadline:
                    raise BenchError(f"{side.name}: {samples[-1][1]} of {waiting} receipts still wait")
                samples.append((time.perf_counter(), count_pending(connection)))
                time.sleep(0.1)
            note_memory(side, measured, "worker")
        finally:
            side.processes.stop()
        after = read_counters(connection)
        row = connection.execute("SELECT count(*) FROM events WHERE id >= %s", [ids.first_at(begin)]).fetchone()
        events = int(row[0]) if row else 0
        parked = connection.execute(
            "SELECT count(*) FROM parked_receipts WHERE receipt_id >= %s", [ids.first_at(begin)]
        ).fetchone()
    if parked != (0,) or not events:
        measured.wrong.append(f"{kind}, {side.name}: of {waiting} receipts {parked} were parked, with {events} events")
        return
    inside = [sample for sample in samples if 0.05 * waiting <= sample[1] <= 0.9 * waiting] or samples[-2:]
    (first_at, first), (last_at, last) = inside[0], inside[-1]
    if last_at > first_at and first > last:
        measured.add(f"{kind} processed", (first - last) / (last_at - first_at) * events / waiting)
    measured.add(f"{kind} WAL", (after.wal - before.wal) / events)
    measured.add(f"{kind} images", (after.images - before.images) / events)
    measured.add(f"{kind} growth", (after.size - before.size) / events)
    measured.add(f"{kind} pages read", (after.read - before.read) / events)
    measured.add(f"{kind} pages hit", (after.hit - before.hit) / events)


def deliver(side: GrowthSide, measured: Measured, seconds: float) -> None:
    """Deliver changes to a thousand subscriptions, ten times each."""
    deliveries = int(_DELIVERIES_PER_SECOND * seconds)
    audience = Audience(side)
    notifier = TaskNotifier(side.place.broker_url)
    try:
        with side.connect() as connection:
            audience.gather(connection)
            connection.execute("UPDATE fan_out SET transaction = log_horizon(), id = 0")
            side.start("deliverer")
            tags = [f"ten-{number}" for number in range(SUBSCRIPTIONS // SHARED_BY)]
            audience.log(connection, tags)
            notifier.notify(DELIVER)
            audience.wait_for(SUBSCRIPTIONS, _PATIENCE_SECONDS)
            wanted = list(itertools.islice(itertools.cycle(tags), deliveries // SHARED_BY))
            begin = time.perf_counter()
            audience.log(connection, wanted)
            notifier.notify(DELIVER)
            audience.wait_for(len(wanted) * SHARED_BY, _PATIENCE_SECONDS)
            measured.add("delivered", len(wanted) * SHARED_BY / (time.perf_counter() - begin))
            note_memory(side, measured, "deliverer")
    finally:
        notifier.close()
        side.processes.stop()
        with side.connect() as connection:
            connection.execute(f"TRUNCATE {_DELIVERY_TABLES}".encode())


@contextlib.contextmanager
def api_running(side: GrowthSide) -> Iterator[Caller]:
    """Run the API alone; the connection on which to call it."""
    side.start("api")
    try:
        side.processes.wait_until(lambda: side.place.api.answers("/healthz"), f"{side.name}-api")
        with Caller((side.place.api.host, side.place.api.port)) as connected:
            yield connected
    finally:
        side.processes.stop()


def check_suppressions(side: GrowthSide, measured: Measured, seconds: float) -> None:
    """Ask for one address at a time, and for a hundred."""
    rng = random.Random(7)
    with api_running(side) as api:
        for size, name in ((1, "one address"), (_CHECKED_AT_ONCE, f"{_CHECKED_AT_ONCE} addresses")):
            taken = []
            until = time.monotonic() + seconds / 4
            for number in itertools.count():
                addresses = [f"customer.{rng.randrange(10**9)}@domain{rng.randrange(200)}.example" for _ in range(size)]
                answer = api.call(post(side, "/v1/suppressions/check", {"addresses": addresses}))
                if answer.status != 200:
                    raise BenchError(f"{side.name}: the suppression check was answered {answer.status}")
                if number >= 20:  # those before warm it up
                    taken.append(1000 * answer.seconds)
                    if time.monotonic() > until:
                        break
            measured.add(f"suppression check, {name}: median", load.percentile(taken, 0.5))
            measured.add(f"suppression check, {name}: p95", load.percentile(taken, 0.95))


def read_lists(side: GrowthSide, measured: Measured, seconds: float) -> None:
    """Read the first page of every list of the API, and of lists with filters; then the pages of the console.

    Messages are indexed before, which workers do all the time.
    """
    if side.name == "filled":
        growth_fill.furnish(side)
    growth_fill.index_messages(side)
    with side.connect() as connection:
        row = connection.execute(
            "SELECT s.recipient, m.smtp_id FROM recipient_states AS s JOIN messages AS m ON m.id = s.message_id"
            " WHERE s.recipient <> '' AND m.smtp_id IS NOT NULL LIMIT 1"
        ).fetchone()
        recipient, smtp_id = row or ("nobody@shop.example", "nothing@shop.example")
    with api_running(side) as api:
        document = json.loads(api.call(get(side, "/openapi.json")).body)
        paths = [
            path
            for path, methods in document["paths"].items()
            if "get" in methods and "{" not in path and "stream" not in path and path not in NO_LISTS
        ]
        for path in (*paths, *FILTERED):
            asked = path.format(recipient=recipient, smtp_id=smtp_id, half=recipient[3 : recipient.index("@") + 3])
            answers: list[Answer] = []
            until = time.monotonic() + seconds
            while len(answers) < _CALLS and (len(answers) < _LEAST_CALLS or time.monotonic() < until):
                answers.append(api.call(get(side, asked)))
            statuses = {answer.status for answer in answers}
            if statuses != {200}:
                measured.wrong.append(f"lists, {side.name}: GET {path} was answered {statuses}")
                continue
            measured.lists.setdefault(path, []).extend(1000 * answer.seconds for answer in answers)
        half = recipient[3 : recipient.index("@") + 3]
        visit_pages(side, api, measured, seconds, {"recipient": recipient, "smtp_id": smtp_id, "half": half})
        note_memory(side, measured, "api")


def visit_pages(side: GrowthSide, api: Caller, measured: Measured, seconds: float, places: dict[str, str]) -> None:
    """Visit the pages of the console and its searches, as the administrator; the time is that inside the server."""
    host = side.place.api.host
    signed_in = api.call(
        f"POST /console/login HTTP/1.1\r\nHost: {host}\r\nSec-Fetch-Site: same-origin\r\n".encode()
        + form({"key": side.place.admin_key})
    )
    cookie = signed_in.head.partition(b"et-cookie: ")[2].partition(b";")[0].decode()
    for name, path in (
        ("message", "/v1/messages?status=bounced"), ("event", "/v1/events"), ("receipt", "/v1/receipts"),
        ("subscription", "/v1/subscriptions"), ("delivery", "/v1/deliveries"),
    ):  # fmt: skip
        if items := json.loads(api.call(get(side, path)).body)["items"]:
            places[name] = items[0]["id"]
    for path in (*PAGES, *SEARCHES):
        try:
            target = f"/console{path.format(**places)}"
        except KeyError:
            continue  # the empty database has none
        request = f"GET {target} HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\nAccept-Encoding: gzip\r\n\r\n".encode()
        answers: list[Answer] = []
        until = time.monotonic() + seconds
        while len(answers) < _CALLS and (len(answers) < _LEAST_CALLS or time.monotonic() < until):
            answers.append(api.call(request))
        statuses = {answer.status for answer in answers}
        if not statuses <= {200, 303}:  # a search for an id leads straight to its page
            measured.wrong.append(f"pages, {side.name}: GET {target} was answered {statuses}")
            continue
        measured.pages.setdefault(path, []).extend(1000 * answer.seconds_inside for answer in answers)


def settle(side: GrowthSide) -> None:
    """Have the periodic tasks done that are due, and the receipts that an interrupted run left."""
    try:
        for name in ("worker", "deliverer", "beat"):
            side.start(name)
        time.sleep(_SETTLE_SECONDS)
        _wait_while(
            side,
            "SELECT 1 FROM pending_receipts UNION ALL"
            " SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND backend_type = 'client backend' AND state <> 'idle' AND xact_start < now() - interval '2 seconds'",
            "periodic tasks take",
        )
    finally:
        side.processes.stop()


def _wait_while(side: GrowthSide, query: LiteralString, what_takes: str) -> None:
    """Wait while the query finds a row. Raises BenchError after _PATIENCE_SECONDS."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    with side.connect() as connection:
        while connection.execute(query).fetchone():
            if time.monotonic() > deadline:
                raise BenchError(f"{side.name}: {what_takes} more than {_PATIENCE_SECONDS:.0f} s")
            time.sleep(1)


def rest(side: GrowthSide, measured: Measured, postgres: embedded.Postgres, redis: embedded.Redis) -> None:
    """Run all processes without work, and read their CPU and their memory. Autovacuum finishes before."""
    try:
        side.start_receiver()
        for name in ("worker", "deliverer", "beat", "api"):
            side.start(name)
        time.sleep(_IDLE_SECONDS)
        _wait_while(side, "SELECT 1 FROM pg_stat_activity WHERE backend_type = 'autovacuum worker'", "autovacuum takes")
        before, begin = sampling.cpu_seconds(system(side, postgres, redis)), time.perf_counter()
        time.sleep(_IDLE_SECONDS)
        pids = system(side, postgres, redis)
        used = sampling.used_between(before, sampling.cpu_seconds(pids)) / (time.perf_counter() - begin)
        measured.add("idle CPU", 100 * used)
        found = [memory for memory in map(memory_of, pids) if memory]
        measured.add("idle memory", sum(one.proportional or one.resident for one in found))
        measured.add("idle shared memory", sum(one.shared_memory for one in found))
    finally:
        side.processes.stop()


def system(side: GrowthSide, postgres: embedded.Postgres, redis: embedded.Redis) -> list[int]:
    """Return the process ids of the whole system."""
    own = [pid for name in side.processes.names() for pid in side.processes.pids(name)]
    return [*own, postgres.pid, *sampling.children(postgres.pid), redis.pid]


def note_memory(side: GrowthSide, measured: Measured, kind: str) -> None:
    """Note the resident memory of the largest process of a kind, in megabytes."""
    largest = max((sampling.memory(pid).resident for pid in side.pids(kind)), default=0.0)
    measured.memory[kind] = max(measured.memory.get(kind, 0.0), largest)


def memory_of(pid: int) -> sampling.Memory | None:
    """Return the memory of a process; None if it has ended."""
    try:
        return sampling.memory(pid)
    except OSError:
        return None


def count_pending(connection: psycopg.Connection) -> int:
    """Return the number of receipts that wait."""
    row = connection.execute("SELECT count(*) FROM pending_receipts").fetchone()
    return int(row[0]) if row else 0


def checkpoint(side: GrowthSide) -> None:
    """Have the server write all changed pages to the disk."""
    with side.connect() as connection:
        connection.execute("CHECKPOINT")


def in_turn(sides: Sequence[GrowthSide], found: Sequence[Measured], number: int) -> list[tuple[GrowthSide, Measured]]:
    """Return the sides with their results; each is first in half of the rounds."""
    pairs = list(zip(sides, found, strict=True))
    return pairs[::-1] if number % 2 else pairs


def get(side: GrowthSide, path: str) -> bytes:
    """Return a GET as it goes over the wire."""
    return caller.get(path, side.place.api.host, side.place.admin_key)


def post(side: GrowthSide, path: str, content: object) -> bytes:
    """Return a POST as it goes over the wire."""
    body = json.dumps(content).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {side.place.api.host}\r\nAuthorization: Bearer {side.place.admin_key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def form(fields: dict[str, str]) -> bytes:
    """Return the rest of a request with a form, from its content type on."""
    body = urlencode(fields).encode()
    head = f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def limit_memory(postgres: embedded.Postgres, limit: int) -> Path | None:
    """Limit the memory of the server and its page cache by a control group, where the system allows it.

    Returns the group, or None. What the server used before is not counted.
    """
    for root, file, controller in (
        (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory"),
        (Path("/sys/fs/cgroup"), "memory.max", ""),
    ):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, own = line.split(":", 2)
            if controllers != controller:
                continue
            group = root / own.lstrip("/") / f"tidings-growth-{os.getpid()}"
            try:
                group.mkdir()
                (group / file).write_text(str(limit))
                for pid in (postgres.pid, *sampling.children(postgres.pid)):
                    (group / "cgroup.procs").write_text(str(pid))
            except OSError:
                with contextlib.suppress(OSError):
                    group.rmdir()
                continue
            return group
    return None


def drop_cached(directory: Path) -> None:
    """Drop the files of a stopped server from the page cache, so that it begins with none of them in memory."""
    os.sync()
    for path in directory.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)
