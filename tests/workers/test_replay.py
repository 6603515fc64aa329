"""Replaying many and recovering: counted first, then done to the end, nothing twice and nothing left out."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from shared.auth.keys import Scope, create_key
from shared.jobs import store as jobs
from shared.vocabulary import JobState
from tests import estate as estates
from tests import sinks
from tests.api.test_deliveries import spam
from tests.conftest import DatabaseServer
from tests.estate import Estate
from tests.sinks import HttpSink
from workers.jobs import abandon
from workers.jobs import recover as jobs_recover
from workers.jobs import replay as jobs_replay
from workers.jobs import runner as working
from workers.jobs.progress import LeaseLostError, Progress, TurnOverError

LONG_AGO = "2026-01-01T00:00:00Z"


@pytest.fixture(scope="module")
def common(postgres: DatabaseServer, template: str) -> Iterator[Estate]:
    with estates.in_new_database(postgres, template) as estate:
        yield estate


@pytest.fixture
def estate(common: Estate) -> Iterator[Estate]:
    yield common
    common.clear()


@pytest.fixture
def sink() -> Iterator[HttpSink]:
    with sinks.http_sink() as sink:
        yield sink


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that even few are several."""
    monkeypatch.setattr(jobs_replay, "_DELIVERIES_AT_ONCE", 2)
    monkeypatch.setattr(jobs_recover, "_CHANGES_AT_ONCE", 2)
    monkeypatch.setattr(abandon, "_DELIVERIES_AT_ONCE", 2)


def replay(estate: Estate, dry_run: bool = False, **filters: Any) -> dict[str, Any]:
    """A job that replayed, when it is done."""
    return estate.job("POST", "/v1/deliveries/replay", {"filter": filters, "dry_run": dry_run})


def recover(estate: Estate, made: dict[str, Any], since: str = LONG_AGO, **wishes: Any) -> dict[str, Any]:
    """A job that recovered, when it is done."""
    return estate.job("POST", f"/v1/subscriptions/{made['id']}/recover", {"since": since, **wishes})


def got(sink: HttpSink) -> list[str]:
    return [received.id for received in sink.received]


def statuses(estate: Estate, **query: Any) -> list[str]:
    return sorted(delivery["status"] for delivery in estate.deliveries(**query))


