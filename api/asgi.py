"""What the server runs: `api.asgi:app`. Everything the API needs is put together here, once."""

from api.app import create_app
from api.core.resource import Deps
from api.streaming import sockets
from api.streaming.door import READING_THREADS, Door
from api.streaming.reader import LogReader
from shared import logs, settings
from shared.doorbell import Doorbell
from shared.encryption import Vault
from shared.postgres import engine

_STATEMENT_TIMEOUT_MS = 10_000
_CONNECTIONS = 8

configuration = settings.read()
configuration.require("database_url", "broker_url", "secret_keys")
logs.configure(configuration.log_level)
sockets.allow_many()

_doorbell = Doorbell(configuration.broker_url)
_deps = Deps(
    settings=configuration,
    engine=engine.create(
        configuration.database_url,
        application="api",
        pool_size=_CONNECTIONS,
        statement_timeout_ms=_STATEMENT_TIMEOUT_MS,
    ),
    vault=Vault(configuration.secret_keys),
    doorbell=_doorbell,
)
# Of its own, so that neither those who listen nor those who ask ever wait for the others' connections.
_log = LogReader(
    engine.create(
        configuration.database_url,
        application="api log",
        pool_size=READING_THREADS + 1,
        statement_timeout_ms=_STATEMENT_TIMEOUT_MS,
    )
)

app = Door(create_app(_deps), _log, at_the_end=_doorbell.close)
