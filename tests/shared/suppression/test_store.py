"""The suppression list in PostgreSQL agrees with the pure policy, for any order of events and manual changes."""

import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from shared.errors import ConflictError
from shared.suppression import evaluator as suppression_evaluator
from shared.suppression import (
    queries as suppression_queries,
)
from shared.suppression import (
    soft_bounce_store,
)
from shared.suppression import soft_bounces as suppression_soft_bounces
from shared.suppression import (
    store as suppressions,
)
from shared.suppression.policy import Consequence, HardBounce, SoftBounces, SuppressionPolicy, Tenants
from shared.suppression.queries import SuppressionFilters
from shared.suppression.store import Entry, NewEntry
from shared.vocabulary import ALL_MAIL, Classification, EventType, MailType, SuppressionOrigin, SuppressionReason
from tests.support import suppression_cases
from tests.support.suppression_cases import ANN, BOB, KEYS, CaseEvent, Lifted, day
from tests.support.threads import run_together

E, C = EventType, Classification
POLICY = SuppressionPolicy()
BRIEF = SuppressionPolicy(
    hard_bounce=HardBounce(days=3),
    unsubscribe=Consequence(days=4),
    soft_bounce=SoftBounces(messages=2, within_days=5, days=(3, 5, None)),
)
STRICT = replace(POLICY, soft_bounce=SoftBounces(messages=2, within_days=5, days=(3, 5, None)))
END = 27
no_deadline = settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def empty(database: Engine) -> None:
    with database.begin() as connection:
        connection.exec_driver_sql(f"TRUNCATE {suppression_cases.TABLES}")


def apply_batch(database: Engine, story: Sequence[CaseEvent], now: datetime, policy: SuppressionPolicy = POLICY) -> int:
    """Do with a batch what a worker does."""
    found = suppression_cases.rows(story)
    with database.begin() as connection:
        suppression_cases.keep(connection, found)
        return suppression_evaluator.apply_events(connection, policy, KEYS, found, now)


def evaluate_soft_bounces(database: Engine, now: datetime, policy: SuppressionPolicy = POLICY) -> None:
    with database.begin() as connection:
        assert soft_bounce_store.try_lock(connection)
        _, places = soft_bounce_store.claim_scheduled(connection, now, 1000)
        decided = suppression_soft_bounces.decide(connection, policy, KEYS, places, now)
        suppression_soft_bounces.apply(connection, decided, now)


def lift(database: Engine, lifted: Lifted) -> list[Entry]:
    with database.begin() as connection:
        return suppressions.lift(
            connection,
            keys=[KEYS.hash_address(lifted.recipient)],
            tenant=lifted.tenant,
            reason=lifted.reason,
            actor="eve",
            note=None,
            now=day(lifted.at),
        )


def entries(database: Engine, recipient: str = ANN) -> list[Entry]:
    with database.connect() as connection:
        return suppression_queries.get_entries(connection, KEYS.hash_address(recipient))


def steps(database: Engine, recipient: str = ANN) -> list[str]:
    with database.connect() as connection:
        return [step.action for step in suppression_queries.list_history(connection, KEYS.hash_address(recipient))]


def changes(database: Engine) -> list[tuple[str, Any]]:
    """What was announced about suppressions."""
    with database.connect() as connection:
        rows = connection.exec_driver_sql("SELECT type, data FROM state_changes WHERE data IS NOT NULL ORDER BY id")
        return [(row[0], row[1]) for row in rows]


