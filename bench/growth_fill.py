"""Fills a database with a history: what the running system wrote for a sample, many times over, spread over weeks.

The receiver and the workers store and process a sample of requests in an empty database. Its rows are then copied to
the other database, each time with other ids, keys, recipients and times (a replica). So the rows are what the product
writes, whatever its schema is: each column is treated by its type, and a table that is new is copied like the others.
"""

import itertools
import random
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

import psycopg
from psycopg import sql
from sqlalchemy import Engine

from bench import audience, load, signing
from bench.processes import BenchError
from bench.sides import Tidings
from shared.counters import store as counters
from shared.encryption import Vault
from shared.messages import search_store
from shared.operations import retention
from shared.postgres import engine, partitions
from shared.sources import store as sources
from shared.suppression import soft_bounce_store
from simulator import stories
from simulator.load import raw_request
from simulator.mail import Happening, make_message
from simulator.providers.mailchannels.webhooks import MailChannels
from simulator.story import Teller, fit

SOURCES: Final = 20
SPAN: Final = timedelta(days=60)
"""How long the history is."""

RETENTION: Final = timedelta(days=90)
"""For how long the measured system keeps webhooks and events: longer than the history."""

_MAINTAINED_EVERY: Final = timedelta(days=1)
_SOFT_BOUNCES_KEPT: Final = timedelta(days=44)  # what workers.suppressions keeps with the default rules

MIXES: Final[Mapping[str, Mapping[Teller, int]]] = {
    "realistic": {
        stories.read: 680,
        stories.delivered: 230,
        stories.soft_bounce_then_delivered: 60,
        stories.hard_bounce: 20,
        stories.dropped: 5,
        stories.unsubscribe: 4,
        stories.complaint: 1,
    },
    "harsh": {stories.delivered: 970, stories.hard_bounce: 20, stories.soft_bounce_then_delivered: 10},
}
"""Of a thousand messages, about. In the realistic mix a recipient has 3.5 events; in the harsh one each event has a
message of its own, of which it is the last."""

_RECIPIENTS: Final = {1: 85, 2: 12, 3: 3}  # of a hundred messages of the realistic mix
_LARGEST_CROWD: Final = 100  # messages of a source that are under way at a time
_DOMAINS: Final = tuple(f"domain{number}.example" for number in range(200))

CONFIGURATION: Final = frozenset(
    {
        "alembic_version",
        "sources",
        "peppers",
        "api_keys",
        "periodic_tasks",
        "rules_in_force",
        "fan_out",
        "change_floor",
        "change_marks",
        "subscriptions_stamp",
        "reconciliations",
    }
)
"""Tables that do not grow with the events: neither emptied nor filled."""

TRANSIENT: Final = frozenset(
    {
        "pending_receipts",
        "soft_bounce_checks",
        "alerts",
        "alert_steps",
        "alert_notices",
        "audit_log",
        "search_queue",
        "search_signatures",
    }
)
"""Tables whose rows are gone when the work is done, that do not follow from the events, or that triggers fill. They are
not filled."""

IDENTIFYING: Final = frozenset({"recipient", "address", "request_id", "smtp_id", "provider_message_id"})
"""Columns of text that differ from replica to replica."""

MINUTES: Final = frozenset({"minute", "key_minute"})
"""Columns of minutes, as times or as numbers since 1970. In the copies they are those of the row's id or event."""

_MERGED: Final = frozenset({"minute_counts", "metric_totals"})  # rows of several replicas may be one

_SEARCHED: Final = ("messages", "recipient_states")  # inserting into the second has its messages indexed

CLEANED: Final = ("receipt_keys", "event_keys", "minute_counts", "soft_bounces")
"""Tables from which maintenance deletes rows while the system runs. They are filled day by day, with maintenance after
each day, so that the space of deleted rows is used again."""

_SAMPLE_SHARE: Final = 400
_SMALLEST_SAMPLE: Final = 400
_LARGEST_SAMPLE: Final = 20_000
_PATIENCE_SECONDS: Final = 600.0
_CONNECTIONS: Final = 3  # fill different tables at the same time

