"""What the server runs: `receiver.asgi:app`. Everything a receiver needs is put together here, once."""

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

# structlog loads rich wherever that is installed, and pygments with it: 4 MB of every receiver, for coloured
# tracebacks that nobody sees.
sys.modules["rich"] = None  # type: ignore[assignment]

from receiver import count_files

count_files.use()

from receiver.app import Receiver
from receiver.bell import Bell
from receiver.bodies import Bodies
from receiver.database import Database
from receiver.directory import Directory
from receiver.door import Door
from receiver.refusals import RefusalBook
from receiver.writer import Writer
from shared import logs, settings
from shared.doorbell import VERIFY, Doorbell
from shared.encryption import Vault

_STATEMENT_TIMEOUT_MS = 1000
_LARGE_AT_ONCE = 2

configuration = settings.read()
configuration.require("database_url", "broker_url", "secret_keys")
logs.configure(configuration.log_level)

_vault = Vault(configuration.secret_keys)
_database = Database(url=configuration.database_url, application="receiver", statement_timeout_ms=_STATEMENT_TIMEOUT_MS)
_bell = Bell(Doorbell(configuration.broker_url))
_writer = Writer(replace(_database, application="receiver writer"), on_queued=_bell.ring)
_quarantine = Writer(replace(_database, application="receiver quarantine"), on_parked=lambda: _bell.ring(VERIFY))
_refusals = RefusalBook(_database)
_directory = Directory(_database, _vault)

_threads = ThreadPoolExecutor(_LARGE_AT_ONCE, "large")


def _close() -> None:
    """Write and announce what is waiting before the process ends."""
    _threads.shutdown()
    for parts in ((_writer, _quarantine), (_directory, _refusals, _bell)):  # the bell still rings for the last commit
        with ThreadPoolExecutor(len(parts)) as closing:
            list(closing.map(lambda part: part.close(), parts))


app = Receiver(
    Door(
        settings=configuration,
        vault=_vault,
        directory=_directory,
        writer=_writer,
        quarantine=_quarantine,
        refusals=_refusals,
        bodies=Bodies(),
        threads=_threads,
    ),
    at_the_end=_close,
)