events = st.tuples(
    st.sampled_from(
        [
            (E.BOUNCED, C.INVALID_RECIPIENT),
            (E.BOUNCED, C.MAILBOX_FULL),
            (E.BOUNCED, C.SPAM_BLOCK),
            (E.FAILED, C.INVALID_DOMAIN),
            (E.DEFERRED, C.TRANSIENT_FAILURE),
            (E.DEFERRED, None),
            (E.REJECTED, C.INVALID_RECIPIENT),
            (E.DELIVERED, None),
            (E.COMPLAINED, None),
            (E.UNSUBSCRIBED, None),
            (E.UNSUBSCRIBED, None),
            (E.SUBSCRIBED, None),
        ]
    ),
    st.integers(0, 20),  # when it happened
    st.integers(-1, 6),  # how much later we received it; a provider's clock may be ahead
    st.sampled_from([ANN, ANN, BOB, None]),
    st.sampled_from([None, "acme"]),
    st.sampled_from([1, 2, 3, 4, None]),
)
tales = st.lists(events, min_size=1, max_size=25).map(
    lambda found: [
        CaseEvent(
            number=number,
            kind=kind,
            classification=why,
            at=at,
            received=max(0, at + late),
            recipient=recipient,
            tenant=tenant,
            message=message,
        )
        for number, ((kind, why), at, late, recipient, tenant, message) in enumerate(found, start=1)
    ]
)
soft_tales = st.lists(
    st.tuples(
        st.sampled_from([E.DEFERRED, E.DEFERRED, E.DEFERRED, E.DELIVERED]),
        st.integers(0, 20),
        st.integers(0, 6),
        st.integers(1, 12),
    ),
    min_size=2,
    max_size=25,
).map(
    lambda found: [
        CaseEvent(number=number, kind=kind, at=at, received=at + late, message=message)
        for number, (kind, at, late, message) in enumerate(found, start=1)
    ]
)
persons = st.lists(
    st.builds(
        Lifted,
        at=st.integers(0, 20).map(lambda at: at + 0.5),
        recipient=st.sampled_from([ANN, BOB]),
        tenant=st.sampled_from([None, None, "", "acme"]),
        reason=st.none()
        | st.sampled_from(
            [SuppressionReason.HARD_BOUNCE, SuppressionReason.UNSUBSCRIBE, SuppressionReason.SOFT_BOUNCE]
        ),
    ),
    max_size=2,
)


def play(
    database: Engine, story: Sequence[CaseEvent], lifted: Sequence[Lifted], policy: SuppressionPolicy, random: Any
):
    """Everything once and some of it twice, in a random order in which nothing is known before it was received."""
    timeline: list[tuple[float, CaseEvent | Lifted]] = [
        (min(END, one.received + random.choice([0, 0, 3, 20])), one)
        for one in [*story, *random.choices(story, k=len(story))]
    ]
    timeline += [(person.at, person) for person in lifted]
    random.shuffle(timeline)
    batch: list[CaseEvent] = []
    for at, what in [*sorted(timeline, key=lambda pair: pair[0]), (END, None)]:
        if batch and (not isinstance(what, CaseEvent) or random.random() < 0.4):
            apply_batch(database, batch, day(at), policy)
            batch = []
            if random.random() < 0.4:
                evaluate_soft_bounces(database, day(at), policy)
        if isinstance(what, Lifted):
            lift(database, what)
        elif isinstance(what, CaseEvent):
            batch.append(what)
    with database.begin() as connection:
        for hour in range(24):  # a day on which nothing happens
            soft_bounce_store.schedule_hourly_part(connection, day(END - 1 + hour / 24))
    evaluate_soft_bounces(database, day(END), policy)


def agrees(database: Engine, story: Sequence[CaseEvent], lifted: Sequence[Lifted], policy: SuppressionPolicy) -> None:
    with database.connect() as connection:
        found = suppression_cases.stored(connection, day(END))
    assert found == suppression_cases.expected(policy, story, lifted, day(END))


@given(tales, persons, st.sampled_from([STRICT, BRIEF]), st.randoms(use_true_random=False))
@settings(no_deadline, max_examples=40)
def test_any_order_repetition_and_batching_gives_the_entries_of_the_pure_rules(database, story, lifted, policy, random):
    empty(database)
    play(database, story, lifted, policy, random)
    agrees(database, story, lifted, policy)


@given(soft_tales, persons, st.randoms(use_true_random=False))
@no_deadline
def test_soft_bounces_suppress_as_long_whatever_became_known_first(database, story, lifted, random):
    empty(database)
    play(database, story, lifted, STRICT, random)
    agrees(database, story, lifted, STRICT)


@given(tales, st.randoms(use_true_random=False))
@settings(no_deadline, max_examples=25)
def test_concurrent_workers_give_the_entries_that_one_would(database, story, random):
    empty(database)
    run_together(*(partial(work, database, random.sample(story, k=len(story))) for _ in range(4)))
    evaluate_soft_bounces(database, day(END), STRICT)
    with database.begin() as connection:
        for hour in range(24):
            soft_bounce_store.schedule_hourly_part(connection, day(END - 1 + hour / 24))
    evaluate_soft_bounces(database, day(END), STRICT)
    agrees(database, story, [], STRICT)


