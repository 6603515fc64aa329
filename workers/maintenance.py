"""Keeping the tables small: partitions are made ahead, and what retention has passed is let go."""

from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy.exc import OperationalError

from shared.db import partitions, retention
from workers.rim import Rim

_LOCK = 0x71D1466

log = structlog.get_logger()


def maintain(rim: Rim) -> None:
    """Do what is due, unless another worker is at it."""
    now = datetime.now(UTC)
    oldest = now - timedelta(days=rim.settings.retention_days)
    with rim.engine.begin() as connection:
        if not connection.exec_driver_sql("SELECT pg_try_advisory_xact_lock(%(lock)s)", {"lock": _LOCK}).scalar():
            return
        made = partitions.ensure(connection, now=now)
        trimmed = retention.trim(connection, oldest)
    log.info("maintained", partitions_made=made, rows_trimmed=trimmed)
    try:
        with rim.engine.begin() as connection:
            dropped = partitions.drop_before(connection, oldest)
    except OperationalError:
        log.warning("old partitions are in use; they are dropped next time")
    else:
        log.info("old partitions", dropped=dropped)
