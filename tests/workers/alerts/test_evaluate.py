"""Alerts fire on the actual traffic and queues, once for each episode, whatever worker dies."""

import json
import random
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy.exc import OperationalError

from shared import ids
from shared.alerts import kinds
from shared.alerts import store as alerts
from shared.broker import SEND_NOTIFICATIONS
from shared.messages import announcements
from shared.messages.announcements import Send
from shared.providers.api.base import FailedDelivery
from shared.receipts import quarantine
from shared.receipts import store as receipts
from shared.receipts.store import Refusal, record_refusals
from shared.reconciliation import failed_deliveries
from shared.rules.reloader import RulesReloader
from shared.sources import store as sources
from shared.vocabulary import EventType
from simulator.mail import Happening, make_message
from simulator.providers.api import faults
from simulator.providers.ark.webhooks import Ark
from simulator.providers.mailchannels.webhooks import MailChannels
from tests.support.command_line import parse_command
from tests.support.provider_env import ProviderEnv, open_provider_env
from tests.support.signed_requests import read_payloads
from tests.support.system import System, mailchannels_event
from workers import process_receipts as draining
from workers import reprocess_receipts
from workers.alerts import evaluate
from workers.context import WorkerContext

LARGE = 1 << 30
CLOUDMAILIN = {"username": "user", "password": "secret"}
BOUNCES = "alerts:\n  - {name: bounces, kind: rate, rate: bounce, warning: 5 %, critical: 10 %, minimum_volume: 50}\n"

DELIVERED, BOUNCED, COMPLAINED = EventType.DELIVERED, EventType.BOUNCED, EventType.COMPLAINED


class Post:
    """A provider whose events happened when a test says so."""

    def __init__(self, system: System, slug: str = "main") -> None:
        self.system = system
        self.dialect = MailChannels(seed=len(slug))
        self.source = system.add_source(slug, "mailchannels", self.dialect.credentials())
        self._random = random.Random(slug)
        self._number = 0

    def bring(
        self, kind: EventType, count: int, *, at: datetime, sender: str = "a@shop.example", to: str = "post.example"
    ) -> list[UUID]:
        """Process receipts with this event for `count` messages, and return the messages."""
        happenings = []
        for _ in range(count):
            self._number += 1
            recipients = (f"customer.{self._number}@{to}",)
            message = make_message(
                self._random, self._number, sender=sender, recipients=recipients, subject="Invoice", submitted_at=at
            )
            happenings.append(Happening(kind=kind, at=at, message=message, recipients=recipients))
        brought = [
            self.system.store_receipt(self.source, self.dialect.body(happenings[n : n + 100]))
            for n in range(0, count, 100)
        ]
        draining.process_due(self.system.ctx)
        return brought


@pytest.fixture
def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def post(system: System) -> Post:
    return Post(system)


@pytest.fixture
def rules(system: System, tmp_path: Path) -> Callable[[str], None]:
    """Puts rules in force, for this worker and for those made after."""
    path = tmp_path / "rules.yaml"

    def put(text: str) -> None:
        path.write_text(text)
        configured = replace(system.ctx.settings, rules=path)
        system.ctx = replace(system.ctx, settings=configured, rules=RulesReloader(path, interval_seconds=0))

    put(BOUNCES)
    return put


def alert_steps(system: System) -> list[tuple[str, str, str, str]]:
    """Every step of every alert but daily reminders: rule, subject, step, severity."""
    return [
        tuple(row)
        for row in system.rows(
            "SELECT rule, subject, step, s.severity FROM alert_steps AS s JOIN alerts AS a ON a.id = alert_id"
            " WHERE step <> 'reminded' ORDER BY s.id"
        )
    ]


def logged(system: System) -> list[tuple[str, dict[str, Any]]]:
    """Changes about alerts."""
    return [
        (row[0], row[1])
        for row in system.rows("SELECT type, data FROM state_changes WHERE type LIKE 'alert.%%' ORDER BY id")
    ]


def channel(system: System, least: str = "warning") -> None:
    system.execute(
        "INSERT INTO alert_channels (name, kind, target, least_severity, created_at, updated_at)"
        " VALUES ('hook', 'webhook', '', %(least)s, now(), now())",
        least=least,
    )


