"""The change log: a reader sees every change once, in one order, and learns when changes were deleted."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine

from cli import embedded
from shared.changes import log as change_log
from shared.changes import retention as log_retention
from shared.changes.filters import EVERYTHING, ChangeFilter, matches
from shared.changes.log import START, Cursor, CursorGoneError
from shared.postgres import engine, migrate
from tests.api.test_query_costs import rows_read

NOW = datetime.now(UTC)
RETENTION = timedelta(days=30)
INSERT = "INSERT INTO state_changes (type, source_id) VALUES (%(type)s, 1)"

no_deadline = settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def run(database: Engine, statement: str, **values: Any) -> None:
    with database.begin() as connection:
        connection.exec_driver_sql(statement, values)


def write(database: Engine, *types: str) -> list[Cursor]:
    """Log changes of these types, each in a separate transaction; return their positions."""
    for name in types:
        run(database, INSERT, type=name)
    return everything(database)[-len(types) :]


def everything(database: Engine) -> list[Cursor]:
    """Every change that was committed, in the order of the log."""
    with database.begin() as connection:
        rows = connection.exec_driver_sql("SELECT transaction::text::bigint, id FROM state_changes ORDER BY 1, 2")
        return [(row[0], row[1]) for row in rows]


def read(database: Engine, after: Cursor = START, **options: Any) -> change_log.LogPage:
    with database.begin() as connection:
        return change_log.read(connection, after=after, **options)


def follow(database: Engine, after: Cursor = START, **options: Any) -> list[Cursor]:
    """All that follows."""
    found: list[Cursor] = []
    while True:
        reading = read(database, after, **options)
        found += [change.cursor for change in reading.changes]
        if reading.next == after:
            return found
        after = reading.next


class Step(NamedTuple):
    """What happens next: a writer or a reader, by number, does something."""

    what: str
    who: int


WRITERS, READERS = 4, 3
steps = st.lists(
    st.builds(Step, st.sampled_from(["number", "write", "commit", "undo"]), st.integers(0, WRITERS - 1))
    | st.builds(Step, st.just("read"), st.integers(0, READERS - 1)),
    min_size=5,
    max_size=40,
)


class TestReadersBesideWriters:
    @no_deadline
    @given(steps)
    @example([Step("number", 0), Step("write", 1), Step("write", 0), Step("commit", 1), Step("read", 0)])
    @example([Step("write", 0), Step("write", 1), Step("commit", 1), Step("read", 0), Step("commit", 0)])
    def test_see_every_change_once_in_one_order(self, database: Engine, story: Sequence[Step]) -> None:
        run(database, "TRUNCATE state_changes")
        begin = read(database).next
        cursors, seen = [begin] * READERS, [list[Cursor]() for _ in range(READERS)]
        with ExitStack() as stack:
            writers = [stack.enter_context(database.connect()) for _ in range(WRITERS)]
            for step in story:
                if step.what == "read":
                    reading = read(database, cursors[step.who], limit=step.who + 1)
                    seen[step.who] += [change.cursor for change in reading.changes]
                    cursors[step.who] = reading.next
                else:
                    self.do(writers[step.who], step.what)
            for writer in writers:
                writer.commit()
        for number in range(READERS):
            assert seen[number] + follow(database, cursors[number], limit=2) == everything(database)

    @staticmethod
    def do(writer: Connection, what: str) -> None:
        if what == "number":
            writer.exec_driver_sql("SELECT pg_current_xact_id()")
        elif what == "write":
            writer.exec_driver_sql(INSERT, {"type": "any"})
        elif what == "commit":
            writer.commit()
        else:
            writer.rollback()

    def test_never_read_a_change_that_a_crash_would_undo(self, make_postgres: Callable[[], embedded.Postgres]) -> None:
        """What a crash undoes gives its numbers back: a reader that saw them would miss the next holder."""
        server = make_postgres()
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("CREATE DATABASE crashing")
        url = server.url.rpartition("/")[0] + "/crashing"
        migrate.upgrade(url)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET wal_writer_delay = '10s'")
            connection.execute("SELECT pg_reload_conf()")
        quick = engine.create_engine(url, application="test", synchronous_commit=False)
        reader = engine.create_engine(url, application="test")
        received = write(quick, "first", "second")
        seen = follow(reader)
        assert seen == received
        server.kill()
        quick.dispose()
        reader.dispose()
        server.start()
        assert everything(reader) == received
        later = write(quick, "third")
        assert follow(reader, received[-1]) == later
        quick.dispose()
        reader.dispose()


class TestACursor:
    def test_of_an_empty_log_misses_nothing(self, database: Engine) -> None:
        begin = read(database).next
        assert begin != START
        assert read(database, begin).next == begin
        written = write(database, "first")
        assert follow(database, begin) == written

    def test_of_the_end_begins_with_what_comes_next(self, database: Engine) -> None:
        for types in ((), ("first", "second")):
            write(database, *types)
            with database.connect() as slow:
                slow.exec_driver_sql(INSERT, {"type": "slow"})
                with database.begin() as connection:
                    end = change_log.get_end(connection)
                slow.commit()
            assert len(follow(database, end)) == 1

    def test_moves_on_where_nothing_fits(self, database: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(change_log, "MAX_ROWS_READ", 2)
        written = write(database, *("other",) * 5, "wanted")
        reading = read(database, wanted=ChangeFilter(types=("wanted",)))
        assert (reading.changes, reading.next) == ([], written[1])
        assert follow(database, wanted=ChangeFilter(types=("wanted",))) == written[-1:]

    def test_ahead_of_the_log_is_of_another_one(self, database: Engine) -> None:
        write(database, "first")
        with pytest.raises(CursorGoneError, match="ahead"):
            read(database, (everything(database)[-1][0] + 1000, 1))

    def test_costs_the_same_at_the_end_of_a_long_log(self, database: Engine) -> None:
        run(database, "INSERT INTO state_changes (type, source_id) SELECT 'any', 1 FROM generate_series(1, 20000)")
        run(database, "INSERT INTO state_changes (type, source_id) SELECT 'any', 1 FROM generate_series(1, 20000)")
        run(database, "ANALYZE state_changes")
        with database.begin() as connection:
            end = change_log.get_end(connection)
            assert rows_read(connection) < 10
            before = rows_read(connection)
            assert change_log.read(connection, after=(end[0], end[1] - 3)).next == end
            assert change_log.read(connection, after=end).next == end
            assert rows_read(connection) - before < 30


MESSAGES = {"ann": ("acme", "spring"), "bob": (None, "autumn")}
some = st.sampled_from
filters = st.builds(
    ChangeFilter,
    types=st.lists(
        some(["message.bounced", "message.*", "message_bounced", "message.%", "*", "m*", "alert.firing", "*.firing"]),
        min_size=1,
        max_size=2,
    ).map(tuple),
    sources=st.lists(some(["main", "second", "unknown"]), max_size=2).map(tuple),
    tenant=some([None, "acme", "other", ""]),
    recipient_domains=st.lists(some(["example.net", "b.example", "a@b.example", ""]), max_size=2).map(tuple),
    tags=st.lists(some(["spring", "winter"]), max_size=2).map(tuple),
    message_id=some([None, str(UUID(int=1)), str(UUID(int=3))]),
)


@pytest.fixture
def varied(database: Engine) -> Engine:
    """A log with a change of every kind."""
    for number, slug in enumerate(("main", "second"), 1):
        run(
            database,
            "INSERT INTO sources (id, slug, provider, credentials) OVERRIDING SYSTEM VALUE"
            " VALUES (%(id)s, %(slug)s, 'ark', '')",
            id=number,
            slug=slug,
        )
    for number, (tenant, tag) in enumerate(MESSAGES.values(), 1):
        run(
            database,
            "INSERT INTO messages (id, source_id, created_at, first_event_at, tenant, tag)"
            " VALUES (%(id)s, 1, now(), now(), %(tenant)s, %(tag)s)",
            id=UUID(int=number),
            tenant=tenant,
            tag=tag,
        )
    recipients = (None, "", "ann@example.net", "no domain", "a@b@b.example", "ends@")
    for kind, data in (("message.bounced", None), ("alert.firing", '{"tenant": "acme"}'), ("messagexbounced", "{}")):
        for number, recipient in enumerate(recipients):
            run(
                database,
                "INSERT INTO state_changes (type, source_id, message_id, recipient, data)"
                " VALUES (%(type)s, %(source)s, %(message)s, %(recipient)s, %(data)s)",
                type=kind,
                source=(None, 1, 2)[number % 3],
                message=(UUID(int=1), UUID(int=2), None, uuid4())[number % 4],
                recipient=recipient,
                data=data,
            )
    return database


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(filters)
def test_a_filter_means_the_same_to_the_database_and_in_memory(varied: Engine, wanted: ChangeFilter) -> None:
    known = read(varied, limit=500).changes
    expected = [c.cursor for c in known if matches(wanted, c.subject, str(c.message_id) if c.message_id else None)]
    assert [change.cursor for change in read(varied, wanted=wanted, limit=500).changes] == expected


class TestLettingGo:
    """What is older than retention goes, from the beginning, and readers that would miss it get an error."""

    @staticmethod
    def mark(database: Engine, days_ago: float) -> None:
        with database.begin() as connection:
            log_retention.add_mark(connection, NOW - timedelta(days=days_ago))

    @staticmethod
    def reach(database: Engine) -> tuple[Cursor, str | None] | None:
        with database.begin() as connection:
            return log_retention.find_deletable(connection, NOW - RETENTION)

    def trim_log(self, database: Engine, limit: int = 100) -> int:
        reach = self.reach(database)
        assert reach is not None
        with database.begin() as connection:
            return log_retention.delete_before(connection, reach[0], limit=limit)

    @pytest.fixture
    def kept(self, database: Engine) -> list[Cursor]:
        """Three changes that are old, three that are not; all are fanned out."""
        write(database, "old", "old", "old")
        self.mark(database, 40)
        write(database, "young")
        self.mark(database, 20)
        kept = write(database, "young", "young", "young")
        place = {"t": str(kept[-1][0]), "id": kept[-1][1]}
        run(database, "UPDATE fan_out SET transaction = %(t)s::text::xid8, id = %(id)s", **place)
        return everything(database)

    def test_takes_what_stands_before_a_mark_that_is_old_enough(self, database: Engine, kept: list[Cursor]) -> None:
        assert self.trim_log(database) == 3
        assert everything(database) == kept[3:]
        assert self.trim_log(database) == 0

    def test_takes_nothing_where_no_mark_is_old_enough(self, database: Engine) -> None:
        write(database, "old")
        self.mark(database, 29)
        assert self.reach(database) is None

    def test_takes_a_few_at_a_time(self, database: Engine, kept: list[Cursor]) -> None:
        assert [self.trim_log(database, limit=2) for _ in range(3)] == [2, 1, 0]
        assert everything(database) == kept[3:]

    def test_is_reported_to_readers_who_would_miss_a_change(self, database: Engine, kept: list[Cursor]) -> None:
        self.trim_log(database)
        with pytest.raises(CursorGoneError) as error:
            read(database, kept[1])
        assert follow(database, error.value.oldest) == kept[3:]
        with database.begin() as connection, pytest.raises(CursorGoneError):
            change_log.require_readable(connection, kept[1])

    def test_is_no_matter_to_who_has_read_it_or_begins_anew(self, database: Engine, kept: list[Cursor]) -> None:
        self.trim_log(database)
        assert follow(database, kept[2]) == follow(database) == kept[3:]

    def test_of_everything_leaves_a_place_to_go_on_from(self, database: Engine, kept: list[Cursor]) -> None:
        self.mark(database, 31)
        self.trim_log(database)
        end = read(database).next
        assert read(database, end) == change_log.LogPage([], kept[-1])
        with database.begin() as connection:
            assert change_log.get_end(connection) == end
        later = write(database, "later")
        assert follow(database, end) == later

    def test_spares_what_is_not_turned_into_deliveries_yet(self, database: Engine, kept: list[Cursor]) -> None:
        run(
            database,
            "UPDATE fan_out SET transaction = %(t)s::text::xid8, id = %(id)s",
            t=str(kept[0][0]),
            id=kept[0][1],
        )
        reach = self.reach(database)
        assert reach is not None
        assert reach[1] == "fan_out"
        self.trim_log(database)
        assert everything(database) == kept[1:]

    def test_does_not_wait_for_readers_who_are_up_to_date(self, database: Engine, kept: list[Cursor]) -> None:
        self.mark(database, 31)
        reach = self.reach(database)
        assert reach is not None
        assert reach[0] > kept[-1]
        assert reach[1] is None

    def test_spares_what_is_still_to_be_delivered(self, database: Engine, kept: list[Cursor]) -> None:
        run(
            database,
            "INSERT INTO pending_deliveries (delivery_id, subscription_id, change_transaction, change_id, lane,"
            " available_at) VALUES (%(id)s, %(id)s, %(t)s::text::xid8, %(change)s, 0, now())",
            id=uuid4(),
            t=str(kept[2][0]),
            change=kept[2][1],
        )
        self.trim_log(database)
        assert everything(database) == kept[2:]

    def test_spares_what_a_transaction_wrote_that_was_open_at_the_mark(self, database: Engine) -> None:
        with database.connect() as slow:
            slow.exec_driver_sql(INSERT, {"type": "slow"})
            write(database, "quick")
            self.mark(database, 40)
            slow.commit()
        run(database, "UPDATE fan_out SET transaction = '999999999', id = 1")
        assert self.trim_log(database) == 0

    def test_forgets_the_marks_that_are_of_no_use(self, database: Engine) -> None:
        for days_ago in (50, 40, 31, 10):
            self.mark(database, days_ago)
        with database.begin() as connection:
            log_retention.delete_marks(connection, NOW - RETENTION)
            kept = connection.exec_driver_sql("SELECT at FROM change_marks ORDER BY at").scalars().all()
        assert kept == [NOW - timedelta(days=31), NOW - timedelta(days=10)]

    def test_costs_as_much_as_it_takes(self, database: Engine) -> None:
        run(database, "INSERT INTO state_changes (type, source_id) SELECT 'any', 1 FROM generate_series(1, 20000)")
        self.mark(database, 40)
        run(database, "UPDATE fan_out SET transaction = '999999999', id = 1")
        run(database, "ANALYZE state_changes")
        reach = self.reach(database)
        assert reach is not None
        with database.begin() as connection:
            assert log_retention.delete_before(connection, reach[0], limit=100) == 100
            assert rows_read(connection) < 500


def test_everything_is_wanted_unless_something_is_asked_for(varied: Engine) -> None:
    assert len(read(varied, wanted=EVERYTHING, limit=500).changes) == len(everything(varied))
