"""Creating and changing subscriptions. Requests are validated; secrets are stored encrypted and shown only once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, NewType
from urllib.parse import urlsplit
from uuid import UUID

from sqlalchemy import Connection, Row

from shared import backoff, ids
from shared.egress import ssrf
from shared.egress.ssrf import Network
from shared.encryption import Vault
from shared.errors import ConflictError, InvalidFieldError
from shared.http import standard_webhooks
from shared.http.standard_webhooks import Scheme
from shared.sources import store as source_store
from shared.subscriptions import endpoint_health, store, validation
from shared.subscriptions.model import SigningSecret
from shared.subscriptions.secrets import open_subscription, seal_secrets
from shared.vocabulary import PayloadFormat, SubscriptionState

DEFAULT_OVERLAP: Final = timedelta(hours=24)
"""How long an old secret still signs after a rotation."""
MAX_OVERLAP: Final = timedelta(days=7)
MAX_OLD_SECRETS: Final = 10

DEFAULTS: Final[dict[str, Any]] = {
    "sources": [],
    "tenant": None,
    "recipient_domains": [],
    "tags": [],
    "headers": {},
    "payload": PayloadFormat.TIDINGS,
    "timeout_s": 15,
    "retry_schedule": list(backoff.DELIVERY_SCHEDULES["default"]),
    "rate_per_second": None,
    "concurrency": 10,
    "ordered": False,
    "include_body_text": False,
}
"""Default values of a subscription's fields."""

CheckedUrl = NewType("CheckedUrl", str)
"""A URL that `check_url` has accepted for deliveries."""


@dataclass(frozen=True, slots=True)
class SubscriptionAndSecret:
    """The row of a subscription, and its new signing secret.

    `secret` is shown only once. It is None for a private key, of which only `public_key` is shown.
    """

    row: Row[Any]
    secret: str | None
    public_key: str | None


def check_url(url: str, allow: Sequence[Network]) -> CheckedUrl:
    """Return the URL if deliveries to it are allowed.

    This resolves the host name, so call it outside of a transaction. Raises InvalidFieldError.
    """
    ssrf.check_url(url, allow)
    return CheckedUrl(url)


def create(
    connection: Connection,
    vault: Vault,
    *,
    url: CheckedUrl,
    fields: Mapping[str, Any],
    secret: str | None = None,
    scheme: Scheme = Scheme.V1,
    may_know_sources: bool = True,
    now: datetime,
) -> SubscriptionAndSecret:
    """Create a subscription, with a new secret unless one is given. Raises InvalidFieldError.

    With `may_know_sources=False`, unknown sources are accepted, so that the caller cannot find out which exist.
    """
    values = DEFAULTS | {"name": urlsplit(url).hostname} | _validate(connection, fields, may_know_sources)
    signing = _signing_secret(secret, scheme)
    values["headers"] = vault.seal(values["headers"])
    values["secrets"] = seal_secrets([signing], vault)
    row = store.create(connection, ids.receipt_id(now), {**values, "url": url}, now)
    return _with_new_secret(row, signing)


def update(
    connection: Connection,
    vault: Vault,
    subscription_id: UUID,
    *,
    tenant: str | None,
    fields: Mapping[str, Any],
    url: CheckedUrl | None = None,
    version: int | None = None,
    now: datetime,
) -> Row[Any] | None:
    """Change the given fields of a subscription; None if it does not exist.

    The tenant cannot be changed: its past deliveries would be shown to another.

    Static headers are merged by the rule of JSON Merge Patch (RFC 7396): those given are set, null removes. Raises
    InvalidFieldError, SecretsError, or ConflictError where its `version` is not the one that the caller knew.
    """
    endpoint_health.lock(connection, [subscription_id])  # before the subscription, as deliverers do
    row = store.find(connection, subscription_id, tenant=tenant, lock=True)
    if row is None:
        return None
    if version is not None and version != row.version:
        raise ConflictError(f"The subscription has version {row.version}, not {version}; read it again.")
    given = dict(fields)
    if "tenant" in given and given["tenant"] != row.tenant:
        message = f"The tenant of a subscription cannot be changed; it is {row.tenant!r}. Create another subscription."
        raise InvalidFieldError("tenant", given["tenant"], message)
    if "headers" in given:
        replaced = {name.lower() for name in given["headers"]}  # names of headers are case-insensitive
        kept = {name: value for name, value in vault.open(row.headers).items() if name.lower() not in replaced}
        given["headers"] = kept | {name: value for name, value in given["headers"].items() if value is not None}
    values = _validate(connection, given, may_know_sources=tenant is None)
    if "headers" in values:
        values["headers"] = vault.seal(values["headers"])
    if url is not None and url != row.url:
        values["url"] = url
        endpoint_health.reset(connection, subscription_id)
    return store.change(connection, subscription_id, values, now)


