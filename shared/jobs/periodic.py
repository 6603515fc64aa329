"""When each periodic task ran last. Workers compare it with the schedule to notice that no wake-ups come."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, func, select, text, update

from shared.jobs.tables import periodic_tasks

_PROBLEM_SECONDS: Final = 60.0
"""A problem that no worker has seen for this long is over."""
_FREQUENT_SECONDS: Final = 60.0
_SILENCE_SECONDS: Final = 30.0

# A run that another process has reported less than two seconds ago is not written again.
_REPORT = text(
    """
    INSERT INTO periodic_tasks AS known (task, ran_at, wake_up_at)
    SELECT task, now() - age * interval '1 second', now() - age * interval '1 second'
    FROM unnest(CAST(:tasks AS text[]), CAST(:ages AS float8[])) AS ran (task, age) ORDER BY task
    ON CONFLICT (task) DO UPDATE SET ran_at = excluded.ran_at, wake_up_at = excluded.ran_at, problem = NULL
    WHERE known.wake_up_at < excluded.ran_at - interval '2 seconds'
    """
)

# No wake-up for half a minute more than usual means that none comes. A task that runs once an hour may have missed one.
# SKIP LOCKED: another worker that reports or claims the same tasks must not be waited for.
_CLAIM = text(
    """
    WITH late AS (
        SELECT t.task, asked.seconds <= :frequent
            AND t.wake_up_at < now() - (asked.seconds + :silence) * interval '1 second' AS is_silent
        FROM periodic_tasks AS t
        JOIN unnest(CAST(:tasks AS text[]), CAST(:seconds AS float8[])) AS asked (task, seconds) ON asked.task = t.task
        WHERE t.ran_at < now() - interval '1 second'
            * (asked.seconds + CASE WHEN t.ran_at > t.wake_up_at THEN 0 ELSE :grace END)
        FOR UPDATE OF t SKIP LOCKED
    )
    UPDATE periodic_tasks AS t SET ran_at = now(),
        problem = CASE WHEN late.is_silent THEN 'no wake-up arrives; check that beat runs' END
    FROM late WHERE late.task = t.task RETURNING t.task
    """
)

_BY_CLOCK: Final = periodic_tasks.c.ran_at > periodic_tasks.c.wake_up_at


def claim_missed(
    connection: Connection, schedule: Mapping[str, float], ran: Mapping[str, float], *, grace_seconds: float
) -> Sequence[str]:
    """Return the tasks that are late. They count as run now, so that one worker runs each.

    `schedule` has the seconds between two runs, `ran` how many seconds ago wake-ups started tasks in this process.
    A task has `grace_seconds` more, unless its last run was claimed too. A task without a row gets one.
    """
    if ran:
        connection.execute(_REPORT, {"tasks": list(ran), "ages": list(ran.values())})
    known = connection.execute(select(periodic_tasks.c.task)).scalars().all()
    if new := sorted(set(schedule) - set(known)):
        connection.execute(_REPORT, {"tasks": new, "ages": [0.0] * len(new)})
    values: dict[str, Any] = {"tasks": list(schedule), "seconds": list(schedule.values())}
    values |= {"grace": grace_seconds, "frequent": _FREQUENT_SECONDS, "silence": _SILENCE_SECONDS}
    found = connection.execute(_CLAIM, values)
    return found.scalars().all()


def record_problem(connection: Connection, tasks: Collection[str], problem: str) -> None:
    """Store what was wrong with the broker when these tasks were claimed."""
    statement = update(periodic_tasks).values(problem=problem)
    connection.execute(statement.where(periodic_tasks.c.task.in_(tasks), _BY_CLOCK))


def find_problem(connection: Connection) -> str | None:
    """Return what is wrong with the broker; None if nothing is."""
    recent = periodic_tasks.c.ran_at > func.now() - func.make_interval(0, 0, 0, 0, 0, 0, _PROBLEM_SECONDS)
    statement = select(periodic_tasks.c.problem).where(recent, periodic_tasks.c.problem.is_not(None))
    return connection.execute(statement.order_by(periodic_tasks.c.ran_at.desc()).limit(1)).scalar()