@given(tales, st.randoms(use_true_random=False))
@settings(no_deadline, max_examples=25)
def test_an_address_lifted_while_workers_write_stays_lifted(database, story, random):
    """Whatever the workers had under way: it was all received before the lift."""
    empty(database)
    person = Lifted(at=END, recipient=ANN)
    workers = [partial(work, database, random.sample(story, k=len(story))) for _ in range(3)]
    run_together(*workers, partial(lift, database, person))
    evaluate_soft_bounces(database, day(END), STRICT)
    with database.connect() as connection:
        held = suppression_cases.stored(connection, day(END))
    assert not [place for place in held if place[0] == ANN]


def work(database: Engine, story: Sequence[CaseEvent]) -> None:
    """Do what one of several workers does, each with all events in a different order."""
    for part in (story[::3], story[1::3], story[2::3]):
        apply_batch(database, part, day(END), STRICT)


def bounce(number: int, recipient: str | None = ANN, at: float = 1, **others: Any) -> CaseEvent:
    others = {"received": at, "classification": C.INVALID_RECIPIENT, **others}
    return CaseEvent(number=number, kind=E.BOUNCED, recipient=recipient, at=at, **others)


def event(number: int, kind: EventType, at: float, **others: Any) -> CaseEvent:
    return CaseEvent(number=number, kind=kind, at=at, **{"received": at, **others})


def soft(number: int, at: float, **others: Any) -> CaseEvent:
    """A message of its own that bounced softly."""
    return event(number, E.DEFERRED, at, message=number, classification=C.MAILBOX_FULL, **others)


class TestEvents:
    def test_suppress_only_their_recipient(self, database):
        apply_batch(database, [bounce(1), event(2, E.DELIVERED, 1, recipient=BOB)], day(2))
        [entry] = entries(database)
        assert (entry.address, entry.reason, entry.tenant, entry.expires_at) == (ANN, "hard_bounce", "", None)
        assert entries(database, BOB) == []

    def test_without_a_recipient_suppress_no_address(self, database):
        assert apply_batch(database, [bounce(1, None), event(2, E.COMPLAINED, 1, recipient=None)], day(2)) == 0

    def test_of_unknown_messages_suppress_no_address(self, database):
        assert apply_batch(database, [bounce(1, message=None)], day(2)) == 0

    @pytest.mark.parametrize("recipient", ["undisclosed", "@example.net", "debug@", ""])
    def test_whose_recipient_is_not_an_address_suppress_no_address(self, database, recipient):
        assert apply_batch(database, [bounce(1, recipient)], day(2)) == 0

    def test_of_a_tenant_suppress_for_that_tenant_or_by_the_rules_for_all(self, database):
        apply_batch(database, [bounce(1, tenant="acme")], day(2))
        everyone = SuppressionPolicy(complaint=Consequence(tenants=Tenants.ALL))
        apply_batch(database, [event(2, E.COMPLAINED, 2, tenant="acme")], day(2), everyone)
        assert {(entry.tenant, entry.reason) for entry in entries(database)} == {
            ("acme", "hard_bounce"),
            ("", "complaint"),
        }

    def test_are_announced_once_with_the_entry_and_its_evidence(self, database):
        rows = suppression_cases.rows([bounce(1)])
        for _ in range(2):
            with database.begin() as connection:
                suppression_cases.keep(connection, rows)
                suppression_evaluator.apply_events(connection, POLICY, KEYS, rows, day(2))
        apply_batch(database, [bounce(1), bounce(2, at=3)], day(4))
        [(kind, data)] = changes(database)
        assert kind == "suppression.added"
        assert data == {
            "address": ANN,
            "domain": None,
            "tenant": None,
            "reason": "hard_bounce",
            "types": ["non_transactional", "transactional"],
            "classification": "invalid_recipient",
            "origin": "event",
            "source": None,
            "since": "2026-01-02T00:00:00.000000Z",
            "created_at": "2026-01-03T00:00:00.000000Z",
            "expires_at": None,
            "evidence_event_id": str(rows[0].id),
            "level": 1,
            "actor": None,
            "note": None,
        }
        assert steps(database) == ["added"]

    def test_of_a_bounce_received_late_replace_the_evidence_without_another_change(self, database):
        apply_batch(database, [bounce(1, at=5)], day(5))
        apply_batch(database, [bounce(2, at=3, received=6)], day(6))
        [entry] = entries(database)
        assert entry.since == day(3)
        assert steps(database) == ["added"]

    def test_that_make_a_suppression_longer_announce_that(self, database):
        apply_batch(database, [bounce(1, at=1)], day(1), BRIEF)
        apply_batch(database, [bounce(2, at=2)], day(2), BRIEF)
        assert [data["expires_at"] for _, data in changes(database)] == [
            "2026-01-05T00:00:00.000000Z",
            "2026-01-06T00:00:00.000000Z",
        ]

    def test_end_an_unsubscription_when_the_recipient_subscribes_again(self, database):
        apply_batch(database, [event(1, E.UNSUBSCRIBED, 1), bounce(2)], day(2))
        apply_batch(database, [event(3, E.SUBSCRIBED, 3)], day(3))
        assert [entry.reason for entry in entries(database)] == ["hard_bounce"]
        assert [kind for kind, _ in changes(database)] == ["suppression.added"] * 2 + ["suppression.removed"]
        apply_batch(database, [event(4, E.UNSUBSCRIBED, 2, received=4)], day(4))
        assert len(entries(database)) == 1
        apply_batch(database, [event(5, E.UNSUBSCRIBED, 5)], day(5))
        assert len(entries(database)) == 2

    def test_of_a_clock_that_is_ahead_are_not_believed_beyond_ours(self, database):
        apply_batch(database, [bounce(1, at=9, received=1)], day(1))
        [entry] = entries(database)
        assert entry.since == day(1)


