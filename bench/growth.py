"""`python -m bench.growth`: fill a database, measure it beside an empty one, print, write GROWTH.md."""

import argparse
import json
import os
import secrets
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any, Final, Self

import psycopg
from psycopg import sql

from bench import growth_fill, growth_measure, load, machine
from bench.figures import Figure, shown, summary
from bench.growth_fill import GrowthSide
from bench.growth_measure import MEASUREMENTS, Measured
from bench.processes import Processes
from bench.sides import Place
from cli import embedded
from cli.embedded.postgresql import memory_bytes, size_settings
from cli.supervisor import ports
from cli.supervisor.data_dir import keep_secret
from cli.supervisor.ports import Address
from cli.supervisor.watchdog import Watchdog
from shared.encryption import new_key
from shared.errors import TidingsError

PAGE: Final = Path(__file__).parent / "GROWTH.md"
HOST: Final = "127.0.0.1"
DATABASES: Final = ("empty", "filled")
FACTS_FILE: Final = "filled.json"
MIB: Final = 1024**2
LEAST_LIMIT: Final = 256 * MIB  # with less, PostgreSQL could not start

TARGETS: Final[Mapping[str, dict[str, float]]] = {
    "accepted": {"at_least_times": 0.95},
    "single processed": {"at_least_times": 0.87},
    "bodies processed": {"at_least_times": 0.87},
    "single WAL": {"at_most": 1500},
    "bodies WAL": {"at_most": 1500},
    "idle CPU": {"at_most": 2},
    "idle memory": {"at_most": 600},
}
LIST_P95_MS: Final = 200
SEARCH_P95_MS: Final = 300
BYTES_PER_EVENT: Final = 700

NAMES: Final[Mapping[str, tuple[str, str]]] = {
    "accepted": ("accepted, single events", "requests/s"),
    "p99 of the answer": ("p99 of the answer while accepting that", "ms"),
    "accepted WAL": ("WAL of a request", "bytes"),
    "accepted images": ("full-page images in it", "images"),
    "single processed": ("processed from receipt to state, single events", "events/s"),
    "single WAL": ("WAL of an event, single events", "bytes"),
    "single images": ("full-page images in it, single events", "images"),
    "single growth": ("growth of the disk by processing an event, single events", "bytes"),
    "single pages read": ("pages read for an event, single events", "pages"),
    "single pages hit": ("pages found in memory for an event, single events", "pages"),
    "bodies processed": (f"processed from receipt to state, bodies of {growth_measure.EVENTS_OF_BODY}", "events/s"),
    "bodies WAL": ("WAL of an event, bodies of 100", "bytes"),
    "bodies images": ("full-page images in it, bodies of 100", "images"),
    "bodies growth": ("growth of the disk by processing an event, bodies of 100", "bytes"),
    "bodies pages read": ("pages read for an event, bodies of 100", "pages"),
    "bodies pages hit": ("pages found in memory for an event, bodies of 100", "pages"),
    "delivered": ("deliveries to 1,000 subscriptions", "deliveries/s"),
    "idle CPU": ("CPU of the whole idle system", "% of a core"),
    "idle memory": ("memory of the whole idle system, proportional", "MB"),
    "idle shared memory": ("of which PostgreSQL's shared memory, with the buffers that were used before", "MB"),
}

OTHERS: Final = {
    growth_measure.DELIVERIES: growth_measure.deliver,
    growth_measure.CHECKS: growth_measure.check_suppressions,
    growth_measure.LISTS: growth_measure.read_lists,
}
"""What is measured after all rounds of receiving and processing."""

