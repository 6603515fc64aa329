"""SQLAlchemy engines, with a timeout on everything that can block."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import psycopg
import structlog
from psycopg.errors import CheckViolation, FeatureNotSupported, ReadOnlySqlTransaction
from sqlalchemy import Connection, Engine, ExceptionContext, event
from sqlalchemy import create_engine as _create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from shared.errors import first_line

CONNECT_TIMEOUT_SECONDS = 1
STATEMENT_TIMEOUT_MS = 30_000
_POOLED = "tidings_pooled"

STATEMENT_ERRORS = (DBAPIError, ValueError, MemoryError)
"""What a statement raises: an error of the database, for values that psycopg cannot encode (half of a surrogate pair),
or for more values than fit into memory. `is_database_fault` tells whether the same statement may succeed later."""
_DEADLOCK_OR_SERIALIZATION = ("40P01", "40001")
_STATEMENTS_FAULT = ("57014", "53200", "53400", "54")
"""SQLSTATEs, or their first digits, of errors that a statement causes by its size: it was cancelled by its timeout, or
it needs more memory, temporary files or parameters than PostgreSQL has. Lock timeouts are not among them."""

_MISSING_OBJECT = ("42P01", "42703", "42704", "42883", "3F000")
_MISSING_RIGHT = "42501"
_DAMAGED_FILE = ("XX001", "XX002")
_NOT_REACHED = ("08", "28", "3D", "53300", "57P")
"""SQLSTATEs, or their first digits, of errors that occur when connecting, or end a connection."""

log = structlog.get_logger()


class PlanCacheMode(StrEnum):
    """PostgreSQL's `plan_cache_mode`: when it plans a prepared statement."""

    AUTO = "auto"
    CUSTOM = "force_custom_plan"
    GENERIC = "force_generic_plan"


def session_settings(
    *,
    statement_timeout_ms: int = STATEMENT_TIMEOUT_MS,
    synchronous_commit: bool = True,
    plan_cache_mode: PlanCacheMode = PlanCacheMode.AUTO,
) -> dict[str, str]:
    """Return PostgreSQL's settings for a session. See `create_engine`."""
    return {
        "statement_timeout": str(statement_timeout_ms),
        "idle_in_transaction_session_timeout": "60000",
        "synchronous_commit": "on" if synchronous_commit else "off",
        "jit": "off",  # compilation takes longer than any statement here
        # The queue is empty at one moment and long at the next, so its statistics are often wrong and make a
        # sequential scan look cheap. Every statement here has an index.
        "enable_seqscan": "off",
        "plan_cache_mode": plan_cache_mode.value,
        "timezone": "UTC",
        # A role, a database or a server may have other defaults than PostgreSQL, in which nothing would work.
        "datestyle": "ISO",
        "default_transaction_isolation": "read committed",
        "idle_session_timeout": "0",
        "standard_conforming_strings": "on",
    }