class TestALift:
    def test_takes_the_entry_off_and_keeps_older_events_from_putting_it_back(self, database):
        apply_batch(database, [bounce(1)], day(2))
        [lifted] = lift(database, Lifted(at=3))
        assert (lifted.address, lifted.reason) == (ANN, "hard_bounce")
        apply_batch(database, [bounce(2, at=2, received=5), bounce(3, at=4, received=2)], day(5))
        assert entries(database) == []
        assert steps(database) == ["added", "lifted"]
        assert [kind for kind, _ in changes(database)] == ["suppression.added", "suppression.removed"]

    def test_does_not_prevent_later_events_from_suppressing_again(self, database):
        lift(database, Lifted(at=3))
        apply_batch(database, [bounce(1, at=4)], day(4))
        assert len(entries(database)) == 1

    def test_is_of_one_reason_and_tenant_if_given(self, database):
        apply_batch(database, [bounce(1), bounce(2, tenant="acme"), event(3, E.COMPLAINED, 1)], day(2))
        lift(database, Lifted(at=3, tenant="", reason=SuppressionReason.HARD_BOUNCE))
        assert {(entry.tenant, entry.reason) for entry in entries(database)} == {
            ("acme", "hard_bounce"),
            ("", "complaint"),
        }
        apply_batch(database, [bounce(4), bounce(5, tenant="other")], day(4))
        assert {entry.tenant for entry in entries(database)} == {"acme", "", "other"}
        assert [entry.reason for entry in entries(database) if entry.tenant == ""] == ["complaint"]

    def test_of_an_unsuppressed_address_is_stored_without_a_change(self, database):
        assert lift(database, Lifted(at=3)) == []
        assert changes(database) == []
        assert apply_batch(database, [bounce(1)], day(4)) == 0

    def test_leaves_others_alone(self, database):
        apply_batch(database, [bounce(1), bounce(2, BOB)], day(2))
        lift(database, Lifted(at=3))
        assert len(entries(database, BOB)) == 1


def new(
    address: str = ANN,
    reason: SuppressionReason = SuppressionReason.MANUAL,
    origin: SuppressionOrigin = SuppressionOrigin.PERSON,
    **others: Any,
) -> NewEntry:
    fields = {"types": ALL_MAIL, "since": day(1), "actor": "eve", **others}
    return NewEntry(
        key=KEYS.hash_address(address), address=address, domain=None, reason=reason, origin=origin, **fields
    )


def add(database: Engine, *found: NewEntry, now: float = 2) -> list[Entry]:
    with database.begin() as connection:
        return suppressions.add(connection, found, day(now))


def check(database: Engine, *addresses: str, now: float = 2, **others: Any) -> list[str]:
    """Return which of these addresses are suppressed."""
    keys = {KEYS.hash_address(address): address for address in addresses}
    keys |= {KEYS.hash_domain(address.rpartition("@")[2]): address for address in addresses}
    with database.connect() as connection:
        found = suppressions.check(connection, list(keys), day(now), **others)
    return sorted(keys[key] for key in found)


def waits_for_a_lock(database: Engine) -> bool:
    with database.connect() as connection:
        found = connection.exec_driver_sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
        return bool(found.scalar_one())