@pytest.mark.usefixtures("rules")
class TestARate:
    def test_fires_once_escalates_once_and_is_resolved(self, system: System, post: Post, now: datetime) -> None:
        channel(system)
        post.bring(DELIVERED, 95, at=now)
        post.bring(BOUNCED, 5, at=now)
        for _ in range(3):
            evaluate.evaluate(system.ctx, now)
        assert alert_steps(system) == [("bounces", "main", "fired", "warning")]
        assert system.notifier.tasks.count(SEND_NOTIFICATIONS) == 1

        post.bring(BOUNCED, 10, at=now)
        for _ in range(3):
            evaluate.evaluate(system.ctx, now + timedelta(seconds=10))
        assert alert_steps(system)[1:] == [("bounces", "main", "escalated", "critical")]

        post.bring(DELIVERED, 600, at=now)
        evaluate.evaluate(system.ctx, now + timedelta(seconds=20))
        evaluate.evaluate(system.ctx, now + timedelta(minutes=5))
        assert len(alert_steps(system)) == 2
        evaluate.evaluate(system.ctx, now + timedelta(minutes=5, seconds=20))
        assert alert_steps(system)[2:] == [("bounces", "main", "resolved", "critical")]
        assert [kind for kind, _ in logged(system)] == ["alert.firing", "alert.firing", "alert.resolved"]
        assert system.rows("SELECT count(*) FROM alert_notices") == [(3,)]

    def test_says_what_it_was_judged_by_and_what_proves_it(self, system: System, post: Post, now: datetime) -> None:
        post.bring(DELIVERED, 927, at=now)
        (receipt,) = post.bring(BOUNCED, 73, at=now)
        evaluate.evaluate(system.ctx, now)
        with system.ctx.engine.connect() as connection:
            (alert,) = alerts.list_alerts(connection).items
            (step,) = alerts.list_steps(connection, alert.id)
        replies = alert.numbers.pop("replies")
        rate = "The bounce rate of source main is 7.3 % (73 of 1,000 in 60 minutes)"
        assert alert.summary == f"{rate}, most often {replies}; warning at 5 %."
        assert (alert.kind, alert.severity, alert.state, alert.source) == ("rate", "warning", "firing", "main")
        assert alert.numbers == {"percent": 7.3, "events": 73, "volume": 1000}
        assert alert.started_at == alert.judged_at == step.at == now
        assert alert.evidence_event_id
        assert ids.event_id(receipt, 0) <= alert.evidence_event_id <= ids.event_id(receipt, 100)
        assert (step.summary, step.numbers) == (alert.summary, alert.numbers | {"replies": replies})
        ((kind, data),) = logged(system)
        assert kind == "alert.firing"
        assert data["id"] == str(alert.id)
        assert (data["rule"], data["state"], data["source"]) == ("bounces", "firing", "main")
        assert data["started_at"] == now.isoformat().replace("+00:00", "Z")

    def test_updates_its_summary_while_it_fires(self, system: System, post: Post, now: datetime) -> None:
        post.bring(DELIVERED, 94, at=now)
        post.bring(BOUNCED, 6, at=now)
        evaluate.evaluate(system.ctx, now)
        post.bring(BOUNCED, 2, at=now)
        evaluate.evaluate(system.ctx, now + timedelta(seconds=10))
        assert system.rows("SELECT numbers->>'events', severity FROM alerts") == [("8", "warning")]
        post.bring(DELIVERED, 900, at=now)
        evaluate.evaluate(system.ctx, now + timedelta(seconds=20))
        [(numbers, calm_since)] = system.rows("SELECT numbers, calm_since FROM alerts")
        assert numbers["events"] == 8
        assert calm_since == now + timedelta(seconds=20)

    def test_is_judged_only_by_enough_mail_and_enough_bounces(self, system: System, post: Post, now: datetime) -> None:
        post.bring(BOUNCED, 49, at=now)
        evaluate.evaluate(system.ctx, now)
        assert not alert_steps(system)
        post.bring(DELIVERED, 1, at=now)
        evaluate.evaluate(system.ctx, now)
        assert alert_steps(system) == [("bounces", "main", "fired", "critical")]

    def test_does_not_end_because_nothing_is_sent_any_more_until_a_day_has_passed(
        self, system: System, post: Post, now: datetime
    ) -> None:
        post.bring(BOUNCED, 60, at=now)
        evaluate.evaluate(system.ctx, now)
        evaluate.evaluate(system.ctx, now + timedelta(hours=3))
        evaluate.evaluate(system.ctx, now + timedelta(hours=23, minutes=59))
        assert len(alert_steps(system)) == 1
        evaluate.evaluate(system.ctx, now + timedelta(hours=24))
        assert alert_steps(system)[1:] == [("bounces", "main", "resolved", "critical")]

    def test_that_is_over_is_no_news_for_an_hour_unless_it_becomes_worse(
        self, system: System, post: Post, rules: Any, now: datetime
    ) -> None:
        rules(BOUNCES.replace("50}", "50, window_minutes: 10}"))
        start = now - timedelta(hours=3)
        post.bring(DELIVERED, 94, at=start)
        post.bring(BOUNCED, 6, at=start)
        evaluate.evaluate(system.ctx, start + timedelta(minutes=1))
        calm = start + timedelta(minutes=20)
        post.bring(DELIVERED, 100, at=calm)
        evaluate.evaluate(system.ctx, calm)
        evaluate.evaluate(system.ctx, calm + timedelta(minutes=5))
        assert [step[2] for step in alert_steps(system)] == ["fired", "resolved"]

        again = start + timedelta(minutes=40)
        post.bring(DELIVERED, 94, at=again)
        post.bring(BOUNCED, 6, at=again)
        evaluate.evaluate(system.ctx, again)
        assert len(alert_steps(system)) == 2
        post.bring(BOUNCED, 50, at=again)
        evaluate.evaluate(system.ctx, again + timedelta(minutes=1))
        assert alert_steps(system)[2:] == [("bounces", "main", "fired", "critical")]

    @pytest.mark.parametrize(
        ("per", "subject"),
        [("all", ""), ("source", "main"), ("tenant", None), ("sender_domain", "bad.example"),
         ("recipient_domain", "full.example")],
    )  # fmt: skip
    def test_is_taken_together_as_the_rule_says(
        self, system: System, post: Post, rules: Any, now: datetime, per: str, subject: str | None
    ) -> None:
        rules(BOUNCES.replace("50}", f"50, per: {per}}}"))
        Post(system, "other").bring(DELIVERED, 60, at=now, sender="a@good.example", to="good.example")
        post.bring(BOUNCED, 60, at=now, sender="a@bad.example", to="full.example")
        evaluate.evaluate(system.ctx, now)
        [(rule, found, step, _)] = alert_steps(system)
        expected = post.dialect.credentials()["customer_handles"][0] if subject is None else subject
        assert (rule, found, step) == ("bounces", expected, "fired")
        [(source, tenant)] = system.rows("SELECT source_id, tenant FROM alerts")
        assert source == (None if per in ("all", "tenant") else post.source.id)  # both sources have the tenant
        assert tenant == (expected if per == "tenant" else None)

    def test_is_judged_for_the_sources_that_a_rule_names(
        self, system: System, post: Post, rules: Any, now: datetime
    ) -> None:
        rules(BOUNCES.replace("50}", "50, sources: [other]}"))
        post.bring(BOUNCED, 60, at=now)
        evaluate.evaluate(system.ctx, now)
        assert not alert_steps(system)

    def test_of_complaints_is_that_of_what_was_delivered(
        self, system: System, post: Post, rules: Any, now: datetime
    ) -> None:
        rules("alerts:\n  - {name: complaints, kind: rate, rate: complaint}\n")
        post.bring(DELIVERED, 1000, at=now - timedelta(hours=20))
        post.bring(COMPLAINED, 2, at=now)
        evaluate.evaluate(system.ctx, now)
        assert not alert_steps(system)
        post.bring(COMPLAINED, 1, at=now)
        evaluate.evaluate(system.ctx, now)
        assert alert_steps(system) == [("complaints", "main", "fired", "critical")]


