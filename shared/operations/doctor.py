"""Checks of an installation: what is wrong with it, and how to fix it.

Each check is a function that yields what it found and what to do, and a row of a table. Those of `LOCAL` need nothing
but this machine, those of `DATABASE` a database, and those of `TABLES` its tables in the form of this version.
"""

import resource
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from kombu.connection import Connection as BrokerConnection
from sqlalchemy import Connection, Engine, column, func, select, table
from sqlalchemy.exc import OperationalError

from shared.broker import TaskNotifier
from shared.egress import ssrf
from shared.encryption import SecretsError, Vault
from shared.errors import ConflictError, InvalidFieldError, TidingsError
from shared.jobs import periodic
from shared.operations import stats, status
from shared.operations.status import Problem
from shared.postgres import engine, migrate, partitions
from shared.reconciliation.tables import reconciliations
from shared.settings import Settings
from shared.sources import queues
from shared.sources import store as sources
from shared.sources.source import open_source
from shared.subscriptions.tables import subscriptions
from shared.suppression import recipient_hashes
from shared.vocabulary import SubscriptionState

MIN_OPEN_FILES: Final = 4096
"""A deliverer has up to 4,000 requests in flight, and each needs a descriptor."""
MIN_FREE_BYTES: Final = 1 << 30
MIN_FREE_SHARE: Final = 0.03
MAX_NEEDED_BYTES: Final = 10 << 30
"""A disk with this much room is not nearly full, however large it is."""
MAX_CLOCK_DIFFERENCE_SECONDS: Final = 2.0
MAX_TRANSACTION_SECONDS: Final = 60.0
"""Tidings' own sessions end a transaction that is idle for this long."""
MAX_SILENCE: Final = timedelta(days=1)
_MAX_HOSTS: Final = 50
"""Host names that are looked up, each for up to five seconds."""
_SETTINGS: Final = table("pg_settings", column("name"), column("setting"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """The installation to check. `data` is the directory of `tidings up`, or another one whose disk matters."""

    settings: Settings
    data: Path


Found = Iterator[tuple[str, str]]
"""What a check found, and how to fix it: an imperative sentence, or a command that runs as it is."""


def examine(installation: Installation, database: Engine) -> tuple[list[str], list[Problem]]:
    """Run all checks that can run; return their names and the problems found.

    Without a database, or with tables of another version, the checks that need them are left out.
    """
    made: list[str] = []
    problems: list[Problem] = []
    for name, check in LOCAL.items():
        made.append(name)
        problems += [Problem(name, found, mend) for found, mend in check(installation)]
    made.append("database")
    for checks in (DATABASE, TABLES):
        try:
            with database.begin() as connection:
                if checks is TABLES and any(check_schema(installation, connection)):
                    break
                for name, look in checks.items():
                    made.append(name)
                    problems += [Problem(name, found, mend) for found, mend in look(installation, connection)]
        except OperationalError as error:
            mend = "correct TIDINGS_DATABASE_URL, or start the server and grant what is missing"
            problems.append(Problem("database", engine.explain(error), mend))
            break
    return made, problems


def check_file_limit(_: Installation) -> Found:
    """Check the hard limit on open files. Processes raise the soft one by themselves."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if limit != resource.RLIM_INFINITY and limit < MIN_OPEN_FILES:
        yield (
            f"a process may have {limit:,} open files at most; a deliverer needs {MIN_OPEN_FILES:,}",
            f"start the processes after `ulimit -Hn {MIN_OPEN_FILES}`, or set LimitNOFILE={MIN_OPEN_FILES} in systemd",
        )


def check_disk(installation: Installation) -> Found:
    """Check the disk of the data directory; of the working directory if there is no data directory."""
    yield from find_full_disk(installation.data if installation.data.exists() else Path.cwd())


def find_full_disk(place: Path) -> Found:
    """Check the disk on which a directory is."""
    usage = shutil.disk_usage(place)
    if usage.free < min(max(MIN_FREE_BYTES, MIN_FREE_SHARE * usage.total), MAX_NEEDED_BYTES):
        yield (
            f"the disk of {place} has {usage.free / 1e9:.1f} GB free of {usage.total / 1e9:.1f} GB",
            "make room on it, or lower TIDINGS_RETENTION_DAYS and restart the workers",
        )


def check_broker(installation: Installation) -> Found:
    """Check that the broker takes messages, and that it never evicts any."""
    url = installation.settings.broker_url
    if not url:
        yield (
            "TIDINGS_BROKER_URL is not set here, so the broker was not checked",
            "set it to the value that the processes use",
        )
        return
    notifier = TaskNotifier(url)
    try:
        problem = notifier.find_problem()
    finally:
        notifier.close()
    if problem is not None:
        yield (
            f"the broker takes no message: {problem}",
            "start it, correct TIDINGS_BROKER_URL, or give it memory. Nothing is lost meanwhile",
        )
        return
    if not url.startswith(("redis", "rediss")):
        return
    options = {"socket_connect_timeout": 2, "socket_timeout": 2}
    with BrokerConnection(url, transport_options=options) as broker:  # type: ignore[no-untyped-call]
        policy = broker.default_channel.client.info("memory").get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        yield (
            f"the broker evicts messages when its memory is full (maxmemory-policy {policy} instead of noeviction)",
            'redis-cli -u "$TIDINGS_BROKER_URL" CONFIG SET maxmemory-policy noeviction',
        )


def check_keys(installation: Installation) -> Found:
    """Check that TIDINGS_SECRET_KEYS can be used at all."""
    try:
        Vault(installation.settings.secret_keys)
    except SecretsError as error:
        yield str(error), "set TIDINGS_SECRET_KEYS to the value that the processes use"


def check_server(_: Installation, connection: Connection) -> Found:
    """Check the version and encoding of the database, and that it can be written."""
    try:
        migrate.require_usable(connection)
    except ConflictError as error:
        found = str(error).partition(";")[0].rstrip(".")
        yield found, "name a writable database of PostgreSQL 15 or later with ENCODING 'UTF8' in TIDINGS_DATABASE_URL"


def check_settings(_: Installation, connection: Connection) -> Found:
    """Check that the settings of a session are those that it asks for: a pooler may drop them."""
    wanted = {**engine.session_settings(), "client_encoding": "UTF8"}
    actual = {
        row.name.lower(): row.setting
        for row in connection.execute(select(_SETTINGS).where(func.lower(_SETTINGS.c.name).in_(wanted)))
    }
    wrong = [
        f"{name} is {actual[name]}, not {value}"
        for name, value in wanted.items()
        if name in actual and not actual[name].lower().startswith(value.lower())
    ]
    if wrong:
        yield (
            f"sessions do not have the settings that they ask for: {'; '.join(wrong)}",
            "make the pooler pass or refuse the startup parameter `options`, and remove it from TIDINGS_DATABASE_URL",
        )


def check_clock(_: Installation, connection: Connection) -> Found:
    """Check that the clock of this machine is that of the database."""
    before = time.time()
    there = connection.execute(select(func.clock_timestamp())).scalar_one().timestamp()
    after = time.time()
    difference = there - (before + after) / 2
    if abs(difference) > MAX_CLOCK_DIFFERENCE_SECONDS + (after - before) / 2:
        direction = "ahead of" if difference > 0 else "behind"
        yield (
            f"the clock of the database is {abs(difference):,.1f} s {direction} the clock of this machine",
            "synchronize the clocks of both with NTP: timedatectl set-ntp true",
        )


def check_transactions(_: Installation, connection: Connection) -> Found:
    """Check that no transaction that has written stays open: the change feed shows nothing newer."""
    oldest = stats.find_oldest_transaction(connection)
    if oldest.seconds < MAX_TRANSACTION_SECONDS:
        return
    what = (
        f"process {oldest.pid} ({oldest.application})" if oldest.pid else f"prepared transaction {oldest.application}"
    )
    end = f"SELECT pg_terminate_backend({oldest.pid})" if oldest.pid else f"ROLLBACK PREPARED '{oldest.application}'"
    yield (
        f"a transaction of {what} has been open for {oldest.seconds:,.0f} s and holds back the change feed",
        f'psql "$TIDINGS_DATABASE_URL" -c "{end}"',
    )


def check_schema(_: Installation, connection: Connection) -> Found:
    """Check that the database has the schema of this version."""
    found, expected = migrate.revision(connection), migrate.head()
    if found is None:
        yield "the database has no tables", "tidings migrate"
    elif found < (expected or ""):
        yield f"the database is at revision {found}, and this version needs {expected}", "tidings migrate"
    elif found != expected:
        yield (
            f"the database is at revision {found}, which a newer version has made; this one needs {expected}",
            "run the newer version, or restore the backup from before the update",
        )


def check_database_disk(_: Installation, connection: Connection) -> Found:
    """Check the database's disk, where it is a directory of this machine that the role may know."""
    known = select(_SETTINGS.c.setting).where(_SETTINGS.c.name == "data_directory")
    place = connection.execute(known).scalar()
    if place is not None and Path(place).parent.is_dir():
        yield from find_full_disk(Path(place).parent)


def check_stored_secrets(installation: Installation, connection: Connection) -> Found:
    """Check that TIDINGS_SECRET_KEYS opens what is stored, and that every source can be used."""
    try:
        vault = Vault(installation.settings.secret_keys)
        recipient_hashes.require_key(connection, vault)
    except SecretsError as error:
        yield (
            str(error),
            "set TIDINGS_SECRET_KEYS to the value that the processes use, with the key that encrypted them",
        )
        return
    for row in sources.list_sources(connection):
        try:
            open_source(row, vault)
        except TidingsError as error:
            yield f"source {row.slug} cannot be used: {error}", f"tidings sources check {row.slug}"


def check_partitions(_: Installation, connection: Connection) -> Found:
    """Check that the partitions of this week and of the next one exist."""
    now: datetime = connection.execute(select(func.now())).scalar_one()
    if missing := partitions.find_missing(connection, now, range(2)):
        yield f"partitions are missing: {', '.join(missing)}", "tidings migrate"


def check_roles(_: Installation, connection: Connection) -> Found:
    """Check that a process of each role works."""
    now: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
    for problem in status.find_absent_roles(status.read_roles(connection, now)):
        yield f"{problem.about} {problem.found}", problem.mend


def check_wake_ups(_: Installation, connection: Connection) -> Found:
    """Check what workers have found wrong with the broker in the last minute."""
    problem = periodic.find_problem(connection)
    if problem is not None:
        yield f"workers find the broker unusable: {problem}", "tidings status"


def check_silence(_: Installation, connection: Connection) -> Found:
    """Check that every source has had an event in the last day."""
    last_events = stats.find_last_events(connection)
    now: datetime = connection.execute(select(func.now())).scalar_one()
    for row in sources.list_sources(connection):
        last = last_events.get(row.slug)
        if now - (last or row.created_at) > MAX_SILENCE:
            when = "since it was created on" if last is None else "since"
            found = f"source {row.slug} has had no event {when} {last or row.created_at:%Y-%m-%d %H:%M} UTC"
            yield found, f"tidings sources check {row.slug}"


def check_enrolment(_: Installation, connection: Connection) -> Found:
    """Check that no provider has answered, when it was asked last, that it does not post to us."""
    rows = {row.source_id: row for row in connection.execute(select(reconciliations))}
    for source in sources.list_sources(connection):
        known = rows.get(source.id)
        if known is not None and known.enrolled is False:
            asked = f"{known.checked_at:%Y-%m-%d %H:%M} UTC" if known.checked_at else "before"
            found = f"{source.provider} does not post to source {source.slug} (asked {asked})"
            yield found, f"tidings sources enrol {source.slug}"


def check_queues(_: Installation, connection: Connection) -> Found:
    """Check that the queues of sources could be polled the last time, and that each has one reader."""
    for slugs in queues.find_readers(connection).values():
        if len(slugs) > 1:
            found = f"the sources {', '.join(slugs)} read one queue, so each gets a part of the events"
            yield found, "give every source a separate queue, or delete the surplus sources"
    states = queues.read(connection)
    for row in sources.list_sources(connection):
        state = states.get(row.id)
        if state is not None and state["failures"]:
            found = f"the queue of source {row.slug} could not be polled {state['failures']} times in a row"
            yield f"{found}: {state['error']}", f"tidings sources check {row.slug}"


def check_egress(installation: Installation, connection: Connection) -> Found:
    """Check that the endpoints of subscriptions may be called. At most fifty hosts are looked up."""
    columns = subscriptions.c
    active = select(columns.id, columns.name, columns.url).where(
        columns.deleted_at.is_(None), columns.state != SubscriptionState.DISABLED
    )
    by_host: dict[str, tuple[str, str]] = {}
    for row in connection.execute(active.order_by(columns.id)):
        by_host.setdefault(urlsplit(row.url).netloc, (str(row.id), row.url))
    for id_, url in list(by_host.values())[:_MAX_HOSTS]:
        try:
            ssrf.check_url(url, installation.settings.egress_allow)
        except InvalidFieldError as error:
            yield (
                f"deliveries to subscription {id_} fail: {error}",
                f"set TIDINGS_EGRESS_ALLOW for every process, or: tidings subscriptions change {id_} --url URL",
            )


LOCAL: Final[Mapping[str, Callable[[Installation], Found]]] = {
    "file limit": check_file_limit,
    "disk": check_disk,
    "secret keys": check_keys,
    "broker": check_broker,
}
DATABASE: Final[Mapping[str, Callable[[Installation, Connection], Found]]] = {
    "server": check_server,
    "session settings": check_settings,
    "clock": check_clock,
    "transactions": check_transactions,
    "database disk": check_database_disk,
    "schema": check_schema,
}
TABLES: Final[Mapping[str, Callable[[Installation, Connection], Found]]] = {
    "stored secrets": check_stored_secrets,
    "partitions": check_partitions,
    "roles": check_roles,
    "wake-ups": check_wake_ups,
    "silence": check_silence,
    "enrolment": check_enrolment,
    "queues": check_queues,
    "egress": check_egress,
}
