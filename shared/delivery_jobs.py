"""Asking for long work on deliveries. Whoever asks rings for the workers, after the commit."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection

from shared.db.subscriptions import SubscriptionRow
from shared.domain.deliveries import DeliveryStatus
from shared.jobs import store as jobs

REPLAY: Final = "replay"
RECOVER: Final = "recover"
ABANDON: Final = "abandon_deliveries"
NOT_TO_BE_CANCELLED: Final = "This job cannot be cancelled: what a removed subscription has yet to be told must not be."


def ask_replay(
    connection: Connection,
    *,
    status: DeliveryStatus,
    subscription: UUID | None = None,
    type: str | None = None,  # noqa: A002 - the word of the contract
    since: datetime | None = None,
    until: datetime | None = None,
    tenant: str | None,
    dry_run: bool,
    asked_by: str,
    now: datetime,
) -> UUID:
    """Have all deliveries made again that fit, of those made before `until`, or now; the id of the job."""
    parameters = {
        "status": status,
        "subscription": subscription and str(subscription),
        "type": type,
        "since": _text(since),
        "until": _text(min(until or now, now)),
        "tenant": tenant,
        "dry_run": dry_run,
    }
    return jobs.create(
        connection, kind=REPLAY, parameters=_given(parameters), asked_by=asked_by, tenant=tenant, now=now
    )


def ask_recovery(
    connection: Connection,
    subscription: SubscriptionRow,
    *,
    since: datetime,
    until: datetime | None = None,
    include_delivered: bool = False,
    dry_run: bool,
    asked_by: str,
    now: datetime,
) -> UUID:
    """Have every change delivered that this subscription should have had in this time, and has not."""
    parameters = {
        "subscription": str(subscription.id),
        "since": _text(since),
        "until": _text(min(until or now, now)),
        "include_delivered": include_delivered,
        "tenant": subscription.tenant,
        "dry_run": dry_run,
    }
    return jobs.create(
        connection, kind=RECOVER, parameters=_given(parameters), asked_by=asked_by, tenant=subscription.tenant, now=now
    )


def ask_abandonment(connection: Connection, subscription: SubscriptionRow, *, asked_by: str, now: datetime) -> UUID:
    """Have nothing more delivered to a subscription that was removed."""
    parameters = {"subscription": str(subscription.id), "tenant": subscription.tenant}
    return jobs.create(
        connection, kind=ABANDON, parameters=_given(parameters), asked_by=asked_by, tenant=subscription.tenant, now=now
    )


def _given(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in parameters.items() if value is not None}


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