FILL_SETTINGS: Final[Mapping[str, str]] = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "shared_buffers": "4GB",
    "maintenance_work_mem": "512MB",
    "max_wal_size": "16GB",
    "checkpoint_timeout": "1h",
    "autovacuum": "off",
    "synchronize_seqscans": "off",
}
"""PostgreSQL's settings during the fill. What is measured runs with others."""

MAX_FURNISHED: Final = 1_000_000
"""Deliveries and suppressions that `furnish` adds: one for each message, but not more than this."""

_FURNISH: Final = (
    # Of the newest changes, with an attempt each: one in a thousand is dead, one in a thousand is tried again.
    """
    CREATE TEMPORARY TABLE furnished AS
    SELECT (lpad(to_hex(ms), 12, '0') || '7' || substr(hash, 1, 3) || '8' || substr(hash, 4, 15))::uuid AS id,
        (lpad(to_hex(ms), 12, '0') || '7' || substr(hash, 4, 3) || '9' || substr(hash, 9, 15))::uuid AS attempt_id,
        transaction, change_id, type, message_id, changed_at,
        CASE change_id %% 1000 WHEN 0 THEN 'dead' WHEN 1 THEN 'retry' ELSE 'delivered' END AS status
    FROM (
        SELECT id AS change_id, transaction, type, message_id, changed_at,
            (extract(epoch FROM changed_at) * 1000)::bigint AS ms, md5(id::text) AS hash
        FROM state_changes WHERE message_id IS NOT NULL ORDER BY transaction DESC, id DESC LIMIT %(deliveries)s
    ) AS newest
    """,
    """
    INSERT INTO deliveries (id, subscription_id, change_transaction, change_id, type, message_id, status, attempts,
        last_http_status, last_error, delivered_at, dead_at, created_at)
    SELECT id, %(subscription)s, transaction, change_id, type, message_id, status, 1,
        CASE status WHEN 'dead' THEN 404 WHEN 'retry' THEN 503 ELSE 200 END,
        CASE status WHEN 'delivered' THEN NULL ELSE 'no route' END,
        CASE status WHEN 'delivered' THEN changed_at END, CASE status WHEN 'dead' THEN changed_at END, changed_at
    FROM furnished
    """,
    """
    INSERT INTO delivery_attempts (id, delivery_id, subscription_id, number, created_at, status, http_status,
        latency_ms, request_capture, response_capture)
    SELECT attempt_id, id, %(subscription)s, 1, changed_at,
        CASE status WHEN 'delivered' THEN 'success' ELSE 'failed' END,
        CASE status WHEN 'dead' THEN 404 WHEN 'retry' THEN 503 ELSE 200 END, 12,
        json_build_object('method', 'POST', 'url', 'https://crm.example/hook', 'headers', json_build_object(),
            'body', repeat('x', 1000), 'truncated', false, 'original_bytes', 1000),
        json_build_object('status', 200, 'headers', json_build_object(), 'body', 'ok', 'network_error', NULL,
            'truncated', false)
    FROM furnished
    """,
    "DROP TABLE furnished",
    """
    INSERT INTO suppressions (key, tenant, reason, origin, id, address, types, since, created_at)
    SELECT md5('suppressed' || n)::uuid, '', 'manual', 'import',
        (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(md5(n::text), 1, 3) || '8'
            || substr(md5(n::text), 4, 15))::uuid,
        'imported.' || n || '@domain' || n %% 200 || '.example', '{transactional,non_transactional}', at, at
    FROM (SELECT n, now() - n * interval '5 seconds' AS at FROM generate_series(1, %(suppressions)s) AS n) AS one
    ON CONFLICT DO NOTHING
    """,
    """
    INSERT INTO refusals (id, source, refused_at, status_code, reason, detail, remote_ip, headers, bytes)
    SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(md5(n::text), 1, 3) || '8'
            || substr(md5(n::text), 4, 15))::uuid,
        'bench-01', at, 401, 'bad_signature', 'No key fits', '192.0.2.1', '{}', 1000
    FROM (SELECT n, now() - n * interval '1 minute' AS at FROM generate_series(1, %(refusals)s) AS n) AS one
    """,
    "ANALYZE deliveries, delivery_attempts, suppressions, refusals",
)


