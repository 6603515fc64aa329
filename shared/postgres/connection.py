"""Database connections: the interface that statements use, and the parameters of every connection."""

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any, Protocol

CONNECT_TIMEOUT_SECONDS = 1
STATEMENT_TIMEOUT_MS = 30_000

Parameters = Mapping[str, Any] | Sequence[Mapping[str, Any]]
"""Values by name; or a sequence of these, to run a statement once with each."""


class PlanCacheMode(StrEnum):
    """PostgreSQL's `plan_cache_mode`: when it plans a prepared statement."""

    AUTO = "auto"
    CUSTOM = "force_custom_plan"
    GENERIC = "force_generic_plan"


class Result(Protocol):
    """The result of a statement: rows, which can be read once."""

    @property
    def rowcount(self) -> int:
        """Return the number of rows that the statement changed or returned."""

    def __iter__(self) -> Iterator[Any]: ...

    def all(self) -> Sequence[Any]:
        """Return every row."""

    def one(self) -> Any:
        """Return the only row; raise unless there is exactly one."""

    def one_or_none(self) -> Any:
        """Return the only row, or None; raise if there are several."""

    def scalar(self) -> Any:
        """Return the first value of the first row, or None."""


class Connection(Protocol):
    """What statements run on: a connection of SQLAlchemy, or the receiver's, which uses psycopg alone."""

    def exec_driver_sql(self, statement: str, parameters: Parameters | None = None, /) -> Result:
        """Run a statement with psycopg's placeholders."""


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
