"""Jobs: one worker at a time, one slice at a time, continued where the last worker stopped; and always to an end."""

import threading
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from shared.broker import JOBS
from shared.errors import ConflictError, TidingsError
from shared.jobs import files as job_files
from shared.jobs import store as jobs
from shared.jobs.store import Job
from shared.operations import retention
from shared.vocabulary import JOB_KINDS, JobState
from tests.support.system import System
from workers.context import WorkerContext
from workers.jobs import runner as working
from workers.jobs.progress import InterruptionError, JobError, Progress


@pytest.fixture(autouse=True)
def counting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kind of job that counts from where it is to a total, and notes each number in a table."""
    monkeypatch.setitem(working.KINDS, "count", count)


def count(ctx: WorkerContext, job: Job, progress: Progress) -> Mapping[str, Any]:
    total = job.parameters["total"]
    for number in range(job.position.get("next", 0), total):
        if number == job.parameters.get("fails_at"):
            raise ValueError(f"{number} cannot be counted")
        if number == job.parameters.get("refuses_at"):
            raise JobError(f"{number} is none", {"counted": number})
        with ctx.engine.begin() as connection:
            progress.record(connection, number + 1, total, {"next": number + 1})
            connection.exec_driver_sql("INSERT INTO counted VALUES (%(n)s)", {"n": number})
        progress.commit(number + 1, total, {"next": number + 1})
    return {"counted": total}


@pytest.fixture
def system(system: System) -> System:
    system.execute("CREATE TABLE counted (number integer)")
    return system


def ask(system: System, kind: str = "count", **parameters: Any) -> UUID:
    with system.ctx.engine.begin() as connection:
        return jobs.create(connection, kind=kind, parameters=parameters, asked_by="test", now=datetime.now(UTC))


def found(system: System, job_id: UUID) -> Job:
    with system.ctx.engine.begin() as connection:
        job = jobs.find(connection, job_id)
    assert job is not None
    return job


def counted(system: System) -> list[int]:
    return [number for (number,) in system.rows("SELECT number FROM counted ORDER BY ctid")]


def claim(system: System, lease_seconds: float = 60) -> tuple[Job | None, UUID]:
    token = uuid4()
    with system.ctx.engine.begin() as connection:
        return jobs.claim(connection, kinds=["count"], token=token, lease_seconds=lease_seconds), token


def come_due(system: System) -> None:
    system.execute("UPDATE jobs SET available_at = now() - interval '1 s'")


def test_every_kind_can_be_filtered_by() -> None:
    assert working.KINDS.keys() - {"count"} <= set(JOB_KINDS)


class TestAJob:
    def test_is_worked_on_to_its_end(self, system: System) -> None:
        job_id = ask(system, total=3)
        assert (found(system, job_id).state, found(system, job_id).waits_for) == (JobState.QUEUED, "a worker")
        working.run_due(system.ctx)
        job = found(system, job_id)
        assert (job.state, job.done, job.total, job.report) == (JobState.DONE, 3, 3, {"counted": 3})
        assert job.waits_for is None
        assert job.started_at is not None
        assert job.finished_at is not None
        assert counted(system) == [0, 1, 2]

    def test_gives_others_their_turn_and_goes_on_where_it_was(self, system: System) -> None:
        job_id = ask(system, total=3)
        for number in (1, 2):
            working.run_due(system.ctx, turn_seconds=0.0001)
            assert (found(system, job_id).state, found(system, job_id).done) == (JobState.RUNNING, number)
        assert system.notifier.tasks == [JOBS, JOBS]
        working.run_due(system.ctx)
        assert found(system, job_id).state is JobState.DONE
        assert counted(system) == [0, 1, 2]

    def test_that_waited_longest_comes_first(self, system: System) -> None:
        first, second = ask(system, total=3), ask(system, total=1)
        working.run_due(system.ctx, turn_seconds=0.0001)  # the first one's turn is over
        job, _ = claim(system)
        assert job is not None
        assert job.id == second
        assert found(system, first).done == 1

    def test_of_a_kind_that_is_not_known_here_is_left_to_who_knows_it(self, system: System) -> None:
        job_id = ask(system, kind="unheard of")
        working.run_due(system.ctx)
        assert found(system, job_id).state is JobState.QUEUED

    def test_that_refuses_fails_at_once_with_its_reason_and_report(self, system: System) -> None:
        job_id = ask(system, total=3, refuses_at=1)
        working.run_due(system.ctx)
        job = found(system, job_id)
        assert (job.state, job.error, job.report) == (JobState.FAILED, "1 is none", {"counted": 1})

    def test_that_fails_without_getting_on_is_tried_again_and_ends_failed_with_the_reason(self, system: System) -> None:
        job_id = ask(system, total=3, fails_at=1)
        working.run_due(system.ctx)
        assert found(system, job_id).state is JobState.RUNNING
        assert claim(system)[0] is None, "it has to wait before the next try"
        for _ in range(5):
            come_due(system)
            working.run_due(system.ctx)
        job = found(system, job_id)
        assert (job.state, job.error) == (JobState.FAILED, "ValueError: 1 cannot be counted")
        assert counted(system) == [0]

    def test_waits_without_being_charged_while_the_database_is_the_reason(self, system: System) -> None:
        job_id = ask(system, total=1)
        system.execute("ALTER TABLE counted RENAME TO elsewhere")
        for _ in range(system.ctx.settings.max_attempts + 1):
            working.run_due(system.ctx)
            job = found(system, job_id)
            assert (job.state, job.attempts) == (JobState.RUNNING, 0)
            assert "does not exist" in (job.error or "")
            assert not working.run_one(system.ctx, job_id, lambda _advance: None), "it waits for its next attempt"
            come_due(system)
        system.execute("ALTER TABLE elsewhere RENAME TO counted")
        working.run_due(system.ctx)
        assert found(system, job_id).state is JobState.DONE

    def test_is_due_at_once_although_the_clock_of_who_asked_is_ahead(self, system: System) -> None:
        ahead = datetime.now(UTC) + timedelta(hours=1)
        with system.ctx.engine.begin() as connection:
            jobs.create(connection, kind="count", parameters={"total": 1}, asked_by="test", now=ahead)
        assert claim(system)[0] is not None

    def test_ends_with_nothing_left_but_what_it_made(self, system: System) -> None:
        job_id = ask(system, total=1, sealed="secret")
        with system.ctx.engine.begin() as connection:
            for name in (job_files.INPUT, job_files.OUTPUT):
                job_files.write(connection, job_id, name, 0, b"x")
        assert not {"sealed"} & found(system, job_id).shown_parameters.keys()
        working.run_due(system.ctx)
        assert system.rows("SELECT name FROM job_files") == [("output",)]
        assert found(system, job_id).parameters == {"total": 1}


class TestAWorker:
    def test_runs_one_job_in_a_turn_that_is_already_over(self, system: System) -> None:
        job_id = ask(system, total=1)
        working.run_due(system.ctx, turn_seconds=0)
        assert found(system, job_id).done == 1

    def test_a_killed_run_is_followed_by_another_after_its_lease_expires(self, system: System) -> None:
        job_id = ask(system, total=3)
        working.run_due(system.ctx, turn_seconds=0.0001)
        claim(system)  # and never says a word again
        working.run_due(system.ctx)
        assert found(system, job_id).done == 1
        come_due(system)
        working.run_due(system.ctx)
        assert counted(system) == [0, 1, 2]

    def test_that_was_overtaken_writes_nothing(self, system: System) -> None:
        job_id = ask(system, total=2)
        job, token = claim(system, lease_seconds=0)
        assert job is not None
        working.run_due(system.ctx)
        working.run_claimed(system.ctx, job, token, float("inf"))
        with system.ctx.engine.begin() as connection:
            assert not jobs.release(connection, job_id, token)
            assert not jobs.finish(connection, job_id, token, JobState.FAILED)
        assert counted(system) == [0, 1]
        assert found(system, job_id).state is JobState.DONE

    def test_and_another_never_hold_one_job_at_once(self, system: System) -> None:
        for _ in range(20):
            ask(system, total=3)
        contexts = [system.add_worker() for _ in range(4)]
        threads = [threading.Thread(target=working.run_due, args=(ctx,)) for ctx in contexts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert system.rows("SELECT number, count(*) FROM counted GROUP BY 1 ORDER BY 1") == [(0, 20), (1, 20), (2, 20)]
        assert system.rows("SELECT DISTINCT state FROM jobs") == [("done",)]

    def test_that_is_killed_by_a_job_every_time_leaves_it_failed_in_the_end(self, system: System) -> None:
        job_id = ask(system, total=1)
        for _ in range(5):
            assert claim(system)[0] is not None
            come_due(system)
        working.run_due(system.ctx)
        job = found(system, job_id)
        assert job.state is JobState.FAILED
        assert job.error is not None
        assert "may have crashed" in job.error
        assert counted(system) == []

    def test_that_is_writing_a_result_keeps_the_job_although_its_lease_runs_out(self, system: System) -> None:
        job_id = ask(system, total=1)
        _, token = claim(system)
        progress = Progress(engine=system.ctx.engine, job_id=job_id, token=token, until=float("inf"))
        with system.ctx.engine.begin() as connection:
            progress.record(connection, 0)
            connection.exec_driver_sql("UPDATE jobs SET available_at = now() - interval '1 s'")
            assert claim(system)[0] is None
            with system.ctx.engine.begin() as other, pytest.raises(ConflictError):
                jobs.cancel(other, job_id)


class TestCancelling:
    def test_cancelling_a_queued_job_ends_it_at_once(self, system: System) -> None:
        job_id = ask(system, total=1)
        with system.ctx.engine.begin() as connection:
            job_files.write(connection, job_id, job_files.INPUT, 0, b"x")
            assert jobs.cancel(connection, job_id).state is JobState.CANCELLED  # type: ignore[union-attr]
        working.run_due(system.ctx)
        assert counted(system) == []
        assert system.rows("SELECT * FROM job_files") == []

    def test_what_is_being_worked_on_ends_it_where_it_is(self, system: System) -> None:
        job_id = ask(system, total=3)
        job, token = claim(system)
        assert job is not None
        with system.ctx.engine.begin() as connection:
            assert jobs.cancel(connection, job_id).state is JobState.RUNNING  # type: ignore[union-attr]
        working.run_claimed(system.ctx, job, token, float("inf"))
        assert found(system, job_id).state is JobState.CANCELLED
        assert counted(system) == [], "what is written together with the progress is not written"

    def test_does_not_change_a_finished_job(self, system: System) -> None:
        job_id = ask(system, total=1)
        working.run_due(system.ctx)
        with system.ctx.engine.begin() as connection:
            assert jobs.cancel(connection, job_id).state is JobState.DONE  # type: ignore[union-attr]
            assert jobs.cancel(connection, uuid4()) is None


def test_jobs_are_listed_the_newest_first(system: System) -> None:
    begin = datetime.now(UTC)
    with system.ctx.engine.begin() as connection:
        asked = [
            jobs.create(
                connection,
                kind="other" if number == 3 else "count",
                parameters={"total": 1},
                asked_by="test",
                now=begin + timedelta(seconds=number),
            )
            for number in range(4)
        ]
    with system.ctx.engine.begin() as connection:
        assert [job.id for job in jobs.list_jobs(connection).items] == asked[::-1]
        assert [job.id for job in jobs.list_jobs(connection, kind="other").items] == asked[3:]
        assert jobs.list_jobs(connection, state=JobState.DONE).items == []
        page = jobs.list_jobs(connection, limit=2)
        assert [job.id for job in jobs.list_jobs(connection, after=page.next).items] == asked[:2][::-1]


def test_an_interruption_is_not_caught_by_error_handlers() -> None:
    assert not issubclass(InterruptionError, TidingsError)


def test_a_file_is_read_in_its_parts(system: System) -> None:
    job_id = ask(system)
    with system.ctx.engine.begin() as connection:
        for part, content in enumerate((b"one", b"two", b"three")):
            job_files.write(connection, job_id, job_files.OUTPUT, part, content)
        job_files.write(connection, job_id, job_files.OUTPUT, 1, b"another")
        assert list(job_files.parts(connection, job_id, job_files.OUTPUT)) == [b"one", b"another", b"three"]
        assert job_files.count(connection, job_id, job_files.OUTPUT) == 3
        assert job_files.read(connection, job_id, job_files.INPUT, 0) is None


def test_jobs_that_are_over_and_their_files_go_when_retention_has_passed(system: System) -> None:
    old, waiting, young = (ask(system, total=0) for _ in range(3))
    with system.ctx.engine.begin() as connection:
        for job_id in (old, waiting, young):
            job_files.write(connection, job_id, job_files.OUTPUT, 0, b"x")
    working.run_due(system.ctx)
    system.execute("UPDATE jobs SET finished_at = now() - interval '40 days' WHERE id = %(id)s", id=old)
    system.execute("UPDATE jobs SET state = 'queued', finished_at = NULL WHERE id = %(id)s", id=waiting)
    now = datetime.now(UTC)
    with system.ctx.engine.begin() as connection:
        for oldest, left in ((now - timedelta(days=30), {waiting, young}), (now + timedelta(days=1), {waiting})):
            retention.delete_expired(connection, oldest)
            assert {row[0] for row in connection.exec_driver_sql("SELECT job_id FROM job_files")} == left
    assert system.rows("SELECT id FROM jobs") == [(waiting,)]
