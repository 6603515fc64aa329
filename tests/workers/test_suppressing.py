"""What comes due on the suppression list: judged once, by one worker, whatever dies meanwhile; and told once."""

import json
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.sources.source import Source
from shared.suppression import soft_bounce_store as bounces
from shared.suppression import soft_bounces
from shared.suppression import store as suppressions
from shared.suppression.store import Entry, NewEntry
from shared.vocabulary import ALL_MAIL, SuppressionOrigin, SuppressionReason
from tests.workers.workshop import Workshop
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
def source(workshop: Workshop) -> Source:
    return workshop.add_source("main", "mailchannels", {"customer_handles": ["acct"], "public_keys": {}})


def receive(
    workshop: Workshop, source: Source, numbers: Sequence[int], kind: str = "soft-bounced", recipient: str = ANN
) -> None:
    """Events of so many messages, one an hour, drained."""
    workshop.receive(source, json.dumps([event(kind, number, recipient) for number in numbers]).encode())
    draining.drain(workshop.ctx)


def entries(workshop: Workshop, recipient: str = ANN) -> list[Entry]:
    with workshop.ctx.engine.connect() as connection:
        return suppressions.find(connection, workshop.ctx.keys.of_address(recipient))


def checks(workshop: Workshop) -> int:
    found: int = workshop.rows("SELECT count(*) FROM soft_bounce_checks")[0][0]
    return found


def announced(workshop: Workshop) -> list[str]:
    return [change for change in workshop.changes() if change.startswith("suppression.")]


class TestJudging:
    def test_suppresses_whose_mail_bounced_and_looks_once_more_a_while_later(
        self, workshop: Workshop, source: Source
    ) -> None:
        receive(workshop, source, range(5))
        assert workers_suppressions.judge_due(workshop.ctx) == 1
        [entry] = entries(workshop)
        assert (entry.since, entry.expires_at) == (BEGIN + timedelta(hours=4), BEGIN + timedelta(days=30, hours=4))
        assert checks(workshop) == 1
        assert workers_suppressions.judge_due(workshop.ctx) == 0
        assert workers_suppressions.judge_due(workshop.ctx, datetime.now(UTC) + timedelta(minutes=6)) == 0
        assert checks(workshop) == 0
        assert entries(workshop) == [entry]

    def test_sees_a_delivery_that_was_being_written_when_it_decided(self, workshop: Workshop, source: Source) -> None:
        """That batch looked for an entry before there was one, and is committed after it."""
        receive(workshop, source, range(5))
        workshop.receive(source, json.dumps([event("delivered", 9, ANN)]).encode())
        with workshop.ctx.engine.begin() as other:
            decided = soft_bounces.decide(
                other, workshop.ctx.rules.rules(other).suppression, workshop.ctx.keys, {(ANN, "acct")}, NOW
            )
            draining.drain(workshop.ctx)
            soft_bounces.carry_out(other, decided, NOW)
        assert len(entries(workshop)) == 1
        workers_suppressions.judge_due(workshop.ctx, NOW + timedelta(minutes=6))
        assert entries(workshop) == []
        assert announced(workshop) == ["suppression.added", "suppression.removed"]

    def test_leaves_the_checks_of_a_worker_that_dies_to_the_next(self, workshop: Workshop, source: Source) -> None:
        receive(workshop, source, range(5))
        with workshop.ctx.engine.connect() as dying:
            assert bounces.alone(dying)
            assert bounces.take(dying, datetime.now(UTC), 100)[1] == {(ANN, "acct")}
            assert workers_suppressions.judge_due(workshop.ctx) == 0
        assert workers_suppressions.judge_due(workshop.ctx) == 1

    def test_by_many_workers_at_once_tells_everything_once(self, workshop: Workshop, source: Source) -> None:
        crowd = [f"c{number}@example.net" for number in range(30)]
        for recipient in crowd:
            receive(workshop, source, range(5), recipient=recipient)
        rims = [workshop.another_rim() for _ in range(3)]
        threads = [threading.Thread(target=workers_suppressions.judge_due, args=(ctx,)) for ctx in rims]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        workers_suppressions.judge_due(workshop.ctx)
        assert announced(workshop) == ["suppression.added"] * 30

    def test_goes_on_until_nobody_is_due(
        self, workshop: Workshop, source: Source, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(workers_suppressions, "_RECIPIENTS_AT_ONCE", 2)
        for number in range(5):
            receive(workshop, source, range(5), recipient=f"c{number}@example.net")
        assert workers_suppressions.judge_due(workshop.ctx) == 5

    def test_is_not_asked_for_by_deliveries_to_whom_the_rule_does_not_hold(
        self, workshop: Workshop, source: Source
    ) -> None:
        receive(workshop, source, range(20), kind="delivered")
        assert checks(workshop) == 0

    def test_of_a_delivery_ends_the_suppression(self, workshop: Workshop, source: Source) -> None:
        receive(workshop, source, range(5))
        workers_suppressions.judge_due(workshop.ctx)
        receive(workshop, source, [9], kind="delivered")
        assert workers_suppressions.judge_due(workshop.ctx) == 1
        assert entries(workshop) == []
        [(action, event_id)] = workshop.rows(
            "SELECT action, event_id FROM suppression_history ORDER BY id DESC LIMIT 1"
        )
        assert action == "lifted"
        assert workshop.rows("SELECT type FROM events WHERE id = %(id)s", id=event_id) == [("delivered",)]


class TestEnds:
    def add(self, workshop: Workshop, count: int) -> None:
        new = [
            NewEntry(
                key=workshop.ctx.keys.of_address(f"c{number}@example.net"),
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
        with workshop.ctx.engine.begin() as connection:
            suppressions.add(connection, new, NOW)

    def test_are_told_once_by_however_many_workers(self, workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(workers_suppressions, "_ENDS_AT_ONCE", 7)
        self.add(workshop, 40)
        assert workers_suppressions.expire_due(workshop.ctx) == 0
        rims = [workshop.another_rim() for _ in range(3)]
        then = NOW + timedelta(days=2)
        threads = [threading.Thread(target=workers_suppressions.expire_due, args=(ctx, then)) for ctx in rims]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        workers_suppressions.expire_due(workshop.ctx, then)
        assert announced(workshop).count("suppression.expired") == 40


class TestMaintenance:
    def test_lets_go_of_old_bounces_of_whom_nothing_is_held_against(self, workshop: Workshop, source: Source) -> None:
        receive(workshop, source, range(5))
        receive(workshop, source, range(4), recipient="bob@example.net")
        workers_suppressions.judge_due(workshop.ctx)
        workers_suppressions.maintain(workshop.ctx, NOW + timedelta(days=30))
        assert workshop.rows("SELECT count(*) FROM soft_bounces") == [(9,)]
        workers_suppressions.maintain(workshop.ctx, NOW + timedelta(days=60))
        assert workshop.rows("SELECT DISTINCT recipient FROM soft_bounces") == [(ANN,)]

    def test_looks_again_at_everybody_once_a_day(self, workshop: Workshop, source: Source) -> None:
        for number in range(20):
            receive(workshop, source, range(5), recipient=f"c{number}@example.net")
        workers_suppressions.judge_due(workshop.ctx)
        before = checks(workshop)
        for hour in range(24):
            workers_suppressions.maintain(workshop.ctx, NOW + timedelta(hours=hour))
        assert checks(workshop) == before + 20
