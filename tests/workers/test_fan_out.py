"""Fan-out: one delivery for each change and each subscription that wants it, whatever happens in between."""

import json
import threading
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from shared import ids
from shared.deliveries import fan_out_cursor
from tests.support.system import System
from workers import process_receipts as draining
from workers.deliveries import fan_out
from workers.deliveries.subscription_cache import SubscriptionCache


def made(system: System) -> list[tuple[str, object]]:
    """Change and subscription of every delivery."""
    return [
        (f"{row[0]}-{row[1]}", row[2])
        for row in system.rows(
            "SELECT change_transaction::text, change_id, subscription_id FROM deliveries"
            " ORDER BY change_transaction, change_id, subscription_id"
        )
    ]


def test_every_change_becomes_one_delivery_for_each_subscription_that_wants_it(system: System) -> None:
    first, second = system.insert_subscription(), system.insert_subscription(types=["alert.*"])
    changes = [system.log_change("message.bounced"), system.log_change("alert.firing")]
    step = system.fan_out()
    assert (step.changes, step.deliveries, step.has_more) == (2, 3, False)
    assert made(system) == [(changes[0], first), *((changes[1], id_) for id_ in sorted((first, second)))]
    assert system.fan_out().changes == 0
    assert len(made(system)) == 3


def test_a_subscription_begins_with_what_comes_after_it(system: System) -> None:
    system.log_change()
    subscription = system.insert_subscription()
    later = system.log_change()
    system.fan_out()
    assert made(system) == [(later, subscription)]


def test_a_change_that_was_under_way_when_the_subscription_was_made_is_delivered(system: System) -> None:
    with system.ctx.engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO state_changes (type) VALUES ('message.sent')")
        subscription = system.insert_subscription()
    system.fan_out()
    assert [id_ for _, id_ in made(system)] == [subscription]


def test_a_filter_holds_from_the_next_change_on(system: System) -> None:
    remembering = SubscriptionCache(system.ctx.vault)
    subscription = system.insert_subscription(types=["alert.*"])
    system.log_change("message.sent")
    fan_out.advance(system.ctx, remembering)
    system.update_subscription(subscription, types=["message.*"])
    wanted = system.log_change("message.sent")
    system.log_change("alert.firing")
    fan_out.advance(system.ctx, remembering)
    assert made(system) == [(wanted, subscription)]


def test_an_unwanted_change_stays_in_the_log_and_is_skipped(system: System) -> None:
    system.insert_subscription(types=["alert.*"])
    system.log_change()
    assert system.fan_out().changes == 1
    system.insert_subscription()
    assert system.fan_out().changes == 0
    assert system.rows("SELECT count(*) FROM state_changes") == [(1,)]


def cursor(system: System) -> str:
    """How far the log was followed, as changes are called."""
    ((transaction, id_),) = system.rows("SELECT transaction::text, id FROM fan_out")
    return f"{transaction}-{id_}"


@pytest.mark.parametrize("state", [None, "disabled", "deleted"])
def test_without_a_subscription_in_service_the_log_is_passed_by_unread(system: System, state: str | None) -> None:
    if state is not None:
        subscription = system.insert_subscription(state="disabled" if state == "disabled" else "active")
        if state == "deleted":
            system.update_subscription(subscription, deleted_at=datetime.now(UTC))
    names = [system.log_change() for _ in range(3)]
    step = system.fan_out()
    assert (step.has_no_subscribers, step.changes, step.has_more, step.is_blocked) == (True, 0, False, False)
    assert cursor(system) == names[-1]
    assert system.fan_out().has_no_subscribers
    assert cursor(system) == names[-1]
    subscription = system.insert_subscription()
    later = system.log_change()
    system.fan_out()
    assert made(system) == [(later, subscription)]


def test_a_log_without_changes_leaves_the_cursor_where_it_is(system: System) -> None:
    before = cursor(system)
    assert system.fan_out().has_no_subscribers
    assert cursor(system) == before


def test_unsettled_changes_are_not_passed_by_and_a_subscription_made_meanwhile_gets_them(
    system: System,
) -> None:
    with system.ctx.engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO state_changes (type) VALUES ('message.sent')")
        unsettled = system.log_change()
        before = cursor(system)
        assert system.fan_out().has_no_subscribers
        assert cursor(system) == before
        subscription = system.insert_subscription()
    while system.fan_out().has_more:
        pass
    assert (unsettled, subscription) in made(system)
    assert len(made(system)) == 2


def test_a_deliverer_without_subscriptions_notices_the_first_one(system: System) -> None:
    system.log_change()
    system.deliver()
    system.insert_subscription()
    system.log_change()
    system.deliver()
    assert [status for status, _ in system.delivery_statuses()] != []


def test_deliveries_are_made_for_a_paused_subscription_and_wait(system: System) -> None:
    subscription = system.insert_subscription(state="paused")
    system.log_change()
    system.deliver()
    assert system.delivery_statuses() == [("pending", 0)]
    assert [row[:1] for row in system.pending_deliveries()] == [(0,)]
    system.update_subscription(subscription, state="disabled")
    system.log_change()
    system.fan_out()
    assert len(made(system)) == 1