class TestReplayingMany:
    @pytest.fixture
    def dead(self, estate: Estate, sink: HttpSink) -> list[str]:
        """Changes whose deliveries are dead; and the endpoint is mended."""
        estate.subscribe(sink.url)
        sink.always = sinks.answer(404)
        names = [estate.change() for _ in range(5)]
        estate.deliver()
        assert statuses(estate) == ["dead"] * 5
        sink.always = None
        sink.received.clear()
        return names

    @pytest.mark.usefixtures("dead")
    def test_counts_first(self, estate: Estate) -> None:
        job = replay(estate, dry_run=True)
        assert (job["state"], job["report"], job["total"]) == ("done", {"to_deliver": 5}, 5)
        assert statuses(estate) == ["dead"] * 5

    def test_makes_all_that_fit_again(self, estate: Estate, sink: HttpSink, dead: list[str]) -> None:
        job = replay(estate)
        assert (job["state"], job["done"], job["total"], job["report"]) == ("done", 5, 5, {"to_deliver": 5})
        estate.deliver()
        assert sorted(got(sink)) == sorted(dead)
        assert statuses(estate) == ["delivered"] * 5

    @pytest.mark.usefixtures("dead")
    def test_leaves_out_what_does_not_fit(self, estate: Estate, sink: HttpSink) -> None:
        other = estate.subscribe(sink.url, ("alert.*",))
        now = datetime.now(UTC)
        assert replay(estate, dry_run=True, subscription=other["id"])["report"]["to_deliver"] == 0
        assert replay(estate, dry_run=True, type="message.sent")["report"]["to_deliver"] == 0
        assert replay(estate, dry_run=True, type="message.bounced")["report"]["to_deliver"] == 5
        assert replay(estate, dry_run=True, status="delivered")["report"]["to_deliver"] == 0
        assert replay(estate, dry_run=True, since=(now + timedelta(hours=1)).isoformat())["report"]["to_deliver"] == 0
        assert replay(estate, dry_run=True, until=(now - timedelta(hours=1)).isoformat())["report"]["to_deliver"] == 0

    @pytest.mark.usefixtures("dead")
    @pytest.mark.parametrize("state", ["paused", "disabled"])
    def test_leaves_out_what_would_not_be_sent(self, estate: Estate, state: str) -> None:
        estate.house.execute("UPDATE subscriptions SET state = %(state)s", state=state)
        assert replay(estate, dry_run=True)["report"]["to_deliver"] == (5 if state == "paused" else 0)

    def test_of_delivered_ones_goes_in_the_order_of_the_log(self, estate: Estate, sink: HttpSink) -> None:
        made = estate.subscribe(sink.url, concurrency=1)
        names = [estate.change() for _ in range(5)]
        estate.deliver()
        sink.received.clear()
        assert replay(estate, status="delivered", subscription=made["id"])["report"]["to_deliver"] == 5
        estate.deliver()
        assert got(sink) == names

    def test_goes_on_where_a_dead_worker_left_it(self, estate: Estate, sink: HttpSink, dead: list[str]) -> None:
        with_deaths(estate, "/v1/deliveries/replay", {"filter": {}})
        estate.deliver()
        assert sorted(got(sink)) == sorted(dead)

    @pytest.mark.usefixtures("dead")
    def test_can_be_cancelled(self, estate: Estate) -> None:
        answer = estate.house.call("POST", "/v1/deliveries/replay", {"filter": {}})
        path = answer.headers["Location"]
        assert estate.house.call("POST", f"{path}/cancel").status_code == 200
        estate.work()
        assert estate.house.get(path)["state"] == "cancelled"
        assert statuses(estate) == ["dead"] * 5

    def test_of_a_tenant_touches_no_other(self, estate: Estate, sink: HttpSink) -> None:
        sink.always = sinks.answer(404)
        for tenant in ("acme", "other"):
            estate.subscribe(sink.url, tenant=tenant)
            estate.change(data={"tenant": tenant})
        estate.deliver()
        with estate.house.engine.begin() as connection:
            estate.house.key = create_key(connection, "acme", Scope.WRITE, "acme").secret
        answer = estate.house.call("POST", "/v1/deliveries/replay", {"filter": {}})
        assert answer.status_code == 202
        estate.work()
        rows = estate.house.execute(
            "SELECT s.tenant, d.status FROM deliveries AS d JOIN subscriptions AS s ON s.id = d.subscription_id"
        )
        assert sorted(map(tuple, rows)) == [("acme", "pending"), ("other", "dead")]


def with_deaths(estate: Estate, path: str, body: dict[str, Any]) -> None:
    """Ask for a job, and have a worker die after every piece of it."""
    assert estate.house.call("POST", path, body).status_code == 202
    for _ in range(50):
        estate.house.execute("UPDATE jobs SET available_at = now() - interval '1 s'")
        token = uuid4()
        with estate.ctx.engine.begin() as connection:
            job = jobs.claim(connection, kinds=list(working.KINDS), token=token, lease_seconds=60)
        if job is None:
            return
        progress = Progress(engine=estate.ctx.engine, job_id=job.id, token=token, until=0.0)
        try:
            report = working.KINDS[job.kind](estate.ctx, job, progress)
        except TurnOverError:
            continue  # there it dies, and gives nothing back
        with estate.ctx.engine.begin() as connection:
            jobs.finish(connection, job.id, token, JobState.DONE, report=report)
    raise AssertionError("the job does not get on")


