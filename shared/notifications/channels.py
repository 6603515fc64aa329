"""Notification channels: created, changed, shown without their secrets, and sent to."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, NewType
from uuid import uuid4

from sqlalchemy import Connection, Row

from shared.encryption import SecretsError, Vault
from shared.errors import ConflictError, InvalidFieldError, NotFoundError
from shared.http import standard_webhooks
from shared.notifications import apprise, rendering, store, webhook
from shared.notifications.base import ChannelKind, NotificationError
from shared.notifications.rendering import Message
from shared.sources import service as source_service
from shared.vocabulary import Severity

OLD_SECRET_SIGNS_FOR = timedelta(hours=24)
"""After a rotation, messages are signed by the old secret, too, so that receivers have time to change it."""

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_SHOWN = (
    "name", "kind", "least_severity", "created_at", "updated_at", "told_at", "failing_since", "failures", "last_error",
    "sources", "tenants", "rules",
)  # fmt: skip


class Kind(StrEnum):
    """How a channel is sent to."""

    WEBHOOK = "webhook"
    APPRISE = "apprise"


_KINDS: Final[Mapping[Kind, ChannelKind]] = {Kind.WEBHOOK: webhook, Kind.APPRISE: apprise}

DEADLINES_SECONDS: Final[Mapping[str, float]] = {Kind.WEBHOOK: 10.0, Kind.APPRISE: 20.0}
"""The deadline of an attempt, by kind. Apprise takes a second to start, and mail servers are slow."""


ValidUrl = NewType("ValidUrl", str)
"""A URL that `validate_url` has returned."""


def validate_url(kind: Kind, url: str) -> ValidUrl:
    """Return the URL. Raises InvalidFieldError if a channel of this kind cannot use it.

    May take a second: call it outside of transactions.
    """
    _KINDS[kind].validate_url(url)
    return ValidUrl(url)


def create(
    connection: Connection,
    vault: Vault,
    *,
    name: str,
    kind: Kind,
    url: ValidUrl,
    min_severity: Severity,
    secret: str | None = None,
    sources: Sequence[str] | None = None,
    tenants: Sequence[str] | None = None,
    rules: Sequence[str] | None = None,
) -> tuple[Row[Any], str | None]:
    """Create a channel; return it with its secret, which is never shown again. Channels of apprise have no secret.

    With `sources`, `tenants` or `rules` it is notified only of alerts about one of these. A webhook gets a new secret
    unless one is given. Raises InvalidFieldError, or ConflictError if the name is taken.
    """
    if not _NAME.fullmatch(name):
        raise InvalidFieldError("name", name, "name must be 1 to 63 of a-z, 0-9 and -, and must not begin with -.")
    target: dict[str, Any] = {"url": url}
    if kind is Kind.WEBHOOK:
        secret = secret or standard_webhooks.new_secret()
        standard_webhooks.check_secret(secret)
        target["secrets"] = [{"secret": secret, "until": None}]
    elif secret is not None:
        raise InvalidFieldError("secret", None, f"secret is for webhooks only; a channel of kind {kind} has none.")
    source_service.require(connection, sources)
    row = store.create_channel(
        connection,
        name=name,
        kind=kind,
        target=vault.seal(target),
        min_severity=min_severity,
        sources=sources,
        tenants=tenants,
        rules=rules,
    )
    return row, secret


def get(connection: Connection, name: str, *, lock: bool = False) -> Row[Any]:
    """Return a channel. Raises NotFoundError."""
    row = store.get_channel(connection, name, lock=lock)
    if row is None:
        listing = "`tidings alerts channels list` or GET /v1/alert-channels lists the channels"
        raise NotFoundError(f"There is no channel called {name!r}; {listing}.")
    return row


def change(
    connection: Connection,
    vault: Vault,
    name: str,
    *,
    url: ValidUrl | None = None,
    min_severity: Severity | None = None,
    **limits: Sequence[str] | None,
) -> Row[Any]:
    """Change a channel, and make its pending notices due. Of `sources`, `tenants` and `rules` the given are replaced.

    Raises NotFoundError, InvalidFieldError or SecretsError.
    """
    row = get(connection, name, lock=True)
    source_service.require(connection, limits.get("sources"))
    changed = store.update_channel(
        connection,
        name,
        target=row.target if url is None else vault.seal({**vault.open(row.target), "url": url}),
        min_severity=min_severity or row.least_severity,
        **limits,
    )
    store.end_rest(connection, name)
    return changed


def rotate_secret(
    connection: Connection, vault: Vault, name: str, now: datetime, *, secret: str | None = None
) -> tuple[Row[Any], str]:
    """Give a webhook a new secret, or this one, and return both. The old one signs, too, for `OLD_SECRET_SIGNS_FOR`.

    Raises NotFoundError, InvalidFieldError, SecretsError, or ConflictError if the channel has no secret.
    """
    row = get(connection, name, lock=True)
    if row.kind != Kind.WEBHOOK:
        raise ConflictError(f"The channel {name} is not a webhook: only webhooks have a secret.")
    target = vault.open(row.target)
    secret, until = secret or standard_webhooks.new_secret(), (now + OLD_SECRET_SIGNS_FOR).isoformat()
    standard_webhooks.check_secret(secret)
    # Only the newest of the old secrets stays: after two rotations within a day, a leaked secret must be out of use.
    old = {**target["secrets"][0], "until": until}
    sealed = vault.seal({**target, "secrets": [{"secret": secret, "until": None}, old]})
    return store.update_channel(connection, name, target=sealed, min_severity=row.least_severity), secret


def describe(row: Row[Any], vault: Vault) -> dict[str, Any]:
    """Return a channel without its secrets. `problem` says why it cannot be used; None if it can."""
    url, problem = "", None
    try:
        url = _KINDS[Kind(row.kind)].redact_url(vault.open(row.target)["url"])
    except SecretsError as error:
        problem = str(error)
    return {**{name: getattr(row, name) for name in _SHOWN}, "url": url, "problem": problem}


def send(row: Row[Any], vault: Vault, message: Message, *, now: datetime, deadline_seconds: float) -> str:
    """Send a message, and return the response in a few words. Raises NotificationError within the deadline."""
    try:
        target = vault.open(row.target)
    except SecretsError as error:
        raise NotificationError(str(error)) from None
    return _KINDS[Kind(row.kind)].send(target, message, now=now, deadline_seconds=deadline_seconds)


def send_test(row: Row[Any], vault: Vault, now: datetime) -> dict[str, Any]:
    """Send a test message to a channel; return `{ok, detail}`, where `detail` is the response or the error."""
    message = rendering.render_test(row.name, message_id=uuid4().hex, now=now)
    try:
        detail = send(row, vault, message, now=now, deadline_seconds=DEADLINES_SECONDS[row.kind])
    except NotificationError as error:
        return {"ok": False, "detail": str(error)}
    return {"ok": True, "detail": detail}
