"""Long jobs survive their workers: whatever is killed, an import ends complete and is done once."""

import time
from datetime import UTC, datetime
from functools import partial
from uuid import UUID

from shared.broker import JOBS, TaskNotifier
from shared.suppression import jobs as suppression_jobs
from shared.suppression import recipient_hashes
from shared.suppression.csv_files import Defaults
from tests.support.cluster import Cluster

LINES = 40_000


def ask(cluster: Cluster, prefix: str) -> UUID:
    """Return an import of `count` addresses."""
    lines = "".join(f"{prefix}{number}@post.example\n" for number in range(LINES))
    with cluster.engine.begin() as connection:
        recipient_hashes.load(connection, cluster.vault)
        job_id = suppression_jobs.create_csv_import(
            connection,
            f"email\n{lines}".encode(),
            Defaults(),
            skip_bad_lines=False,
            asked_by="test",
            now=datetime.now(UTC),
        )
    notifier = TaskNotifier(cluster.redis.url)
    notifier.notify(JOBS)
    notifier.close()
    return job_id


def standing(cluster: Cluster, job_id: UUID) -> tuple[str, int]:
    """State, and how many lines are read."""
    ((state, done),) = cluster.rows("SELECT state, done FROM jobs WHERE id = %(id)s", id=job_id)
    return state, done


def imported(cluster: Cluster, prefix: str) -> int:
    ((count,),) = cluster.rows("SELECT count(*) FROM suppressions WHERE address LIKE %(name)s", name=f"{prefix}%")
    return int(count)


def got_on(cluster: Cluster, job_id: UUID, begun: int) -> bool:
    """Whether more is done than then, or everything is read."""
    state, done = standing(cluster, job_id)
    return done > begun or done > LINES or state not in ("queued", "running")


def let_leases_run_out(cluster: Cluster) -> None:
    with cluster.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE jobs SET available_at = now() WHERE state IN ('queued', 'running')")


def wait_until_over(cluster: Cluster, job_id: UUID) -> None:
    cluster.wait_for(lambda: standing(cluster, job_id)[0] not in ("queued", "running"), *cluster.names("worker"))


def test_an_import_whose_workers_are_killed_again_and_again_ends_whole_and_once(cluster: Cluster) -> None:
    job_id = ask(cluster, "killed")
    deaths = 0
    for pause in range(6):
        begun = standing(cluster, job_id)[1]
        cluster.wait_for(partial(got_on, cluster, job_id, begun), *cluster.names("worker"))
        # In one statement: all of it may be on the list at any moment.
        [(listed, is_whole)] = cluster.rows(
            "SELECT (SELECT count(*) FROM suppressions WHERE address LIKE 'killed%%'),"
            " coalesce((position ->> 'written')::boolean, false) FROM jobs WHERE id = %(id)s",
            id=job_id,
        )
        assert listed == (LINES if is_whole else 0), "nothing is on the list before all of it is"
        if is_whole:
            break
        for name in ("worker", "worker 2"):
            cluster.processes[name].kill()
        deaths += 1
        let_leases_run_out(cluster)
        for name in ("worker", "worker 2"):
            cluster.start(name)
        time.sleep(0.1 * pause)
    wait_until_over(cluster, job_id)
    assert deaths > 1
    assert standing(cluster, job_id) == ("done", LINES + 1)
    assert imported(cluster, "killed") == LINES
    ((steps,),) = cluster.rows(
        "SELECT count(*) FROM suppression_history WHERE key IN (SELECT key FROM suppressions"
        " WHERE address LIKE 'killed%%')"
    )
    assert steps == LINES
    assert cluster.rows("SELECT count(*) FROM staged_suppressions") == [(0,)]


def test_a_worker_that_slept_past_its_lease_leaves_the_job_to_the_other(cluster: Cluster) -> None:
    cluster.stop("worker 2")
    job_id = ask(cluster, "slept")
    cluster.wait_for(lambda: 0 < standing(cluster, job_id)[1] < LINES, "worker")
    cluster.processes["worker"].freeze()
    let_leases_run_out(cluster)
    cluster.start("worker 2")
    wait_until_over(cluster, job_id)
    assert imported(cluster, "slept") == LINES
    # Of these addresses: events of earlier tests may still be evaluated.
    steps = (
        "SELECT count(*) FROM suppression_history WHERE key IN (SELECT key FROM suppressions"
        " WHERE address LIKE 'slept%%')"
    )
    history = cluster.rows(steps)
    cluster.processes["worker"].thaw()
    cluster.wait_until_ready()
    assert cluster.rows(steps) == history
    assert standing(cluster, job_id)[0] == "done"