class TestRecovering:
    def test_brings_what_was_before_the_subscription(self, estate: Estate, sink: HttpSink) -> None:
        names = [estate.change() for _ in range(5)]
        estate.deliver()
        made = estate.subscribe(sink.url)
        job = recover(estate, made)
        assert (job["state"], job["done"], job["total"]) == ("done", 5, 5)
        assert job["report"]["never_made"] == job["report"]["to_deliver"] == 5
        estate.deliver()
        assert sorted(got(sink)) == sorted(names)

    def test_brings_what_nobody_has_followed_the_log_to_yet(self, estate: Estate, sink: HttpSink) -> None:
        before = [estate.change() for _ in range(3)]
        made = estate.subscribe(sink.url)
        after = [estate.change() for _ in range(2)]
        assert recover(estate, made)["report"] == {"changes": 5, "never_made": 3, "waiting": 2, "to_deliver": 3}
        estate.deliver()
        assert sorted(got(sink)) == sorted(before + after)

    def test_brings_what_came_while_it_was_disabled(self, estate: Estate, sink: HttpSink) -> None:
        made = estate.subscribe(sink.url)
        estate.house.execute("UPDATE subscriptions SET state = 'disabled', version = version + 1")
        names = [estate.change() for _ in range(3)]
        estate.deliver()
        path = f"/v1/subscriptions/{made['id']}"
        assert estate.house.call("POST", f"{path}/recover", {"since": LONG_AGO}).status_code == 409
        estate.house.call("POST", f"{path}/resume")
        recover(estate, made)
        estate.deliver()
        assert sorted(got(sink)) == sorted(names)

    def test_brings_what_it_did_not_wish_for_then(self, estate: Estate, sink: HttpSink) -> None:
        made = estate.subscribe(sink.url, ("alert.*",))
        bounced, fired = estate.change("message.bounced"), estate.change("alert.firing")
        estate.change("message.sent")
        estate.deliver()
        assert got(sink) == [fired]
        estate.house.call("PATCH", f"/v1/subscriptions/{made['id']}", {"types": ["alert.*", "message.bounced"]})
        job = recover(estate, made)
        assert job["report"] == {"changes": 3, "never_made": 1, "delivered": 1, "to_deliver": 1}
        estate.deliver()
        assert got(sink) == [fired, bounced]

    def test_brings_what_is_dead_and_leaves_what_is_under_way(self, estate: Estate, sink: HttpSink) -> None:
        made = estate.subscribe(sink.url, retry_schedule=[3600], concurrency=1)
        sink.then(sinks.answer(404), sinks.answer(500), sinks.answer(200))
        names = [estate.change() for _ in range(3)]
        estate.deliver()
        assert statuses(estate) == ["dead", "delivered", "retry"]
        job = recover(estate, made)
        assert job["report"] == {"changes": 3, "dead": 1, "waiting": 1, "delivered": 1, "to_deliver": 1}
        estate.deliver()
        assert got(sink) == [*names, names[0]]

    def test_counts_first(self, estate: Estate, sink: HttpSink) -> None:
        estate.change()
        estate.deliver()
        made = estate.subscribe(sink.url)
        job = recover(estate, made, dry_run=True)
        assert (job["state"], job["total"], job["report"]["to_deliver"]) == ("done", 1, 1)
        assert estate.deliveries() == []

    def test_twice_makes_nothing_twice(self, estate: Estate, sink: HttpSink) -> None:
        names = [estate.change() for _ in range(5)]
        estate.deliver()
        made = estate.subscribe(sink.url)
        recover(estate, made)
        assert recover(estate, made)["report"] == {"changes": 5, "waiting": 5, "to_deliver": 0}
        estate.deliver()
        assert recover(estate, made)["report"] == {"changes": 5, "delivered": 5, "to_deliver": 0}
        estate.deliver()
        assert sorted(got(sink)) == sorted(names)

    def test_sends_again_what_was_delivered_only_if_that_is_asked_for(self, estate: Estate, sink: HttpSink) -> None:
        made = estate.subscribe(sink.url)
        names = [estate.change() for _ in range(3)]
        estate.deliver()
        assert recover(estate, made, include_delivered=True)["report"]["to_deliver"] == 3
        estate.deliver()
        assert sorted(got(sink)) == sorted(names * 2)
        assert len(estate.deliveries()) == 3

    def test_is_of_a_time(self, estate: Estate, sink: HttpSink) -> None:
        hours = [5, 4, 3, 2, 1]
        now = datetime.now(UTC)
        names = [estate.change(changed_at=now - timedelta(hours=hour)) for hour in hours]
        estate.deliver()
        made = estate.subscribe(sink.url)
        since, until = (now - timedelta(hours=hour) for hour in (4, 2))
        recover(estate, made, since.isoformat(), until=until.isoformat())
        estate.deliver()
        assert sorted(got(sink)) == sorted(names[1:3])

    def test_begins_at_the_mark_before_that_time(self, estate: Estate, sink: HttpSink) -> None:
        estate.change()
        name = estate.change()
        estate.deliver()
        (first, second) = estate.house.execute("SELECT transaction::text, id FROM state_changes ORDER BY 1, 2")
        now = datetime.now(UTC)
        for at, place in ((now - timedelta(hours=2), first), (now, second)):
            estate.house.execute(
                "INSERT INTO change_marks (at, transaction, id) VALUES (%(at)s, %(transaction)s::xid8, %(id)s)",
                at=at,
                transaction=place[0],
                id=place[1],
            )
        made = estate.subscribe(sink.url)
        job = recover(estate, made, (now - timedelta(hours=1)).isoformat())
        assert (job["report"]["changes"], job["report"]["to_deliver"]) == (1, 1)
        estate.deliver()
        assert got(sink) == [name]

    def test_says_from_when_on_changes_are_kept(self, estate: Estate) -> None:
        now = datetime.now(UTC)
        for hours in (3, 2, 1):
            estate.change(changed_at=now - timedelta(hours=hours))
        estate.deliver()
        made = estate.subscribe("http://127.0.0.1:9/")
        assert "kept_since" not in recover(estate, made, dry_run=True)["report"]
        estate.house.execute(
            "WITH gone AS (DELETE FROM state_changes WHERE id = (SELECT min(id) FROM state_changes) RETURNING *)"
            " INSERT INTO change_floor (transaction, id) SELECT transaction, id FROM gone"
        )
        begin = (now - timedelta(hours=2)).isoformat()
        assert recover(estate, made, dry_run=True)["report"]["kept_since"] == begin
        assert "kept_since" not in recover(estate, made, begin, dry_run=True)["report"]

    def test_goes_on_where_a_dead_worker_left_it(self, estate: Estate, sink: HttpSink) -> None:
        names = [estate.change() for _ in range(7)]
        estate.deliver()
        made = estate.subscribe(sink.url)
        with_deaths(estate, f"/v1/subscriptions/{made['id']}/recover", {"since": LONG_AGO, "include_delivered": True})
        estate.deliver()
        assert sorted(got(sink)) == sorted(names)

    def test_leaves_mail_that_is_probably_spam_to_a_person(self, estate: Estate, sink: HttpSink) -> None:
        spam(estate)
        estate.deliver()
        made = estate.subscribe(sink.url)
        assert recover(estate, made)["report"] == {"changes": 1, "quarantined": 1, "to_deliver": 0}
        assert statuses(estate) == ["quarantined"]
        assert recover(estate, made)["report"]["quarantined"] == 1

    def test_keeps_the_changes_of_a_message_in_their_order(self, estate: Estate, sink: HttpSink) -> None:
        names = [estate.change(message_id=UUID(int=1)) for _ in range(5)]
        estate.deliver()
        made = estate.subscribe(sink.url, ordered=True)
        recover(estate, made)
        estate.deliver()
        assert got(sink) == names

    def test_does_not_stand_in_the_way_of_what_changes_now(self, estate: Estate, sink: HttpSink) -> None:
        for _ in range(4):
            estate.change()
        estate.deliver()
        made = estate.subscribe(sink.url)
        recover(estate, made)
        estate.change()
        estate.downstream.fan_out()
        assert sorted(lane for lane, *_ in estate.downstream.pending()) == [0, 1, 1, 1, 1]

    def test_of_a_removed_subscription_fails_with_the_reason(self, estate: Estate, sink: HttpSink) -> None:
        made = estate.subscribe(sink.url)
        answer = estate.house.call("POST", f"/v1/subscriptions/{made['id']}/recover", {"since": LONG_AGO})
        estate.house.call("DELETE", f"/v1/subscriptions/{made['id']}")
        estate.work()
        job = estate.house.get(answer.headers["Location"])
        assert (job["state"], job["error"]) == ("failed", "The subscription was removed.")

    def test_needs_a_moment_to_begin_with(self, estate: Estate, sink: HttpSink) -> None:
        made = estate.subscribe(sink.url)
        answer = estate.house.call("POST", f"/v1/subscriptions/{made['id']}/recover", {})
        assert (answer.status_code, list(answer.get_json()["errors"])) == (422, ["since"])


