"""Subscriptions as they are shown: without what is secret, and with how their endpoints fare."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from shared.auth import audit
from shared.db import endpoint_health
from shared.db.endpoint_health import HealthFacts
from shared.db.subscriptions import SubscriptionRow
from shared.domain.subscriptions import SigningSecret
from shared.egress import captures
from shared.encryption import SecretsError, Vault
from shared.http import standard_webhooks
from shared.http.standard_webhooks import Scheme
from shared.subscriptions import open_subscription


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningFacts:
    """A secret that signs, without its value. `public_key` is what to verify with, where it is a private key."""

    scheme: Scheme
    public_key: str | None
    expires_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionFacts:
    """A subscription. `problem` says why it cannot be used, where it cannot."""

    id: UUID
    name: str
    url: str
    types: Sequence[str]
    sources: Sequence[str]
    tenant: str | None
    recipient_domains: Sequence[str]
    tags: Sequence[str]
    headers: Mapping[str, str]
    payload: str
    timeout_s: int
    retry_schedule: Sequence[int]
    rate_per_second: float | None
    concurrency: int
    ordered: bool
    state: str
    state_reason: str | None
    state_since: datetime
    signing: Sequence[SigningFacts]
    health: HealthFacts
    version: int
    created_at: datetime
    updated_at: datetime
    problem: str | None


def told(
    connection: Connection, rows: Sequence[SubscriptionRow], vault: Vault, now: datetime
) -> list[SubscriptionFacts]:
    """These subscriptions, as they may be shown to whoever may read them."""
    healths = endpoint_health.told(connection, [row.id for row in rows])
    return [_of(row, healths[row.id], vault, now) for row in rows]


def _of(row: SubscriptionRow, health: HealthFacts, vault: Vault, now: datetime) -> SubscriptionFacts:
    headers: Mapping[str, str] = {}
    signing: Sequence[SigningFacts] = ()
    problem = None
    try:
        opened = open_subscription(row, vault)
    except SecretsError as error:
        problem = str(error)
    else:
        headers = dict.fromkeys(opened.headers, captures.HIDDEN)
        signing = [_signs(secret) for secret in opened.secrets if secret.expires_at is None or secret.expires_at > now]
    return SubscriptionFacts(
        id=row.id,
        name=row.name,
        url=captures.shown(row.url),
        types=row.types,
        sources=row.sources,
        tenant=row.tenant,
        recipient_domains=row.recipient_domains,
        tags=row.tags,
        headers=headers,
        payload=row.payload,
        timeout_s=row.timeout_s,
        retry_schedule=row.retry_schedule,
        rate_per_second=row.rate_per_second,
        concurrency=row.concurrency,
        ordered=row.ordered,
        state=row.state,
        state_reason=row.state_reason,
        state_since=row.state_since,
        signing=signing,
        health=health,
        version=row.version,
        created_at=row.created_at,
        updated_at=row.updated_at,
        problem=problem,
    )


def _signs(secret: SigningSecret) -> SigningFacts:
    return SigningFacts(
        scheme=standard_webhooks.scheme_of(secret.value),
        public_key=standard_webhooks.public_key(secret.value),
        expires_at=secret.expires_at,
    )


def difference(before: SubscriptionRow | None, after: SubscriptionRow | None) -> dict[str, Any]:
    """What changed, as details of the audit log: without the queries of URLs, which may be secret."""
    found = audit.difference(before, after)
    if "url" in found:
        found["url"] = {side: captures.shown(url) for side, url in found["url"].items()}
    return found
