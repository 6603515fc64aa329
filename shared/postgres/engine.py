"""SQLAlchemy engines, with a timeout on everything that can block."""

from sqlalchemy import Engine
from sqlalchemy import create_engine as _create_engine
from sqlalchemy.engine import make_url

from shared.postgres import connection
from shared.postgres.connection import PlanCacheMode


def create_engine(
    url: str,
    *,
    application: str,
    pool_size: int = 4,
    statement_timeout_ms: int = connection.STATEMENT_TIMEOUT_MS,
    synchronous_commit: bool = True,
    plan_cache_mode: PlanCacheMode = PlanCacheMode.AUTO,
) -> Engine:
    """Return an engine for this process. `application` names its connections in pg_stat_activity.

    Without `synchronous_commit`, a crash of the server may lose the last commits: use it only for work that the queue
    hands out again. Use plan_cache_mode CUSTOM where the best plan depends on the batch size, and GENERIC for small
    batches, whose planning takes longer than their execution.
    """
    return _create_engine(
        make_url(url).set(drivername="postgresql+psycopg"),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=5,
        hide_parameters=True,  # bodies and credentials must not reach the logs with an error
        connect_args=connection.connect_args(
            application,
            statement_timeout_ms=statement_timeout_ms,
            synchronous_commit=synchronous_commit,
            plan_cache_mode=plan_cache_mode,
        ),
    )
