"""SQLAlchemy engines, with a timeout on everything that can block."""

from enum import StrEnum
from typing import Any

from sqlalchemy import Engine
from sqlalchemy import create_engine as _create_engine
from sqlalchemy.engine import make_url

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
    return _create_engine(
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