METHOD: Final = """\
- The history is what the running system wrote for a sample: the receiver accepts signed requests with one event each,
  and the workers process them. The rows of the sample are copied many times, each time with other ids, keys, recipients
  and times, with all indexes in place. The times within the sample are stretched, so that the copies cover 60 days
  without gaps. Rows are inserted in the order of time, as at two events a second. 20 sources.
- Maintenance runs after each day of the history: counters by minute become counters by hour and by day, soft bounces
  older than 44 days are deleted, and so are keys of webhooks, which expire after 30 days. Retention is 90 days, so all
  webhooks, all events and the keys of all events stay.
- *realistic*: 1.18 recipients a message on the average, 3.5 events for each. *harsh*: each event has a message of its
  own; memory for the database, its page cache included, is limited to a quarter of its size.
- Both databases are on one server with the settings of the embedded server, and are measured in turns. The empty one is
  emptied before each measurement. A round that does not count warms both up, after a checkpoint: single events for
  30 s (`--warm-up`). So the WAL has the full-page images of pages that were not changed since, as between the
  checkpoints of a system under load.
- *accepted*: closed loop, workers stopped. *processed*: the receipts that wait are processed by the workers with
  nothing else running. The rate is that between the moments when nine tenths and a twentieth of them wait.
- *pages read*: 8 KiB pages that PostgreSQL did not have in `shared_buffers`; the system's page cache may have them.
- *lists and pages*: the filled database has, besides, a delivery with an attempt and a suppression for each message, a
  million at most, and a refusal for every hundredth. One request at a time.
- *idle*: all processes of the Procfile, PostgreSQL and Redis, for 30 s, at least 30 s after their start and once no
  autovacuum runs.

What is approximated:

- The copies have the last state of each row. Dead rows and the pages that updates leave half empty are not in the sizes
  of the filled database; the growth by the measured events contains them. A state of a recipient becomes longer with
  its events; the copies are as long as the last one from the beginning.
- Text in `data`, `provider_object` and raw bodies is the same in all copies. Nothing that is measured reads it by
  content.
- The ids of messages do not follow from the ids of the provider in the copies, so the measured events belong to new
  messages. Events that come days after the others of their message are not measured.
- Counters by minute are fewer than the sample's rows times the copies: those of one minute are one row."""


