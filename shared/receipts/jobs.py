"""Requests for jobs on receipts. The caller wakes the workers after its commit."""

from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection

from shared.jobs import store as jobs

REPROCESS: Final = "reprocess"
ALL: Final = "all"
"""The state of a filter that stands for every state from which a receipt is processed again without being named."""


def request_reprocessing(
    connection: Connection,
    *,
    source: str | None = None,
    state: str,
    set_aside: bool = False,
    since: datetime | None = None,
    until: datetime | None = None,
    dry_run: bool,
    asked_by: str,
    now: datetime,
) -> UUID:
    """Request that all matching receipts that arrived before `until`, or now, are processed again; return the job's id.

    `state` is one of the states, or ALL. `shared.receipts.queries.list_reprocessable` decides which receipts match.
    """
    wanted = {"source": source, "since": since and since.isoformat()}
    parameters: dict[str, Any] = {
        **{name: value for name, value in wanted.items() if value is not None},
        "state": state,
        "set_aside": set_aside,
        "until": min(until or now, now).isoformat(),
        "dry_run": dry_run,
    }
    return jobs.create(connection, kind=REPROCESS, parameters=parameters, asked_by=asked_by, tenant=None, now=now)
