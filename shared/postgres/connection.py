"""Connections: what statements ask of one, and what PostgreSQL is asked for whenever one is made."""

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any, Protocol

CONNECT_TIMEOUT_SECONDS = 1
STATEMENT_TIMEOUT_MS = 30_000

Parameters = Mapping[str, Any] | Sequence[Mapping[str, Any]]
"""Values by name; or several of these, to run a statement with each."""


class Plans(StrEnum):
    """When PostgreSQL plans a statement that is run again and again: its `plan_cache_mode`."""

    AS_IT_SEES_FIT = "auto"
    EACH_TIME = "force_custom_plan"
    ONCE = "force_generic_plan"


class Result(Protocol):
    """What a statement returned: rows, which can be read once."""

    @property
    def rowcount(self) -> int:
        """How many rows the statement changed or returned."""

    def __iter__(self) -> Iterator[Any]: ...

    def all(self) -> Sequence[Any]:
        """Every row."""

    def one(self) -> Any:
        """The only row; raises if there is none, or another."""

    def one_or_none(self) -> Any:
        """The only row, or None; raises if there is another."""

    def scalar(self) -> Any:
        """The first value of the first row, or None."""


class Connection(Protocol):
    """What a statement is run on: SQLAlchemy's connection, or a receiver's, which does without SQLAlchemy."""

    def exec_driver_sql(self, statement: str, parameters: Parameters | None = None, /) -> Result:
        """Run a statement as psycopg understands it."""


def arguments(
    application: str,
    *,
    statement_timeout_ms: int = STATEMENT_TIMEOUT_MS,
    synchronous_commit: bool = True,
    plans: Plans = Plans.AS_IT_SEES_FIT,
) -> dict[str, Any]:
    """How psycopg is to connect, with a bound on everything that could make us wait. See `engine.create`."""
    options = {
        "statement_timeout": statement_timeout_ms,
        "idle_in_transaction_session_timeout": 60_000,
        "synchronous_commit": "on" if synchronous_commit else "off",
        "jit": "off",  # compiling costs more than any statement here takes
        # The queue is empty at one moment and long at the next, so what statistics say of it is often wrong, and a
        # scan that they make look cheap is not. Every statement here has an index to go by.
        "enable_seqscan": "off",
        "plan_cache_mode": plans,
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
