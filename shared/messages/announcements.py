"""Announcing a send: what an application tells us before its provider does."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection

from shared.addresses import normalize, strip_brackets
from shared.encryption import SecretsError, Vault
from shared.errors import CredentialsError, TidingsError
from shared.events import event, identity
from shared.messages import announcement_store
from shared.messages.announcement_store import Addressee, Announcement
from shared.sources import store as sources
from shared.sources.source import open_source
from shared.sources.store import SourceRow


class AnnouncementError(TidingsError):
    """A send that cannot be announced; `field` is what is wrong."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """What was handed to a provider. At least one of the ids that this provider names messages by must be given.

    `tenant` is the one that the message's events will name. It need not be given where the source has only one.
    """

    source: str
    tenant: str | None = None
    sender: str
    recipients: Sequence[str]
    request_id: str | None = None
    smtp_id: str | None = None
    provider_message_id: str | None = None


def announce(connection: Connection, vault: Vault, send: Send, submitted_at: datetime) -> tuple[UUID, bool]:
    """Record a send; the id of its message, and whether that is new. Raises AnnouncementError.

    Idempotent: of several times that are told for one message the earliest stays.
    """
    source = sources.find(connection, send.source)
    if source is None:
        raise AnnouncementError("source", f"there is no source called {send.source!r}")
    message_id = event.message_id(source.id, _name(source, _tenants(source, vault), send))
    recipients = dict.fromkeys(filter(None, map(normalize, send.recipients)))
    if not recipients:
        raise AnnouncementError("recipients", "must name at least one address")
    is_new = announcement_store.record(
        connection,
        Announcement(
            message_id=message_id,
            source_id=source.id,
            submitted_at=submitted_at,
            sender=normalize(send.sender),
            request_id=send.request_id,
            smtp_id=strip_brackets(send.smtp_id) if send.smtp_id else None,
            provider_message_id=send.provider_message_id,
            addressees=[Addressee(r, _key(source.id, message_id, r)) for r in recipients],
        ),
    )
    return UUID(message_id), is_new


def _tenants(source: SourceRow, vault: Vault) -> frozenset[str]:
    try:
        opened = open_source(source, vault)
    except (CredentialsError, SecretsError) as error:
        raise AnnouncementError("source", f"{source.slug!r} cannot be used: {error}") from None
    return opened.provider.tenants(opened.credentials)


def _name(source: SourceRow, tenants: frozenset[str], send: Send) -> str:
    """What the events of this send will call its message, whose tenant is one of these, if there are any."""
    if send.tenant is not None and tenants and send.tenant not in tenants:
        raise AnnouncementError("tenant", f"{source.slug!r} takes no events of this tenant")
    tenant = next(iter(tenants)) if len(tenants) == 1 else send.tenant
    key = identity.announced(
        source.provider,
        tenant=tenant,
        request_id=send.request_id,
        smtp_id=send.smtp_id,
        provider_message_id=send.provider_message_id,
    )
    if key is None:
        raise _unnamed(source.provider)
    if tenant is None and tenants and identity.is_of_sender(key):
        raise AnnouncementError(
            "tenant", "a Message-Id does not say whose it is: without the tenant no event would fit"
        )
    return key


def _key(source_id: int, message_id: str, recipient: str) -> str:
    return event.event_key(source_id, f"announced:{message_id}", recipient)


def _unnamed(provider: str) -> AnnouncementError:
    names = identity.accepted(provider)
    if not names:
        return AnnouncementError("source", f"nothing is sent by way of {provider}")
    needed = " or ".join(names)
    return AnnouncementError(names[0], f"{provider} names its messages by {needed}: without it no event would fit")