def test_a_deleted_subscription_receives_nothing(system: System) -> None:
    subscription = system.insert_subscription()
    system.update_subscription(subscription, deleted_at=datetime.now(UTC))
    system.log_change()
    assert system.fan_out().deliveries == 0


def test_a_subscription_whose_secrets_cannot_be_opened_loses_nothing(system: System) -> None:
    subscription = system.insert_subscription()
    system.update_subscription(subscription, secrets=b"sealed with a key that is gone")
    system.log_change()
    system.deliver()
    assert system.delivery_statuses() == [("pending", 0)]


def test_changes_that_commit_out_of_order_are_all_delivered_and_once(system: System) -> None:
    system.insert_subscription()
    engine = system.ctx.engine
    with engine.connect() as slow, engine.connect() as quick:
        for connection in (slow, quick):
            connection.exec_driver_sql("INSERT INTO state_changes (type) VALUES ('message.sent')")
        quick.commit()
        step = system.fan_out()
        assert (step.changes, step.is_blocked) == (0, True)
        slow.commit()
    assert system.fan_out().changes == 2
    assert len(set(made(system))) == len(made(system)) == 2


def test_a_crash_before_the_commit_leaves_everything_to_be_done_again(system: System) -> None:
    system.insert_subscription()
    system.log_change()
    with system.ctx.engine.connect() as connection:
        place = fan_out_cursor.lock_cursor(connection)
        assert place is not None
        subject = fan_out_cursor.read_changes(connection, place, inbound=fan_out.INBOUND, limit=1)[0]
        fan_out_cursor.move_cursor(connection, (subject.transaction, subject.id))
        assert system.fan_out() == fan_out.FanOutResult(is_blocked=True)
        connection.rollback()
    assert system.fan_out().deliveries == 1


def test_many_followers_at_once_make_each_delivery_once(system: System) -> None:
    subscriptions = [system.insert_subscription() for _ in range(3)]
    changes = [system.log_change() for _ in range(60)]
    rims = [system.add_worker() for _ in range(4)]

    def follow(number: int) -> None:
        subscribers = SubscriptionCache(rims[number].vault)
        while (step := fan_out.advance(rims[number], subscribers, max_changes=3)).has_more or step.is_blocked:
            pass

    threads = [threading.Thread(target=follow, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made(system) == [(change, id_) for change in changes for id_ in sorted(subscriptions)]


def test_a_large_batch_is_cut_where_it_makes_many_deliveries(system: System) -> None:
    for _ in range(3):
        system.insert_subscription()
    for _ in range(4):
        system.log_change()
    steps = [system.fan_out(max_deliveries=4) for _ in range(3)]
    assert [(step.changes, step.deliveries) for step in steps] == [(2, 6), (2, 6), (0, 0)]


def test_changes_of_a_message_wait_for_one_another_where_that_is_wished(system: System) -> None:
    system.insert_subscription(ordered=True)
    one, other = uuid4(), uuid4()
    for message in (one, other, one, one, None, None):
        system.log_change(message_id=message)
    system.fan_out(max_changes=4)
    system.log_change(message_id=other)
    while system.fan_out().has_more:
        pass
    assert [lane for lane, *_ in system.pending_deliveries()] == [0, 0, 2, 2, 0, 0, 2]


@pytest.mark.parametrize(
    ("spam", "status"),
    [
        ({"score": 6.0}, "quarantined"),
        ({"score": 5.9}, "pending"),
        ({"score": "9"}, "pending"),
        (None, "pending"),
        ({"score": 10**400}, "quarantined"),
        ({"score": -(10**400)}, "pending"),
    ],
)
def test_inbound_mail_is_quarantined_by_its_spam_score(system: System, spam: object, status: str) -> None:
    system.insert_subscription()
    event = ids.receipt_id(datetime.now(UTC))
    data = json.dumps({"details": {"spam": spam, "text": "\u0000"}})
    system.execute(
        "INSERT INTO events (id, receipt_id, source_id, key, type, occurred_at, received_at, data, provider_object)"
        " VALUES (%(id)s, %(id)s, 1, %(id)s, 'inbound', now(), now(), %(data)s, '{}')",
        id=event,
        data=data,
    )
    system.log_change(fan_out.INBOUND, event_id=event)
    system.fan_out()
    assert system.delivery_statuses() == [(status, 0)]
    assert len(system.pending_deliveries()) == (status == "pending")


def test_what_a_message_is_known_by_decides(system: System) -> None:
    source = system.add_source("cm", "cloudmailin", {"username": "user", "password": "secret"})
    fitting = system.insert_subscription(sources=["cm"], recipient_domains=["example.net"])
    system.insert_subscription(sources=["mc"])
    system.insert_subscription(recipient_domains=["example.org"])
    body = {"events": [{"kind": "delivery", "recipient": "ann@example.net", "message_id": "m"}]}
    system.store_receipt(source, json.dumps(body).encode())
    draining.process_due(system.ctx)
    assert "tidings.deliver" in system.notifier.tasks
    system.fan_out()
    assert [id_ for _, id_ in made(system)] == [fitting]
