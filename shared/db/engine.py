"""Engines: how a process reaches PostgreSQL, with a bound on everything that could make it wait."""

from sqlalchemy import Engine
from sqlalchemy import create_engine as _create_engine
from sqlalchemy.engine import make_url

CONNECT_TIMEOUT_SECONDS = 1
STATEMENT_TIMEOUT_MS = 30_000


def create(
    url: str,
    *,
    application: str,
    pool_size: int = 4,
    statement_timeout_ms: int = STATEMENT_TIMEOUT_MS,
    synchronous_commit: bool = True,
    plan_each_time: bool = False,
) -> Engine:
    """An engine for this process. `application` is how its connections are named in pg_stat_activity.

    Without `synchronous_commit` a crash of the server may undo the last moments of what was committed: only for
    work that the queue would then hand out again. With `plan_each_time` every statement is planned for its values:
    worth it where the size of a batch decides which plan is good.
    """
    options = {
        "statement_timeout": statement_timeout_ms,
        "idle_in_transaction_session_timeout": 60_000,
        "synchronous_commit": "on" if synchronous_commit else "off",
        "jit": "off",  # compiling costs more than any statement here takes
        # The queue is empty at one moment and long at the next, so what statistics say of it is often wrong, and a
        # scan that they make look cheap is not. Every statement here has an index to go by.
        "enable_seqscan": "off",
        "plan_cache_mode": "force_custom_plan" if plan_each_time else "auto",
        "timezone": "UTC",
    }
    return _create_engine(
        make_url(url).set(drivername="postgresql+psycopg"),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=5,
        hide_parameters=True,  # they are bodies and credentials, and errors end up in logs
        connect_args={
            "application_name": f"tidings {application}",
            "connect_timeout": CONNECT_TIMEOUT_SECONDS,
            "options": " ".join(f"-c {name}={value}" for name, value in options.items()),
            "prepare_threshold": 2,
            "keepalives_idle": 15,
            "keepalives_interval": 5,
            "keepalives_count": 2,
            "tcp_user_timeout": 15_000,
        },
    )
