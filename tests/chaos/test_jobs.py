"""Long work survives its workers: whoever is killed, and whenever, an import ends whole, and is done once."""

import time
from datetime import UTC, datetime
from functools import partial
from uuid import UUID

from shared.doorbell import JOBS, Doorbell
from shared.suppression import jobs as suppression_jobs
from shared.suppression import recipient_hashes
from shared.suppression.csv_files import Defaults
from tests.chaos.house import House

LINES = 40_000


def ask(house: House, prefix: str) -> UUID:
    """An import of so many addresses."""
    lines = "".join(f"{prefix}{number}@post.example\n" for number in range(LINES))
    with house.engine.begin() as connection:
        recipient_hashes.load(connection, house.vault)
        job_id = suppression_jobs.ask_import_of_csv(
            connection,
            f"email\n{lines}".encode(),
            Defaults(),
            skip_bad_lines=False,
            asked_by="test",
            now=datetime.now(UTC),
        )
    bell = Doorbell(house.redis.url)
    bell.ring(JOBS)
    bell.close()
    return job_id


def standing(house: House, job_id: UUID) -> tuple[str, int]:
    """State, and how many lines are read."""
    ((state, done),) = house.rows("SELECT state, done FROM jobs WHERE id = %(id)s", id=job_id)
    return state, done


def imported(house: House, prefix: str) -> int:
    ((count,),) = house.rows("SELECT count(*) FROM suppressions WHERE address LIKE %(name)s", name=f"{prefix}%")
    return int(count)


def got_on(house: House, job_id: UUID, begun: int) -> bool:
    """Whether more is done than then, or everything is read."""
    state, done = standing(house, job_id)
    return done > begun or done > LINES or state not in ("queued", "running")


def let_leases_run_out(house: House) -> None:
    with house.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE jobs SET available_at = now() WHERE state IN ('queued', 'running')")


def wait_until_over(house: House, job_id: UUID) -> None:
    house.must_come(lambda: standing(house, job_id)[0] not in ("queued", "running"), *house.names("worker"))


def test_an_import_whose_workers_are_killed_again_and_again_ends_whole_and_once(house: House) -> None:
    job_id = ask(house, "killed")
    deaths = 0
    for pause in range(6):
        begun = standing(house, job_id)[1]
        house.must_come(partial(got_on, house, job_id, begun), *house.names("worker"))
        if standing(house, job_id)[0] not in ("queued", "running"):
            break
        assert imported(house, "killed") == 0, "nothing is on the list before all of it is"
        for name in ("worker", "worker 2"):
            house.processes[name].kill()
        deaths += 1
        let_leases_run_out(house)
        for name in ("worker", "worker 2"):
            house.start(name)
        time.sleep(0.1 * pause)
    wait_until_over(house, job_id)
    assert deaths > 1
    assert standing(house, job_id) == ("done", LINES + 1)
    assert imported(house, "killed") == LINES
    ((steps,),) = house.rows(
        "SELECT count(*) FROM suppression_history WHERE key IN (SELECT key FROM suppressions"
        " WHERE address LIKE 'killed%%')"
    )
    assert steps == LINES
    assert house.rows("SELECT count(*) FROM staged_suppressions") == [(0,)]


def test_a_worker_that_slept_past_its_lease_leaves_the_job_to_the_other(house: House) -> None:
    house.stop("worker 2")
    job_id = ask(house, "slept")
    house.must_come(lambda: 0 < standing(house, job_id)[1] < LINES, "worker")
    house.processes["worker"].freeze()
    let_leases_run_out(house)
    house.start("worker 2")
    wait_until_over(house, job_id)
    assert imported(house, "slept") == LINES
    history = house.rows("SELECT count(*) FROM suppression_history")
    house.processes["worker"].thaw()
    house.wait_until_ready()
    assert house.rows("SELECT count(*) FROM suppression_history") == history
    assert standing(house, job_id)[0] == "done"
