"""Encryption of a subscription's signing secrets and static headers."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row

from shared.encryption import Vault
from shared.subscriptions.model import SigningSecret, Subscription
from shared.vocabulary import PayloadFormat


def open_subscription(row: Row[Any], vault: Vault) -> Subscription:
    """Return the subscription of a row, decrypted. Raises SecretsError."""
    return Subscription(
        id=str(row.id),
        url=row.url,
        types=tuple(row.types),
        sources=tuple(row.sources),
        tenant=row.tenant,
        recipient_domains=tuple(row.recipient_domains),
        tags=tuple(row.tags),
        headers=vault.open(row.headers),
        secrets=[
            SigningSecret(
                value=entry["value"],
                expires_at=entry["expires_at"] and datetime.fromisoformat(entry["expires_at"]),
            )
            for entry in vault.open(row.secrets)["secrets"]
        ],
        payload=PayloadFormat(row.payload),
        include_body_text=row.include_body_text,
        timeout_s=row.timeout_s,
        retry_schedule=tuple(row.retry_schedule),
    )


def seal_secrets(secrets: Sequence[SigningSecret], vault: Vault) -> bytes:
    """Return signing secrets encrypted, as `open_subscription` expects them."""
    entries = [
        {"value": secret.value, "expires_at": secret.expires_at and secret.expires_at.isoformat()} for secret in secrets
    ]
    return vault.seal({"secrets": entries})
