"""The usual way to deliver: one Celery task for each delivery, which posts with `requests` and writes by the ORM."""

import time
from datetime import UTC, datetime
from functools import cache
from typing import Any
from uuid import UUID

import msgspec
import requests
from sqlalchemy.orm import Session

from bench.usual.models import AttemptRecord, DeliveryRecord
from bench.usual.settings import celery, engine, vault
from shared import ids
from shared.changes import log as change_log
from shared.changes import payload as change_payload
from shared.http import standard_webhooks
from shared.subscriptions import store as subscriptions
from shared.subscriptions.model import ChangeSubject, Matcher, Subscription
from shared.subscriptions.secrets import open_subscription


@celery.task(name="usual.change")  # type: ignore[untyped-decorator]
def deliver_change(transaction: int, number: int, tag: str) -> None:
    """Make a delivery of a change for each subscription that wants it, and send a task for each."""
    now = datetime.now(UTC)
    with Session(engine()) as session, session.begin():
        (change,) = change_log.get_changes(session.connection(), [(transaction, number)])
        (payload,) = change_payload.build_payloads(session.connection(), [change])
        made = []
        for subscription in _matcher().subscribers_for(ChangeSubject(type=change.type, tag=tag)):
            made.append((ids.receipt_id(now), UUID(subscription.id)))
            session.add(
                DeliveryRecord(
                    id=made[-1][0],
                    subscription_id=UUID(subscription.id),
                    change_transaction=str(transaction),
                    change_id=number,
                    type=change.type,
                    status="pending",
                    created_at=now,
                )
            )
    body = msgspec.json.encode(payload).decode()
    with celery.producer_or_acquire() as producer:
        for delivery_id, subscription_id in made:
            deliver.apply_async(args=[str(delivery_id), str(subscription_id), payload["id"], body], producer=producer)


@celery.task(name="usual.deliver")  # type: ignore[untyped-decorator]
def deliver(delivery_id: str, subscription_id: str, webhook_id: str, body: str) -> None:
    """Make one delivery, and write down how it went."""
    subscription = _subscriptions()[UUID(subscription_id)]
    now = datetime.now(UTC)
    sent = body.encode()
    secrets = [secret.value for secret in subscription.secrets]
    signed = standard_webhooks.headers(secrets, message_id=webhook_id, attempted_at=now, body=sent)
    headers = {"Content-Type": "application/json", **signed}
    begin = time.perf_counter()
    answer = _session().post(
        subscription.url, data=sent, headers=headers, timeout=subscription.timeout_s, allow_redirects=False
    )
    latency_ms = round(1000 * (time.perf_counter() - begin))
    with Session(engine()) as session, session.begin():
        delivery = session.get_one(DeliveryRecord, UUID(delivery_id), with_for_update=True)
        delivery.status = "delivered" if answer.ok else "dead"
        delivery.attempts += 1
        session.add(
            AttemptRecord(
                id=ids.receipt_id(now),
                delivery_id=delivery.id,
                subscription_id=delivery.subscription_id,
                number=delivery.attempts,
                created_at=now,
                status="success" if answer.ok else "failed",
                http_status=answer.status_code,
                latency_ms=latency_ms,
                request_capture=msgspec.json.encode({"headers": headers, "body": body}).decode(),
                response_capture=msgspec.json.encode({"headers": dict(answer.headers), "body": answer.text}).decode(),
            )
        )


@cache
def _session() -> Any:
    """Return the session of this process, which keeps connections alive."""
    return requests.Session()


@cache
def _subscriptions() -> dict[UUID, Subscription]:
    with engine().connect() as connection:
        rows = subscriptions.get_many(connection, list(subscriptions.get_versions(connection)))
    return {row.id: open_subscription(row, vault()) for row in rows}


@cache
def _matcher() -> Matcher[Subscription]:
    return Matcher(list(_subscriptions().values()))