def connect_args(application: str, settings: Mapping[str, str]) -> dict[str, Any]:
    """Return psycopg's connect arguments, with a timeout on everything that can block."""
    return {
        "application_name": f"tidings {application}",
        "connect_timeout": CONNECT_TIMEOUT_SECONDS,
        "client_encoding": "UTF8",  # no option, which PGCLIENTENCODING would replace
        "options": " ".join("-c " + f"{name}={value}".replace(" ", r"\ ") for name, value in settings.items()),
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

    The URL may be that of a pooler in transaction mode, such as PgBouncer. See `_use_pooler`.
    """
    settings = session_settings(
        statement_timeout_ms=statement_timeout_ms,
        synchronous_commit=synchronous_commit,
        plan_cache_mode=plan_cache_mode,
    )
    target = make_url(url).set(drivername="postgresql+psycopg")
    # What the URL sets wins: its `options` come after ours.
    arguments = {name: value for name, value in connect_args(application, settings).items() if name not in target.query}
    if "options" in target.query:
        arguments["options"] = f"{connect_args(application, settings)['options']} {target.query['options']}"
    made = _create_engine(
        target,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=5,
        hide_parameters=True,  # bodies and credentials must not reach the logs with an error
        connect_args=arguments,
    )
    event.listen(made, "handle_error", _report_condition)
    _use_pooler(made, settings)
    return made


def is_pooled(connection: Connection) -> bool:
    """Return whether a pooler is between this process and PostgreSQL. Then LISTEN has no effect."""
    return bool(connection.info.get(_POOLED))


def _use_pooler(made: Engine, settings: Mapping[str, str]) -> None:
    """Notice a pooler when connecting, and then use nothing that belongs to a session.

    In transaction mode each transaction may get another session. PgBouncer refuses startup options by default; so each
    transaction sets its own settings, and statements are not prepared. Single statements in autocommit mode have the
    role's settings.
    """
    set_all = ", ".join(f"set_config('{name}', '{value}', true)" for name, value in settings.items())

    def connect(_dialect: Any, record: Any, _args: Any, parameters: dict[str, Any]) -> psycopg.Connection:
        if not event.contains(made, "begin", begin):
            direct = _connect_directly(parameters)
            if direct is not None:
                return direct
            event.listen(made, "begin", begin)  # only now: a listener costs every transaction two microseconds
            name = parameters["application_name"]
            log.info("connection pooler detected; statements are not prepared", application=name)
        record.info[_POOLED] = True
        # A pooler that does not accept the URL's options refuses them by name.
        options = made.url.query.get("options", "")
        return psycopg.connect(**{**parameters, "options": options, "prepare_threshold": None})

    def begin(connection: Connection) -> None:
        if not connection.connection.dbapi_connection.autocommit:  # type: ignore[union-attr]
            connection.exec_driver_sql(f"SELECT {set_all}")

    event.listen(made, "do_connect", connect)


def _connect_directly(parameters: Mapping[str, Any]) -> psycopg.Connection | None:
    """Return a connection to PostgreSQL; None if a pooler answers."""
    try:
        connection = psycopg.connect(**parameters)
    except psycopg.OperationalError as error:
        if "unsupported startup parameter" not in str(error):
            raise
        return None
    [pid] = connection.execute("SELECT pg_backend_pid()").fetchone() or [None]
    connection.rollback()
    if pid == connection.info.backend_pid:  # a pooler reports one that it has invented
        return connection
    connection.close()
    return None


def _report_condition(context: ExceptionContext) -> None:
    """Report a fault of the database as an OperationalError: the statement succeeds once the database is fixed.

    psycopg has other classes for a database that refuses to write, has the schema of another version or damaged files,
    or gives the role too few rights. A connection that cannot go on is closed: after a failover, a new one may reach
    the server that writes; after a migration, a new one plans its prepared statements again.
    """
    error = context.original_exception
    is_outdated = isinstance(error, FeatureNotSupported) and error.diag.source_function == "RevalidateCachedQuery"
    if isinstance(error, ReadOnlySqlTransaction) or is_outdated:
        context.is_disconnect = True
    elif getattr(error, "sqlstate", None) not in (*_MISSING_OBJECT, _MISSING_RIGHT, *_DAMAGED_FILE):
        return
    raise OperationalError(
        context.statement, None, error, hide_parameters=True, connection_invalidated=context.is_disconnect
    )


def explain(error: OperationalError) -> str:
    """Return what is wrong with the database and what to do, for the operator."""
    sqlstate, reason = getattr(error.orig, "sqlstate", None), first_line(error)
    if sqlstate in _MISSING_OBJECT:
        return f"The database has the schema of another version: {reason}. `tidings migrate` updates an older one."
    if sqlstate == _MISSING_RIGHT:
        return f"The database's role lacks a right: {reason}. Grant it, or connect as the owner of the tables."
    if sqlstate is None or sqlstate.startswith(_NOT_REACHED):
        return f"The database cannot be reached: {' '.join(str(error.orig).split())}"
    return f"The database failed: {reason}. Try again."


def is_database_fault(error: Exception) -> bool:
    """Return whether a statement failed because of the database's condition, such as a lost connection or a full disk.

    Otherwise it failed because of what it asked for, and fails again.
    """
    if is_partition_missing(error):
        return True
    if not isinstance(error, OperationalError | InterfaceError) or "out of memory" in str(error.orig):
        return False
    return not str(getattr(error.orig, "sqlstate", None)).startswith(_STATEMENTS_FAULT)


def is_conflict(error: Exception) -> bool:
    """Return whether a transaction met another one, in a deadlock for example: it passes if it is tried again."""
    return isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) in _DEADLOCK_OR_SERIALIZATION


def is_partition_missing(error: Exception) -> bool:
    """Return whether a row has no partition: maintenance creates it. The message may be in any language."""
    cause = getattr(error, "orig", None)
    return isinstance(cause, CheckViolation) and cause.diag.constraint_name is None
