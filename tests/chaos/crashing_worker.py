"""Workers that crash on one certain body, as on a fault in a C library: `celery -A tests.chaos.crashing_worker`.

On another body they allocate memory without end, and on a third they stop until they get SIGCONT.
"""

import os
import signal
from datetime import datetime
from uuid import UUID

import structlog

from shared.messages.store import NewEvent
from shared.receipts import normalize
from shared.sources.source import Source
from tests.support.traffic import DEADLY, HUNGRY, SLEEPY
from workers.app import app

__all__ = ["app"]

log = structlog.get_logger()

_rows = normalize.parse_events


def _read(source: Source, receipt_id: UUID, received_at: datetime, body: bytes) -> list[NewEvent]:
    if body == DEADLY:
        os._exit(1)
    if body == HUNGRY:
        taken: list[bytes] = []
        while True:
            taken.append(b"." * len(body) * 10_000)
    if body == SLEEPY:
        log.info("stops itself", receipt=str(receipt_id))
        os.kill(os.getpid(), signal.SIGSTOP)
        return []
    return _rows(source, receipt_id, received_at, body)


normalize.parse_events = _read
