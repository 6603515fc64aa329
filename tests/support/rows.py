"""Rows that a test inserts itself, because no part of the product would store them in just this way."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
from sqlalchemy import Connection

from shared import backoff, ids
from shared.encryption import Vault
from shared.http import standard_webhooks
from shared.providers.webhooks.base import WebhookRequest
from shared.receipts.store import Receipt
from shared.receipts.stored_form import dedup_key, dedup_key_expires_at, redact_headers
from shared.sources.source import Source
from shared.subscriptions.model import SigningSecret
from shared.subscriptions.secrets import seal_secrets

_SUBSCRIPTION = """
INSERT INTO subscriptions (id, name, url, types, sources, tenant, recipient_domains, tags, headers, secrets, payload,
    timeout_s, retry_schedule, rate_per_second, concurrency, ordered, include_body_text, state, state_since,
    created_at, updated_at)
VALUES (%(id)s, 'test', %(url)s, %(types)s, %(sources)s, %(tenant)s, %(recipient_domains)s, %(tags)s, %(headers)s,
    %(secrets)s, %(payload)s, %(timeout_s)s, %(retry_schedule)s, %(rate_per_second)s, %(concurrency)s, %(ordered)s,
    %(include_body_text)s, %(state)s, now(), now(), now())
"""


def insert_subscription(connection: Connection, vault: Vault, url: str, **columns: Any) -> tuple[UUID, str]:
    """Insert a subscription, to all changes by default; its id and its signing secret."""
    id_ = ids.receipt_id(datetime.now(UTC))
    secret = standard_webhooks.new_secret()
    values: dict[str, Any] = {
        "types": ["*"],
        "sources": [],
        "tenant": None,
        "recipient_domains": [],
        "tags": [],
        "payload": "tidings",
        "timeout_s": 5,
        "retry_schedule": list(backoff.DELIVERY_SCHEDULES["default"]),
        "rate_per_second": None,
        "concurrency": 10,
        "ordered": False,
        "include_body_text": False,
        "state": "active",
        "headers": {},
        "secrets": (SigningSecret(value=secret),),
        **columns,
    }
    values["headers"] = vault.seal(values["headers"])
    values["secrets"] = seal_secrets(values["secrets"], vault)
    connection.exec_driver_sql(_SUBSCRIPTION, {**values, "id": id_, "url": url})
    return id_, secret


def insert_change(connection: Connection, type_: str, **columns: Any) -> str:
    """Insert a row of the change log; its cursor."""
    row = {"type": type_, **columns}
    if isinstance(row.get("data"), dict):
        row["data"] = msgspec.json.encode(row["data"]).decode()
    marks = ", ".join(f"%({name})s" for name in row)
    transaction, id_ = connection.exec_driver_sql(
        f"INSERT INTO state_changes ({', '.join(row)}) VALUES ({marks}) RETURNING transaction::text, id", row
    ).one()
    return f"{transaction}-{id_}"


def build_receipt(
    source: Source, body: bytes, headers: Mapping[str, str], *, vault_if_unverified: Vault | None = None
) -> Receipt:
    """Build the receipt of a webhook as the receiver does. Unverified ones keep all headers, encrypted by the vault."""
    now = datetime.now(UTC)
    lowered = {name.lower(): value for name, value in headers.items()}
    request = WebhookRequest(headers=lowered, body=body)
    return Receipt(
        id=ids.receipt_id(now),
        source_id=source.id,
        received_at=now,
        key=dedup_key(source, request, unverified=vault_if_unverified is not None),
        key_expires_at=dedup_key_expires_at(source, now),
        idempotency_key=None,
        remote_ip=None,
        headers=msgspec.json.encode(redact_headers(lowered, vault_if_unverified)).decode(),
        body=body,
    )


def build_unique_receipt(source_id: int, body: bytes, received_at: datetime, **fields: Any) -> Receipt:
    """Build a receipt that is no repetition of any other, whatever its body."""
    return Receipt(
        id=ids.receipt_id(received_at),
        source_id=source_id,
        received_at=received_at,
        key=uuid4().hex,
        key_expires_at=received_at + timedelta(days=1),
        body=body,
        **{"idempotency_key": None, "remote_ip": "192.0.2.1", "headers": "{}", **fields},
    )