@pytest.mark.usefixtures("rules")
class TestWhatIsOldNews:
    def test_events_from_before_the_window_do_not_count(self, system: System, post: Post, now: datetime) -> None:
        post.bring(BOUNCED, 100, at=now - timedelta(hours=2))
        evaluate.evaluate(system.ctx, now)
        assert not alert_steps(system)

    def test_processing_it_again_fires_nothing_again(self, system: System, post: Post, now: datetime) -> None:
        brought = post.bring(BOUNCED, 100, at=now)
        evaluate.evaluate(system.ctx, now)
        system.execute("DELETE FROM alerts")
        system.execute("DELETE FROM alert_steps")
        system.execute("DELETE FROM minute_counts")
        with system.ctx.engine.begin() as connection:
            assert receipts.queue_reprocessing(connection, brought) == len(brought)
        evaluate.evaluate(system.ctx, now + timedelta(hours=1))  # nor does it look as if they waited for so long
        reprocess_receipts.reprocess_due(system.ctx)
        evaluate.evaluate(system.ctx, now)
        assert not alert_steps(system)


class TestEvents:
    def test_fire_by_their_number_and_are_over_when_the_window_has_passed(
        self, system: System, rules: Any, now: datetime
    ) -> None:
        rules("alerts:\n  - {name: over, kind: event, types: [rate_limited], critical: 2, window_minutes: 10}\n")
        source = system.add_source("main", "cloudmailin", CLOUDMAILIN)
        for number in range(2):
            event = {"kind": "rate_limit", "recipient": f"{number}@example.net", "message_id": str(number)}
            system.store_receipt(source, json.dumps({"events": [event]}).encode())
            draining.process_due(system.ctx)
            evaluate.evaluate(system.ctx, now)
            assert len(alert_steps(system)) == number
        later = now + timedelta(minutes=12)
        evaluate.evaluate(system.ctx, later)
        evaluate.evaluate(system.ctx, later + timedelta(minutes=5))
        assert alert_steps(system) == [("over", "main", "fired", "critical"), ("over", "main", "resolved", "critical")]

    def test_about_a_domain_name_that_domain(self, system: System, now: datetime) -> None:
        source = system.add_source("main", "ark", Ark().credentials(), events_without_tenant="accept")
        body = read_payloads("ark")["dns"]
        event = json.loads(body) | {"dns_checked_at": now.timestamp()}
        system.store_receipt(source, json.dumps(event).encode())
        draining.process_due(system.ctx)
        evaluate.evaluate(system.ctx, now)
        assert alert_steps(system) == [("domain-dns-error", "shop.example", "fired", "warning")]
        assert system.rows("SELECT source_id FROM alerts") == [(source.id,)]


class TestSilence:
    RULE = "alerts:\n  - {name: silence, kind: silence, warning: 60, critical: 600, minimum_events: 100}\n"

    def test_of_a_source_that_was_active_fires_escalates_and_resolves_with_the_next_event(
        self, system: System, post: Post, rules: Any, now: datetime
    ) -> None:
        rules(self.RULE)
        post.bring(DELIVERED, 100, at=now)
        Post(system, "quiet").bring(DELIVERED, 99, at=now)
        system.add_source("never", "cloudmailin", CLOUDMAILIN)
        evaluate.evaluate(system.ctx, now + timedelta(minutes=59))
        assert not alert_steps(system)
        for minutes in (61, 300, 599, 601, 3000):
            evaluate.evaluate(system.ctx, now + timedelta(minutes=minutes))
            evaluate.maintain_counters(system.ctx, now + timedelta(minutes=minutes))
        assert [step[2:] for step in alert_steps(system)] == [("fired", "warning"), ("escalated", "critical")]
        assert {step[1] for step in alert_steps(system)} == {"main"}

    def test_ends_with_the_first_event_however_long_it_lasted(
        self, system: System, post: Post, rules: Any, now: datetime
    ) -> None:
        rules(self.RULE)
        post.bring(DELIVERED, 100, at=now)
        system.execute("UPDATE minute_counts SET minute = minute - interval '6 days', last_event_id = %(id)s",
                     id=ids.event_id(ids.receipt_id(now - timedelta(days=6)), 0))  # fmt: skip
        evaluate.evaluate(system.ctx, now)
        assert [step[2:] for step in alert_steps(system)] == [("fired", "critical")]
        post.bring(DELIVERED, 1, at=now - timedelta(hours=5))  # it is heard of, whatever it speaks of
        evaluate.evaluate(system.ctx, now + timedelta(minutes=1))
        evaluate.evaluate(system.ctx, now + timedelta(minutes=6))
        assert [step[2] for step in alert_steps(system)] == ["fired", "resolved"]
        assert system.rows("SELECT summary FROM alert_steps ORDER BY id DESC LIMIT 1") == [
            ("Source main has events again.",)
        ]

    def test_does_not_end_because_its_counts_are_forgotten(
        self, system: System, post: Post, rules: Any, now: datetime
    ) -> None:
        rules(self.RULE)
        post.bring(DELIVERED, 100, at=now)
        at = now
        for hours in range(0, 12 * 24, 7):
            at = now + timedelta(hours=hours)
            evaluate.evaluate(system.ctx, at)
            evaluate.maintain_counters(system.ctx, at)
        assert [step[2] for step in alert_steps(system)] == ["fired", "escalated"]
        [(silent,)] = system.rows("SELECT (numbers->>'silent_minutes')::int FROM alerts")
        assert timedelta(minutes=silent) >= at - now - timedelta(hours=7)
        system.execute(
            "INSERT INTO minute_counts SELECT '', %(at)s, %(source)s, '', 'delivered', 0, 1, %(event)s",
            at=at, source=post.source.id, event=ids.event_id(ids.receipt_id(at), 0),
        )  # fmt: skip
        for minutes in (1, 6):
            evaluate.evaluate(system.ctx, at + timedelta(minutes=minutes))
        assert [step[2] for step in alert_steps(system)] == ["fired", "escalated", "resolved"]

    def test_of_a_source_that_was_removed_is_forgotten_after_a_day(
        self, system: System, post: Post, rules: Any, now: datetime
    ) -> None:
        rules(self.RULE)
        post.bring(DELIVERED, 100, at=now)
        evaluate.evaluate(system.ctx, now + timedelta(hours=2))
        with system.ctx.engine.begin() as connection:
            sources.delete(connection, "main")
        evaluate.evaluate(system.ctx, now + timedelta(hours=27))
        assert [step[2] for step in alert_steps(system)] == ["fired", "resolved"]


