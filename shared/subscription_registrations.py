"""Making and changing subscriptions: what is asked for is checked, what is secret is stored sealed and never shown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, NewType
from urllib.parse import urlsplit
from uuid import UUID

from sqlalchemy import Connection

from shared import ids
from shared.db import endpoint_health, subscriptions
from shared.db.subscriptions import SubscriptionRow
from shared.domain import subscription_checks
from shared.domain.deliveries import DEFAULT_SCHEDULE
from shared.domain.subscription_checks import SubscriptionError
from shared.domain.subscriptions import Payload, SigningSecret, SubscriptionState
from shared.egress import ssrf
from shared.egress.ssrf import EgressError, Network
from shared.encryption import Vault
from shared.errors import TidingsError
from shared.http import standard_webhooks
from shared.http.standard_webhooks import Scheme, SigningSecretError
from shared.sources import names as source_names
from shared.subscriptions import open_subscription, seal_secrets

OLD_SECRET_SIGNS_FOR: Final = timedelta(hours=24)
"""How long what is sent bears the signature by the secret before, too, where nobody says for how long."""
LONGEST_OVERLAP: Final = timedelta(days=7)
MOST_OLD_SECRETS: Final = 10

DEFAULTS: Final[dict[str, Any]] = {
    "sources": [],
    "tenant": None,
    "recipient_domains": [],
    "tags": [],
    "headers": {},
    "payload": Payload.TIDINGS,
    "timeout_s": 15,
    "retry_schedule": list(DEFAULT_SCHEDULE),
    "rate_per_second": None,
    "concurrency": 10,
    "ordered": False,
}
"""What a subscription is like where nobody says otherwise."""

CheckedUrl = NewType("CheckedUrl", str)
"""A URL that deliveries may go to."""


class StandingError(TidingsError):
    """What cannot be done to a subscription as it is now; the message says what can."""


@dataclass(frozen=True, slots=True)
class NewSecret:
    """A subscription whose secret was just made, or given: `secret` is known now and never again.

    None where it is signed with a private key: nobody but us needs that, and `public_key` is all that is to be known.
    """

    row: SubscriptionRow
    secret: str | None
    public_key: str | None


def checked_url(url: str, allow: Sequence[Network]) -> CheckedUrl:
    """The URL, if deliveries may go there. Raises SubscriptionError. Looks the name up: no transaction should wait."""
    try:
        ssrf.check_url(url, allow)
    except EgressError as error:
        raise SubscriptionError("url", str(error)) from None
    return CheckedUrl(url)


def create(
    connection: Connection,
    vault: Vault,
    *,
    url: CheckedUrl,
    wishes: Mapping[str, Any],
    secret: str | None = None,
    scheme: Scheme = Scheme.V1,
    may_know_sources: bool = True,
    now: datetime,
) -> NewSecret:
    """Add a subscription; its secret is made unless one is given. Raises SubscriptionError.

    To who may not know the sources it is not told whether there is one of a name.
    """
    values = DEFAULTS | {"name": urlsplit(url).hostname} | _checked(connection, wishes, may_know_sources)
    signing = _signing(secret, scheme)
    values["headers"] = vault.seal(values["headers"])
    values["secrets"] = seal_secrets([signing], vault)
    row = subscriptions.create(connection, ids.receipt_id(now), {**values, "url": url}, now)
    return _new(row, signing)


def change(
    connection: Connection,
    vault: Vault,
    subscription_id: UUID,
    *,
    tenant: str | None,
    wishes: Mapping[str, Any],
    url: CheckedUrl | None = None,
    version: int | None = None,
    now: datetime,
) -> SubscriptionRow | None:
    """Change what is given and leave the rest; of static headers those that are given, of which None removes.

    None if there is no such subscription. Raises SubscriptionError, SecretsError, or StandingError where its `version`
    is another one than the caller knew.
    """
    endpoint_health.lock(connection, [subscription_id])  # before the subscription, as deliverers do
    row = subscriptions.find(connection, subscription_id, tenant=tenant, lock=True)
    if row is None:
        return None
    if version is not None and version != row.version:
        raise StandingError(f"It has been changed meanwhile: its version is {row.version}, not {version}.")
    given = dict(wishes)
    if "headers" in given:
        given["headers"] = _merged(vault.open(row.headers), given["headers"])
    values = _checked(connection, given, may_know_sources=tenant is None)
    if "headers" in values:
        values["headers"] = vault.seal(values["headers"])
    if url is not None and url != row.url:
        values["url"] = url
        endpoint_health.forgive(connection, subscription_id)
    return subscriptions.update(connection, subscription_id, values, now)


def rotate_secret(
    connection: Connection,
    vault: Vault,
    subscription_id: UUID,
    *,
    tenant: str | None,
    secret: str | None = None,
    scheme: Scheme = Scheme.V1,
    overlap: timedelta = OLD_SECRET_SIGNS_FOR,
    now: datetime,
) -> NewSecret | None:
    """Sign with another secret; those before sign, too, while they overlap, but none longer than it was to anyway.

    None if there is no such subscription. Raises SubscriptionError, SecretsError, or StandingError.
    """
    row = subscriptions.find(connection, subscription_id, tenant=tenant, lock=True)
    if row is None:
        return None
    signing = _signing(secret, scheme)
    old = _until(open_subscription(row, vault).secrets, now + overlap, now)
    if len(old) > MOST_OLD_SECRETS:
        raise StandingError(
            f"{MOST_OLD_SECRETS} old secrets still sign; wait until one expires, or let none overlap (overlap_s 0)."
        )
    sealed = seal_secrets([signing, *old], vault)
    return _new(subscriptions.update(connection, subscription_id, {"secrets": sealed}, now), signing)


def pause(
    connection: Connection, subscription_id: UUID, *, tenant: str | None, reason: str, now: datetime
) -> SubscriptionRow | None:
    """Deliver to it no more for now: what comes waits. None if there is no such subscription. Raises StandingError."""
    row = subscriptions.find(connection, subscription_id, tenant=tenant, lock=True)
    if row is None or row.state == SubscriptionState.PAUSED:
        return row
    if row.state == SubscriptionState.DISABLED:
        raise StandingError("It is disabled, so nothing is delivered to it anyway; resume it first.")
    return subscriptions.update(connection, subscription_id, _stands(SubscriptionState.PAUSED, reason, now), now)


def resume(
    connection: Connection, subscription_id: UUID, *, tenant: str | None, now: datetime
) -> SubscriptionRow | None:
    """Deliver to it again, at once, as if it had never failed. None if there is no such subscription."""
    endpoint_health.lock(connection, [subscription_id])  # before the subscription, as deliverers do
    row = subscriptions.find(connection, subscription_id, tenant=tenant, lock=True)
    if row is None:
        return None
    endpoint_health.forgive(connection, subscription_id)
    if row.state == SubscriptionState.ACTIVE:
        return row
    return subscriptions.update(connection, subscription_id, _stands(SubscriptionState.ACTIVE, None, now), now)


def remove(
    connection: Connection, subscription_id: UUID, *, tenant: str | None, now: datetime
) -> SubscriptionRow | None:
    """Take it out of service, and forget what was secret; its deliveries can still be looked at. None if there is none.

    What it has yet to be told of is to be abandoned then (`shared.delivery_jobs`).
    """
    row = subscriptions.find(connection, subscription_id, tenant=tenant, lock=True)
    if row is None:
        return None
    return subscriptions.update(connection, subscription_id, {"deleted_at": now, "headers": b"", "secrets": b""}, now)


def _checked(connection: Connection, wishes: Mapping[str, Any], may_know_sources: bool) -> dict[str, Any]:
    values = subscription_checks.checked(wishes)
    wanted = values.get("sources", ()) if may_know_sources else ()
    known = source_names.known(connection, wanted) if wanted else frozenset()
    if missing := [slug for slug in wanted if slug not in known]:
        raise SubscriptionError("sources", f"there is no source called {', '.join(map(repr, missing))}")
    return values


def _signing(secret: str | None, scheme: Scheme) -> SigningSecret:
    value = secret or standard_webhooks.new_secret(scheme)
    try:
        standard_webhooks.check_secret(value)
    except SigningSecretError as error:
        raise SubscriptionError("secret", str(error)) from None
    return SigningSecret(value=value)


def _until(secrets: Sequence[SigningSecret], end: datetime, now: datetime) -> list[SigningSecret]:
    """These secrets, to sign until the end at most; without those that are over by now."""
    ends = [SigningSecret(value=old.value, expires_at=min(old.expires_at or end, end)) for old in secrets]
    return [old for old in ends if old.expires_at is not None and old.expires_at > now]


def _new(row: SubscriptionRow, signing: SigningSecret) -> NewSecret:
    public_key = standard_webhooks.public_key(signing.value)
    return NewSecret(row, secret=None if public_key else signing.value, public_key=public_key)


def _stands(state: SubscriptionState, reason: str | None, now: datetime) -> dict[str, Any]:
    return {"state": state, "state_reason": reason, "state_since": now}


def _merged(old: Mapping[str, str], patch: Mapping[str, str | None]) -> dict[str, str]:
    """By the rule of JSON Merge Patch (RFC 7396), for which upper and lower case of a name are the same."""
    changed = {name.lower() for name in patch}
    kept = {name: value for name, value in old.items() if name.lower() not in changed}
    return kept | {name: value for name, value in patch.items() if value is not None}
