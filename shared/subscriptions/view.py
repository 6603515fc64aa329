"""Subscriptions as the API and the command line show them: without secrets, with the health of their endpoints."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row

from shared.auth import audit
from shared.egress import captures
from shared.encryption import SecretsError, Vault
from shared.http import standard_webhooks
from shared.subscriptions import endpoint_health
from shared.subscriptions.secrets import open_subscription

_HIDDEN_COLUMNS = ("secrets", "begins", "deleted_at")


def render(connection: Connection, rows: Sequence[Row[Any]], vault: Vault, now: datetime) -> list[dict[str, Any]]:
    """Return subscriptions without their secrets.

    Each has the columns of its row, and `signing`, `health`, and `problem`: why it cannot be used, or None.
    """
    health = endpoint_health.get_shown(connection, [row.id for row in rows])
    found = []
    for row in rows:
        shown = {name: value for name, value in row._asdict().items() if name not in _HIDDEN_COLUMNS}
        shown |= {"url": captures.redact_query(row.url), "headers": {}, "signing": [], "health": health[row.id]}
        try:
            opened = open_subscription(row, vault)
        except SecretsError as error:
            found.append(shown | {"problem": str(error)})
            continue
        headers = dict.fromkeys(opened.headers, captures.HIDDEN)
        signing = [
            {
                "scheme": standard_webhooks.scheme_of(secret.value),
                "public_key": standard_webhooks.public_key(secret.value),
                "expires_at": secret.expires_at,
            }
            for secret in opened.secrets
            if secret.expires_at is None or secret.expires_at > now
        ]
        found.append(shown | {"headers": headers, "signing": signing, "problem": None})
    return found


def difference(before: Row[Any] | None, after: Row[Any]) -> dict[str, Any]:
    """Return what changed, as details for the audit log: without the queries of URLs, which may be secret."""
    found = audit.difference(before, after)
    if "url" in found:
        found["url"] = {side: captures.redact_query(url) for side, url in found["url"].items()}
    return found
