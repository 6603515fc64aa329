"""Channels: made, changed, shown without their secrets, told, and tried."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from types import ModuleType
from typing import Any, Final, NewType, cast
from uuid import uuid4

from sqlalchemy import Connection

from shared.encryption import SecretsError, Vault
from shared.errors import TidingsError
from shared.http import standard_webhooks
from shared.http.standard_webhooks import SigningSecretError
from shared.notifications import apprise, channel_store, rendering, webhook
from shared.notifications.apprise import NoAppriseError
from shared.notifications.base import Attempt, ChannelKind, TargetError, TellingError
from shared.notifications.channel_store import ChannelRow
from shared.notifications.rendering import Message
from shared.vocabulary import Severity

OLD_SECRET_SIGNS_FOR = timedelta(hours=24)
"""How long what is posted bears the signature by the secret before, too, so that its receiver has time to change."""

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class Kind(StrEnum):
    """How a channel is told."""

    WEBHOOK = "webhook"
    APPRISE = "apprise"


_KINDS: Final[Mapping[Kind, ModuleType]] = {Kind.WEBHOOK: webhook, Kind.APPRISE: apprise}

DEADLINES_SECONDS: Final[Mapping[str, float]] = {Kind.WEBHOOK: 10.0, Kind.APPRISE: 20.0}
"""How long an attempt may take at most, by kind. Apprise takes a second to start, and mail servers take their time."""


CheckedUrl = NewType("CheckedUrl", str)
"""A URL that a channel can be told by."""


class ChannelError(TidingsError):
    """Something in a channel that cannot be used; `field` is where."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelFacts:
    """A channel as it is shown. `problem` says why it cannot be used, `last_error` why it was not told last."""

    name: str
    kind: str
    url: str
    least_severity: str
    created_at: datetime
    updated_at: datetime
    told_at: datetime | None
    failing_since: datetime | None
    failures: int
    last_error: str | None
    problem: str | None


@dataclass(frozen=True, slots=True)
class NewSecret:
    """A channel whose secret was just made: `secret` is known now and never again. None for kinds without one."""

    row: ChannelRow
    secret: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What came of telling a channel something."""

    ok: bool
    detail: str


def checked_url(kind: Kind, url: str) -> CheckedUrl:
    """The URL, if a channel of this kind can be told by it. Raises ChannelError. May take a second: no transaction
    should wait for it.
    """
    try:
        _module(kind).check(url)
    except NoAppriseError as error:
        raise ChannelError("kind", str(error)) from None
    except TargetError as error:
        raise ChannelError("url", str(error)) from None
    return CheckedUrl(url)


def create(
    connection: Connection,
    vault: Vault,
    *,
    name: str,
    kind: Kind,
    url: CheckedUrl,
    least_severity: Severity,
    secret: str | None = None,
) -> NewSecret:
    """Add a channel; a webhook's secret is made unless one is given. Raises ChannelError, or NameTakenError."""
    if not _NAME.fullmatch(name):
        raise ChannelError("name", "must be 1 to 63 of a-z, 0-9 and -, and must not begin with -")
    target: dict[str, Any] = {"url": url}
    if kind is Kind.WEBHOOK:
        secret = secret or standard_webhooks.new_secret()
        _check_secret(secret)
        target["secrets"] = [{"secret": secret, "until": None}]
    elif secret is not None:
        raise ChannelError("secret", "is for webhooks only")
    row = channel_store.create(
        connection, name=name, kind=kind, target=vault.seal(target), least_severity=least_severity
    )
    return NewSecret(row, secret)


def change(
    connection: Connection,
    vault: Vault,
    name: str,
    *,
    url: CheckedUrl | None = None,
    least_severity: Severity | None = None,
) -> ChannelRow | None:
    """Change a channel, and tell it soon what it could not be told. None if there is none of this name.

    Raises SecretsError.
    """
    row = channel_store.find(connection, name, lock=True)
    if row is None:
        return None
    changed = channel_store.update(
        connection,
        name,
        target=row.target if url is None else vault.seal({**vault.open(row.target), "url": url}),
        least_severity=least_severity or row.least_severity,
    )
    channel_store.wake(connection, name)
    return changed


def rotate_secret(connection: Connection, vault: Vault, name: str, now: datetime) -> NewSecret | None:
    """Give a webhook a new secret; the old one signs, too, for a day. None if there is no channel of this name.

    Raises ChannelError for a channel that has no secret, or SecretsError.
    """
    row = channel_store.find(connection, name, lock=True)
    if row is None:
        return None
    if row.kind != Kind.WEBHOOK:
        raise ChannelError("name", f"{name} is no webhook: only what webhooks are sent is signed")
    target = vault.open(row.target)
    secret, until = standard_webhooks.new_secret(), (now + OLD_SECRET_SIGNS_FOR).isoformat()
    # Of those before, the newest only: two changes within a day must not leave a secret that leaked in use.
    old = {**target["secrets"][0], "until": until}
    sealed = vault.seal({**target, "secrets": [{"secret": secret, "until": None}, old]})
    return NewSecret(channel_store.update(connection, name, target=sealed, least_severity=row.least_severity), secret)


def shown(row: ChannelRow, vault: Vault) -> ChannelFacts:
    """A channel without its secrets."""
    url, problem = "", None
    try:
        url = _module(row.kind).shown(vault.open(row.target)["url"])
    except SecretsError as error:
        problem = str(error)
    return ChannelFacts(
        name=row.name,
        kind=row.kind,
        url=url,
        least_severity=row.least_severity,
        created_at=row.created_at,
        updated_at=row.updated_at,
        told_at=row.told_at,
        failing_since=row.failing_since,
        failures=row.failures,
        last_error=row.last_error,
        problem=problem,
    )


def tell(row: ChannelRow, vault: Vault, message: Message, attempt: Attempt) -> str:
    """Tell a channel, and return what came back in a few words. Raises TellingError within the deadline."""
    try:
        target = vault.open(row.target)
    except SecretsError as error:
        raise TellingError(str(error)) from None
    return _module(row.kind).tell(target, message, attempt)


def try_out(row: ChannelRow, vault: Vault, now: datetime) -> Tried:
    """Send a channel a message that says that it is a test."""
    message = rendering.trial(row.name, message_id=uuid4().hex, now=now)
    try:
        said = tell(row, vault, message, Attempt(at=now, deadline_seconds=DEADLINES_SECONDS[row.kind]))
    except TellingError as error:
        return Tried(ok=False, detail=str(error))
    return Tried(ok=True, detail=said)


def _module(kind: str) -> ChannelKind:
    return cast("ChannelKind", _KINDS[Kind(kind)])


def _check_secret(secret: str) -> None:
    try:
        standard_webhooks.check_secret(secret)
    except SigningSecretError as error:
        raise ChannelError("secret", str(error)) from None
