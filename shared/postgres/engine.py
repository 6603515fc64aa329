"""SQLAlchemy engines, with a timeout on everything that can block."""

from enum import StrEnum
from typing import Any

from psycopg.errors import ReadOnlySqlTransaction
from sqlalchemy import Engine, ExceptionContext, event
from sqlalchemy import create_engine as _create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError

CONNECT_TIMEOUT_SECONDS = 1
STATEMENT_TIMEOUT_MS = 30_000


class PlanCacheMode(StrEnum):
    """PostgreSQL's `plan_cache_mode`: when it plans a prepared statement."""

    AUTO = "auto"
    CUSTOM = "force_custom_plan"
    GENERIC = "force_generic_plan"


def connect_args(
    application: str,
    *,
    statement_timeout_ms: int = STATEMENT_TIMEOUT_MS,
    synchronous_commit: bool = True,
    plan_cache_mode: PlanCacheMode = PlanCacheMode.AUTO,
) -> dict[str, Any]:
    """Return psycopg's connect arguments, with a timeout on everything that can block. See `create_engine`."""
    options = {
        "statement_timeout": statement_timeout_ms,
        "idle_in_transaction_session_timeout": 60_000,
        "synchronous_commit": "on" if synchronous_commit else "off",
        "jit": "off",  # compilation takes longer than any statement here
        # The queue is empty at one moment and long at the next, so its statistics are often wrong and make a
        # sequential scan look cheap. Every statement here has an index.
        "enable_seqscan": "off",
        "plan_cache_mode": plan_cache_mode,
        "timezone": "UTC",
    }
    return {
        "application_name": f"tidings {application}",
        "connect_timeout": CONNECT_TIMEOUT_SECONDS,
        "options": " ".join(f"-c {name}={value}" for name, value in options.items()),
        "prepare_threshold": 2,
        "keepalives_idle": 15,
        "keepalives_interval": 5,
        "keepalives_count": 2,
        "tcp_user_timeout": 15_000,
    }


def create_engine(
    url: str,
    *,
    application: str,
    pool_size: int = 4,
    statement_timeout_ms: int = STATEMENT_TIMEOUT_MS,
    synchronous_commit: bool = True,
    plan_cache_mode: PlanCacheMode = PlanCacheMode.AUTO,
) -> Engine:
    """Return an engine for this process. `application` names its connections in pg_stat_activity.

    Without `synchronous_commit`, a crash of the server may lose the last commits: use it only for work that the queue
    hands out again. Use plan_cache_mode CUSTOM where the best plan depends on the batch size, and GENERIC for small
    batches, whose planning takes longer than their execution.
    """
    made = _create_engine(
        make_url(url).set(drivername="postgresql+psycopg"),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=5,
        hide_parameters=True,  # bodies and credentials must not reach the logs with an error
        connect_args=connect_args(
            application,
            statement_timeout_ms=statement_timeout_ms,
            synchronous_commit=synchronous_commit,
            plan_cache_mode=plan_cache_mode,
        ),
    )
    event.listen(made, "handle_error", _report_read_only)
    return made


def _report_read_only(context: ExceptionContext) -> None:
    """Report a database that refuses to write as one that cannot be reached: it is no fault of the statement.

    The connection is closed. After a failover, a new one may reach the server that writes.
    """
    error = context.original_exception
    if isinstance(error, ReadOnlySqlTransaction):
        context.is_disconnect = True
        raise OperationalError(context.statement, None, error, hide_parameters=True, connection_invalidated=True)