def test_an_announced_message_without_events_fires_until_the_first(
    system: System, post: Post, rules: Any, now: datetime
) -> None:
    rules("alerts:\n  - {name: lost, kind: announced, after_minutes: 30, critical: 3}\n")
    deadline = now - timedelta(minutes=31)
    with system.ctx.engine.begin() as connection:
        for number, age in enumerate((31, 31, 40, 20, 60 * 25)):
            send = Send(source="main", sender="a@shop.example", recipients=["b@c.example"], request_id=f"r{number}")
            announcements.announce(connection, system.ctx.vault, send, now - timedelta(minutes=age))
    evaluate.evaluate(system.ctx, now)
    assert alert_steps(system) == [("lost", "main", "fired", "critical")]
    [(summary, numbers)] = system.rows("SELECT summary, numbers FROM alerts")
    assert "3 messages announced for source main without any event for 30 minutes" in summary
    assert numbers["messages"] == 3
    message = make_message(
        random.Random(1), 1, sender="a@shop.example", recipients=("b@c.example",), subject="", submitted_at=deadline
    )
    happening = Happening(
        kind=EventType.QUEUED, at=now, message=replace(message, request_id="r2"), recipients=("b@c.example",)
    )
    system.store_receipt(post.source, post.dialect.body([happening]))
    draining.process_due(system.ctx)
    evaluate.evaluate(system.ctx, now + timedelta(seconds=10))
    evaluate.evaluate(system.ctx, now + timedelta(seconds=10, minutes=5))
    assert [step[2] for step in alert_steps(system)] == ["fired", "resolved"]


@pytest.mark.usefixtures("post")
class TestRefusals:
    RULE = "alerts:\n  - {name: forged, kind: verification_failures, warning: 20, factor: 5}\n"

    def refuse(self, system: System, at: datetime, number: int, reason: str = "bad_signature") -> None:
        refused = Refusal(
            id=ids.receipt_id(at),
            source="main",
            refused_at=at,
            status_code=401,
            reason=reason,
            detail="",
            remote_ip=None,
            headers="{}",
            bytes=1,
            count=number,
        )
        with system.ctx.engine.begin() as connection:
            record_refusals(connection, [refused])

    def test_that_jump_fire(self, system: System, rules: Any, now: datetime) -> None:
        rules(self.RULE)
        self.refuse(system, now, 19)
        self.refuse(system, now, 100, "too_large")
        evaluate.evaluate(system.ctx, now)
        assert not alert_steps(system)
        self.refuse(system, now, 1)
        evaluate.evaluate(system.ctx, now)
        assert alert_steps(system) == [("forged", "main", "fired", "warning")]

    def test_that_are_usual_do_not(self, system: System, rules: Any, now: datetime) -> None:
        rules(self.RULE)
        for hour in range(24):
            at = now - timedelta(hours=24 - hour, minutes=-5)
            self.refuse(system, at, 32)  # 8 in 15 minutes
            evaluate.evaluate(system.ctx, at + timedelta(minutes=1))
        system.execute("DELETE FROM alert_steps")
        system.execute("DELETE FROM alerts")
        self.refuse(system, now, 30)
        evaluate.evaluate(system.ctx, now)
        assert not alert_steps(system)
        self.refuse(system, now, 20)
        evaluate.evaluate(system.ctx, now)
        assert [step[2] for step in alert_steps(system)] == ["fired"]

    def test_that_go_on_do_not_become_usual(self, system: System, rules: Any, now: datetime) -> None:
        rules(self.RULE)
        for quarter in range(8 * 4):
            at = now + timedelta(minutes=15 * quarter)
            self.refuse(system, at, 30)
            for minutes in (1, 7):
                evaluate.evaluate(system.ctx, at + timedelta(minutes=minutes))
            evaluate.maintain_counters(system.ctx, at)
        assert alert_steps(system) == [("forged", "main", "fired", "warning")]
        for minutes in (30, 35):
            evaluate.evaluate(system.ctx, at + timedelta(minutes=minutes))
        assert [step[2] for step in alert_steps(system)] == ["fired", "resolved"]

    def test_that_were_kept_apart_and_rejected_later_count(self, system: System, post: Post, rules: Any) -> None:
        rules(self.RULE)
        for number in range(20):
            receipt = system.quarantine(post.source, b"[%d]" % number, {}, key_id="nobody's")
            with system.ctx.engine.begin() as connection:
                quarantine.reject(connection, receipt, reason="unknown_key", detail="no such key")
                quarantine.reject(connection, receipt, reason="unknown_key", detail="it is rejected already")
        evaluate.evaluate(system.ctx)
        assert alert_steps(system) == [("forged", "main", "fired", "warning")]
        assert system.rows("SELECT numbers->>'requests' FROM alerts") == [("20",)]


