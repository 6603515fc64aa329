"""Suppressions that come due are evaluated once, by one worker, whatever dies meanwhile, and logged once."""

import json
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.sources.source import Source
from shared.suppression import queries as suppression_queries
from shared.suppression import soft_bounce_store as bounces
from shared.suppression import soft_bounces
from shared.suppression import store as suppressions
from shared.suppression.store import Entry, NewEntry
from shared.vocabulary import ALL_MAIL, SuppressionOrigin, SuppressionReason
from tests.support.system import System
from workers import process_receipts as draining
from workers import suppressions as workers_suppressions

ANN = "ann@example.net"
NOW = datetime.now(UTC)
BEGIN = NOW.replace(microsecond=0) - timedelta(days=5)


def event(kind: str, number: int, recipient: str) -> dict[str, Any]:
    return {
        "event": kind,
        "email": "shop@example.com",
        "customer_handle": "acct",
        "timestamp": int((BEGIN + timedelta(hours=number)).timestamp()),
        "request_id": f"m-{number}",
        "recipients": [recipient],
        "status": "4.2.2",
    }


@pytest.fixture
def source(system: System) -> Source:
    return system.add_source("main", "mailchannels", {"customer_handles": ["acct"], "public_keys": {}})


def receive(
    system: System, source: Source, numbers: Sequence[int], kind: str = "soft-bounced", recipient: str = ANN
) -> None:
    """Process events of `count` messages, one an hour."""
    system.store_receipt(source, json.dumps([event(kind, number, recipient) for number in numbers]).encode())
    draining.process_due(system.ctx)


def entries(system: System, recipient: str = ANN) -> list[Entry]:
    with system.ctx.engine.connect() as connection:
        return suppression_queries.get_entries(connection, system.ctx.hasher.hash_address(recipient))


def checks(system: System) -> int:
    found: int = system.rows("SELECT count(*) FROM soft_bounce_checks")[0][0]
    return found


def announced(system: System) -> list[str]:
    return [change for change in system.change_types() if change.startswith("suppression.")]