def rotate_secret(
    connection: Connection,
    vault: Vault,
    subscription_id: UUID,
    *,
    tenant: str | None,
    secret: str | None = None,
    scheme: Scheme = Scheme.V1,
    overlap: timedelta = DEFAULT_OVERLAP,
    now: datetime,
) -> SubscriptionAndSecret | None:
    """Sign with another secret; None if the subscription does not exist.

    Old secrets still sign during the overlap, but not beyond their own expiry. Raises InvalidFieldError,
    SecretsError, or ConflictError.
    """
    row = store.find(connection, subscription_id, tenant=tenant, lock=True)
    if row is None:
        return None
    signing = _signing_secret(secret, scheme)
    end = now + overlap
    ending = [(old.value, min(old.expires_at or end, end)) for old in open_subscription(row, vault).secrets]
    old = [SigningSecret(value=value, expires_at=expires_at) for value, expires_at in ending if expires_at > now]
    if len(old) > MAX_OLD_SECRETS:
        raise ConflictError(
            f"{MAX_OLD_SECRETS} old secrets still sign; wait until one expires, or end them all (overlap_s 0)."
        )
    sealed = seal_secrets([signing, *old], vault)
    return _with_new_secret(store.change(connection, subscription_id, {"secrets": sealed}, now), signing)


def pause(
    connection: Connection, subscription_id: UUID, *, tenant: str | None, reason: str, now: datetime
) -> Row[Any] | None:
    """Suspend deliveries; changes wait. None if the subscription does not exist. Raises ConflictError."""
    row = store.find(connection, subscription_id, tenant=tenant, lock=True)
    if row is None or row.state == SubscriptionState.PAUSED:
        return row
    if row.state == SubscriptionState.DISABLED:
        raise ConflictError("The subscription is disabled; resume it first.")
    values = {"state": SubscriptionState.PAUSED, "state_reason": reason, "state_since": now}
    return store.change(connection, subscription_id, values, now)


def resume(connection: Connection, subscription_id: UUID, *, tenant: str | None, now: datetime) -> Row[Any] | None:
    """Resume deliveries at once and reset the endpoint's failures. None if the subscription does not exist."""
    endpoint_health.lock(connection, [subscription_id])  # before the subscription, as deliverers do
    row = store.find(connection, subscription_id, tenant=tenant, lock=True)
    if row is None:
        return None
    endpoint_health.reset(connection, subscription_id)
    if row.state == SubscriptionState.ACTIVE:
        return row
    values = {"state": SubscriptionState.ACTIVE, "state_reason": None, "state_since": now}
    return store.change(connection, subscription_id, values, now)


def delete(connection: Connection, subscription_id: UUID, *, tenant: str | None, now: datetime) -> Row[Any] | None:
    """Mark a subscription as deleted and erase its secrets; None if it does not exist.

    Its past deliveries remain visible. The caller requests a job that ends the pending ones (`shared.deliveries.jobs`).
    """
    row = store.find(connection, subscription_id, tenant=tenant, lock=True)
    if row is None:
        return None
    return store.change(connection, subscription_id, {"deleted_at": now, "headers": b"", "secrets": b""}, now)


def _validate(connection: Connection, fields: Mapping[str, Any], may_know_sources: bool) -> dict[str, Any]:
    values = validation.validate(fields)
    sources = values.get("sources", ()) if may_know_sources else ()
    known = source_store.list_known_slugs(connection, sources) if sources else frozenset()
    if missing := [slug for slug in sources if slug not in known]:
        raise InvalidFieldError("sources", missing, f"sources has unknown names: {', '.join(map(repr, missing))}")
    return values


def _signing_secret(secret: str | None, scheme: Scheme) -> SigningSecret:
    value = secret or standard_webhooks.new_secret(scheme)
    standard_webhooks.check_secret(value)
    return SigningSecret(value=value)


def _with_new_secret(row: Row[Any], signing: SigningSecret) -> SubscriptionAndSecret:
    public_key = standard_webhooks.public_key(signing.value)
    return SubscriptionAndSecret(row, secret=None if public_key else signing.value, public_key=public_key)
