"""A delivery as a case to be solved: what it tells, what to do about it, and having it made again."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from shared import webhook_requests
from shared.changes import log as change_log
from shared.changes import payload as change_payload
from shared.db import deliveries
from shared.db.delivery_lists import DeliveryFacts
from shared.domain import delivery_advice
from shared.domain.deliveries import Advice
from shared.domain.subscriptions import Payload, SubscriptionState
from shared.errors import TidingsError


class ReplayError(TidingsError):
    """Why a delivery cannot be made again. `for_good`: and never will."""

    def __init__(self, message: str, *, for_good: bool) -> None:
        super().__init__(message)
        self.for_good = for_good


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A delivery. `change` is the body as it would be sent now, None where the change is no longer kept."""

    delivery: DeliveryFacts
    change: Mapping[str, Any] | None
    advice: Advice


def of(connection: Connection, delivery: DeliveryFacts) -> Case:
    """What is known of a delivery."""
    found = change_log.at(connection, [_place(delivery)])
    told = change_payload.payloads_for(connection, [(change, delivery.subscription_tenant) for change in found])
    payloads = list(told.values())
    return Case(
        delivery=delivery,
        change=webhook_requests.in_form(payloads[0], Payload(delivery.payload)) if payloads else None,
        advice=delivery_advice.advise(
            delivery.status,
            last_http_status=delivery.last_http_status,
            subscription=SubscriptionState(delivery.subscription_state),
            removed=delivery.removed,
        ),
    )


def webhook_id(delivery: DeliveryFacts) -> str:
    """What the change is called that is delivered."""
    return change_payload.identifier(_place(delivery))


def replay(connection: Connection, delivery: DeliveryFacts, now: datetime) -> None:
    """Have a delivery made again, whatever became of it. Raises ReplayError."""
    if delivery.removed:
        raise ReplayError("Its subscription was removed.", for_good=True)
    if delivery.subscription_state == SubscriptionState.DISABLED:
        raise ReplayError("Its subscription is disabled, so nothing is sent; resume that first.", for_good=False)
    if not change_log.at(connection, [_place(delivery)]):
        raise ReplayError("The change that it tells of is no longer kept.", for_good=True)
    deliveries.replay(connection, [delivery.id], now)


def _place(delivery: DeliveryFacts) -> change_log.Cursor:
    return (delivery.transaction, delivery.change_id)
