"""What the server runs: `api.wsgi:app`. Everything the API needs is put together here, once."""

import atexit

from api.app import create_app
from api.resources import Deps
from shared import log, settings
from shared.db import engine
from shared.doorbell import Doorbell
from shared.secrets import Vault

_STATEMENT_TIMEOUT_MS = 10_000
_CONNECTIONS = 8

configuration = settings.read()
configuration.require("database_url", "broker_url", "secret_keys")
log.configure(configuration.log_level)

_doorbell = Doorbell(configuration.broker_url)

app = create_app(
    Deps(
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
)

atexit.register(_doorbell.close)