def test_what_waits_for_a_removed_subscription_is_given_up_to_the_last(estate: Estate, sink: HttpSink) -> None:
    made, other = estate.subscribe(sink.url), estate.subscribe(sink.url)
    for _ in range(5):
        estate.change()
    estate.downstream.fan_out()
    estate.house.call("DELETE", f"/v1/subscriptions/{made['id']}")
    estate.work()
    assert statuses(estate, subscription=made["id"]) == ["dead"] * 5
    assert statuses(estate, subscription=other["id"]) == ["pending"] * 5


def test_a_worker_that_was_taken_over_does_nothing_more(estate: Estate, sink: HttpSink) -> None:
    estate.change()
    estate.deliver()
    made = estate.subscribe(sink.url)
    estate.house.call("POST", f"/v1/subscriptions/{made['id']}/recover", {"since": LONG_AGO})
    with estate.ctx.engine.begin() as connection:
        job = jobs.claim(connection, kinds=list(working.KINDS), token=uuid4(), lease_seconds=60)
    assert job is not None
    another = Progress(engine=estate.ctx.engine, job_id=job.id, token=uuid4(), until=float("inf"))
    with pytest.raises(LeaseLostError):
        jobs_recover.run(estate.ctx, job, another)
    assert estate.deliveries() == []


