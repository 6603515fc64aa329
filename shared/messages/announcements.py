"""Announced sends: an application reports a message before its provider does, so that a missing event is noticed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from shared import ids
from shared.addresses import AddressError, parse_address, strip_brackets
from shared.encryption import SecretsError, Vault
from shared.errors import CredentialsError, InvalidFieldError
from shared.events import identity
from shared.events.event import event_key, message_key
from shared.messages.state import RANKS, Weight
from shared.messages.store import MERGE_MESSAGE, MESSAGE_ID, MESSAGE_KEY, SET_STATUS, SUPERSEDES
from shared.sources import store as sources
from shared.sources.source import Source, open_source
from shared.sources.store import SourceRow
from shared.vocabulary import Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """A message that an application handed to a provider.

    At least one of the ids by which this provider names messages is required. `tenant` is the tenant that the
    message's events will name; it may be left out if the source has only one.
    """

    source: str
    tenant: str | None = None
    sender: str
    recipients: Sequence[str]
    request_id: str | None = None
    smtp_id: str | None = None
    provider_message_id: str | None = None


_NULL_REVERSE_PATH = "<>"
"""The sender of automatic replies and other messages that nobody may answer (RFC 5321, 4.5.5)."""

_IDS = ("sender", "request_id", "smtp_id", "provider_message_id")

# Both statements follow that of `shared.messages.store`, and stay text like it: the same message and states result
# whether the announcement or an event comes first. "infinity" gives way to the time of any event.
_INSERT_MESSAGE = f"""
INSERT INTO messages AS m (id, key, source_id, created_at, first_event_at, submitted_at, {", ".join(_IDS)})
VALUES ({MESSAGE_ID.format(event="%(new_id)s::uuid", key="%(key)s::uuid")}, %(key)s, %(source_id)s, now(), 'infinity',
    %(submitted_at)s, {", ".join(f"%({n})s" for n in _IDS)})
ON CONFLICT ({MESSAGE_KEY}) DO UPDATE SET submitted_at = least(m.submitted_at, excluded.submitted_at), {MERGE_MESSAGE}
RETURNING id, submitted_at, xmax = 0
"""

_INSERT_STATES = f"""
INSERT INTO recipient_states AS s (message_id, recipient, source_id, smtp_id, weight, timed, status_at, rank,
    status_key, status, updated_at, created_on)
SELECT %(message_id)s, recipient, %(source_id)s, %(smtp_id)s, {Weight.IMPLIED:d}, true, %(submitted_at)s,
    {RANKS[Status.SUBMITTED]}, key, '{Status.SUBMITTED}', now(), (now() AT TIME ZONE 'UTC')::date
FROM unnest(%(recipients)s::text[], %(keys)s::uuid[]) AS given (recipient, key) ORDER BY recipient
ON CONFLICT (message_id, recipient) DO UPDATE SET
    previous_status = CASE WHEN {SUPERSEDES} THEN s.status ELSE s.previous_status END,
    {SET_STATUS},
    smtp_id = least(s.smtp_id, excluded.smtp_id), version = s.version + 1, updated_at = now()
WHERE {SUPERSEDES} OR s.smtp_id IS DISTINCT FROM least(s.smtp_id, excluded.smtp_id)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedSend:
    """A send that can be stored. `key` is that of its message; `ids` are its texts, normalized."""

    source_id: int
    key: str
    recipients: Sequence[str]
    ids: Mapping[str, str | None]
    submitted_at: datetime


def announce(connection: Connection, vault: Vault, send: Send, submitted_at: datetime) -> tuple[UUID, bool]:
    """Record a send. Return the id of its message and whether the message is new. Raise InvalidFieldError.

    Idempotent: of several announcements of a message the earliest time is kept.
    """
    (prepared,) = prepare(connection, vault, [(send, submitted_at)])
    if isinstance(prepared, InvalidFieldError):
        raise prepared
    return _store(connection, prepared)


