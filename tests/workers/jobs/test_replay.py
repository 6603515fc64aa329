"""Replaying and recovering many deliveries: counted first, then done completely, none twice and none left out."""

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
from tests.api.test_deliveries import spam
from tests.support import http_sink
from tests.support.databases import DatabasePool, Snapshot
from tests.support.http_sink import HttpSink
from tests.support.system import BEGIN, LOOPBACK, System, open_system
from workers.jobs import abandon
from workers.jobs import recover as jobs_recover
from workers.jobs import replay as jobs_replay
from workers.jobs import runner as working
from workers.jobs.progress import Interruption, InterruptionError, Progress

LONG_AGO = "2026-01-01T00:00:00Z"


@pytest.fixture(scope="module")
def common(databases: DatabasePool) -> Iterator[tuple[System, Snapshot]]:
    with databases.database() as url, open_system(url, begin=BEGIN, egress_allow=LOOPBACK) as system:
        yield system, system.take_snapshot()


@pytest.fixture
def system(common: tuple[System, Snapshot]) -> Iterator[System]:
    system, snapshot = common
    yield system
    system.reset(snapshot)


@pytest.fixture
def sink() -> Iterator[HttpSink]:
    with http_sink.http_sink() as sink:
        yield sink


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that even few are several."""
    monkeypatch.setattr(jobs_replay, "BATCH", 2)
    monkeypatch.setattr(jobs_recover, "BATCH", 2)
    monkeypatch.setattr(abandon, "BATCH", 2)


def replay(system: System, dry_run: bool = False, **filters: Any) -> dict[str, Any]:
    """A job that replayed, when it is done."""
    return system.run_job("POST", "/v1/deliveries/replay", {"filter": filters, "dry_run": dry_run})


def recover(system: System, made: dict[str, Any], since: str = LONG_AGO, **wishes: Any) -> dict[str, Any]:
    """A job that recovered, when it is done."""
    return system.run_job("POST", f"/v1/subscriptions/{made['id']}/recover", {"since": since, **wishes})


def got(sink: HttpSink) -> list[str]:
    return [received.id for received in sink.received]


def statuses(system: System, **query: Any) -> list[str]:
    return sorted(delivery["status"] for delivery in system.list_deliveries(**query))


class TestReplayingMany:
    @pytest.fixture
    def dead(self, system: System, sink: HttpSink) -> list[str]:
        """Changes whose deliveries are dead; and the endpoint is fixed."""
        system.create_subscription(sink.url)
        sink.always = http_sink.answer(404)
        names = [system.log_change() for _ in range(5)]
        system.deliver()
        assert statuses(system) == ["dead"] * 5
        sink.always = None
        sink.received.clear()
        return names

    @pytest.mark.usefixtures("dead")
    def test_only_counts_in_a_dry_run(self, system: System) -> None:
        job = replay(system, dry_run=True)
        assert (job["state"], job["report"], job["total"]) == ("done", {"to_deliver": 5}, 5)
        assert statuses(system) == ["dead"] * 5

    def test_sends_all_that_match_again(self, system: System, sink: HttpSink, dead: list[str]) -> None:
        job = replay(system)
        assert (job["state"], job["done"], job["total"], job["report"]) == ("done", 5, 5, {"to_deliver": 5})
        system.deliver()
        assert sorted(got(sink)) == sorted(dead)
        assert statuses(system) == ["delivered"] * 5

    @pytest.mark.usefixtures("dead")
    def test_says_what_the_deliveries_wait_for_and_until_when(self, system: System) -> None:
        system.execute(
            "INSERT INTO endpoint_health (subscription_id, openings, open_until)"
            " SELECT id, 1, now() + interval '5 min' FROM subscriptions"
            " ON CONFLICT (subscription_id) DO UPDATE SET openings = 1, open_until = excluded.open_until"
        )
        job = replay(system)
        assert "resting after failures" in job["waits_for"]
        assert datetime.fromisoformat(job["waits_until"]) > datetime.now(UTC) + timedelta(minutes=4)

    @pytest.mark.usefixtures("dead")
    def test_leaves_out_what_does_not_fit(self, system: System, sink: HttpSink) -> None:
        other = system.create_subscription(sink.url, ("alert.*",))
        now = datetime.now(UTC)
        assert replay(system, dry_run=True, subscription=other["id"])["report"]["to_deliver"] == 0
        assert replay(system, dry_run=True, type="message.sent")["report"]["to_deliver"] == 0
        assert replay(system, dry_run=True, type="message.bounced")["report"]["to_deliver"] == 5
        assert replay(system, dry_run=True, status="delivered")["report"]["to_deliver"] == 0
        assert replay(system, dry_run=True, since=(now + timedelta(hours=1)).isoformat())["report"]["to_deliver"] == 0
        assert replay(system, dry_run=True, until=(now - timedelta(hours=1)).isoformat())["report"]["to_deliver"] == 0

    @pytest.mark.usefixtures("dead")
    @pytest.mark.parametrize("state", ["paused", "disabled"])
    def test_leaves_out_what_would_not_be_sent(self, system: System, state: str) -> None:
        system.execute("UPDATE subscriptions SET state = %(state)s", state=state)
        assert replay(system, dry_run=True)["report"]["to_deliver"] == (5 if state == "paused" else 0)

    def test_of_delivered_ones_goes_in_the_order_of_the_log(self, system: System, sink: HttpSink) -> None:
        made = system.create_subscription(sink.url, concurrency=1)
        names = [system.log_change() for _ in range(5)]
        system.deliver()
        sink.received.clear()
        assert replay(system, status="delivered", subscription=made["id"])["report"]["to_deliver"] == 5
        system.deliver()
        assert got(sink) == names

    def test_goes_on_where_a_dead_worker_left_it(self, system: System, sink: HttpSink, dead: list[str]) -> None:
        with_deaths(system, "/v1/deliveries/replay", {"filter": {}})
        system.deliver()
        assert sorted(got(sink)) == sorted(dead)

    @pytest.mark.usefixtures("dead")
    def test_can_be_cancelled(self, system: System) -> None:
        answer = system.call("POST", "/v1/deliveries/replay", {"filter": {}})
        path = answer.headers["Location"]
        assert system.call("POST", f"{path}/cancel").status_code == 200
        system.run_jobs()
        assert system.get(path)["state"] == "cancelled"
        assert statuses(system) == ["dead"] * 5

    def test_of_a_tenant_touches_no_other(self, system: System, sink: HttpSink) -> None:
        sink.always = http_sink.answer(404)
        for tenant in ("acme", "other"):
            system.create_subscription(sink.url, tenant=tenant)
            system.log_change(data={"tenant": tenant})
        system.deliver()
        with system.engine.begin() as connection:
            system.key = create_key(connection, "acme", Scope.WRITE, "acme").secret
        answer = system.call("POST", "/v1/deliveries/replay", {"filter": {}})
        assert answer.status_code == 202
        system.run_jobs()
        rows = system.execute(
            "SELECT s.tenant, d.status FROM deliveries AS d JOIN subscriptions AS s ON s.id = d.subscription_id"
        )
        assert sorted(map(tuple, rows)) == [("acme", "pending"), ("other", "dead")]


def with_deaths(system: System, path: str, body: dict[str, Any]) -> None:
    """Ask for a job, and have a worker die after every piece of it."""
    assert system.call("POST", path, body).status_code == 202
    for _ in range(50):
        system.execute("UPDATE jobs SET available_at = now() - interval '1 s'")
        token = uuid4()
        with system.ctx.engine.begin() as connection:
            job = jobs.claim(connection, kinds=list(working.KINDS), token=token, lease_seconds=60)
        if job is None:
            return
        progress = Progress(engine=system.ctx.engine, job_id=job.id, token=token, until=0.0)
        try:
            report = working.KINDS[job.kind](system.ctx, job, progress)
        except InterruptionError:
            continue  # there it dies, and gives nothing back
        with system.ctx.engine.begin() as connection:
            jobs.finish(connection, job.id, token, JobState.DONE, report=report)
    raise AssertionError("the job does not get on")


class TestRecovering:
    def test_recovers_changes_from_before_the_subscription(self, system: System, sink: HttpSink) -> None:
        names = [system.log_change() for _ in range(5)]
        system.deliver()
        made = system.create_subscription(sink.url)
        job = recover(system, made)
        assert (job["state"], job["done"], job["total"]) == ("done", 5, 5)
        assert job["report"]["never_made"] == job["report"]["to_deliver"] == 5
        system.deliver()
        assert sorted(got(sink)) == sorted(names)

    def test_recovers_changes_that_are_not_fanned_out_yet(self, system: System, sink: HttpSink) -> None:
        before = [system.log_change() for _ in range(3)]
        made = system.create_subscription(sink.url)
        after = [system.log_change() for _ in range(2)]
        assert recover(system, made)["report"] == {"changes": 5, "never_made": 3, "waiting": 2, "to_deliver": 3}
        system.deliver()
        assert sorted(got(sink)) == sorted(before + after)

    def test_recovers_changes_from_while_it_was_disabled(self, system: System, sink: HttpSink) -> None:
        made = system.create_subscription(sink.url)
        system.execute("UPDATE subscriptions SET state = 'disabled', version = version + 1")
        names = [system.log_change() for _ in range(3)]
        system.deliver()
        path = f"/v1/subscriptions/{made['id']}"
        assert system.call("POST", f"{path}/recover", {"since": LONG_AGO}).status_code == 409
        system.call("POST", f"{path}/resume")
        recover(system, made)
        system.deliver()
        assert sorted(got(sink)) == sorted(names)

    def test_recovers_changes_that_its_earlier_filter_excluded(self, system: System, sink: HttpSink) -> None:
        made = system.create_subscription(sink.url, ("alert.*",))
        bounced, fired = system.log_change("message.bounced"), system.log_change("alert.firing")
        system.log_change("message.sent")
        system.deliver()
        assert got(sink) == [fired]
        system.call("PATCH", f"/v1/subscriptions/{made['id']}", {"types": ["alert.*", "message.bounced"]})
        job = recover(system, made)
        assert job["report"] == {"changes": 3, "never_made": 1, "delivered": 1, "to_deliver": 1}
        system.deliver()
        assert got(sink) == [fired, bounced]

    def test_replays_dead_deliveries_and_leaves_pending_ones(self, system: System, sink: HttpSink) -> None:
        made = system.create_subscription(sink.url, retry_schedule=[3600], concurrency=1)
        sink.then(http_sink.answer(404), http_sink.answer(500), http_sink.answer(200))
        names = [system.log_change() for _ in range(3)]
        system.deliver()
        assert statuses(system) == ["dead", "delivered", "retry"]
        job = recover(system, made)
        assert job["report"] == {"changes": 3, "dead": 1, "waiting": 1, "delivered": 1, "to_deliver": 1}
        system.deliver()
        assert got(sink) == [*names, names[0]]

    def test_only_counts_in_a_dry_run(self, system: System, sink: HttpSink) -> None:
        system.log_change()
        system.deliver()
        made = system.create_subscription(sink.url)
        job = recover(system, made, dry_run=True)
        assert (job["state"], job["total"], job["report"]["to_deliver"]) == ("done", 1, 1)
        assert system.list_deliveries() == []

    def test_repeated_creates_no_delivery_twice(self, system: System, sink: HttpSink) -> None:
        names = [system.log_change() for _ in range(5)]
        system.deliver()
        made = system.create_subscription(sink.url)
        recover(system, made)
        assert recover(system, made)["report"] == {"changes": 5, "waiting": 5, "to_deliver": 0}
        system.deliver()
        assert recover(system, made)["report"] == {"changes": 5, "delivered": 5, "to_deliver": 0}
        system.deliver()
        assert sorted(got(sink)) == sorted(names)

    def test_sends_again_what_was_delivered_only_if_that_is_asked_for(self, system: System, sink: HttpSink) -> None:
        made = system.create_subscription(sink.url)
        names = [system.log_change() for _ in range(3)]
        system.deliver()
        assert recover(system, made, include_delivered=True)["report"]["to_deliver"] == 3
        system.deliver()
        assert sorted(got(sink)) == sorted(names * 2)
        assert len(system.list_deliveries()) == 3

    def test_is_of_a_time(self, system: System, sink: HttpSink) -> None:
        hours = [5, 4, 3, 2, 1]
        now = datetime.now(UTC)
        names = [system.log_change(changed_at=now - timedelta(hours=hour)) for hour in hours]
        system.deliver()
        made = system.create_subscription(sink.url)
        since, until = (now - timedelta(hours=hour) for hour in (4, 2))
        recover(system, made, since.isoformat(), until=until.isoformat())
        system.deliver()
        assert sorted(got(sink)) == sorted(names[1:3])

    def test_begins_at_the_mark_before_that_time(self, system: System, sink: HttpSink) -> None:
        system.log_change()
        name = system.log_change()
        system.deliver()
        (first, second) = system.execute("SELECT transaction::text, id FROM state_changes ORDER BY 1, 2")
        now = datetime.now(UTC)
        for at, place in ((now - timedelta(hours=2), first), (now, second)):
            system.execute(
                "INSERT INTO change_marks (at, transaction, id) VALUES (%(at)s, %(transaction)s::xid8, %(id)s)",
                at=at,
                transaction=place[0],
                id=place[1],
            )
        made = system.create_subscription(sink.url)
        job = recover(system, made, (now - timedelta(hours=1)).isoformat())
        assert (job["report"]["changes"], job["report"]["to_deliver"]) == (1, 1)
        system.deliver()
        assert got(sink) == [name]

    def test_says_from_when_on_changes_are_kept(self, system: System) -> None:
        now = datetime.now(UTC)
        for hours in (3, 2, 1):
            system.log_change(changed_at=now - timedelta(hours=hours))
        system.deliver()
        made = system.create_subscription("http://127.0.0.1:9/")
        assert "kept_since" not in recover(system, made, dry_run=True)["report"]
        system.execute(
            "WITH gone AS (DELETE FROM state_changes WHERE id = (SELECT min(id) FROM state_changes) RETURNING *)"
            " INSERT INTO change_floor (transaction, id) SELECT transaction, id FROM gone"
        )
        begin = (now - timedelta(hours=2)).isoformat()
        assert recover(system, made, dry_run=True)["report"]["kept_since"] == begin
        assert "kept_since" not in recover(system, made, begin, dry_run=True)["report"]

    def test_goes_on_where_a_dead_worker_left_it(self, system: System, sink: HttpSink) -> None:
        names = [system.log_change() for _ in range(7)]
        system.deliver()
        made = system.create_subscription(sink.url)
        with_deaths(system, f"/v1/subscriptions/{made['id']}/recover", {"since": LONG_AGO, "include_delivered": True})
        system.deliver()
        assert sorted(got(sink)) == sorted(names)

    def test_leaves_mail_that_is_probably_spam_to_a_person(self, system: System, sink: HttpSink) -> None:
        spam(system)
        system.deliver()
        made = system.create_subscription(sink.url)
        assert recover(system, made)["report"] == {"changes": 1, "quarantined": 1, "to_deliver": 0}
        assert statuses(system) == ["quarantined"]
        assert recover(system, made)["report"]["quarantined"] == 1

    def test_keeps_the_changes_of_a_message_in_their_order(self, system: System, sink: HttpSink) -> None:
        names = [system.log_change(message_id=UUID(int=1)) for _ in range(5)]
        system.deliver()
        made = system.create_subscription(sink.url, ordered=True)
        recover(system, made)
        system.deliver()
        assert got(sink) == names

    def test_does_not_stand_in_the_way_of_what_changes_now(self, system: System, sink: HttpSink) -> None:
        for _ in range(4):
            system.log_change()
        system.deliver()
        made = system.create_subscription(sink.url)
        recover(system, made)
        system.log_change()
        system.fan_out()
        assert sorted(lane for lane, *_ in system.pending_deliveries()) == [0, 1, 1, 1, 1]

    def test_of_a_removed_subscription_fails_with_the_reason(self, system: System, sink: HttpSink) -> None:
        made = system.create_subscription(sink.url)
        answer = system.call("POST", f"/v1/subscriptions/{made['id']}/recover", {"since": LONG_AGO})
        system.call("DELETE", f"/v1/subscriptions/{made['id']}")
        system.run_jobs()
        job = system.get(answer.headers["Location"])
        assert (job["state"], job["error"]) == ("failed", "The subscription was removed.")

    def test_needs_a_moment_to_begin_with(self, system: System, sink: HttpSink) -> None:
        made = system.create_subscription(sink.url)
        answer = system.call("POST", f"/v1/subscriptions/{made['id']}/recover", {})
        assert (answer.status_code, list(answer.get_json()["errors"])) == (422, ["since"])


def test_what_waits_for_a_removed_subscription_is_given_up_to_the_last(system: System, sink: HttpSink) -> None:
    made, other = system.create_subscription(sink.url), system.create_subscription(sink.url)
    for _ in range(5):
        system.log_change()
    system.fan_out()
    system.call("DELETE", f"/v1/subscriptions/{made['id']}")
    system.run_jobs()
    assert statuses(system, subscription=made["id"]) == ["dead"] * 5
    assert statuses(system, subscription=other["id"]) == ["pending"] * 5


def test_a_worker_that_was_taken_over_does_nothing_more(system: System, sink: HttpSink) -> None:
    system.log_change()
    system.deliver()
    made = system.create_subscription(sink.url)
    system.call("POST", f"/v1/subscriptions/{made['id']}/recover", {"since": LONG_AGO})
    with system.ctx.engine.begin() as connection:
        job = jobs.claim(connection, kinds=list(working.KINDS), token=uuid4(), lease_seconds=60)
    assert job is not None
    another = Progress(engine=system.ctx.engine, job_id=job.id, token=uuid4(), until=float("inf"))
    with pytest.raises(InterruptionError) as raised:
        jobs_recover.run(system.ctx, job, another)
    assert raised.value.reason is Interruption.TAKEN_OVER
    assert system.list_deliveries() == []


def test_a_replay_waits_for_an_attempt_that_is_being_written_down(system: System, sink: HttpSink) -> None:
    system.create_subscription(sink.url, retry_schedule=[3600])
    sink.then(http_sink.answer(500))
    system.log_change()
    system.deliver()
    delivery = system.get_delivery(status="retry")

    def replay_it() -> None:
        system.call("POST", f"/v1/deliveries/{delivery['id']}/replay")

    with system.ctx.engine.begin() as connection:  # in the order in which attempts are written down
        connection.exec_driver_sql("SELECT 1 FROM pending_deliveries FOR UPDATE")
        replaying = threading.Thread(target=replay_it)
        replaying.start()
        while replaying.is_alive() and not system.execute("SELECT 1 FROM pg_locks WHERE NOT granted"):
            pass
        connection.exec_driver_sql("UPDATE deliveries SET attempts = attempts + 1")
    replaying.join()
    assert (system.get_delivery()["status"], system.get_delivery()["attempts"]) == ("pending", 2)


@contextmanager
def running(*works: Callable[[], object]) -> Iterator[None]:
    """Run these at once, each in a separate thread, until all have ended."""
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    yield
    for thread in threads:
        thread.join()


def test_followers_and_recoverers_at_once_make_every_delivery_once(system: System) -> None:
    written, over = threading.Event(), threading.Event()

    def write() -> None:
        for number in range(150):
            system.log_change(changed_at=datetime.now(UTC), version=number)
            if number == 50:
                written.set()

    def follow() -> None:
        while not over.is_set():
            system.fan_out(max_changes=7)

    def work() -> None:
        working.run_due(system.add_worker(), turn_seconds=60)

    with running(follow):
        with running(write, write):
            written.wait()
            made = system.create_subscription("http://127.0.0.1:9/")
            for _ in range(2):
                system.call("POST", f"/v1/subscriptions/{made['id']}/recover", {"since": LONG_AGO})
            with running(work, work):
                pass
        over.set()
    while system.fan_out().changes:
        pass
    assert {job["state"] for job in system.list_items("/v1/jobs")} == {"done"}
    counts = system.execute(
        "SELECT (SELECT count(*) FROM state_changes), count(*), count(DISTINCT (change_transaction, change_id))"
        " FROM deliveries"
    )
    assert [tuple(row) for row in counts] == [(300, 300, 300)]
