"""Engines: how a process reaches PostgreSQL by SQLAlchemy, with a bound on everything that could make it wait."""

from sqlalchemy import Engine
from sqlalchemy import create_engine as _create_engine
from sqlalchemy.engine import make_url

from shared.postgres import connection
from shared.postgres.connection import Plans


def create(
    url: str,
    *,
    application: str,
    pool_size: int = 4,
    statement_timeout_ms: int = connection.STATEMENT_TIMEOUT_MS,
    synchronous_commit: bool = True,
    plans: Plans = Plans.AS_IT_SEES_FIT,
) -> Engine:
    """An engine for this process. `application` is how its connections are named in pg_stat_activity.

    Without `synchronous_commit` a crash of the server may undo the last moments of what was committed: only for
    work that the queue would then hand out again. Where the size of a batch decides which plan is good, its statements
    are to be planned each time; where it is small, planning takes longer than running them.
    """
    return _create_engine(
        make_url(url).set(drivername="postgresql+psycopg"),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=5,
        hide_parameters=True,  # they are bodies and credentials, and errors end up in logs
        connect_args=connection.arguments(
            application,
            statement_timeout_ms=statement_timeout_ms,
            synchronous_commit=synchronous_commit,
            plans=plans,
        ),
    )
