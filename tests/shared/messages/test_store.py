"""The statement that folds a batch agrees with the pure fold, for any split over receipts and workers."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import UUID

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from shared import ids
from shared.events.event import key_minute
from shared.messages import rebuild
from shared.messages import store as state
from shared.messages.state import RANKS, STATUS_EFFECTS, Fact, State, fold
from shared.messages.store import NewEvent
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
            row._replace(tenant=who, key=f"{next(numbers):032x}") for who, row in zip(batch, rows, strict=True)
        ]
        with database.begin() as connection:
            state.apply(connection, relabelled)
    named = {who for batch in batches for who in batch} - {None}
    with database.connect() as connection:
        found = connection.exec_driver_sql("SELECT tenant FROM messages").scalar_one()
    assert found == (next(iter(named), None) if len(named) < 2 else state.AMBIGUOUS_TENANT)


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