class Ground:
    """A server with both databases, in a directory; a context manager that stops all at the end."""

    def __init__(self, directory: Path, settings: Mapping[str, str], *, workers: int = 2) -> None:
        self.directory = directory
        self.settings = settings
        self.workers = workers
        self.stack = ExitStack()
        self.postgres: embedded.Postgres
        self.redis: embedded.Redis
        self.sides: tuple[GrowthSide, GrowthSide]

    def __enter__(self) -> Self:
        try:
            watchdog = self.stack.enter_context(Watchdog())
            self.postgres = embedded.postgres(self.directory / "postgres", watchdog=watchdog, settings=self.settings)
            self.stack.callback(self.postgres.stop, timeout_seconds=600)
            self.postgres.start()
            self.redis = self.stack.enter_context(embedded.redis(self.directory / "redis", watchdog=watchdog))
            empty, filled = (self.make_side(name, number, watchdog) for number, name in enumerate(DATABASES))
            self.sides = empty, filled
        except BaseException:
            self.stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def make_side(self, name: str, number: int, watchdog: Watchdog) -> GrowthSide:
        """Create the database if it is missing, and return the side on it."""
        with psycopg.connect(self.postgres.url, autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        place = Place(
            database_url=self.postgres.url_of(name),
            broker_url=f"{self.redis.url.rpartition('/')[0]}/{number}",
            secret_key=keep_secret(self.directory / "key", new_key),
            receiver=Address(host=HOST, port=ports.free_port(HOST)),
            api=Address(host=HOST, port=ports.free_port(HOST)),
            admin_key=secrets.token_urlsafe(24),
        )
        logs = self.directory / "logs"
        logs.mkdir(exist_ok=True)
        environment = {
            **place.environment(),
            "TIDINGS_RETENTION_DAYS": str(growth_fill.RETENTION.days),
            "TIDINGS_WORKER_PROCESSES": str(self.workers),
        }
        processes = Processes(logs, environment, watchdog)
        self.stack.callback(processes.stop)
        side = GrowthSide(name, place, processes)
        self.stack.callback(side.close)
        return side


def main(arguments: Sequence[str] | None = None) -> int:
    """Fill, measure, print and write; 0 unless something was wrong. A missed target is not an error."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    if options.fill_only and not options.data:
        parser.error("--fill-only needs --data: otherwise the databases are removed at the end")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    mixes = list(growth_fill.MIXES) if options.mix == "both" else [options.mix]
    parts, wrong, facts = [], [], {}
    try:
        for mix in mixes:
            with directory_of(options.data, mix, options.events) as directory:
                filled = fill(directory, mix, options.events)
                if options.fill_only:
                    continue
                settings, limit = settings_for(options, mix, filled)
                if limit:
                    growth_measure.drop_cached(directory)
                with Ground(directory, settings, workers=options.workers) as ground:
                    facts = machine.facts(ground.postgres.url, ground.redis.url, directory)
                    found, remark = measure(ground, mix, options, limit)
                parts.append(section(mix, filled, found, remark, settings))
                wrong += [f"{mix}: {doubt}" for one in found for doubt in one.wrong]
    except KeyboardInterrupt:
        print("interrupted; everything is stopped")
        return 130
    except TidingsError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    if options.fill_only:
        return 0
    page = "\n\n".join([head(command(options), facts, wrong), *parts]) + "\n"
    print(page)
    # A partial run must not replace the published page.
    output = options.output or (None if options.only or options.events < DEFAULT_EVENTS else PAGE)
    if output:
        output.write_text(page)
        print(f"written to {output}")
    return 1 if wrong else 0


@contextmanager
def directory_of(data: Path | None, mix: str, events: int) -> Iterator[Path]:
    """Return the directory with the databases of a mix; one that is not kept is removed at the end."""
    if data:
        directory = data.absolute() / f"{mix}-{events}"
        directory.mkdir(parents=True, exist_ok=True, mode=0o711)
        yield directory
        return
    directory = Path(tempfile.mkdtemp(prefix="tidings-growth-"))
    try:
        directory.chmod(0o711)  # PostgreSQL may run as another user
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def fill(directory: Path, mix: str, events: int) -> dict[str, Any]:
    """Fill the database unless this directory has one that is filled; return what it contained then."""
    facts = directory / FACTS_FILE
    if facts.exists():
        content: dict[str, Any] = json.loads(facts.read_text())
        return content
    print(f"{mix}: filling the database with {events:,} events", flush=True)
    with Ground(directory, growth_fill.FILL_SETTINGS) as ground:
        content = growth_fill.fill(*ground.sides, mix, events, datetime.now(UTC))
        with ground.sides[1].connect() as connection:
            content["sizes"] = growth_fill.list_sizes(connection)
            row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
            content["bytes"] = row[0] if row else 0
        ground.sides[0].clear()
    os.sync()
    facts.write_text(json.dumps(content, indent=1))
    print(f"{mix}: filled in {content['seconds']} s, {content['bytes'] / MIB:,.0f} MiB", flush=True)
    return content


def settings_for(options: argparse.Namespace, mix: str, filled: Mapping[str, Any]) -> tuple[dict[str, str], int | None]:
    """Return the settings of the measured server, and the limit of its memory in bytes, if there is one."""
    is_limited = mix == "harsh" if options.memory_quarter is None else options.memory_quarter
    limit = max(LEAST_LIMIT, filled["bytes"] // 4) if is_limited else None
    # The limit is for the server alone, for which docs/performance.md takes twice as much.
    return size_settings(2 * limit if limit else memory_bytes()), limit


def measure(
    ground: Ground, mix: str, options: argparse.Namespace, limit: int | None
) -> tuple[tuple[Measured, Measured], str]:
    """Measure both databases in turns; return the results and a sentence about the memory."""
    remark = "Memory is not limited."
    if limit and (group := growth_measure.limit_memory(ground.postgres, limit)):
        ground.stack.callback(remove_group, ground.postgres, group)
        remark = f"A control group limits the server and its page cache to {limit / MIB:,.0f} MiB."
    elif limit:
        remark = "No control group could be made: `shared_buffers` is limited, and the system's page cache is not."
    for side in ground.sides:
        say(mix, "periodic tasks", side.name)
        growth_measure.settle(side)
    growth_measure.checkpoint(ground.sides[0])
    # After a start nothing is in memory, and after a checkpoint each page goes to the WAL as a whole once. What counts
    # is how a system performs that has run for a while.
    process(ground.sides, (Measured(), Measured()), mix, options, 0, is_warm_up=True)
    found = (Measured(), Measured())
    for number in range(options.rounds):
        process(ground.sides, found, mix, options, number)
    # Afterwards, because what the lists need is so much WAL that checkpoints follow.
    for name, run in OTHERS.items():
        for number in range(options.rounds if name in (options.only or MEASUREMENTS) else 0):
            for side, measured in growth_measure.in_turn(ground.sides, found, number):
                say(mix, f"round {number + 1}", f"{name}, {side.name}")
                run(side, measured, options.seconds)
    if growth_measure.IDLE in (options.only or MEASUREMENTS):
        for side, measured in zip(ground.sides, found, strict=True):
            say(mix, "idle", side.name)
            growth_measure.rest(side, measured, ground.postgres, ground.redis)
    return found, remark


def process(
    sides: Sequence[GrowthSide],
    found: Sequence[Measured],
    mix: str,
    options: argparse.Namespace,
    number: int,
    *,
    is_warm_up: bool = False,
) -> None:
    """Measure once on each database what the receiver and the workers do."""
    chosen = set(options.only or MEASUREMENTS)
    for kind in (growth_measure.SINGLE, growth_measure.BODIES):
        # What is accepted is then processed.
        if kind in chosen or (kind == growth_measure.SINGLE and growth_measure.ACCEPT in chosen):
            say(mix, "warm-up" if is_warm_up else f"round {number + 1}", kind)
            seconds = options.warm_up if is_warm_up and kind == growth_measure.SINGLE else options.seconds
            growth_measure.accept_and_process(sides, found, mix, kind, seconds, number)


def say(*words: str) -> None:
    """Show how far the run is."""
    print(f"{datetime.now(UTC):%H:%M:%S} {', '.join(words)}", flush=True)


def remove_group(postgres: embedded.Postgres, group: Path) -> None:
    """Stop the server, and remove its control group."""
    postgres.stop(timeout_seconds=600)
    group.rmdir()


def section(
    mix: str, filled: Mapping[str, Any], found: Sequence[Measured], remark: str, settings: Mapping[str, str]
) -> str:
    """Return the part of the page about a mix."""
    empty, full = found
    figures = [
        Figure(
            what=NAMES.get(name, (name, "ms"))[0],
            unit=NAMES.get(name, (name, "ms"))[1],
            tidings=values,
            usual=empty.numbers.get(name, ()),
            **TARGETS.get(name, {}),
        )
        for name, values in full.numbers.items()
    ]
    memory = [
        (kind, shown(empty.memory[kind]) if kind in empty.memory else "", shown(value))
        for kind, value in full.memory.items()
    ]
    per_event = filled["bytes"] / filled["events"]
    disk = (
        f"Disk: {per_event:,.0f} bytes for an event in all, raw body included; target ≤ {BYTES_PER_EVENT}:"
        f" {'pass' if per_event <= BYTES_PER_EVENT else 'fail'}."
    )
    content = (
        f"{filled['events']:,} events of {filled['messages']:,} messages, {filled['bytes'] / MIB:,.0f} MiB, filled in"
        f" {filled['seconds']} s. `shared_buffers` {settings['shared_buffers']}, `max_wal_size`"
        f" {settings['max_wal_size']}. {remark}"
    )
    parts = [
        f"## {mix.capitalize()}",
        content,
        disk,
        table_of(("what", "filled", "empty", "filled / empty", "target", ""), list(map(cells, figures))),
    ]
    if full.lists:
        columns = ("GET", "filled: median", "p95", "empty: median", "p95", "p95")
        parts += [f"### Lists of the API, {mix}: the first page, ms", table_of(columns, list_rows(empty, full))]
    if full.pages:
        columns = ("page", "filled: median", "p95", "empty: median", "p95", "p95")
        title = f"### Pages of the console, {mix}: time in the server, ms"
        parts += [title, table_of(columns, page_rows(empty, full))]
    if memory:
        parts.append(f"### Memory, {mix}: largest process of a kind, resident, MB")
        parts.append(table_of(("process", "empty", "filled"), memory))
    parts.append(f"### Sizes, {mix}")
    parts.append(table_of(("table", "index", "MiB", "bytes an event", "bytes a message"), size_rows(filled)))
    return "\n\n".join(parts)


def list_rows(empty: Measured, full: Measured) -> list[tuple[str, ...]]:
    """Return a line for each list of the API, the slowest first."""
    return path_rows(empty.lists, full.lists, dict.fromkeys(full.lists, LIST_P95_MS))


def page_rows(empty: Measured, full: Measured) -> list[tuple[str, ...]]:
    """Return a line for each page of the console, the slowest first."""
    limits = {path: SEARCH_P95_MS if path in growth_measure.SEARCHES else LIST_P95_MS for path in full.pages}
    return path_rows(empty.pages, full.pages, limits)


def path_rows(
    empty: Mapping[str, Sequence[float]], full: Mapping[str, Sequence[float]], limits: Mapping[str, float]
) -> list[tuple[str, ...]]:
    """Return a line for each path, the slowest first, with the milliseconds of both sides and the verdict."""
    rows: list[tuple[str, ...]] = []
    for path, taken in sorted(full.items(), key=lambda item: -load.percentile(item[1], 0.95)):
        p95, before = load.percentile(taken, 0.95), empty.get(path, ())
        rows.append(
            (
                f"`{path}`",
                shown(load.percentile(taken, 0.5)),
                shown(p95),
                shown(load.percentile(before, 0.5)) if before else "",
                shown(load.percentile(before, 0.95)) if before else "",
                f"{'pass' if p95 <= limits[path] else 'fail'} (≤ {limits[path]:g})",
            )
        )
    return rows


def size_rows(filled: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return a line for each table and index, the largest tables first; very small ones are left out."""
    tables: dict[str, int] = {}
    for table, _, size in filled["sizes"]:
        tables[table] = tables.get(table, 0) + size
    events, messages = filled["events"], filled["messages"]
    return [
        (table if not index else "", index, f"{size / MIB:,.1f}", f"{size / events:.1f}", f"{size / messages:.1f}")
        for table, index, size in sorted(
            filled["sizes"], key=lambda row: (-tables[row[0]], row[0], row[1] != "", -row[2])
        )
        if tables[table] >= filled["bytes"] / 1000
    ]


def cells(figure: Figure) -> tuple[str, ...]:
    """Return a line of the table."""
    limit = f"≤ {figure.at_most:g} {figure.unit}" if figure.at_most is not None else ""
    times = f"≥ {figure.at_least_times:g}" if figure.at_least_times is not None else ""
    return (
        figure.what,
        summary(figure.tidings, figure.unit),
        summary(figure.usual, figure.unit),
        "" if figure.ratio is None else f"{figure.ratio:.2f}",
        times or limit,
        figure.verdict,
    )


def head(run: str, facts: Mapping[str, str], wrong: Sequence[str]) -> str:
    """Return the beginning of the page."""
    about = (
        f"Measured on {datetime.now(UTC):%Y-%m-%d %H:%M} UTC by `{run}`, which fills a database, measures it and an"
        " empty one in turns, and writes this page. The numbers are medians of the rounds, and their range where there"
        " are several."
    )
    doubts = ["## What is wrong with these figures", "\n".join(f"- {doubt}" for doubt in wrong)] if wrong else []
    facts_table = table_of(("", ""), list(facts.items()))
    return "\n\n".join(["# Growth", about, *doubts, "## Measured on", facts_table, "## How", METHOD])


def table_of(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *rows))


