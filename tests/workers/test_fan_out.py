"""Fan-out: one delivery for each change and each subscription that wants it, whatever happens in between."""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from shared import ids
from shared.deliveries import fan_out as log_following
from tests.support import transitional as downstreams
from tests.support.transitional import Downstream, Workshop
from workers import process_receipts as draining
from workers.deliveries import fan_out
from workers.deliveries.subscription_cache import SubscriptionCache


@pytest.fixture
def downstream(workshop: Workshop) -> Iterator[Downstream]:
    with downstreams.opened(workshop) as opened:
        yield opened


def made(downstream: Downstream) -> list[tuple[str, object]]:
    """Change and subscription of every delivery."""
    return [
        (f"{row[0]}-{row[1]}", row[2])
        for row in downstream.workshop.rows(
            "SELECT change_transaction::text, change_id, subscription_id FROM deliveries"
            " ORDER BY change_transaction, change_id, subscription_id"
        )
    ]


def test_every_change_becomes_one_delivery_for_each_subscription_that_wants_it(downstream: Downstream) -> None:
    first, second = downstream.subscribe(), downstream.subscribe(types=["alert.*"])
    changes = [downstream.change("message.bounced"), downstream.change("alert.firing")]
    step = downstream.fan_out()
    assert (step.changes, step.deliveries, step.more) == (2, 3, False)
    assert made(downstream) == [(changes[0], first), *((changes[1], id_) for id_ in sorted((first, second)))]
    assert downstream.fan_out().changes == 0
    assert len(made(downstream)) == 3


def test_a_subscription_begins_with_what_comes_after_it(downstream: Downstream) -> None:
    downstream.change()
    subscription = downstream.subscribe()
    later = downstream.change()
    downstream.fan_out()
    assert made(downstream) == [(later, subscription)]


def test_a_change_that_was_under_way_when_the_subscription_was_made_is_delivered(downstream: Downstream) -> None:
    with downstream.workshop.ctx.engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO state_changes (type) VALUES ('message.sent')")
        subscription = downstream.subscribe()
    downstream.fan_out()
    assert [id_ for _, id_ in made(downstream)] == [subscription]


def test_a_filter_holds_from_the_next_change_on(downstream: Downstream) -> None:
    remembering = SubscriptionCache(downstream.workshop.ctx.vault)
    subscription = downstream.subscribe(types=["alert.*"])
    downstream.change("message.sent")
    fan_out.advance(downstream.workshop.ctx, remembering)
    downstream.set(subscription, types=["message.*"])
    wanted = downstream.change("message.sent")
    downstream.change("alert.firing")
    fan_out.advance(downstream.workshop.ctx, remembering)
    assert made(downstream) == [(wanted, subscription)]


def test_what_nobody_wants_stays_in_the_log_and_is_passed_by(downstream: Downstream) -> None:
    downstream.subscribe(types=["alert.*"])
    downstream.change()
    assert downstream.fan_out().changes == 1
    downstream.subscribe()
    assert downstream.fan_out().changes == 0
    assert downstream.workshop.rows("SELECT count(*) FROM state_changes") == [(1,)]


def cursor(downstream: Downstream) -> str:
    """How far the log was followed, as changes are called."""
    ((transaction, id_),) = downstream.workshop.rows("SELECT transaction::text, id FROM fan_out")
    return f"{transaction}-{id_}"


@pytest.mark.parametrize("state", [None, "disabled", "deleted"])
def test_without_a_subscription_in_service_the_log_is_passed_by_unread(
    downstream: Downstream, state: str | None
) -> None:
    if state is not None:
        subscription = downstream.subscribe(state="disabled" if state == "disabled" else "active")
        if state == "deleted":
            downstream.set(subscription, deleted_at=datetime.now(UTC))
    names = [downstream.change() for _ in range(3)]
    step = downstream.fan_out()
    assert (step.unwanted, step.changes, step.more, step.waits) == (True, 0, False, False)
    assert cursor(downstream) == names[-1]
    assert downstream.fan_out().unwanted
    assert cursor(downstream) == names[-1]
    subscription = downstream.subscribe()
    later = downstream.change()
    downstream.fan_out()
    assert made(downstream) == [(later, subscription)]


def test_a_log_without_changes_leaves_the_cursor_where_it_is(downstream: Downstream) -> None:
    before = cursor(downstream)
    assert downstream.fan_out().unwanted
    assert cursor(downstream) == before


def test_unsettled_changes_are_not_passed_by_and_a_subscription_made_meanwhile_gets_them(
    downstream: Downstream,
) -> None:
    with downstream.workshop.ctx.engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO state_changes (type) VALUES ('message.sent')")
        unsettled = downstream.change()
        before = cursor(downstream)
        assert downstream.fan_out().unwanted
        assert cursor(downstream) == before
        subscription = downstream.subscribe()
    while downstream.fan_out().more:
        pass
    assert (unsettled, subscription) in made(downstream)
    assert len(made(downstream)) == 2


def test_a_deliverer_without_subscriptions_notices_the_first_one(downstream: Downstream) -> None:
    downstream.change()
    downstream.deliver()
    downstream.subscribe()
    downstream.change()
    downstream.deliver()
    assert [status for status, _ in downstream.statuses()] != []