def prepare(
    connection: Connection, vault: Vault, sends: Sequence[tuple[Send, datetime]]
) -> list[PreparedSend | InvalidFieldError]:
    """Return for each send, with its time, what is to be stored, or what is wrong with it."""
    opened: dict[str, tuple[SourceRow, Source]] = {}
    found: list[PreparedSend | InvalidFieldError] = []
    for send, submitted_at in sends:
        try:
            if send.source not in opened:
                opened[send.source] = _open(connection, vault, send.source)
            row, source = opened[send.source]
            key = message_key(row.id, _name_message(row, source, send))
            sender = send.sender.strip()
            if sender != _NULL_REVERSE_PATH:
                sender = _read_address("sender", sender)
            recipients = [_read_address("recipients", text) for text in send.recipients]
            if not recipients:
                raise InvalidFieldError("recipients", send.recipients, "must name at least one address")
        except InvalidFieldError as error:
            found.append(error)
            continue
        ids = {
            "sender": sender,
            "request_id": send.request_id,
            "smtp_id": strip_brackets(send.smtp_id) if send.smtp_id else None,
            "provider_message_id": send.provider_message_id,
        }
        unique = list(dict.fromkeys(recipients))
        found.append(PreparedSend(source_id=row.id, key=key, recipients=unique, ids=ids, submitted_at=submitted_at))
    return found


def _read_address(field: str, text: str) -> str:
    try:
        return parse_address(text)
    except AddressError as error:
        raise InvalidFieldError(field, text, str(error)) from None


def _open(connection: Connection, vault: Vault, slug: str) -> tuple[SourceRow, Source]:
    row = sources.find(connection, slug)
    if row is None:
        raise InvalidFieldError("source", slug, f"there is no source called {slug!r}")
    try:
        return row, open_source(row, vault)
    except (CredentialsError, SecretsError) as error:
        raise InvalidFieldError("source", slug, f"source {slug!r} cannot be used: {error}") from None


def store(connection: Connection, prepared: Sequence[PreparedSend]) -> list[tuple[UUID, bool]]:
    """Record sends; return for each the id of its message and whether the message is new."""
    found: dict[int, tuple[UUID, bool]] = {}
    # In the order of keys, so that two callers with the same sends do not lock each other.
    for number in sorted(range(len(prepared)), key=lambda number: prepared[number].key):
        found[number] = _store(connection, prepared[number])
    return [found[number] for number in range(len(prepared))]


def _store(connection: Connection, send: PreparedSend) -> tuple[UUID, bool]:
    values: dict[str, Any] = {
        "new_id": ids.receipt_id(datetime.now(UTC)),
        "key": send.key,
        "source_id": send.source_id,
        "submitted_at": send.submitted_at,
        **send.ids,
    }
    message_id, earliest, is_new = connection.exec_driver_sql(_INSERT_MESSAGE, values).one()
    values |= {
        "message_id": message_id,
        "submitted_at": earliest,  # so that a repetition with a later time does not supersede the first
        "recipients": send.recipients,
        "keys": [event_key(send.source_id, f"announced:{send.key}", recipient) for recipient in send.recipients],
    }
    connection.exec_driver_sql(_INSERT_STATES, values)
    return message_id, bool(is_new)


def _name_message(source: SourceRow, opened: Source, send: Send) -> str:
    """Return the key that the events of this send will give their message."""
    tenants = opened.provider.tenants(opened.credentials)
    if send.tenant is not None and tenants and send.tenant not in tenants:
        raise InvalidFieldError("tenant", send.tenant, f"source {source.slug!r} has no tenant {send.tenant!r}")
    tenant = next(iter(tenants)) if len(tenants) == 1 else send.tenant
    key = identity.build_message_key(
        source.provider,
        tenant=tenant,
        request_id=send.request_id,
        smtp_id=send.smtp_id,
        provider_message_id=send.provider_message_id,
    )
    if key is None:
        names = identity.list_accepted_ids(source.provider)
        if not names:
            raise InvalidFieldError(
                "source", source.slug, f"{source.provider} sends no mail, so nothing can be announced"
            )
        needed = " or ".join(names)
        raise InvalidFieldError(
            names[0], None, f"{needed} is required: {source.provider} identifies its messages by it"
        )
    if tenant is None and tenants and identity.is_sender_chosen(key):
        raise InvalidFieldError(
            "tenant", None, "`tenant` is required here: a Message-Id alone does not identify the tenant"
        )
    return key