def test_requests_that_cannot_be_verified_fire_until_none_waits(system: System, post: Post, now: datetime) -> None:
    receipt = system.quarantine(post.source, b"[]", {}, key_id="new")
    system.quarantine(post.source, b"[ ]", {}, key_id="new")
    now += timedelta(seconds=5)
    evaluate.evaluate(system.ctx, now + timedelta(minutes=9))
    assert not alert_steps(system)
    for minutes in (11, 40, 61):
        evaluate.evaluate(system.ctx, now + timedelta(minutes=minutes))
    assert alert_steps(system) == [
        ("unverified-age", "main", "fired", "warning"),
        ("unverified-age", "main", "escalated", "critical"),
    ]
    [(numbers,)] = system.rows("SELECT numbers FROM alerts")
    assert (numbers["reason"], numbers["receipt"]) == ("unknown_key", str(receipt))
    system.execute("DELETE FROM parked_receipts")
    for minutes in (62, 67):
        evaluate.evaluate(system.ctx, now + timedelta(minutes=minutes))
    assert [step[2] for step in alert_steps(system)] == ["fired", "escalated", "resolved"]


class TestTheQueue:
    RULE = "alerts:\n  - {name: late, kind: pending_age, warning: 60, critical: 600}\n"

    def test_whose_oldest_has_waited_long_fires_and_names_it(
        self, system: System, post: Post, rules: Any, now: datetime
    ) -> None:
        rules(self.RULE)
        receipt = system.store_receipt(post.source, b"[]")
        evaluate.evaluate(system.ctx, now + timedelta(seconds=50))
        assert not alert_steps(system)
        evaluate.evaluate(system.ctx, now + timedelta(seconds=70))
        assert alert_steps(system) == [("late", "", "fired", "warning")]
        [(numbers,)] = system.rows("SELECT numbers FROM alerts")
        assert (numbers["source"], numbers["receipt"]) == ("main", str(receipt))
        draining.process_due(system.ctx)
        evaluate.evaluate(system.ctx, now + timedelta(seconds=80))
        evaluate.evaluate(system.ctx, now + timedelta(seconds=80, minutes=5))
        assert [step[2] for step in alert_steps(system)] == ["fired", "resolved"]

    def test_that_is_long_because_much_is_processed_again_hides_nothing(
        self, system: System, post: Post, rules: Any, now: datetime
    ) -> None:
        rules(self.RULE)
        system.execute(
            "INSERT INTO pending_receipts (receipt_id, source_id, bytes, available_at, reprocess)"
            " SELECT lpad(to_hex(number), 32, '0')::uuid, %(source)s, 1, now(), true"
            " FROM generate_series(1, 100000) AS number",
            source=post.source.id,
        )
        receipt = system.store_receipt(post.source, b"[]")
        evaluate.evaluate(system.ctx, now + timedelta(seconds=70))
        assert alert_steps(system) == [("late", "", "fired", "warning")]
        assert system.rows("SELECT numbers->>'receipt' FROM alerts") == [(str(receipt),)]

    def test_whose_oldest_was_let_in_late_waits_since_then(
        self, system: System, post: Post, rules: Any, now: datetime
    ) -> None:
        rules(self.RULE)
        system.execute(
            "INSERT INTO pending_receipts (receipt_id, source_id, bytes, available_at)"
            " VALUES (%(id)s, %(source)s, 1, now())",
            id=ids.receipt_id(now - timedelta(days=1)),
            source=post.source.id,
        )
        evaluate.evaluate(system.ctx, now + timedelta(seconds=30))
        assert not alert_steps(system)
        system.execute("UPDATE pending_receipts SET attempts = 1")
        evaluate.evaluate(system.ctx, now + timedelta(seconds=30))
        assert alert_steps(system) == [("late", "", "fired", "critical")]


def test_dead_receipts_fire(system: System, post: Post, rules: Any, now: datetime) -> None:
    rules("alerts:\n  - {name: dead, kind: dead_receipts}\n")
    receipt = system.store_receipt(post.source, b"no JSON")
    draining.process_due(system.ctx)
    evaluate.evaluate(system.ctx, now)
    assert alert_steps(system) == [("dead", "main", "fired", "warning")]
    assert system.rows("SELECT numbers FROM alerts") == [({"receipts": 1, "last_receipt": str(receipt)},)]


def test_receipts_that_are_dead_again_when_they_are_processed_again_do_not_fire(
    system: System, post: Post, rules: Any, now: datetime
) -> None:
    rules("alerts:\n  - {name: dead, kind: dead_receipts}\n")
    receipt = system.store_receipt(post.source, b"no JSON")
    draining.process_due(system.ctx)
    with system.ctx.engine.begin() as connection:
        assert receipts.queue_reprocessing(connection, [receipt]) == 1
    reprocess_receipts.reprocess_due(system.ctx)
    assert system.receipt_state(receipt)[0] == "dead"
    evaluate.evaluate(system.ctx, now)
    assert not alert_steps(system)


def test_events_that_are_set_aside_fire_with_the_reason_and_what_to_do(
    system: System, post: Post, rules: Any, now: datetime
) -> None:
    rules("alerts:\n  - {name: aside, kind: set_aside}\n")
    foreign = {"event": "delivered", "customer_handle": "stranger", "timestamp": 1767225600, "request_id": "r-1"}
    source = system.add_source("mc", "mailchannels", {"customer_handles": ["acct"]})
    system.store_receipt(source, json.dumps([foreign, {"event": "delivered"}]).encode())
    draining.process_due(system.ctx)
    evaluate.evaluate(system.ctx, now)
    assert alert_steps(system) == [("aside", "mc", "fired", "warning")]
    [(summary, numbers)] = system.rows("SELECT summary, numbers FROM alerts")
    assert summary.startswith("2 events of source mc were set aside in 60 minutes: ")
    assert "customer_handle" in numbers["reason"]
    assert "tidings events --set-aside --source mc" in kinds.next_step("set_aside", source="mc")