def test_deliveries_are_made_for_a_paused_subscription_and_wait(downstream: Downstream) -> None:
    subscription = downstream.subscribe(state="paused")
    downstream.change()
    downstream.deliver()
    assert downstream.statuses() == [("pending", 0)]
    assert [row[:1] for row in downstream.pending()] == [(0,)]
    downstream.set(subscription, state="disabled")
    downstream.change()
    downstream.fan_out()
    assert len(made(downstream)) == 1


def test_a_deleted_subscription_is_told_nothing(downstream: Downstream) -> None:
    subscription = downstream.subscribe()
    downstream.set(subscription, deleted_at=datetime.now(UTC))
    downstream.change()
    assert downstream.fan_out().deliveries == 0


def test_a_subscription_whose_secrets_cannot_be_opened_loses_nothing(downstream: Downstream) -> None:
    subscription = downstream.subscribe()
    downstream.set(subscription, secrets=b"sealed with a key that is gone")
    downstream.change()
    downstream.deliver()
    assert downstream.statuses() == [("pending", 0)]


def test_changes_that_commit_out_of_order_are_all_delivered_and_once(downstream: Downstream) -> None:
    downstream.subscribe()
    engine = downstream.workshop.ctx.engine
    with engine.connect() as slow, engine.connect() as quick:
        for connection in (slow, quick):
            connection.exec_driver_sql("INSERT INTO state_changes (type) VALUES ('message.sent')")
        quick.commit()
        step = downstream.fan_out()
        assert (step.changes, step.waits) == (0, True)
        slow.commit()
    assert downstream.fan_out().changes == 2
    assert len(set(made(downstream))) == len(made(downstream)) == 2


def test_a_crash_before_the_commit_leaves_everything_to_be_done_again(downstream: Downstream) -> None:
    downstream.subscribe()
    downstream.change()
    with downstream.workshop.ctx.engine.connect() as connection:
        place = log_following.lock_cursor(connection)
        assert place is not None
        subject = log_following.read_changes(connection, place, inbound=fan_out.INBOUND, limit=1)[0]
        log_following.move_cursor(connection, (subject.transaction, subject.id))
        assert downstream.fan_out() == fan_out.FanOutStep(waits=True)
        connection.rollback()
    assert downstream.fan_out().deliveries == 1


def test_many_followers_at_once_make_each_delivery_once(downstream: Downstream) -> None:
    subscriptions = [downstream.subscribe() for _ in range(3)]
    changes = [downstream.change() for _ in range(60)]
    rims = [downstream.workshop.another_rim() for _ in range(4)]

    def follow(number: int) -> None:
        subscribers = SubscriptionCache(rims[number].vault)
        while (step := fan_out.advance(rims[number], subscribers, max_changes=3)).more or step.waits:
            pass

    threads = [threading.Thread(target=follow, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made(downstream) == [(change, id_) for change in changes for id_ in sorted(subscriptions)]


def test_a_large_batch_is_cut_where_it_makes_many_deliveries(downstream: Downstream) -> None:
    for _ in range(3):
        downstream.subscribe()
    for _ in range(4):
        downstream.change()
    steps = [downstream.fan_out(max_deliveries=4) for _ in range(3)]
    assert [(step.changes, step.deliveries) for step in steps] == [(2, 6), (2, 6), (0, 0)]


def test_changes_of_a_message_wait_for_one_another_where_that_is_wished(downstream: Downstream) -> None:
    downstream.subscribe(ordered=True)
    one, other = uuid4(), uuid4()
    for message in (one, other, one, one, None, None):
        downstream.change(message_id=message)
    downstream.fan_out(max_changes=4)
    downstream.change(message_id=other)
    while downstream.fan_out().more:
        pass
    assert [lane for lane, *_ in downstream.pending()] == [0, 0, 2, 2, 0, 0, 2]


@pytest.mark.parametrize(
    ("spam", "status"),
    [({"score": 6.0}, "quarantined"), ({"score": 5.9}, "pending"), ({"score": "9"}, "pending"), (None, "pending")],
)
def test_inbound_mail_is_quarantined_by_its_spam_score(downstream: Downstream, spam: object, status: str) -> None:
    downstream.subscribe()
    event = ids.receipt_id(datetime.now(UTC))
    data = json.dumps({"details": {"spam": spam, "text": "\u0000"}})
    downstream.workshop.run(
        "INSERT INTO events (id, receipt_id, source_id, key, type, occurred_at, received_at, data, provider_object)"
        " VALUES (%(id)s, %(id)s, 1, %(id)s, 'inbound', now(), now(), %(data)s, '{}')",
        id=event,
        data=data,
    )
    downstream.change(fan_out.INBOUND, event_id=event)
    downstream.fan_out()
    assert downstream.statuses() == [(status, 0)]
    assert len(downstream.pending()) == (status == "pending")


def test_what_a_message_is_known_by_decides(downstream: Downstream) -> None:
    source = downstream.workshop.add_source("cm", "cloudmailin", {"username": "user", "password": "secret"})
    fitting = downstream.subscribe(sources=["cm"], recipient_domains=["example.net"])
    downstream.subscribe(sources=["mc"])
    downstream.subscribe(recipient_domains=["example.org"])
    body = {"events": [{"kind": "delivery", "recipient": "ann@example.net", "message_id": "m"}]}
    downstream.workshop.receive(source, json.dumps(body).encode())
    draining.process_due(downstream.workshop.ctx)
    assert "tidings.deliver" in downstream.workshop.bell.rings
    downstream.fan_out()
    assert [id_ for _, id_ in made(downstream)] == [fitting]
