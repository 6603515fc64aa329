"""The parameters of database connections."""

from enum import StrEnum
from typing import Any

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
    """Return psycopg's connect arguments, with a timeout on everything that can block. See `engine.create_engine`."""
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