class TestALiftThatMustWait:
    def test_lifts_what_was_received_meanwhile_too(self, database):
        """A batch is being written, which has an event that came after the lift was asked for."""
        lifted: list[Entry] = []
        with database.begin() as batch:
            found = suppression_cases.rows([bounce(1)])
            suppression_cases.keep(batch, found)
            suppression_evaluator.apply_events(batch, POLICY, KEYS, found, day(2))
            lifting = threading.Thread(target=lambda: lifted.extend(self.lift_now(database)))
            lifting.start()
            while not waits_for_a_lock(database):
                time.sleep(0.01)
            received_at = datetime.now(UTC)
        lifting.join()
        assert [entry.reason for entry in lifted] == ["hard_bounce"]
        with database.connect() as connection:
            [found_lift] = suppression_queries.list_lifts(connection, [KEYS.hash_address(ANN)])
        assert found_lift.lifted_at > received_at

    def lift_now(self, database: Engine, address: str = ANN) -> list[Entry]:
        with database.begin() as connection:
            keys = [KEYS.hash_address(address)]
            return suppressions.lift(connection, keys=keys, tenant=None, reason=None, actor="eve", note=None)

    def test_does_not_for_an_import_and_neither_do_batches(self, database):
        apply_batch(database, [bounce(1, BOB)], day(2))
        with database.begin() as importing:
            crowd = [new(f"c{number}@example.net", origin=SuppressionOrigin.IMPORT) for number in range(300)]
            suppressions.add(importing, crowd, day(2))
            assert [entry.address for entry in self.lift_now(database, BOB)] == [BOB]
            assert apply_batch(database, [bounce(2)], day(3)) == 1
        assert len(check(database, "c1@example.net", ANN)) == 2

    def test_for_an_import_of_the_same_address_gives_up_and_says_why(self, database, monkeypatch):
        monkeypatch.setattr(suppressions, "IMPORT_WAIT_MS", 50)
        imported = new(origin=SuppressionOrigin.IMPORT)
        add(database, imported)
        with database.begin() as importing:
            suppressions.add(importing, [imported], day(2))
            with pytest.raises(ConflictError, match="import"):
                self.lift_now(database)
        assert check(database, ANN) == [ANN]
        assert len(self.lift_now(database)) == 1


class TestWhatIsImportedAgain:
    def test_keeps_an_entry_as_wide_as_it_was(self, database):
        add(database, new(origin=SuppressionOrigin.IMPORT, note="first"))
        narrow = new(
            origin=SuppressionOrigin.IMPORT, types=frozenset({MailType.NON_TRANSACTIONAL}), until=day(9), actor="eve"
        )
        assert add_united(database, narrow) == []
        [entry] = entries(database)
        assert (len(entry.types), entry.expires_at, entry.note) == (2, None, "first")

    def test_that_widens_an_entry_is_logged_as_a_change(self, database):
        one, other = [frozenset({kind}) for kind in MailType]
        add(database, new(origin=SuppressionOrigin.IMPORT, types=one, until=day(9)))
        [entry] = add_united(database, new(origin=SuppressionOrigin.IMPORT, types=other, until=day(8)))
        assert (len(entry.types), entry.expires_at, entry.created_at) == (2, day(9), day(2))
        [entry] = add_united(database, new(origin=SuppressionOrigin.IMPORT, types=other))
        assert (len(entry.types), entry.expires_at) == (2, None)
        assert steps(database) == ["added"] * 3

    def test_does_not_add_to_what_is_over(self, database):
        add(database, new(origin=SuppressionOrigin.IMPORT, until=day(3)))
        one = frozenset({MailType.TRANSACTIONAL})
        [entry] = add_united(database, new(origin=SuppressionOrigin.IMPORT, types=one, until=day(9)))
        assert (entry.types, entry.created_at) == (["transactional"], day(4))


def add_united(database: Engine, *found: NewEntry) -> list[Entry]:
    with database.begin() as connection:
        return suppressions.add(connection, found, day(4), merge=True)