class TestJudging:
    def test_suppresses_whose_mail_bounced_and_looks_once_more_a_while_later(
        self, system: System, source: Source
    ) -> None:
        receive(system, source, range(5))
        assert workers_suppressions.evaluate_soft_bounces(system.ctx) == 1
        [entry] = entries(system)
        assert (entry.since, entry.expires_at) == (BEGIN + timedelta(hours=4), BEGIN + timedelta(days=30, hours=4))
        assert checks(system) == 1
        assert workers_suppressions.evaluate_soft_bounces(system.ctx) == 0
        assert workers_suppressions.evaluate_soft_bounces(system.ctx, datetime.now(UTC) + timedelta(minutes=6)) == 0
        assert checks(system) == 0
        assert entries(system) == [entry]

    def test_sees_a_delivery_that_was_being_written_when_it_decided(self, system: System, source: Source) -> None:
        """That batch looked for an entry before there was one, and is committed after it."""
        receive(system, source, range(5))
        system.store_receipt(source, json.dumps([event("delivered", 9, ANN)]).encode())
        with system.ctx.engine.begin() as other:
            decided = soft_bounces.decide(
                other, system.ctx.rules.rules(other).suppression, system.ctx.hasher, {(ANN, "acct")}, NOW
            )
            draining.process_due(system.ctx)
            soft_bounces.apply(other, decided, NOW)
        assert len(entries(system)) == 1
        workers_suppressions.evaluate_soft_bounces(system.ctx, NOW + timedelta(minutes=6))
        assert entries(system) == []
        assert announced(system) == ["suppression.added", "suppression.removed"]

    def test_leaves_the_checks_of_a_worker_that_dies_to_the_next(self, system: System, source: Source) -> None:
        receive(system, source, range(5))
        with system.ctx.engine.connect() as dying:
            assert bounces.try_lock(dying)
            assert bounces.claim_scheduled(dying, datetime.now(UTC), 100)[1] == {(ANN, "acct")}
            assert workers_suppressions.evaluate_soft_bounces(system.ctx) == 0
        assert workers_suppressions.evaluate_soft_bounces(system.ctx) == 1

    def test_by_many_workers_at_once_logs_every_change_once(self, system: System, source: Source) -> None:
        crowd = [f"c{number}@example.net" for number in range(30)]
        for recipient in crowd:
            receive(system, source, range(5), recipient=recipient)
        contexts = [system.add_worker() for _ in range(3)]
        threads = [threading.Thread(target=workers_suppressions.evaluate_soft_bounces, args=(ctx,)) for ctx in contexts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        workers_suppressions.evaluate_soft_bounces(system.ctx)
        assert announced(system) == ["suppression.added"] * 30

    def test_continues_until_no_recipient_is_due(self, system: System, source: Source) -> None:
        for number in range(5):
            receive(system, source, range(5), recipient=f"c{number}@example.net")
        assert workers_suppressions.evaluate_soft_bounces(system.ctx, batch_size=2) == 5

    def test_is_not_caused_by_deliveries_to_recipients_without_the_rule(self, system: System, source: Source) -> None:
        receive(system, source, range(20), kind="delivered")
        assert checks(system) == 0

    def test_of_a_delivery_ends_the_suppression(self, system: System, source: Source) -> None:
        receive(system, source, range(5))
        workers_suppressions.evaluate_soft_bounces(system.ctx)
        receive(system, source, [9], kind="delivered")
        assert workers_suppressions.evaluate_soft_bounces(system.ctx) == 1
        assert entries(system) == []
        [(action, event_id)] = system.rows("SELECT action, event_id FROM suppression_history ORDER BY id DESC LIMIT 1")
        assert action == "lifted"
        assert system.rows("SELECT type FROM events WHERE id = %(id)s", id=event_id) == [("delivered",)]


class TestEnds:
    def add(self, system: System, count: int) -> None:
        new = [
            NewEntry(
                key=system.ctx.hasher.hash_address(f"c{number}@example.net"),
                address=f"c{number}@example.net",
                domain=None,
                reason=SuppressionReason.MANUAL,
                types=ALL_MAIL,
                origin=SuppressionOrigin.PERSON,
                since=BEGIN,
                until=NOW + timedelta(days=1),
            )
            for number in range(count)
        ]
        with system.ctx.engine.begin() as connection:
            suppressions.add(connection, new, NOW)

    def test_are_logged_once_by_any_number_of_workers(self, system: System) -> None:
        self.add(system, 40)
        assert workers_suppressions.expire_due(system.ctx) == 0
        contexts = [system.add_worker() for _ in range(3)]
        then = NOW + timedelta(days=2)
        threads = [
            threading.Thread(target=workers_suppressions.expire_due, args=(ctx, then), kwargs={"batch_size": 7})
            for ctx in contexts
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        workers_suppressions.expire_due(system.ctx, then)
        assert announced(system).count("suppression.expired") == 40


class TestMaintenance:
    def test_deletes_old_bounces_of_unsuppressed_recipients(self, system: System, source: Source) -> None:
        receive(system, source, range(5))
        receive(system, source, range(4), recipient="bob@example.net")
        workers_suppressions.evaluate_soft_bounces(system.ctx)
        workers_suppressions.maintain(system.ctx, NOW + timedelta(days=30))
        assert system.rows("SELECT count(*) FROM soft_bounces") == [(9,)]
        workers_suppressions.maintain(system.ctx, NOW + timedelta(days=60))
        assert system.rows("SELECT DISTINCT recipient FROM soft_bounces") == [(ANN,)]

    def test_looks_again_at_everybody_once_a_day(self, system: System, source: Source) -> None:
        for number in range(20):
            receive(system, source, range(5), recipient=f"c{number}@example.net")
        workers_suppressions.evaluate_soft_bounces(system.ctx)
        before = checks(system)
        for hour in range(24):
            workers_suppressions.maintain(system.ctx, NOW + timedelta(hours=hour))
        assert checks(system) == before + 20