def test_dead_deliveries_and_a_subscription_that_was_disabled_fire(system: System, rules: Any, now: datetime) -> None:
    rules(
        "alerts:\n  - {name: dead, kind: dead_deliveries}\n"
        "  - {name: off, kind: subscription_disabled, resolve_after_minutes: 0}\n"
    )
    subscription = system.insert_subscription()
    system.log_change()
    system.fan_out()
    system.execute("UPDATE deliveries SET status = 'dead', dead_at = now()")
    system.update_subscription(
        subscription, state="disabled", state_reason="the endpoint answered 410: it is gone for good"
    )
    evaluate.evaluate(system.ctx, now)
    name = str(subscription)
    assert alert_steps(system) == [("dead", name, "fired", "warning"), ("off", name, "fired", "critical")]
    system.update_subscription(subscription, state="active")
    evaluate.evaluate(system.ctx, now + timedelta(minutes=1))
    assert [step[:3] for step in alert_steps(system)][2:] == [("off", name, "resolved")]


def test_events_that_had_been_missing_fire_once_and_their_number_is_kept(
    system: System, post: Post, rules: Any, now: datetime
) -> None:
    rules("alerts:\n  - {name: missed, kind: reconciled, window_minutes: 10}\n")

    def fill(reference: str, new_events: int) -> None:
        system.execute(
            "INSERT INTO failed_deliveries (source_id, reference, failed_at, outcome, events, state, last_attempt_at,"
            " receipt_id, new_events, listed_at) VALUES (%(source)s, %(reference)s, %(now)s, '5xx', 9, 'recovered',"
            " %(now)s, %(receipt)s, %(new)s, %(now)s)",
            source=post.source.id, reference=reference, now=now, receipt=uuid4(), new=new_events,
        )  # fmt: skip

    fill("nothing", 0)
    evaluate.evaluate(system.ctx, now)
    assert not alert_steps(system)
    fill("a", 40)
    evaluate.evaluate(system.ctx, now)
    fill("b", 2)
    evaluate.evaluate(system.ctx, now + timedelta(seconds=10))
    evaluate.evaluate(system.ctx, now + timedelta(minutes=12))
    evaluate.evaluate(system.ctx, now + timedelta(minutes=17))
    assert [step[2] for step in alert_steps(system)] == ["fired", "resolved"]
    [(summary, numbers)] = system.rows("SELECT summary, numbers->>'events' FROM alerts")
    assert numbers == "42"
    assert summary.startswith("Reconciliation recovered 42 missing events of source main")


class TestReconciliation:
    @pytest.fixture
    def env(self, database_url: str) -> Iterator[ProviderEnv]:
        with open_provider_env(database_url, ["mc"]) as opened:
            yield opened

    def test_that_the_provider_refuses_fires_until_it_can_be_asked_again(self, env: ProviderEnv, now: datetime) -> None:
        env.accounts["mc"].faults.add(faults.failing(401), calls=3)
        for failures in range(3):
            assert not alert_steps(env.system), failures
            env.make_runs_due()
            env.reconcile()
            evaluate.evaluate(env.system.ctx, now)
        assert alert_steps(env.system) == [("reconciliation-failures", "mc", "fired", "warning")]
        [(summary,)] = env.system.rows("SELECT summary FROM alerts")
        assert "of source mc failed 3 times in a row" in summary
        assert "tidings sources rotate mc" in summary

        env.make_runs_due()
        env.reconcile()
        for minutes in (1, 6):
            evaluate.evaluate(env.system.ctx, now + timedelta(minutes=minutes))
        assert [step[2] for step in alert_steps(env.system)] == ["fired", "resolved"]

    def test_of_a_source_without_an_api_key_is_ignored(self, env: ProviderEnv, now: datetime) -> None:
        env.reconcile()
        env.system.execute("UPDATE reconciliations SET failures = 9, last_error = NULL")
        evaluate.evaluate(env.system.ctx, now)
        assert not alert_steps(env.system)

    def test_that_gives_something_up_fires_once(self, env: ProviderEnv, now: datetime) -> None:
        failed = env.send_during_outage("mc", env.make_play("mc"))
        env.accounts["mc"].faults.add(faults.failing(404), calls=1000, to="/resend")
        env.reconcile()
        assert env.failure_states("mc") == {"given_up"}
        evaluate.evaluate(env.system.ctx, now)
        evaluate.evaluate(env.system.ctx, now + timedelta(seconds=10))
        assert alert_steps(env.system) == [("given-up", "mc", "fired", "warning")]
        [(summary, numbers)] = env.system.rows("SELECT summary, numbers FROM alerts")
        assert numbers["deliveries"] == failed
        assert "The provider no longer has it" in summary
        for minutes in (62, 67):
            evaluate.evaluate(env.system.ctx, now + timedelta(minutes=minutes))
        assert [step[2] for step in alert_steps(env.system)] == ["fired", "resolved"]

    def test_that_brought_in_what_is_dead_gives_it_up(
        self, system: System, post: Post, rules: Any, now: datetime
    ) -> None:
        rules("alerts:\n  - {name: lost, kind: given_up}\n")
        receipt = system.store_receipt(post.source, b"no JSON")
        failure = FailedDelivery(
            reference="4711", failed_at=now - timedelta(days=1), outcome="5xx", status_code=503, events=9, url=None
        )
        with system.ctx.engine.begin() as connection:
            failed_deliveries.add(connection, post.source.id, [failure])
            failed_deliveries.mark_recovered(connection, post.source.id, "4711", receipt)
        draining.process_due(system.ctx)
        with system.ctx.engine.begin() as connection:
            failed_deliveries.settle(connection)
        evaluate.evaluate(system.ctx, now)
        assert alert_steps(system) == [("lost", "main", "fired", "warning")]