_IS_TIMED: Final = sql.SQL(
    "uuid_extract_version({0}) = 7 AND uuid_extract_timestamp({0}) BETWEEN {begin} - interval '1 second' AND {end}"
)

_STRETCHED: Final = (
    "((least(greatest({0}, {begin}), {last}) - {begin}) * {stretch} + ({0} - least(greatest({0}, {begin}), {last})))"
)

_DERIVED: Final[Mapping[str, str]] = {
    "uuid": "CASE WHEN {is_timed} THEN round(extract(epoch FROM "
    + _STRETCHED.replace("{0}", "uuid_extract_timestamp({0})")
    + ") * 1000)::bigint END AS {1}, substr({0}::text, 14) AS {2}",
    "timestamp with time zone": _STRETCHED + " AS {1}",
}
"""What is prepared, by the type of the column: how long after the period's beginning, and the rest of the UUID."""

_EXPRESSIONS: Final[Mapping[str, str]] = {
    # Milliseconds since 1970 have eleven hexadecimal digits from 2004 to 2527.
    "uuid": 'coalesce((\'0\' || to_hex({milliseconds} + "{name} derived") || "{name} rest")::uuid,'
    " md5(\"{name}\"::text || '{number}')::uuid)",
    "timestamp with time zone": "'{at}'::timestamptz + \"{name} derived\"",
    "date": "\"{name}\" + (extract(epoch FROM '{at}'::timestamptz - '{begin}'::timestamptz) / 86400)::integer",
    "xid8": "'{transaction}'::xid8",
}
"""The value in a replica, by the type of the column. Other columns stay as they are."""


class GrowthSide(Tidings):
    """Tidings on one database, with twenty sources."""

    def __init__(self, name: str, *arguments: Any) -> None:
        self.name = name  # type: ignore[misc]  # two sides of one class, whose processes and logs have names of their own
        super().__init__(*arguments)

    def clear(self) -> None:
        """Empty all tables that grow. No process must be running."""
        self._broker.delete(*self._queues())
        with self.connect() as connection:
            names = list_tables(connection)
            connection.execute(sql.SQL("TRUNCATE {}").format(sql.SQL(", ").join(map(sql.Identifier, names))))

    def engine(self) -> Engine:
        """Return an engine whose statements may take long."""
        return engine.create_engine(
            self.place.database_url, application="bench", pool_size=1, statement_timeout_ms=3_600_000
        )

    def _add_source(self) -> None:
        credentials = {name: value for name, value in signing.dialect().credentials().items() if name != "api_key"}
        target = self.engine()
        with target.begin() as connection:
            if not list(sources.list_sources(connection)):
                for number in range(SOURCES):
                    sources.create(
                        connection,
                        slug=slug(number),
                        provider="mailchannels",
                        credentials=Vault([self.place.secret_key]).seal(credentials),
                        settings={},
                    )
        target.dispose()


def list_tables(connection: psycopg.Connection) -> list[str]:
    """Return the tables that grow; partitions are not listed."""
    rows = connection.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"
        " AND NOT relispartition ORDER BY relname"
    ).fetchall()
    return [row[0] for row in rows if row[0] not in CONFIGURATION]


def slug(number: int) -> str:
    """Return the slug of a source, by its number from 0."""
    return f"{signing.SLUG}-{number % SOURCES + 1:02d}"


