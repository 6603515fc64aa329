"""The API's ASGI application, `api.asgi:app`. Everything that it needs is put together here."""

import resource
from contextlib import suppress

from sqlalchemy.exc import SQLAlchemyError

from api.app import create_app
from api.console import app as console
from api.core.resource import Deps
from api.streaming.app import READING_THREADS, ApiApp
from api.streaming.log_reader import LogReader
from shared import logs, settings
from shared.broker import TaskNotifier
from shared.counters.metric_store import ActivityReporter
from shared.encryption import Vault
from shared.postgres import engine
from shared.suppression import recipient_hashes

_STATEMENT_TIMEOUT_MS = 10_000
_CONNECTIONS = 8
_MAX_FILES = 65_536


def _raise_file_limit() -> None:
    """Raise the soft limit on open files, and so on connections. Its usual default is 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, _MAX_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


configuration = settings.read()
configuration.require("database_url", "broker_url", "secret_keys")
logs.configure(configuration.log_level)
_raise_file_limit()

_notifier = TaskNotifier(configuration.broker_url)
_deps = Deps(
    settings=configuration,
    engine=engine.create_engine(
        configuration.database_url,
        application="api",
        pool_size=_CONNECTIONS,
        statement_timeout_ms=_STATEMENT_TIMEOUT_MS,
    ),
    vault=Vault(configuration.secret_keys),
    notifier=_notifier,
)
# The API starts without a database, but not with a key that opens nothing that is stored there.
with suppress(SQLAlchemyError), _deps.reading.connect() as _connection:
    recipient_hashes.require_key(_connection, _deps.vault)
# A separate engine, so that streams and requests never wait for each other's connections.
_log = LogReader(
    engine.create_engine(
        configuration.database_url,
        application="api log",
        pool_size=READING_THREADS + 1,
        statement_timeout_ms=_STATEMENT_TIMEOUT_MS,
    )
)

_activity = ActivityReporter(_deps.engine, "api")


def _close() -> None:
    _activity.close()
    _notifier.close()


_flask = create_app(_deps)
# Here, because commands that build the application show no page.
console.compile_templates(_flask)
app = ApiApp(_flask, _log, on_shutdown=_close)
