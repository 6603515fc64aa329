"""Requests for jobs on deliveries. The caller wakes the workers after its commit."""

from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Row

from shared.jobs import store as jobs
from shared.vocabulary import DeliveryStatus

REPLAY: Final = "replay"
RECOVER: Final = "recover"
ABANDON: Final = "abandon_deliveries"
NOT_CANCELLABLE: Final = "This job cannot be cancelled: it stops the deliveries to a removed subscription."


def request_replay(
    connection: Connection,
    *,
    status: DeliveryStatus,
    subscription: UUID | None = None,
    type: str | None = None,  # noqa: A002 - the word of the contract
    status_code: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    tenant: str | None,
    dry_run: bool,
    asked_by: str,
    now: datetime,
) -> UUID:
    """Request a replay of all matching deliveries that were created before `until`, or now; return the job's id."""
    parameters = {
        "status": status,
        "subscription": subscription,
        "type": type,
        "status_code": status_code,
        "since": since,
        "until": min(until or now, now),
        "tenant": tenant,
        "dry_run": dry_run,
    }
    return _request(connection, REPLAY, tenant, asked_by, now, **parameters)


def request_recovery(
    connection: Connection,
    subscription: Row[Any],
    *,
    since: datetime,
    until: datetime | None = None,
    include_delivered: bool = False,
    dry_run: bool,
    asked_by: str,
    now: datetime,
) -> UUID:
    """Request a recovery: delivery of the changes from `since` to `until` that a subscription did not receive."""
    parameters = {
        "subscription": subscription.id,
        "since": since,
        "until": min(until or now, now),
        "include_delivered": include_delivered,
        "tenant": subscription.tenant,
        "dry_run": dry_run,
    }
    return _request(connection, RECOVER, subscription.tenant, asked_by, now, **parameters)


def request_abandonment(connection: Connection, subscription: Row[Any], *, asked_by: str, now: datetime) -> UUID:
    """Request that the pending deliveries of a removed subscription become dead."""
    parameters = {"subscription": subscription.id, "tenant": subscription.tenant}
    return _request(connection, ABANDON, subscription.tenant, asked_by, now, **parameters)


def _request(
    connection: Connection, kind: str, tenant: str | None, asked_by: str, now: datetime, /, **parameters: Any
) -> UUID:
    texts = {
        name: value.isoformat() if isinstance(value, datetime) else str(value) if isinstance(value, UUID) else value
        for name, value in parameters.items()
        if value is not None
    }
    return jobs.create(connection, kind=kind, parameters=texts, asked_by=asked_by, tenant=tenant, now=now)