def make_requests(mix: str, count: int, *, events: int = 1, seed: int) -> tuple[list[bytes], int]:
    """Return signed requests with this number of provider objects each, and the number of events in all of them.

    The sources take turns. A signature is accepted for some minutes.
    """
    dialect, now = signing.dialect(), datetime.now(UTC)
    signed_at = now + timedelta(seconds=25)
    crowd = max(1, min(_LARGEST_CROWD, count * events // SOURCES // 20))  # so that most messages come to their end
    streams = [
        tell(mix, dialect, random.Random(seed * SOURCES + number), number, now, crowd) for number in range(SOURCES)
    ]
    requests, total = [], 0
    for number in range(count):
        happenings = list(itertools.islice(streams[number % SOURCES], events))
        total += sum(len(happening.recipients) for happening in happenings)
        body = dialect.body(happenings)
        path = f"/webhooks/{slug(number)}"
        requests.append(raw_request(path, "receiver.example", dialect.sign(body, signed_at), body))
    return requests, total


def tell(
    mix: str, dialect: MailChannels, rng: random.Random, source: int, now: datetime, crowd_size: int
) -> Iterator[Happening]:
    """Generate what happens to the messages of a source.

    `crowd_size` of them are under way at a time: the first events of all come before the second ones.
    """
    tellers, weights = list(MIXES[mix]), list(MIXES[mix].values())
    for first in itertools.count(step=crowd_size):
        crowd = []
        for number in range(first, first + crowd_size):
            size = rng.choices(list(_RECIPIENTS), list(_RECIPIENTS.values()))[0] if mix == "realistic" else 1
            message = make_message(
                rng,
                number,
                sender=f"billing@shop{source}-{number % 3}.example",
                recipients=tuple(f"customer.{rng.randrange(10**9)}@{rng.choice(_DOMAINS)}" for _ in range(size)),
                subject=f"Invoice {number}",
                submitted_at=now,
            )
            happenings = fit(rng.choices(tellers, weights)[0](message, rng), dialect.TRAITS).happenings
            crowd.append(happenings if mix == "realistic" else happenings[-1:])
        for stage in range(max(map(len, crowd))):
            at = now - timedelta(seconds=max(0, 8 - stage))
            yield from (replace(happenings[stage], at=at) for happenings in crowd if stage < len(happenings))


def take_sample(side: GrowthSide, mix: str, events: int) -> tuple[datetime, datetime]:
    """Have the running system store and process about this number of events; return when it began and ended."""
    side.clear()
    requests, total = make_requests(mix, events if mix == "harsh" else int(events / 1.18), seed=1)
    side.start_receiver()
    try:
        with side.working():
            begin = datetime.now(UTC)
            outcome = load.run(side.address, requests, connections=8)
            if set(outcome.statuses) != {200}:
                raise BenchError(f"the sample was not accepted: answers were {dict(outcome.statuses)}")
            deadline = time.monotonic() + _PATIENCE_SECONDS
            with side.connect() as connection:
                while not side.is_idle(connection):
                    if time.monotonic() > deadline:
                        raise BenchError(f"the sample was not processed within {_PATIENCE_SECONDS:.0f} s")
                    time.sleep(0.05)
                end = datetime.now(UTC)
                stored = connection.execute("SELECT count(*) FROM events").fetchone()
    finally:
        side.processes.stop()
    if stored != (total,):
        raise BenchError(f"of {total} events of the sample {stored} were stored")
    return begin, end


def fill(empty: GrowthSide, filled: GrowthSide, mix: str, events: int, now: datetime) -> dict[str, Any]:
    """Fill a database with about this number of events from the time before `now`; return what it contains then.

    Raises BenchError if the rows of a table could not be made different in each replica.
    """
    size = max(_SMALLEST_SAMPLE, min(_LARGEST_SAMPLE, events // _SAMPLE_SHARE))
    begin, end = take_sample(empty, mix, size)
    begun = time.monotonic()
    filled.clear()
    target = filled.engine()
    with target.begin() as connection:
        for week in range(SPAN.days // 7 + 2):
            partitions.create_missing(connection, now=now - SPAN + timedelta(days=7 * week))
    with empty.connect() as source, filled.connect() as connection:
        rows = copy_sample(source, connection)
        replicas = max(1, round(events / rows["events"]))
        # Not the end, when the last of them were processed: the copies have no gap between them.
        for (last,) in connection.execute("SELECT max(received_at) FROM growth.receipts"):
            window = {"begin": begin, "last": last, "end": end, "stretch": SPAN / replicas / (last - begin)}
        inserts = {name: prepare(connection, name, rows[name], window) for name in rows}
    multiply(filled, inserts, rows, replicas, now)
    with filled.connect() as connection:
        connection.execute("DROP SCHEMA growth CASCADE")
        advance_sequences(connection)
        connection.execute("UPDATE fan_out SET transaction = log_horizon(), id = 0")
    target.dispose()
    vacuum(filled)
    return {
        "mix": mix,
        "events": rows["events"] * replicas,
        "messages": rows["messages"] * replicas,
        "replicas": replicas,
        "rows of a replica": rows,
        "seconds": round(time.monotonic() - begun),
    }


def index_messages(side: GrowthSide) -> None:
    """Make the signatures by which messages are searched, as workers do: unless few messages wait."""
    engine = side.engine()
    entries = 1
    while entries:
        with engine.begin() as connection:
            entries = search_store.index_queued(connection)
    engine.dispose()


def furnish(side: GrowthSide) -> None:
    """Add what the sample has none or few of, so that every list is long: deliveries, suppressions and refusals."""
    with side.connect() as connection:
        if connection.execute("SELECT 1 FROM deliveries LIMIT 1").fetchone():
            return
        connection.execute("TRUNCATE refusals")
        new = audience.new_subscription(Vault([side.place.secret_key]), "https://crm.example/hook", [])
        connection.execute(audience.SUBSCRIBE, new)
        row = connection.execute("SELECT count(*) FROM messages").fetchone()
        number = min(row[0] if row else 0, MAX_FURNISHED)
        counts = {"deliveries": number, "suppressions": number, "refusals": number // 100}
        for statement in _FURNISH:
            connection.execute(statement, {"subscription": new["id"], **counts} if "%(" in statement else None)


def copy_sample(source: psycopg.Connection, target: psycopg.Connection) -> dict[str, int]:
    """Copy the rows of the sample to a schema of their own; return their number by table."""
    target.execute("DROP SCHEMA IF EXISTS growth CASCADE")
    target.execute("CREATE SCHEMA growth")
    rows = {}
    for name in list_tables(source):
        if name in TRANSIENT:
            continue
        table = sql.Identifier(name)
        target.execute(sql.SQL("CREATE UNLOGGED TABLE growth.{0} AS SELECT * FROM {0} WITH NO DATA").format(table))
        read = sql.SQL("COPY (SELECT * FROM {} ORDER BY tableoid, ctid) TO STDOUT (FORMAT binary)").format(table)
        write = sql.SQL("COPY growth.{} FROM STDIN (FORMAT binary)").format(table)
        with source.cursor().copy(read) as reading, target.cursor() as cursor:
            with cursor.copy(write) as writing:
                for chunk in reading:
                    writing.write(chunk)
            if cursor.rowcount:
                rows[name] = cursor.rowcount
    return rows


def prepare(connection: psycopg.Connection, table: str, count: int, window: Mapping[str, Any]) -> str:
    """Prepare the rows of a table; return the statement that inserts a replica of them.

    Its places are `{number}`, the replica's, and `{at}`, the beginning of its period. Times within the sample are
    stretched to the length of that period; the distances of others to the sample stay. The rows are in the order of
    time, in which a slow system inserts them: so indexes by time are filled at their end, and their pages are full.
    """
    literals = {name: sql.Literal(value) for name, value in window.items()}
    order = find_order(connection, table, literals)
    prepared: list[sql.Composable] = [sql.SQL("*")]
    columns, changed = [], set()
    for name, type_, is_identity in list_columns(connection, table):
        expression = f'"{name}"'
        if parts := _DERIVED.get(type_):
            words = [sql.Identifier(name), sql.Identifier(f"{name} derived"), sql.Identifier(f"{name} rest")]
            prepared.append(sql.SQL(parts).format(*words, is_timed=_IS_TIMED.format(words[0], **literals), **literals))
        if type_ in ("integer", "timestamp with time zone") and name in MINUTES:
            time = f'to_timestamp(({{milliseconds}} + "{order} derived") / 1000)'
            expression = (
                f"(extract(epoch FROM {time}) / 60)::integer"
                if type_ == "integer"
                else f"date_trunc('minute', coalesce({time}, '{{at}}'::timestamptz + \"{name} derived\"))"
            )
        elif is_identity:
            expression = f'"{name}" + {{number}} * {2 * count}'
        elif name in IDENTIFYING:
            # As long as before, and in no order.
            different = f'left(md5("{name}" || \'{{number}}\'), 8) || substr("{name}", 9)'
            expression = f"CASE \"{name}\" WHEN '' THEN '' ELSE {different} END"
        elif type_ in _EXPRESSIONS:
            expression = _EXPRESSIONS[type_].replace("{name}", name).replace("{begin}", window["begin"].isoformat())
        if expression != f'"{name}"':
            changed.add(name)
        columns.append((name, expression))
    check_unique(connection, table, changed)
    connection.execute(
        sql.SQL("CREATE UNLOGGED TABLE growth.{} AS SELECT {} FROM growth.{} ORDER BY {}").format(
            sql.Identifier(f"{table} prepared"),
            sql.SQL(", ").join(prepared),
            sql.Identifier(table),
            sql.Identifier(order),
        )
    )
    names = ", ".join(f'"{name}"' for name, _ in columns)
    values = ", ".join(expression for _, expression in columns)
    statement = (
        f'INSERT INTO "{table}" ({names}) OVERRIDING SYSTEM VALUE SELECT {values} FROM growth."{table} prepared"'
    )
    return f"{statement} ON CONFLICT DO NOTHING" if table in _MERGED else statement


def find_order(connection: psycopg.Connection, table: str, window: Mapping[str, sql.Literal]) -> str:
    """Return the column of a table of the sample that has the order in which its rows were inserted.

    That is an identity column, or else the first UUID with times within the sample, or else the first time.
    """
    columns = list_columns(connection, table)
    identities = [name for name, _, identity in columns if identity]
    times = [name for name, type_, _ in columns if type_ == "timestamp with time zone"]
    uuids = [name for name, type_, _ in columns if type_ == "uuid"]
    for name in () if identities else uuids:
        query = sql.SQL("SELECT 1 FROM growth.{} WHERE {} LIMIT 1")
        is_timed = _IS_TIMED.format(sql.Identifier(name), **window)
        if connection.execute(query.format(sql.Identifier(table), is_timed)).fetchone():
            return name
    return [*identities, *times][0]


def list_columns(connection: psycopg.Connection, table: str) -> list[tuple[str, str, bool]]:
    """Return name and type of each column, and whether it is an identity column."""
    return connection.execute(
        "SELECT attname, format_type(atttypid, atttypmod), attidentity <> '' FROM pg_attribute"
        " WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
        [table],
    ).fetchall()


def check_unique(connection: psycopg.Connection, table: str, changed: set[str]) -> None:
    """Raise BenchError if the replicas of a row would have the same unique key, and may not be merged."""
    if table in _MERGED:
        return
    keys = connection.execute(
        "SELECT array_agg(attname::text) FROM pg_index"
        " JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY(indkey)"
        " WHERE indrelid = %s::regclass AND indisunique GROUP BY indexrelid",
        [table],
    ).fetchall()
    for (columns,) in keys:
        if not changed & set(columns):
            raise BenchError(
                f"the fill cannot make different keys ({', '.join(columns)}) for the table {table}: "
                "add a rule for one of these columns to bench.growth_fill.prepare"
            )


def multiply(
    side: GrowthSide, inserts: Mapping[str, str], rows: Mapping[str, int], replicas: int, now: datetime
) -> None:
    """Insert the replicas, the oldest first, several tables at a time, and index the messages meanwhile.

    Raises BenchError if rows are missing.
    """
    period = SPAN / replicas
    target = side.engine()
    with side.connect() as connection:
        row = connection.execute("SELECT pg_current_xact_id()::text::bigint").fetchone()
        first_transaction = max(3, (int(row[0]) if row else 0) - replicas)  # before all that are to come

    def insert(name: str, numbers: Sequence[int]) -> None:
        with side.connect() as connection, connection.transaction():
            if numbers[0] == 0:
                # Then this transaction writes no WAL for the table (`wal_level` is minimal).
                connection.execute(sql.SQL("TRUNCATE {}").format(sql.Identifier(name)))
            for number in numbers:
                at = now - SPAN + number * period
                statement = inserts[name].format(
                    number=number,
                    at=at,
                    milliseconds=int(at.timestamp() * 1000),
                    transaction=first_transaction + number,
                )
                inserted = connection.execute(statement.encode()).rowcount
                if inserted != rows[name] and name not in _MERGED:
                    raise BenchError(f"of {rows[name]} rows of a replica of {name} {inserted} were inserted")

    largest_first = sorted(rows, key=lambda name: -rows[name])
    with ThreadPoolExecutor(_CONNECTIONS) as pool:

        def insert_all(names: Iterable[str], numbers: Sequence[int]) -> None:
            list(pool.map(partial(insert, numbers=numbers), names))

        insert_all(_SEARCHED, range(replicas))
        indexing = pool.submit(index_messages, side)
        # Suppressions come before soft bounces: maintenance keeps those that led to one.
        insert_all([name for name in largest_first if name not in (*_SEARCHED, *CLEANED)], range(replicas))
        for _, of_day in itertools.groupby(range(replicas), lambda number: number * period // _MAINTAINED_EVERY):
            numbers = list(of_day)
            insert_all([name for name in largest_first if name in CLEANED], numbers)
            maintain(target, now - SPAN + (numbers[-1] + 1) * period)
        indexing.result()
    target.dispose()


def maintain(target: Engine, now: datetime) -> None:
    """Do what maintenance would have done at that time, and what autovacuum would have done after it."""
    with target.begin() as connection:
        retention.delete_expired(connection, now - RETENTION)
        soft_bounce_store.delete_old(connection, now - _SOFT_BOUNCES_KEPT)
        counters.merge(connection, now)
        counters.delete_expired(connection, now)
    with target.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(f"VACUUM {', '.join(CLEANED)}")


def advance_sequences(connection: psycopg.Connection) -> None:
    """Have the sequences of identity columns continue behind the numbers that the copies have."""
    columns = connection.execute(
        "SELECT attrelid::regclass::text, attname, pg_get_serial_sequence(attrelid::regclass::text, attname)"
        " FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid"
        " WHERE relnamespace = 'public'::regnamespace AND attidentity <> ''"
    ).fetchall()
    for table, column, sequence in columns:
        connection.execute(
            sql.SQL("SELECT setval({}, max({})) FROM {}").format(
                sequence, sql.Identifier(column), sql.Identifier(table)
            )
        )


def vacuum(side: GrowthSide) -> None:
    """Do what autovacuum would have done, table by table, and write all to the disk."""

    def vacuum_one(name: str) -> None:
        with side.connect() as connection:
            connection.execute(sql.SQL("VACUUM (ANALYZE) {}").format(sql.Identifier(name)))

    with side.connect() as connection:
        with ThreadPoolExecutor(_CONNECTIONS) as pool:
            list(pool.map(vacuum_one, list_tables(connection)))
        # While a system runs, few messages wait.
        connection.execute("VACUUM (FULL) search_queue")
        connection.execute("CHECKPOINT")


def list_sizes(connection: psycopg.Connection) -> Sequence[tuple[str, str, int]]:
    """Return table, index (empty: the table itself) and bytes, partitions added up, of what has more than a page."""
    rows = connection.execute(
        """
        SELECT coalesce(p.inhparent, c.oid)::regclass::text, '', sum(pg_table_size(c.oid))::bigint
        FROM pg_class AS c LEFT JOIN pg_inherits AS p ON p.inhrelid = c.oid
        WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace GROUP BY 1
        UNION ALL
        SELECT coalesce(t.inhparent, i.indrelid)::regclass::text, coalesce(p.inhparent, i.indexrelid)::regclass::text,
            sum(pg_relation_size(i.indexrelid))::bigint
        FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
        LEFT JOIN pg_inherits AS p ON p.inhrelid = i.indexrelid LEFT JOIN pg_inherits AS t ON t.inhrelid = i.indrelid
        WHERE c.relkind = 'i' AND c.relnamespace = 'public'::regnamespace GROUP BY 1, 2
        ORDER BY 1, 2
        """
    ).fetchall()
    return [(row[0], row[1], row[2]) for row in rows]
