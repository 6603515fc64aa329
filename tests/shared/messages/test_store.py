"""The statement that folds a batch agrees with the pure fold, for any split over receipts and workers."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from sqlalchemy import Engine, select

from shared import ids
from shared.events.event import key_minute
from shared.messages import event_queries, rebuild
from shared.messages import store as state
from shared.messages.state import RANKS, STATUS_EFFECTS, Fact, State, fold
from shared.messages.store import NewEvent
from shared.messages.tables import MESSAGE_FIELDS, bit_of, events, value_of_event
from shared.sources import store as sources
from shared.vocabulary import CHANGE_TYPES, EventType
from tests.support.threads import run_together

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
MESSAGES = [f"{number:032x}" for number in (1, 2)]
RECIPIENTS = ["ann@example.net", "bob@example.net", None]
TABLES = "events, event_keys, messages, recipient_states, state_changes"

happened = st.tuples(
    st.integers(0, 25),  # the key
    st.sampled_from(EventType),
    st.integers(0, 4),  # seconds
    st.sampled_from(MESSAGES),
    st.sampled_from(RECIPIENTS),
)
stories = st.lists(happened, min_size=1, max_size=20).map(lambda found: list({h[0]: h for h in found}.values()))
no_deadline = settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def is_timed(number: int) -> bool:
    """Whether the event of that number has a time of its own; otherwise it has that of its arrival."""
    return number % 3 != 0


def row(happening: tuple[int, EventType, int, str, str | None], receipt: UUID, position: int) -> NewEvent:
    number, kind, second, message, recipient = happening
    weight, status = STATUS_EFFECTS[kind]
    at = BEGIN + timedelta(seconds=second)
    return NewEvent(
        id=ids.event_id(receipt, position),
        receipt_id=receipt,
        source_id=1,
        key=f"{number:032x}",
        key_minute=key_minute(at),
        type=kind,
        message_key=message,
        recipient=recipient,
        occurred_at=at,
        received_at=datetime.now(UTC) if is_timed(number) else at,
        sender="shop@example.com",
        subject=None,
        provider_message_id=None,
        request_id="r1",
        smtp_id=None,
        tenant=None,
        tag=None,
        campaign=None,
        classification=None,
        smtp_status=None,
        enhanced_code=None,
        reason=None,
        data="{}",
        provider_object='{"odd": "\\u0000"}',
        object_at=None,
        object_length=None,
        weight=int(weight),
        rank=RANKS[status] if status else -1,
        status=status,
        change_type=CHANGE_TYPES[kind],
    )


def receipts_of(batches: Sequence[Sequence[tuple[int, EventType, int, str, str | None]]]) -> list[list[NewEvent]]:
    made = []
    for batch in batches:
        receipt = ids.receipt_id(datetime.now(UTC))
        made.append([row(happening, receipt, position) for position, happening in enumerate(batch)])
    return made


def empty(database: Engine) -> None:
    with database.begin() as connection:
        connection.exec_driver_sql(f"TRUNCATE {TABLES}")


def expected(story: Sequence[tuple[int, EventType, int, str, str | None]]) -> dict[tuple[str, str], State]:
    facts: dict[tuple[str, str], list[Fact]] = defaultdict(list)
    for number, kind, second, message, recipient in story:
        fact = Fact(key=f"{number:032x}", type=kind, at=BEGIN + timedelta(seconds=second), timed=is_timed(number))
        facts[message, recipient or ""].append(fact)
    return {place: fold(found) for place, found in facts.items()}


def stored(database: Engine) -> dict[tuple[str, str], tuple[object, ...]]:
    with database.connect() as connection:
        rows = connection.exec_driver_sql(
            "SELECT m.key, recipient, status, status_at, status_key, opens, clicks, reads, opened_at, clicked_at,"
            " read_at, complained_at, unsubscribed_at, subscribed_at FROM recipient_states"
            " JOIN messages AS m ON m.id = message_id"
        )
        return {(r[0].hex, r[1]): (r[2], r[3], r[4].hex, *r[5:]) for r in rows}


def as_stored(state: State) -> tuple[object, ...]:
    assert state.claim
    return (
        state.status,
        state.claim.at,
        state.claim.key,
        len(state.opens),
        len(state.clicks),
        len(state.reads),
        state.opened_at,
        state.clicked_at,
        state.read_at,
        state.complained_at,
        state.unsubscribed_at,
        state.subscribed_at,
    )


def agrees(database: Engine, story: Sequence[tuple[int, EventType, int, str, str | None]]) -> None:
    assert stored(database) == {place: as_stored(state) for place, state in expected(story).items()}


@given(stories, st.randoms(use_true_random=False))
@no_deadline
def test_sql_and_function_agree_whatever_the_order_the_repetition_and_the_batches(database, story, random):
    empty(database)
    posted = story + random.choices(story, k=len(story))
    random.shuffle(posted)
    cuts = sorted(random.sample(range(len(posted)), k=min(3, len(posted))))
    batches = [posted[a:b] for a, b in zip([0, *cuts], [*cuts, len(posted)], strict=True)]
    for rows in receipts_of(batches):
        with database.begin() as connection:
            state.apply(connection, rows)
    agrees(database, story)


@given(stories, st.randoms(use_true_random=False))
@settings(no_deadline, max_examples=25)
def test_concurrent_workers_give_the_state_that_one_would(database, story, random):
    empty(database)
    shares = [random.sample(story, k=len(story)) for _ in range(4)]

    def work(rows: list[NewEvent]) -> None:
        for half in (rows[::2], rows[1::2]):
            with database.begin() as connection:
                state.apply(connection, half)

    run_together(*(partial(work, rows) for rows in receipts_of(shares)))
    agrees(database, story)


@given(stories)
@settings(no_deadline, max_examples=25)
def test_folding_again_gives_the_same_states(database, story):
    empty(database)
    for rows in receipts_of([story]):
        with database.begin() as connection:
            state.apply(connection, rows)
    with database.begin() as connection:
        found = state.find_ids(connection, MESSAGES)
        places = [(found[message].hex, recipient) for message, recipient in expected(story)]
        rebuild.rebuild_states(connection, places)
    agrees(database, story)


def test_a_change_is_logged_for_what_rose_and_for_every_remark(database):
    kinds = [EventType.QUEUED, EventType.DELIVERED, EventType.OPENED, EventType.OPENED]
    story = [(n, kind, n, MESSAGES[0], RECIPIENTS[0]) for n, kind in enumerate(kinds)]
    for rows in receipts_of([[happening] for happening in [story[1], story[0], story[2], story[3], story[2]]]):
        with database.begin() as connection:
            state.apply(connection, rows)
    with database.connect() as connection:
        logged = connection.exec_driver_sql(
            "SELECT type, status, previous_status, version FROM state_changes ORDER BY id"
        ).all()
    assert [tuple(change) for change in logged] == [
        ("message.delivered", "delivered", None, 1),
        ("message.opened", "delivered", "delivered", 2),
        ("message.opened", "delivered", "delivered", 3),
    ]


def test_an_event_is_new_once_however_often_it_stands_in_a_batch(database):
    happening = (1, EventType.DELIVERED, 0, MESSAGES[0], RECIPIENTS[0])
    [rows] = receipts_of([[happening, happening, happening]])
    with database.begin() as connection:
        assert state.apply(connection, rows) == (1, 1)
        assert state.apply(connection, rows) == (0, 0)


@given(
    st.lists(
        st.lists(st.sampled_from([None, "alpha", "bravo", "zulu"]), min_size=1, max_size=4), min_size=1, max_size=5
    )
)
@no_deadline
def test_whose_a_message_is_depends_on_no_order_and_two_who_are_named_share_nothing(database, batches):
    empty(database)
    happenings = [[(0, EventType.OPENED, 0, MESSAGES[0], None) for _ in batch] for batch in batches]
    numbers = iter(range(100))
    for batch, rows in zip(batches, receipts_of(happenings), strict=True):
        relabelled = [
            replace(row, tenant=who, key=f"{next(numbers):032x}") for who, row in zip(batch, rows, strict=True)
        ]
        with database.begin() as connection:
            state.apply(connection, relabelled)
    named = {who for batch in batches for who in batch} - {None}
    with database.connect() as connection:
        found = connection.exec_driver_sql("SELECT tenant FROM messages").scalar_one()
    assert found == (next(iter(named), None) if len(named) < 2 else state.AMBIGUOUS_TENANT)


named = st.fixed_dictionaries({name: st.sampled_from([None, "a", 'b"\\é']) for name in MESSAGE_FIELDS})
events_of_messages = st.lists(st.tuples(st.sampled_from(MESSAGES), named, st.booleans()), min_size=1, max_size=12)


Said = dict[str, dict[str, Any]]
"""What events say, by their keys."""


def rows_that_name(
    database: Engine, given: Sequence[tuple[str, Mapping[str, Any], bool]]
) -> tuple[list[NewEvent], Said]:
    """Events whose fields are these, some with a URL; and what each of them says."""
    with database.begin() as connection:
        if sources.find(connection, "main") is None:
            sources.create(connection, slug="main", provider="mailchannels", credentials=b"", settings={})
        source = sources.find(connection, "main")
        assert source is not None
    rows, said = [], {}
    for number, (message, fields, has_url) in enumerate(given):
        made = row((number, EventType.OPENED, 0, message, None), ids.receipt_id(datetime.now(UTC)), 0)
        bits = sum(bit_of(name) for name, value in fields.items() if value is not None)
        data = '{"url":"http://x.example"}' if has_url else "{}"
        rows.append(replace(made, source_id=source.id, data=data, message_fields=bits, **fields))
        said[made.key] = {**fields, "url": "http://x.example" if has_url else None}
    return rows, said


def repeated(row: NewEvent) -> NewEvent:
    """The same event in another receipt."""
    return replace(row, id=ids.event_id(ids.receipt_id(datetime.now(UTC)), 0))


def says_the_same(database: Engine, said: Said) -> int:
    """Check that the stored events say what they said; return their number."""
    values = [value_of_event(events, name).label(name) for name in MESSAGE_FIELDS]
    with database.connect() as connection:
        rows = connection.execute(select(events.c.id, events.c.key, *values)).all()
        found = {event.id: event for event in event_queries.list_by_ids(connection, [row.id for row in rows])}
    for id_, key, *fields in rows:
        expected = said[key.hex]
        assert {name: getattr(found[id_], name) for name in expected} == expected
        assert dict(zip(MESSAGE_FIELDS, fields, strict=True)).items() <= expected.items()
    return len(rows)


@given(events_of_messages, st.randoms(use_true_random=False))
@no_deadline
def test_an_event_says_what_it_said_whatever_the_others_of_its_message_say(database, given, random):
    empty(database)
    rows, said = rows_that_name(database, given)
    posted = rows + list(map(repeated, random.choices(rows, k=len(rows))))
    random.shuffle(posted)
    for first in range(0, len(posted), 3):
        with database.begin() as connection:
            state.apply(connection, posted[first : first + 3])
        says_the_same(database, said)
    assert says_the_same(database, said) == len(rows)


@given(events_of_messages)
@settings(no_deadline, max_examples=25)
def test_an_event_says_what_it_said_when_workers_store_at_once(database, given):
    empty(database)
    rows, said = rows_that_name(database, given)

    def work(share: Sequence[NewEvent]) -> None:
        for one in share:
            with database.begin() as connection:
                state.apply(connection, [repeated(one)])

    run_together(*(partial(work, rows[number:] + rows[:number]) for number in range(3)))
    assert says_the_same(database, said) == len(rows)


def test_what_the_message_says_is_not_repeated_in_its_events(database):
    empty(database)
    fields: dict[str, Any] = dict.fromkeys(MESSAGE_FIELDS, "a")
    other, less = fields | {"smtp_id": "b"}, fields | {"tag": None}
    rows, _ = rows_that_name(database, [(MESSAGES[0], one, False) for one in (fields, fields, other, less)])
    for one in rows:
        with database.begin() as connection:
            state.apply(connection, [one])
    with database.connect() as connection:
        stored = connection.exec_driver_sql("SELECT data::text FROM events ORDER BY key").scalars().all()
        assert connection.exec_driver_sql("SELECT first_values FROM messages").scalar_one() is None
    assert stored == ["{}", "{}", '{"smtp_id":"b"}', "{}"]


def test_an_event_that_changes_nothing_in_its_message_does_not_lock_it(database: Engine) -> None:
    first, second, earlier = (
        row((number, EventType.OPENED, seconds, MESSAGES[0], RECIPIENTS[0]), ids.receipt_id(datetime.now(UTC)), 0)
        for number, seconds in ((1, 3), (2, 3), (4, 1))
    )
    marks = []
    for event in (first, second, earlier):
        with database.begin() as connection:
            assert state.apply(connection, [event]).new_events == 1
        with database.begin() as connection:
            marks.append(
                connection.exec_driver_sql("SELECT xmin::text, xmax::text, first_event_at FROM messages").one()
            )
    assert marks[0] == marks[1], "neither updated nor locked"
    assert marks[2].first_event_at == earlier.occurred_at
