"""Subscriptions, opened: with what they are signed and sent with."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from shared.db.subscriptions import SubscriptionRow
from shared.domain.subscriptions import Payload, SigningSecret, Subscription, SubscriptionState
from shared.encryption import Vault


def open_subscription(row: SubscriptionRow, vault: Vault) -> Subscription:
    """The subscription of a row. Raises SecretsError."""
    return Subscription(
        id=str(row.id),
        url=row.url,
        types=tuple(row.types),
        sources=tuple(row.sources),
        tenant=row.tenant,
        recipient_domains=tuple(row.recipient_domains),
        tags=tuple(row.tags),
        headers=vault.open(row.headers),
        secrets=tuple(_secret(entry) for entry in vault.open(row.secrets)["secrets"]),
        payload=Payload(row.payload),
        timeout_s=row.timeout_s,
        retry_schedule=tuple(row.retry_schedule),
        rate_per_second=row.rate_per_second,
        concurrency=row.concurrency,
        ordered=row.ordered,
        state=SubscriptionState(row.state),
        version=row.version,
    )


def seal_secrets(secrets: Sequence[SigningSecret], vault: Vault) -> bytes:
    """What `open_subscription` opens again."""
    entries = [
        {"value": secret.value, "expires_at": secret.expires_at and secret.expires_at.isoformat()} for secret in secrets
    ]
    return vault.seal({"secrets": entries})


def _secret(entry: Mapping[str, Any]) -> SigningSecret:
    until = entry["expires_at"]
    return SigningSecret(value=entry["value"], expires_at=until and datetime.fromisoformat(until))