@pytest.mark.usefixtures("rules")
class TestTheRules:
    def test_that_are_refused_fire_and_the_old_ones_hold(self, system: System, post: Post, now: datetime) -> None:
        evaluate.evaluate(system.ctx, now)
        path = system.ctx.settings.rules
        assert path
        path.write_text(BOUNCES + "  - {name: f, kind: rules_refused, resolve_after_minutes: 0}\n")
        system.ctx = replace(system.ctx, rules=RulesReloader(path, interval_seconds=0))
        evaluate.evaluate(system.ctx, now)
        path.unlink()
        post.bring(BOUNCED, 60, at=now)
        evaluate.evaluate(system.ctx, now)
        assert sorted(alert_steps(system)) == [("bounces", "main", "fired", "critical"), ("f", "", "fired", "warning")]

    def test_that_are_gone_end_their_alerts(self, system: System, post: Post, rules: Any, now: datetime) -> None:
        post.bring(BOUNCED, 60, at=now)
        evaluate.evaluate(system.ctx, now)
        rules("alerts: []\n")
        evaluate.evaluate(system.ctx, now)
        assert [step[2] for step in alert_steps(system)] == ["fired", "resolved"]
        assert system.rows("SELECT summary FROM alert_steps ORDER BY id DESC LIMIT 1") == [
            ("The rule bounces is no longer in force.",)
        ]

    def test_of_the_api_are_judged_too(self, system: System, post: Post, now: datetime) -> None:
        definition = {"name": "mine", "kind": "rate", "rate": "bounce", "per": "recipient_domain", "warning": 50}
        with system.ctx.engine.begin() as connection:
            assert alerts.save_rule(connection, "mine", definition, "ann", now)
            assert not alerts.save_rule(connection, "mine", definition, "bob", now)
        post.bring(BOUNCED, 60, at=now)
        evaluate.evaluate(system.ctx, now)
        assert ("mine", "post.example", "fired", "warning") in alert_steps(system)
        with system.ctx.engine.begin() as connection:
            (kept,) = alerts.list_rules(connection)
            assert (kept.name, kept.definition, kept.created_by) == ("mine", definition, "ann")
            assert alerts.delete_rule(connection, "mine")
            assert not alerts.delete_rule(connection, "mine")
        evaluate.evaluate(system.ctx, now)
        assert ("mine", "post.example", "resolved", "warning") in alert_steps(system)


@pytest.mark.usefixtures("rules")
class TestAcknowledging:
    def fired(self, system: System, post: Post, now: datetime) -> UUID:
        post.bring(DELIVERED, 94, at=now)
        post.bring(BOUNCED, 6, at=now)
        evaluate.evaluate(system.ctx, now)
        [(alert,)] = system.rows("SELECT id FROM alerts")
        return alert  # type: ignore[no-any-return]

    def test_is_noted_once_and_stays_until_the_end(self, system: System, post: Post, now: datetime) -> None:
        alert = self.fired(system, post, now)
        with system.ctx.engine.begin() as connection:
            for actor in ("ann", "bob"):
                known = alerts.acknowledge(connection, alert, actor, now)
                assert known
                assert (known.acknowledged_by, known.acknowledged_at) == ("ann", now)
            assert alerts.acknowledge(connection, uuid4(), "ann", now) is None
        post.bring(BOUNCED, 20, at=now)
        evaluate.evaluate(system.ctx, now)
        assert [step[2] for step in alert_steps(system)] == ["fired", "acknowledged", "escalated"]
        assert system.rows("SELECT acknowledged_by FROM alerts") == [("ann",)]

    def test_of_what_is_over_is_not_noted(self, system: System, post: Post, rules: Any, now: datetime) -> None:
        alert = self.fired(system, post, now)
        rules("alerts: []\n")
        evaluate.evaluate(system.ctx, now)
        with system.ctx.engine.begin() as connection:
            known = alerts.acknowledge(connection, alert, "ann", now)
        assert known
        assert known.acknowledged_at is None


def test_lists_can_be_cut_and_walked(system: System, post: Post, rules: Any, now: datetime) -> None:
    rules(BOUNCES.replace("50}", "50, per: recipient_domain}"))
    for number in range(5):
        post.bring(BOUNCED, 60, at=now, to=f"d{number}.example")
    evaluate.evaluate(system.ctx, now)
    with system.ctx.engine.begin() as connection:
        page = alerts.list_alerts(connection, limit=3)
        rest = alerts.list_alerts(connection, after=page.next, limit=3)
        assert {alert.subject for alert in (*page.items, *rest.items)} == {f"d{n}.example" for n in range(5)}
        assert rest.next is None
        for cut, count in (
            ({"state": "firing"}, 5),
            ({"state": "resolved"}, 0),
            ({"rule": "bounces", "severity": "critical", "source": "main"}, 5),
            ({"source": "other"}, 0),
        ):
            assert len(alerts.list_alerts(connection, **cut).items) == count  # type: ignore[arg-type]
        (first, *_) = page.items
        assert alerts.get(connection, first.id) == first
        assert alerts.get(connection, uuid4()) is None


