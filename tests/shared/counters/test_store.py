"""The counters equal a recount of all events, for any batches, repetitions and workers."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from shared import ids
from shared.alerts.kinds import events, receipts
from shared.counters import store as counts
from shared.counters.store import Tally
from shared.messages import rebuild
from shared.messages import store as state
from shared.messages.state import RANKS, STATUS_EFFECTS
from shared.messages.store import NewEvent
from shared.receipts.store import Refusal, record_refusals
from shared.rules.model import tallies
from shared.sources import store as sources
from shared.vocabulary import CHANGE_TYPES, EventType
from tests.support.threads import run_together

NOW = datetime.now(UTC)
TABLES = "events, event_keys, messages, recipient_states, state_changes, minute_counts"
DAY = 24 * 3600
EVERYTHING = tallies([])
BY_ALL = tuple(Tally(dimension, kind) for dimension in ("", "recipient_domain", "sender_domain", "tenant") for kind in
               EventType)  # fmt: skip

no_deadline = settings(
    max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


class Happening(NamedTuple):
    """An event with its key."""

    number: int
    source: int
    kind: EventType
    seconds_ago: int
    sender: str | None
    recipient: str | None
    tenant: str | None


happenings = st.builds(
    Happening,
    number=st.integers(0, 30),
    source=st.integers(1, 2),
    kind=st.sampled_from([EventType.DELIVERED, EventType.BOUNCED, EventType.DEFERRED, EventType.DOMAIN_DNS_ERROR]),
    seconds_ago=st.integers(-300, 6 * DAY) | st.integers(8 * DAY, 9 * DAY) | st.integers(0, 200),
    sender=st.sampled_from(["a@Shop.example", '"a@b"@shop.example', "debug", "a@", None]),
    recipient=st.sampled_from(["ann@example.net", "bob@example.org", None]),
    tenant=st.sampled_from(["acme", "t" * 300, None]),
)
stories = st.lists(happenings, min_size=1, max_size=25, unique_by=lambda found: found.number)


def row(happening: Happening, receipt: UUID, position: int) -> NewEvent:
    weight, status = STATUS_EFFECTS[happening.kind]
    is_dns = happening.kind is EventType.DOMAIN_DNS_ERROR
    return NewEvent(
        id=ids.event_id(receipt, position),
        receipt_id=receipt,
        source_id=happening.source,
        key=f"{happening.number:032x}",
        key_minute=0,
        type=happening.kind,
        message_key=None if is_dns else f"{happening.number % 3:032x}",
        recipient=happening.recipient,
        occurred_at=NOW - timedelta(seconds=happening.seconds_ago),
        received_at=NOW,
        sender=happening.sender,
        subject=None,
        provider_message_id=None,
        request_id=None,
        smtp_id=None,
        tenant=happening.tenant,
        tag=None,
        campaign=None,
        classification=None,
        smtp_status=None,
        enhanced_code=None,
        reason=None,
        data='{"details": {"domain": "DNS.example"}}' if is_dns else "{}",
        provider_object="{}",
        object_at=None,
        object_length=None,
        weight=int(weight),
        rank=RANKS[status] if status else -1,
        status=status,
        change_type=CHANGE_TYPES[happening.kind],
    )


def receipts_of(batches: Sequence[Sequence[Happening]]) -> list[list[NewEvent]]:
    made = []
    for batch in batches:
        receipt = ids.receipt_id(NOW)
        made.append([row(happening, receipt, position) for position, happening in enumerate(batch)])
    return made


def apply(database: Engine, rows: Sequence[NewEvent], counted: Sequence[Tally] = BY_ALL) -> None:
    with database.begin() as connection:
        state.apply(connection, rows, counted)


def domain_of(address: str | None) -> str | None:
    return (address.rpartition("@")[2].lower() or None) if address and "@" in address else None


def expected(story: Sequence[Happening]) -> Counter[tuple[Any, ...]]:
    """Expect counts from the given events, not from the stored ones."""
    found: Counter[tuple[Any, ...]] = Counter()
    for happening in story:
        at = NOW - timedelta(seconds=max(happening.seconds_ago, 0))
        if NOW - at >= timedelta(days=7):
            continue
        is_dns = happening.kind is EventType.DOMAIN_DNS_ERROR
        values = {
            "": "",
            "tenant": happening.tenant and happening.tenant[:255],
            "sender_domain": "dns.example" if is_dns else domain_of(happening.sender),
            "recipient_domain": domain_of(happening.recipient),
        }
        minute = at.replace(second=0, microsecond=0)
        for dimension, value in values.items():
            if value is not None:
                found[dimension, minute, happening.source, value, str(happening.kind)] += 1
    return found


def counted(database: Engine, *, by_hour: bool = False) -> Counter[tuple[Any, ...]]:
    unit = "hour" if by_hour else "minute"
    with database.connect() as connection:
        rows = connection.exec_driver_sql(
            f"SELECT dimension, date_trunc('{unit}', minute), source_id, value, type, sum(count)::int"
            " FROM minute_counts WHERE dimension <> 'refusals' GROUP BY 1, 2, 3, 4, 5"
        )
        return Counter({tuple(row[:-1]): row[-1] for row in rows})


def recount(database: Engine) -> Counter[tuple[Any, ...]]:
    """Of the events, for each source."""
    with database.connect() as connection:
        rows = connection.exec_driver_sql(
            "SELECT '', date_trunc('minute', least(occurred_at, received_at)), source_id, '', type, count(*)::int"
            " FROM events WHERE least(occurred_at, received_at) > %(oldest)s GROUP BY 1, 2, 3, 4, 5",
            {"oldest": NOW - timedelta(days=7)},
        )
        return Counter({tuple(row[:-1]): row[-1] for row in rows})


def empty(database: Engine) -> None:
    with database.begin() as connection:
        connection.exec_driver_sql(f"TRUNCATE {TABLES}")


@given(stories, st.randoms(use_true_random=False))
@no_deadline
def test_every_event_counts_once_whatever_the_order_the_repetition_and_the_batches(database, story, random):
    empty(database)
    posted = story + random.choices(story, k=len(story))
    random.shuffle(posted)
    cuts = sorted(random.sample(range(len(posted)), k=min(3, len(posted))))
    batches = [posted[a:b] for a, b in zip([0, *cuts], [*cuts, len(posted)], strict=True)]
    for rows in receipts_of(batches):
        apply(database, rows)
    assert counted(database) == expected(story)
    assert Counter({key: n for key, n in counted(database).items() if key[0] == ""}) == recount(database)


@given(stories, st.randoms(use_true_random=False))
@settings(no_deadline, max_examples=20)
def test_every_event_counts_once_whichever_worker_is_first(database, story, random):
    empty(database)
    shares = [random.sample(story, k=len(story)) for _ in range(4)]

    def work(rows: list[NewEvent]) -> None:
        for half in (rows[::2], rows[1::2]):
            apply(database, half)

    run_together(*(partial(work, rows) for rows in receipts_of(shares)))
    assert counted(database) == expected(story)


@given(stories)
@settings(no_deadline, max_examples=25)
def test_adding_up_by_the_hour_changes_no_sum_and_can_be_repeated(database, story):
    empty(database)
    rows = receipts_of([story])[0]
    for part in (rows[::2], rows[1::2]):
        apply(database, part)
        with database.begin() as connection:
            counts.merge(connection, NOW)
    by_hour: Counter[tuple[Any, ...]] = Counter()
    for (dimension, minute, *rest), number in expected(story).items():
        by_hour[dimension, minute.replace(minute=0), *rest] += number
    assert counted(database, by_hour=True) == by_hour
    young = (NOW - counts.PER_MINUTE_FOR).replace(minute=0, second=0, microsecond=0)
    of_young = {key: n for key, n in expected(story).items() if key[1] >= young}
    assert {key: n for key, n in counted(database).items() if key[1] >= young} == of_young
    with database.connect() as connection:
        old = connection.exec_driver_sql(
            "SELECT count(*), count(*) FILTER (WHERE minute = date_trunc('hour', minute) AND shard = 0)"
            " FROM minute_counts WHERE minute < %(young)s",
            {"young": young},
        ).one()
    assert old[0] == old[1]


def happening(number: int, kind: EventType = EventType.DELIVERED, seconds_ago: int = 0, **more: Any) -> Happening:
    values = {"source": 1, "sender": "a@shop.example", "recipient": "ann@example.net", "tenant": "acme", **more}
    return Happening(number=number, kind=kind, seconds_ago=seconds_ago, **values)


def test_only_what_a_rule_asks_for_is_counted_by_tenants_and_domains(database):
    wanted = (*EVERYTHING, Tally("sender_domain", EventType.DOMAIN_DNS_ERROR))
    story = [happening(1), happening(2, EventType.DOMAIN_DNS_ERROR)]
    apply(database, receipts_of([story])[0], wanted)
    found = {(key[0], key[3], key[4]) for key in counted(database)}
    assert found == {
        ("", "", "delivered"),
        ("", "", "domain_dns_error"),
        ("sender_domain", "dns.example", "domain_dns_error"),
    }


def test_the_last_of_the_events_is_kept_as_evidence(database):
    [one, other] = receipts_of([[happening(1), happening(2)], [happening(3)]])
    apply(database, other, EVERYTHING)
    apply(database, one, EVERYTHING)
    with database.begin() as connection:
        greatest = "SELECT last_event_id FROM minute_counts"
        assert connection.exec_driver_sql(greatest).scalar_one() == max(row.id for row in (*one, *other))


def test_reprocessed_events_are_not_counted_again(database):
    [rows] = receipts_of([[happening(1), happening(2)]])
    apply(database, rows, EVERYTHING)
    before = counted(database)
    with database.begin() as connection:
        rebuild.delete_events(connection, rows[0].receipt_id)
        rebuild.insert_events(connection, rows)
    assert counted(database) == before


def test_old_counts_are_deleted(database):
    wanted = [Tally("recipient_domain", EventType.DELIVERED)]
    apply(database, receipts_of([[happening(1), happening(2, seconds_ago=6 * DAY)]])[0], wanted)
    with database.begin() as connection:
        counts.merge(connection, NOW)
        assert counts.delete_expired(connection, NOW) == 0
        assert counts.delete_expired(connection, NOW + timedelta(days=3)) == 1
    assert sum(counted(database).values()) == 1


def test_counts_of_all_events_are_kept_by_day_for_400_days(database):
    apply(database, receipts_of([[happening(1), happening(2, seconds_ago=6 * DAY)]])[0], EVERYTHING)
    with database.begin() as connection:
        assert counts.delete_expired(connection, NOW + timedelta(days=10)) == 0
        assert connection.scalar(text("SELECT count(*) FROM minute_counts WHERE extract(hour FROM minute) = 0")) == 2
        assert counts.delete_expired(connection, NOW + timedelta(days=401)) == 2
    assert not counted(database)


def test_what_was_set_aside_is_counted_for_good(database):
    story = [happening(number, EventType.UNKNOWN, seconds_ago=number * DAY) for number in range(1, 5)]
    apply(database, receipts_of([story])[0], [Tally(counts.SET_ASIDE, EventType.UNKNOWN)])
    assert set(counted(database).values()) == {4}, "by the time of their arrival"
    for days in (1, 20, 40):
        with database.begin() as connection:
            counts.merge(connection, NOW + timedelta(days=days))
            counts.delete_expired(connection, NOW + timedelta(days=days))
        assert [(key[0], key[3], number) for key, number in counted(database).items()] == [
            ("set_aside", "unknown_kind", 4)
        ]


def test_a_long_window_begins_at_a_full_hour_because_older_counts_do(database):
    noon = datetime(2026, 1, 1, 12, 34, 56, tzinfo=UTC)
    assert counts.window_start(noon, 60) == datetime(2026, 1, 1, 11, 34, tzinfo=UTC)
    assert counts.window_start(noon, 120) == datetime(2026, 1, 1, 10, 34, tzinfo=UTC)
    assert counts.window_start(noon, 121) == datetime(2026, 1, 1, 10, 0, tzinfo=UTC)


def test_what_crosses_no_threshold_is_not_even_read_but_for_what_fires(database):
    story = [happening(n, EventType.BOUNCED, recipient=f"a@d{n % 3}.example") for n in range(7)]
    with database.begin() as connection:
        sources.create(connection, slug="main", provider="cloudmailin", credentials=b"", settings={})
    apply(database, receipts_of([story])[0])
    asked = {
        "number": 0,
        "since": NOW - timedelta(hours=1),
        "per": "recipient_domain",
        "dimension": "recipient_domain",
        "events": ["bounced"],
        "volume": ["bounced", "delivered"],
        "min_events": 3,
        "min_percent": 5,
        "firing": ["d2.example", "gone.example"],
    }
    with database.begin() as connection:
        found = events.find_shares(connection, [asked])
    assert [(share.subject, share.events, share.volume) for share in found] == [
        ("d0.example", 3, 3),
        ("d2.example", 2, 2),
    ]


class TestRefusals:
    def refuse(self, database: Engine, source: str, at: datetime, number: int = 1, reason: str = "stale") -> None:
        refused = Refusal(
            id=ids.receipt_id(at),
            source=source,
            refused_at=at,
            status_code=401,
            reason=reason,
            detail="",
            remote_ip=None,
            headers="{}",
            bytes=1,
            count=number,
        )
        with database.begin() as connection:
            record_refusals(connection, [refused])

    def test_are_counted_once_however_often_and_however_late_it_is_done(self, database: Engine) -> None:
        with database.begin() as connection:
            made = sources.create(connection, slug="main", provider="cloudmailin", credentials=b"", settings={})
        at = NOW - timedelta(minutes=10)
        self.refuse(database, "main", at, 3)
        self.refuse(database, "nobody", at, 50)
        for _ in range(3):
            self.count(database, NOW - timedelta(minutes=9))
        self.refuse(database, "main", at + timedelta(seconds=61), 4)
        self.refuse(database, "main", at + timedelta(minutes=2), reason="too_large")
        self.count(database, NOW)
        earlier = (at + timedelta(minutes=1)).replace(second=0, microsecond=0)
        windows = [({}, 15), ({}, 2), ({"main": earlier}, 2), ({"other": earlier}, 2)]
        asked = [
            {"number": number, "since": NOW - timedelta(minutes=minutes), "usual_until": usual_until}
            for number, (usual_until, minutes) in enumerate(windows)
        ]
        with database.begin() as connection:
            found = receipts.find_refused(connection, asked, ["stale"])
        assert [tuple(one)[3:] for one in found] == [(7, 0), (0, 7), (0, 3), (0, 7)]
        assert {tuple(one)[1:3] for one in found} == {(made.id, "main")}

    def test_are_counted_beside_what_was_rejected_later(self, database: Engine) -> None:
        with database.begin() as connection:
            made = sources.create(connection, slug="main", provider="cloudmailin", credentials=b"", settings={})
            now: datetime = connection.exec_driver_sql("SELECT now()").scalar_one()
        self.refuse(database, "main", now - timedelta(minutes=20), 3)
        with database.begin() as connection:
            for _ in range(2):
                counts.count_rejection(connection, made.id, ids.receipt_id(now), "stale")
        asked = [{"number": 0, "since": now - timedelta(minutes=30), "usual_until": {}}]
        for _ in range(2):
            self.count(database, now)
            with database.begin() as connection:
                assert [one.requests for one in receipts.find_refused(connection, asked, ["stale"])] == [5]

    def count(self, database: Engine, now: datetime) -> None:
        with database.begin() as connection:
            counts.count_refusals(connection, now)
