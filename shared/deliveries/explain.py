"""One delivery in detail: its body, its status, and the recommended action. Also its replay."""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row

from shared.changes import log as change_log
from shared.changes import payload as change_payload
from shared.deliveries import policy, requests, store
from shared.deliveries.policy import Recommendation
from shared.errors import ConflictError, GoneError
from shared.vocabulary import DeliveryStatus, PayloadFormat, SubscriptionState


def render(delivery: Row[Any]) -> dict[str, Any]:
    """Return a delivery (`shared.deliveries.queries`) with its `webhook_id` (its change), and what it waits for."""
    waits_for, waits_until = policy.explain_wait(
        DeliveryStatus(delivery.status),
        subscription_state=SubscriptionState(delivery.subscription_state),
        is_held_back=delivery.is_held_back,
        is_in_flight=delivery.is_in_flight,
        is_breaker_open=delivery.is_breaker_open,
        due_at=delivery.due_at,
        resting_until=delivery.resting_until,
    )
    return {
        **delivery._asdict(),
        "waits_for": waits_for,
        "waits_until": waits_until,
        "webhook_id": change_payload.format_cursor((delivery.transaction, delivery.change_id)),
    }


def render_whole(connection: Connection, delivery: Row[Any]) -> dict[str, Any]:
    """Return a delivery with the recommended action, and with `change`: the body that an attempt would send now.

    `change` is None if the change is no longer stored.
    """
    found = change_log.get_changes(connection, [(delivery.transaction, delivery.change_id)])
    payloads = change_payload.build_payloads_by_tenant(
        connection,
        [(change, delivery.subscription_tenant) for change in found],
        include_body_text=delivery.include_body_text,
    )
    bodies = [requests.format_payload(payload, PayloadFormat(delivery.payload)) for payload in payloads.values()]
    recommendation = recommend(delivery)
    return {
        **render(delivery),
        "change": bodies[0] if bodies else None,
        "latest_attempt_shows": recommendation.latest_attempt_shows,
        "usually_means": recommendation.usually_means,
        "next_action": recommendation.next_action,
    }


def recommend(delivery: Row[Any]) -> Recommendation:
    """Return what to do about a delivery."""
    return policy.recommend(
        DeliveryStatus(delivery.status),
        last_http_status=delivery.last_http_status,
        subscription_state=SubscriptionState(delivery.subscription_state),
        removed=delivery.removed,
    )


def replay(connection: Connection, delivery: Row[Any], now: datetime) -> None:
    """Queue a delivery again, whatever its status; it is tried at once. Raises GoneError or ConflictError."""
    if delivery.removed:
        raise GoneError("The delivery's subscription was removed.")
    if delivery.subscription_state == SubscriptionState.DISABLED:
        raise ConflictError("Its subscription is disabled, so nothing is sent; resume that first.")
    if not change_log.get_changes(connection, [(delivery.transaction, delivery.change_id)]):
        raise GoneError("Its change is no longer kept.")
    store.replay(connection, [delivery.id], now, at_once=True)