class TestWhatPeopleAdd:
    def test_is_on_the_list_and_announced(self, database):
        [entry] = add(database, new(note="asked by telephone"))
        assert (entry.address, entry.reason, entry.actor, entry.note) == (ANN, "manual", "eve", "asked by telephone")
        assert [kind for kind, _ in changes(database)] == ["suppression.added"]
        with database.connect() as connection:
            [step] = suppression_queries.list_history(connection, KEYS.hash_address(ANN))
        assert (step.action, step.actor, step.note, step.at) == ("added", "eve", "asked by telephone", day(2))

    def test_again_is_no_news_and_otherwise_replaces_what_they_added(self, database):
        add(database, new())
        assert add(database, new()) == []
        [entry] = add(database, new(types=frozenset({MailType.NON_TRANSACTIONAL}), until=day(9)))
        assert (entry.types, entry.expires_at) == (["non_transactional"], day(9))
        assert len(entries(database)) == 1

    def test_stands_beside_what_events_say_and_is_not_changed_by_it(self, database):
        add(database, new(reason=SuppressionReason.HARD_BOUNCE, until=day(9)))
        apply_batch(database, [bounce(1)], day(2))
        assert {(entry.origin, entry.expires_at) for entry in entries(database)} == {
            ("person", day(9)),
            ("event", None),
        }

    def test_holds_although_it_was_lifted_before(self, database):
        lift(database, Lifted(at=3))
        assert len(add(database, new(since=day(1)), now=4)) == 1

    def test_twice_at_once_keeps_the_last(self, database):
        [entry] = add(database, new(note="first"), new(note="last"))
        assert entry.note == "last"

    def test_may_be_thousands_at_once(self, database):
        crowd = [new(f"c{number}@example.net") for number in range(3000)]
        assert len(add(database, *crowd)) == 3000
        assert len(changes(database)) == 3000


class TestAProvidersList:
    def test_is_taken_over_but_not_what_a_person_has_lifted_since(self, database):
        listed = new(reason=SuppressionReason.HARD_BOUNCE, origin=SuppressionOrigin.PROVIDER, since=day(1), actor=None)
        assert len(add(database, listed)) == 1
        lift(database, Lifted(at=3))
        assert add(database, listed, now=4) == []
        assert len(add(database, listed._replace(since=day(4)), now=5)) == 1


class TestACheck:
    def test_finds_the_address_however_it_is_written(self, database):
        apply_batch(database, [bounce(1)], day(2))
        assert check(database, "Ann <ANN@Example.NET> ") == ["Ann <ANN@Example.NET> "]
        assert check(database, BOB, "ann+news@example.net") == []

    def test_finds_the_domain_but_no_other_below_it(self, database):
        domain = NewEntry(
            key=KEYS.hash_domain("Example.NET"),
            address=None,
            domain="example.net",
            reason=SuppressionReason.MANUAL,
            types=ALL_MAIL,
            origin=SuppressionOrigin.PERSON,
            since=day(1),
        )
        add(database, domain)
        assert check(database, ANN, "eve@sub.example.net") == [ANN]

    def test_is_about_a_type_of_mail(self, database):
        apply_batch(database, [event(1, E.UNSUBSCRIBED, 1)], day(2))
        assert check(database, ANN, type=MailType.NON_TRANSACTIONAL) == [ANN]
        assert check(database, ANN, type=MailType.TRANSACTIONAL) == []

    def test_without_a_tenant_takes_every_tenants_entries(self, database):
        apply_batch(database, [bounce(1, tenant="acme")], day(2))
        apply_batch(database, [bounce(2, BOB)], day(2))
        assert check(database, ANN, BOB) == [ANN, BOB]
        assert check(database, ANN, BOB, tenant="acme") == [ANN, BOB]
        assert check(database, ANN, BOB, tenant="other") == [BOB]
        assert check(database, ANN, BOB, tenant="") == [BOB]

    def test_finds_nothing_that_is_over(self, database):
        add(database, new(until=day(9)))
        assert check(database, ANN, now=8.9) == [ANN]
        assert check(database, ANN, now=9) == []

    def test_lists_the_longest_lasting_entry_first(self, database):
        add(database, new(until=day(9)), new(reason=SuppressionReason.COMPLAINT, until=day(8)))
        apply_batch(database, [bounce(1)], day(2))
        with database.connect() as connection:
            found = suppressions.check(connection, [KEYS.hash_address(ANN)], day(2))
        [held] = found.values()
        assert [entry.reason for entry in held] == ["hard_bounce", "manual", "complaint"]


