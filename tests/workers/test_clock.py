"""Periodic tasks that no wake-up starts are claimed by one worker; those that wake-ups start are left alone."""

from collections.abc import Iterator
from contextlib import contextmanager

import redis as redis_client
from sqlalchemy import Connection, Engine

from cli.supervisor import ports
from shared.broker import TaskNotifier
from shared.jobs import periodic

SCHEDULE = {"sweep": 3.0, "maintain": 3600.0}


def claim(database: Engine, ran: dict[str, float] | None = None, schedule: dict[str, float] = SCHEDULE) -> list[str]:
    with database.begin() as connection:
        return sorted(periodic.claim_missed(connection, schedule, ran or {}, grace_seconds=6.0))


def pass_time(database: Engine, seconds: float) -> None:
    with database.begin() as connection:
        connection.exec_driver_sql(
            f"UPDATE periodic_tasks SET ran_at = ran_at - interval '{seconds} s',"
            f" wake_up_at = wake_up_at - interval '{seconds} s'"
        )


def problem(database: Engine) -> str | None:
    with database.begin() as connection:
        return periodic.find_problem(connection)


def test_a_task_that_no_wake_up_starts_is_claimed_once_when_its_time_and_the_grace_are_over(database) -> None:
    assert claim(database) == []
    pass_time(database, 4)
    assert claim(database) == []
    pass_time(database, 6)
    assert claim(database) == ["sweep"]
    assert claim(database) == []


def test_a_task_that_a_wake_up_started_in_any_process_is_left_alone(database) -> None:
    claim(database)
    pass_time(database, 10)
    assert claim(database, ran={"sweep": 1.5}) == []
    assert claim(database) == []


def test_while_no_wake_ups_come_a_task_runs_as_often_as_scheduled(database) -> None:
    claim(database)
    pass_time(database, 10)
    assert claim(database) == ["sweep"]
    pass_time(database, 3.5)
    assert claim(database) == ["sweep"]
    pass_time(database, 3.5)
    assert claim(database, ran={"sweep": 0.0}) == []
    pass_time(database, 3.5)
    assert claim(database) == []


def test_half_a_minute_without_wake_ups_is_a_problem_until_one_arrives(database) -> None:
    claim(database)
    for seconds in (10, 4, 4):
        pass_time(database, seconds)
        assert claim(database) == ["sweep"]
    assert problem(database) is None
    pass_time(database, 16)
    claim(database)
    assert problem(database) == "no wake-up arrives; check that beat runs"
    pass_time(database, 3)
    claim(database, ran={"sweep": 0.0})
    assert problem(database) is None


def test_an_hourly_task_that_beat_missed_while_it_was_restarted_is_no_problem(database) -> None:
    claim(database)
    for _ in range(2):
        pass_time(database, 3700)
        assert "maintain" in claim(database, ran={"sweep": 0.0})
    assert problem(database) is None


def test_what_is_wrong_with_the_broker_is_a_problem_for_a_minute(database) -> None:
    claim(database)
    pass_time(database, 10)
    claim(database)
    with database.begin() as connection:
        periodic.record_problem(connection, ["sweep"], "it refuses messages")
    assert problem(database) == "it refuses messages"
    pass_time(database, 61)
    assert problem(database) is None


def test_a_worker_does_not_wait_for_another_that_claims(database) -> None:
    claim(database)
    pass_time(database, 10)

    def claim_in(connection: Connection) -> list[str]:
        return list(periodic.claim_missed(connection, SCHEDULE, {}, grace_seconds=6.0))

    with database.begin() as first, database.begin() as second:
        assert claim_in(first) == ["sweep"]
        assert claim_in(second) == []


@contextmanager
def notifier(url: str) -> Iterator[TaskNotifier]:
    made = TaskNotifier(url)
    yield made
    made.close()


def test_a_broker_that_takes_messages_has_no_problem_and_keeps_none(broker_url: str) -> None:
    with notifier(broker_url) as made, redis_client.Redis.from_url(broker_url) as client:
        assert made.find_problem() is None
        assert client.llen("tidings.probe") == 0


def test_what_is_wrong_with_a_broker_is_named(make_redis) -> None:
    server = make_redis()
    with notifier(server.url) as made, redis_client.Redis.from_url(server.url) as client:
        client.config_set("maxmemory", 1)
        assert "maxmemory" in (made.find_problem() or "")
        assert not made.notify()
        client.config_set("maxmemory", 0)
        client.replicaof("127.0.0.1", 1)
        assert "read only" in (made.find_problem() or "")
        assert not made.notify()
        client.replicaof("NO", "ONE")
        assert made.find_problem() is None
    with notifier(f"redis://127.0.0.1:{ports.free_port()}/0") as made:
        assert "refused" in (made.find_problem() or "")


def test_an_error_of_a_transport_of_any_class_is_a_problem_and_raises_nothing() -> None:
    with notifier("redis://127.0.0.1:1/main") as made:
        assert "Database is int" in (made.find_problem() or "")
        assert not made.notify()