@pytest.mark.usefixtures("rules")
class TestManyWorkers:
    def workers(self, system: System, number: int) -> list[WorkerContext]:
        return [system.add_worker() for _ in range(number)]

    def test_fire_and_end_each_alert_once(self, system: System, post: Post, rules: Any, now: datetime) -> None:
        rules(BOUNCES.replace("50}", "50, per: recipient_domain, resolve_after_minutes: 0}"))
        for number in range(4):
            post.bring(BOUNCED, 60, at=now, to=f"d{number}.example")
        workers = self.workers(system, 4)

        def judge(at: datetime) -> None:
            threads = [
                threading.Thread(target=lambda ctx=ctx: [evaluate.evaluate(ctx, at) for _ in range(3)])
                for ctx in workers
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        judge(now)
        assert sorted(alert_steps(system)) == [("bounces", f"d{n}.example", "fired", "critical") for n in range(4)]
        for number in range(4):
            post.bring(DELIVERED, 6000, at=now, to=f"d{number}.example")
        judge(now + timedelta(seconds=10))
        assert sorted(alert_steps(system)[4:]) == [
            ("bounces", f"d{n}.example", "resolved", "critical") for n in range(4)
        ]
        assert len(logged(system)) == 8

    def test_leave_a_rule_to_the_worker_that_evaluates_it(self, system: System, post: Post, now: datetime) -> None:
        post.bring(BOUNCED, 60, at=now)
        with system.ctx.engine.begin() as connection:
            assert alerts.try_lock(connection)
            assert evaluate.evaluate(system.ctx, now) == 0
        assert evaluate.evaluate(system.ctx, now) == 1

    def test_of_which_one_is_killed_in_the_middle_fire_once(self, system: System, post: Post, now: datetime) -> None:
        channel(system)
        post.bring(BOUNCED, 60, at=now)
        system.execute(
            "CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW; END $$"
        )
        system.execute("CREATE TRIGGER dies AFTER INSERT ON alert_steps FOR EACH ROW EXECUTE FUNCTION die()")
        with pytest.raises(OperationalError):
            evaluate.evaluate(system.ctx, now)
        assert not alert_steps(system)
        assert not logged(system)
        assert system.rows("SELECT count(*) FROM alerts") == [(0,)]
        system.execute("DROP TRIGGER dies ON alert_steps")
        for ctx in (system.ctx, *self.workers(system, 2)):
            evaluate.evaluate(ctx, now + timedelta(seconds=10))
        assert alert_steps(system) == [("bounces", "main", "fired", "critical")]
        assert len(logged(system)) == 1
        assert system.rows("SELECT count(*) FROM alert_notices") == [(1,)]


def test_a_storm_begins_in_parts(system: System, post: Post, rules: Any, now: datetime) -> None:
    rules(BOUNCES.replace("50}", "50, per: recipient_domain}"))
    for number in range(5):
        post.bring(BOUNCED, 60, at=now, to=f"d{number}.example")
    assert [evaluate.evaluate(system.ctx, now, max_new_alerts=2) for _ in range(4)] == [2, 2, 1, 0]


def test_the_rules_by_default_say_nothing_of_ordinary_traffic(system: System, post: Post, now: datetime) -> None:
    post.bring(DELIVERED, 98, at=now)
    post.bring(BOUNCED, 2, at=now)
    post.bring(EventType.OPENED, 50, at=now)
    evaluate.evaluate(system.ctx, now)
    assert not alert_steps(system)


def test_events_of_a_deleted_source_are_ignored(system: System, post: Post, rules: Any, now: datetime) -> None:
    post.bring(BOUNCED, 60, at=now)
    with system.ctx.engine.begin() as connection:
        sources.delete(connection, "main")
    evaluate.evaluate(system.ctx, now)
    assert not alert_steps(system)


ACCOUNT_EVENTS = """
alerts:
  - {name: account, kind: event, types: [domain_dns_error, send_limit_approaching], warning: 1}
"""


@pytest.mark.parametrize(
    ("kind", "body", "said", "advice"),
    [
        (
            "DomainDNSError",
            {
                "domain": "shop.example",
                "spf_status": "Missing",
                "spf_error": "No SPF record exists for {this} domain",
                "dkim_status": "OK",
                "return_path_status": "Missing",
                "return_path_error": "There is no record at rp.shop.example",
            },
            "shop.example: SPF Missing: No SPF record exists for {this} domain; return path Missing: There is no",
            "Publish the SPF, return path record of shop.example",
        ),
        (
            "SendLimitApproaching",
            {"volume": 950, "limit": 1000},
            "950 of 1,000 messages an hour",
            "Ask the provider of account-source for a higher limit",
        ),
    ],
)
def test_an_alert_about_the_account_says_what_happened(
    system: System,
    rules: Callable[[str], None],
    now: datetime,
    kind: str,
    body: dict[str, Any],
    said: str,
    advice: str,
) -> None:
    rules(ACCOUNT_EVENTS)
    source = system.add_source("account-source", "ark", Ark().credentials(), events_without_tenant="accept")
    inner = {"server": {"name": "Main"}, **body}
    whole = {"event": kind, "timestamp": now.timestamp(), "uuid": "e1", "payload": inner}
    system.store_receipt(source, json.dumps(whole).encode())
    draining.process_due(system.ctx)
    evaluate.evaluate(system.ctx, now + timedelta(seconds=1))
    (alert,) = system.list_items("/v1/alerts")
    assert said in alert["summary"]
    assert advice in system.get(f"/v1/alerts/{alert['id']}")["next_step"]


def test_a_rate_that_is_too_high_names_the_most_frequent_replies(
    system: System, rules: Callable[[str], None], now: datetime
) -> None:
    rules("alerts:\n  - {name: bounces, kind: rate, rate: bounce, warning: 5 %, critical: 50 %, minimum_volume: 5}\n")
    system.create_source()
    events = [
        mailchannels_event("delivered", f"d{number}@example.net", request_id=f"d{number}", second=number)
        for number in range(10)
    ]
    for code, count in (("5.1.1", 4), ("5.7.1", 3)):
        events += [
            mailchannels_event(
                "hard-bounced",
                f"b{number}@example.net",
                request_id=f"{code}-{number}",
                status="550",
                reason=f"{code} no",
            )
            for number in range(count)
        ]
    for event in events:
        event["timestamp"] = int(now.timestamp())
    system.queue_body(json.dumps([{"customer_handle": "acct", **event} for event in events]).encode(), "main", now)
    draining.process_due(system.ctx)
    evaluate.evaluate(system.ctx, now + timedelta(seconds=1))
    (alert,) = system.list_items("/v1/alerts")
    assert "most often 5.1.1 invalid_recipient (4), 5.7.1 " in alert["summary"]


@pytest.mark.parametrize("kind", kinds.KINDS)
def test_every_command_of_a_next_step_runs_as_it_is_printed(kind: str) -> None:
    for named in ({}, {"source": "main", "subject": str(uuid4()), "numbers": {"oldest_message": str(uuid4())}}):
        step = kinds.next_step(kind, **named)  # type: ignore[arg-type]
        assert "{" not in step
        for command in re.findall(r"`(tidings [^`]+)`", step) if named else ():
            if command not in ("tidings trace", "tidings sources rotate main") and not command.endswith("--help"):
                parse_command(command)