class TestAnEnd:
    def test_is_announced_once_and_the_entry_is_remembered(self, database):
        add(database, new(until=day(9)))
        with database.begin() as connection:
            assert suppressions.expire(connection, day(8)) == 0
            assert suppressions.expire(connection, day(9)) == 1
            assert suppressions.expire(connection, day(9)) == 0
        assert [kind for kind, _ in changes(database)] == ["suppression.added", "suppression.expired"]
        assert steps(database) == ["added", "expired"]
        [entry] = entries(database)
        assert (entry.expired_at, entry.is_active(day(9))) == (day(9), False)

    def test_is_shared_by_two_who_notice_it_at_once(self, database):
        add(database, *(new(f"c{number}@example.net", until=day(9)) for number in range(4)))
        with database.begin() as one, database.begin() as other:
            assert suppressions.expire(one, day(9), limit=3) == 3
            assert suppressions.expire(other, day(9), limit=3) == 1
        assert len(changes(database)) == 8

    def test_of_a_lifted_entry_is_no_news(self, database):
        add(database, new(until=day(9)))
        with database.begin() as connection:
            suppressions.expire(connection, day(9))
        assert lift(database, Lifted(at=10)) == []
        assert [kind for kind, _ in changes(database)] == ["suppression.added", "suppression.expired"]

    def test_is_no_end_if_it_is_added_again(self, database):
        add(database, new(until=day(9)))
        with database.begin() as connection:
            suppressions.expire(connection, day(9))
        [entry] = add(database, new(until=day(20), since=day(10)), now=10)
        assert (entry.since, entry.created_at, entry.expired_at) == (day(10), day(10), None)


class TestTheList:
    def page(self, database: Engine, now: float = 2, **wanted: Any) -> list[str | None]:
        with database.connect() as connection:
            found = suppression_queries.list_newest(connection, day(now), SuppressionFilters(**wanted))
        return [entry.address for entry in found.items]

    def test_can_be_asked_by_anything_that_an_entry_has(self, database):
        add(database, new(ANN, until=day(9)))
        of_tenant = new(
            BOB, reason=SuppressionReason.COMPLAINT, tenant="acme", types=frozenset({MailType.TRANSACTIONAL})
        )
        add(database, of_tenant, now=2.1)
        add(database, new("eve@other.example", origin=SuppressionOrigin.IMPORT), now=2.2)
        assert self.page(database) == ["eve@other.example", BOB, ANN]
        assert self.page(database, key=KEYS.hash_address(ANN)) == [ANN]
        assert self.page(database, domain="other.example") == ["eve@other.example"]
        assert self.page(database, reason=SuppressionReason.COMPLAINT) == [BOB]
        assert self.page(database, origin=SuppressionOrigin.IMPORT) == ["eve@other.example"]
        assert self.page(database, tenant="acme") == [BOB]
        assert self.page(database, type=MailType.NON_TRANSACTIONAL) == ["eve@other.example", ANN]
        assert self.page(database, now=10, active=True) == ["eve@other.example", BOB]
        assert self.page(database, now=10, active=False) == [ANN]

    def test_is_read_in_pages(self, database):
        for name in ("a", "b", "c"):
            add(database, new(f"{name}@example.net"))
        with database.connect() as connection:
            first = suppression_queries.list_newest(connection, day(2), SuppressionFilters(), limit=2)
            second = suppression_queries.list_newest(
                connection, day(2), SuppressionFilters(), after=first.next, limit=2
            )
        assert [len(first.items), len(second.items)] == [2, 1]
        assert second.next is None