def test_a_replay_waits_for_an_attempt_that_is_being_written_down(estate: Estate, sink: HttpSink) -> None:
    estate.subscribe(sink.url, retry_schedule=[3600])
    sink.then(sinks.answer(500))
    estate.change()
    estate.deliver()
    delivery = estate.delivery(status="retry")

    def replay_it() -> None:
        estate.house.call("POST", f"/v1/deliveries/{delivery['id']}/replay")

    with estate.ctx.engine.begin() as connection:  # in the order in which attempts are written down
        connection.exec_driver_sql("SELECT 1 FROM pending_deliveries FOR UPDATE")
        replaying = threading.Thread(target=replay_it)
        replaying.start()
        while replaying.is_alive() and not estate.house.execute("SELECT 1 FROM pg_locks WHERE NOT granted"):
            pass
        connection.exec_driver_sql("UPDATE deliveries SET attempts = attempts + 1")
    replaying.join()
    assert (estate.delivery()["status"], estate.delivery()["attempts"]) == ("pending", 2)


@contextmanager
def running(*works: Callable[[], object]) -> Iterator[None]:
    """Have these done at once, each by a thread of its own, until all are done."""
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    yield
    for thread in threads:
        thread.join()


def test_followers_and_recoverers_at_once_make_every_delivery_once(estate: Estate) -> None:
    written, over = threading.Event(), threading.Event()

    def write() -> None:
        for number in range(150):
            estate.change(changed_at=datetime.now(UTC), version=number)
            if number == 50:
                written.set()

    def follow() -> None:
        while not over.is_set():
            estate.downstream.fan_out(most_changes=7)

    def work() -> None:
        working.work(estate.downstream.workshop.another_rim(), slice_seconds=60)

    with running(follow):
        with running(write, write):
            written.wait()
            made = estate.subscribe("http://127.0.0.1:9/")
            for _ in range(2):
                estate.house.call("POST", f"/v1/subscriptions/{made['id']}/recover", {"since": LONG_AGO})
            with running(work, work):
                pass
        over.set()
    while estate.downstream.fan_out().changes:
        pass
    assert {job["state"] for job in estate.house.items("/v1/jobs")} == {"done"}
    counts = estate.house.execute(
        "SELECT (SELECT count(*) FROM state_changes), count(*), count(DISTINCT (change_transaction, change_id))"
        " FROM deliveries"
    )
    assert [tuple(row) for row in counts] == [(300, 300, 300)]