def command(options: argparse.Namespace) -> str:
    """Return the command that repeats the run."""
    words = ["python -m bench.growth"]
    parser = make_parser()
    given = {name: getattr(options, name) for name in ("events", "seconds", "warm_up", "rounds", "workers", "mix")}
    words += [
        f"--{name.replace('_', '-')} {value}" for name, value in given.items() if value != parser.get_default(name)
    ]
    return " ".join([*words, *(f"--only {name}" for name in options.only or ())])


def interrupt(_number: int, _frame: FrameType | None) -> None:
    """Stop everything as after Ctrl-C."""
    raise KeyboardInterrupt


DEFAULT_EVENTS: Final = 10_000_000


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.growth", description="Measure Tidings with a long history and without, in one run."
    )
    parser.add_argument("--events", type=int, default=DEFAULT_EVENTS, help="events of the history (10 million)")
    parser.add_argument("--seconds", type=float, default=10.0, help="about how long each measurement lasts (10)")
    parser.add_argument("--warm-up", type=float, default=30.0, help="how long single events are accepted before (30)")
    parser.add_argument("--rounds", type=int, default=3, help="how many times each is repeated (3)")
    parser.add_argument("--workers", type=int, default=2, help="processes of the worker (2)")
    parser.add_argument("--mix", choices=[*growth_fill.MIXES, "both"], default="both", help="which history (both)")
    parser.add_argument("--only", action="append", choices=MEASUREMENTS, help="only this; may be repeated")
    parser.add_argument(
        "--data", type=Path, help="keep the databases in this directory, and use those that an earlier run left there"
    )
    parser.add_argument("--fill-only", action="store_true", help="fill the databases in --data, and measure nothing")
    parser.add_argument(
        "--memory-quarter",
        action=argparse.BooleanOptionalAction,
        help="limit the database's memory to a quarter of its size (only for the harsh mix)",
    )
    parser.add_argument("--output", type=Path, help="where to write the page (bench/GROWTH.md, if all was run)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