class TestSoftBounces:
    def story(self, database: Engine, *timeline: CaseEvent, now: float = 10) -> list[Entry]:
        apply_batch(database, timeline, day(now))
        evaluate_soft_bounces(database, day(now))
        return entries(database)

    def test_of_five_messages_suppress_and_say_with_which_event(self, database):
        [entry] = self.story(database, *(soft(number, number) for number in range(1, 6)))
        assert (entry.reason, entry.since, entry.expires_at) == ("soft_bounce", day(5), day(35))
        assert (entry.classification, entry.level) == ("mailbox_full", 1)
        assert entry.evidence_event_id is not None
        [(kind, data)] = changes(database)
        assert (kind, data["evidence_event_id"]) == ("suppression.added", str(entry.evidence_event_id))

    def test_of_a_message_that_was_deferred_eighteen_times_count_once(self, database):
        tries = [soft(number, 1 + number / 10) for number in range(1, 19)]
        assert self.story(database, *(replace(one, message=1) for one in tries)) == []

    def test_of_greylisted_mail_that_was_delivered_never_suppress(self, database):
        timeline = [one for number in range(1, 9) for one in greylisted(number)]
        assert self.story(database, *timeline) == []
        assert self.story(database, *(soft(100 + number, 9 + number / 10) for number in range(4))) == []

    def test_do_not_suppress_if_the_mailbox_took_other_mail_meanwhile(self, database):
        timeline = [soft(number, number) for number in range(1, 6)]
        assert self.story(database, *timeline, event(9, E.DELIVERED, 3.5, message=9)) == []

    def test_disproved_by_a_delivery_received_late_are_withdrawn(self, database):
        self.story(database, *(soft(number, number) for number in range(1, 6)))
        assert self.story(database, event(9, E.DELIVERED, 3.5, message=9, received=11), now=11) == []
        assert steps(database) == ["added", "withdrawn"]
        assert changes(database)[-1][0] == "suppression.removed"

    @pytest.mark.parametrize("recipient", [ANN, None])
    def test_suppress_no_longer_when_mail_is_delivered_after_all(self, database, recipient):
        self.story(database, *(soft(number, number) for number in range(1, 6)))
        timeline = [event(8, E.QUEUED, 11, message=9), event(9, E.DELIVERED, 11, message=9, recipient=recipient)]
        assert self.story(database, *timeline, now=11) == []
        assert steps(database) == ["added", "lifted"]

    def test_that_became_known_late_suppress_all_the_same(self, database):
        self.story(database, *(soft(number, number, received=10) for number in (1, 2, 4, 5)))
        [entry] = self.story(database, soft(3, 3, received=20), now=20)
        assert entry.since == day(5)

    def test_suppress_the_second_time_for_ninety_days(self, database):
        self.story(database, *(soft(number, number) for number in range(1, 6)))
        with database.begin() as connection:
            suppressions.expire(connection, day(36))
        [entry] = self.story(database, *(soft(number, 30 + number) for number in range(6, 11)), now=41)
        assert (entry.level, entry.since, entry.expires_at) == (2, day(40), day(130))
        assert steps(database) == ["added", "expired", "added"]

    def test_that_a_person_lifted_do_not_count_again(self, database):
        self.story(database, *(soft(number, number) for number in range(1, 6)))
        lift(database, Lifted(at=11))
        assert self.story(database, soft(6, 12), now=12) == []
        [entry] = self.story(database, *(soft(number, 13) for number in range(7, 11)), now=13)
        assert (entry.level, entry.since) == (1, day(13))

    def test_of_a_period_that_was_over_before_it_was_known_make_the_next_longer_silently(self, database):
        [entry] = self.story(database, *(soft(number, number) for number in range(1, 6)), now=50)
        assert not entry.is_active(day(50))
        assert changes(database) == []
        [entry] = self.story(database, *(soft(number, 50 + number / 10) for number in range(6, 11)), now=51)
        assert entry.level == 2

    def test_of_one_tenant_do_not_count_for_another(self, database):
        timeline = [soft(number, number, tenant=("acme" if number % 2 else "other")) for number in range(1, 9)]
        assert self.story(database, *timeline) == []

    def test_are_deleted_when_old_unless_they_suppress_an_address(self, database):
        self.story(database, *(soft(number, number) for number in range(1, 6)))
        apply_batch(database, [soft(9, 5, recipient=BOB)], day(10))
        with database.begin() as connection:
            assert soft_bounce_store.delete_old(connection, day(20)) == 1
        with database.connect() as connection:
            assert set(soft_bounce_store.list_bounces(connection, [(ANN, ""), (BOB, "")])) == {(ANN, "")}

    def test_are_evaluated_by_one_at_a_time(self, database):
        with database.begin() as one, database.begin() as other:
            assert soft_bounce_store.try_lock(one)
            assert not soft_bounce_store.try_lock(other)

    def test_of_somebody_erased_neither_lift_nor_renew_what_there_is(self, database):
        self.story(database, *(soft(number, number) for number in range(1, 6)))
        with database.begin() as connection:
            connection.exec_driver_sql("UPDATE suppressions SET address = NULL")
            connection.exec_driver_sql("DELETE FROM soft_bounces")
        [entry] = self.story(database, soft(7, 12), now=12)
        assert (entry.address, entry.expires_at) == (None, day(35))


def greylisted(number: int) -> tuple[CaseEvent, CaseEvent]:
    return soft(number, number), event(100 + number, E.DELIVERED, number + 0.1, message=number)


def test_events_of_one_address_never_suppress_another(database):
    """One recipient's events never touch another's, though they share a message."""
    kinds = [(E.BOUNCED, C.INVALID_RECIPIENT), (E.COMPLAINED, None), (E.UNSUBSCRIBED, None)]
    timeline = [event(number, kind, 1, classification=why) for number, (kind, why) in enumerate(kinds, start=1)]
    timeline += [event(20, E.DELIVERED, 1, recipient=BOB)]
    apply_batch(database, [*timeline, *(soft(number, number) for number in range(4, 10))], day(10))
    evaluate_soft_bounces(database, day(10))
    assert len(entries(database)) == 4
    assert entries(database, BOB) == []
