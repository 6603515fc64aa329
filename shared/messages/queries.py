"""Messages and what became of them for each recipient.

A row of `recipient_states` whose recipient is '' holds the events that named none: they apply to every
recipient of the message. A recipient's state is the merge of its own row and that one, by the rule of
`shared.messages.state`. It is made here, in `EFFECTIVE`, and nowhere else.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, RowMapping

from shared.addresses import normalize, strip_brackets
from shared.classification import classify as classification
from shared.postgres.pagination import Page, Position, Walk
from shared.vocabulary import Classification, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipientFacts:
    """Where a message stands for one recipient; `recipient` is None where no event has named one.

    Times are the provider's. `version` grows with every change.
    """

    recipient: str | None
    status: str | None
    status_at: datetime | None
    status_event_id: UUID | None
    previous_status: str | None
    classification: str | None
    classification_code: int | None
    smtp_status: str | None
    enhanced_code: str | None
    reason: str | None
    smtp_id: str | None
    opened: bool
    opened_at: datetime | None
    opens: int
    clicked: bool
    clicked_at: datetime | None
    clicks: int
    read: bool
    read_at: datetime | None
    reads: int
    complained: bool
    complained_at: datetime | None
    unsubscribed: bool
    unsubscribed_at: datetime | None
    subscribed_at: datetime | None
    version: int
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageFacts:
    """One message. `first_event_at` is None while it has only been announced."""

    id: UUID
    source: str
    provider_message_id: str | None
    request_id: str | None
    smtp_id: str | None
    sender: str | None
    subject: str | None
    tag: str | None
    campaign: str | None
    tenant: str | None
    created_at: datetime
    first_event_at: datetime | None
    submitted_at: datetime | None
    recipients: Sequence[RecipientFacts] = field(default_factory=tuple)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which messages: all that is given must hold. `recipient` and `status` must hold of the same recipient.

    `tenant` is whose messages there are at all; None is everybody's, here as in all that follows.
    """

    source: str | None = None
    request_id: str | None = None
    smtp_id: str | None = None
    message_id: str | None = None
    recipient: str | None = None
    sender: str | None = None
    status: Status | None = None
    since: datetime | None = None
    until: datetime | None = None
    tenant: str | None = None


_OF_STANDING = (
    "status",
    "status_at",
    "status_event_id",
    "classification",
    "smtp_status",
    "enhanced_code",
    "reason",
)
_FACTS_OF_STANDING = ", ".join(f"CASE WHEN wide.rises THEN w.{n} ELSE s.{n} END AS {n}" for n in _OF_STANDING)
_COUNTED = ", ".join(f"s.{n} + coalesce(w.{n}, 0) AS {n}" for n in ("opens", "clicks", "reads", "version"))
_FIRST = ", ".join(f"least(s.{n}, w.{n}) AS {n}" for n in ("opened_at", "clicked_at", "read_at", "complained_at"))
_LAST = ", ".join(f"greatest(s.{n}, w.{n}) AS {n}" for n in ("unsubscribed_at", "subscribed_at", "updated_at"))

EFFECTIVE = f"""
SELECT s.message_id, nullif(s.recipient, '') AS recipient, {_FACTS_OF_STANDING},
    CASE WHEN wide.rises THEN coalesce(s.status, w.previous_status)
         ELSE coalesce(s.previous_status, w.status) END AS previous_status,
    coalesce(s.smtp_id, w.smtp_id) AS smtp_id, {_COUNTED}, {_FIRST}, {_LAST}
FROM recipient_states AS s
LEFT JOIN recipient_states AS w ON w.message_id = s.message_id AND w.recipient = '' AND s.recipient <> ''
CROSS JOIN LATERAL (SELECT coalesce(
    (w.weight, w.status_at, w.rank, w.status_key) > (s.weight, s.status_at, s.rank, s.status_key), false
) AS rises) AS wide
WHERE (s.recipient <> '' OR NOT EXISTS (
    SELECT FROM recipient_states AS named WHERE named.message_id = s.message_id AND named.recipient <> ''
))
"""
"""The state of every recipient. A condition on `s.message_id` or `s.recipient` may be added with AND."""

_MESSAGES = """
SELECT m.id, s.slug AS source, m.provider_message_id, m.request_id, m.smtp_id, m.sender, m.subject, m.tag, m.campaign,
    nullif(m.tenant, '') AS tenant, m.created_at, nullif(m.first_event_at, 'infinity') AS first_event_at, m.submitted_at
FROM messages AS m JOIN sources AS s ON s.id = m.source_id
WHERE m.id = ANY(%(ids)s) AND (%(tenant)s::text IS NULL OR m.tenant = %(tenant)s)
"""


def listed(
    connection: Connection, wanted: Wanted, *, after: Position | None = None, limit: int = 50
) -> Page[MessageFacts]:
    """Messages, those that became known last first."""
    walk = Walk(table="messages AS m", keys=("m.created_at", "m.id"))
    _bound(walk, wanted)
    _pick(walk, wanted)
    walk.after(after)
    found = walk.page(connection, limit)
    return Page(by_ids(connection, [position[1] for position in found.items]), found.next)


def find(connection: Connection, message_id: UUID, *, tenant: str | None = None) -> MessageFacts | None:
    """One message."""
    found = by_ids(connection, [message_id], tenant=tenant)
    return found[0] if found else None


def by_ids(connection: Connection, ids: Sequence[UUID], *, tenant: str | None = None) -> list[MessageFacts]:
    """Those of these messages that there are, in this order, with their recipients."""
    recipients = _recipients(connection, ids)
    found = {m.id: replace(m, recipients=recipients.get(m.id, ())) for m in summaries(connection, ids, tenant=tenant)}
    return [found[id_] for id_ in ids if id_ in found]


def summaries(connection: Connection, ids: Sequence[UUID], *, tenant: str | None = None) -> list[MessageFacts]:
    """These messages, in any order, without their recipients."""
    rows = connection.exec_driver_sql(_MESSAGES, {"ids": list(ids), "tenant": tenant}).mappings()
    return [MessageFacts(**row) for row in rows]


def _bound(walk: Walk, wanted: Wanted) -> None:
    """What an index serves: the few messages of an id or a recipient, or a part of the time."""
    named = _named(wanted)
    if named:
        # OFFSET 0: first those that are named, by their index, and never a walk through all messages.
        chosen = " INTERSECT ".join(condition for condition, _ in named)
        walk.table = f"(SELECT * FROM messages WHERE id IN ({chosen}) OFFSET 0) AS m"
        for _, values in named:
            walk.values.update(values)
    if wanted.sender is not None:
        walk.bound("m.sender = %(sender)s", sender=normalize(wanted.sender))
    if wanted.since is not None:
        walk.bound("m.created_at >= %(since)s", since=wanted.since)
    if wanted.until is not None:
        walk.bound("m.created_at < %(until)s", until=wanted.until)


def _named(wanted: Wanted) -> list[tuple[str, Mapping[str, Any]]]:
    found: list[tuple[str, Mapping[str, Any]]] = []
    if wanted.request_id is not None:
        found.append(("SELECT id FROM messages WHERE request_id = %(request_id)s", {"request_id": wanted.request_id}))
    if wanted.smtp_id is not None:
        # A request may cover several Message-Ids, so that the message alone does not know them all.
        statement = "SELECT message_id FROM recipient_states WHERE smtp_id = %(smtp_id)s"
        found.append((statement, {"smtp_id": strip_brackets(wanted.smtp_id)}))
    if wanted.message_id is not None:
        statement = (
            "(SELECT id FROM messages WHERE id = %(own_id)s"
            " UNION SELECT id FROM messages WHERE provider_message_id = %(message_id)s)"
        )
        found.append((statement, {"own_id": _own_id(wanted.message_id), "message_id": wanted.message_id}))
    if wanted.recipient is not None:
        statement = "SELECT message_id FROM recipient_states WHERE recipient = %(recipient)s AND recipient <> ''"
        found.append((statement, {"recipient": normalize(wanted.recipient)}))
    return found


def _pick(walk: Walk, wanted: Wanted) -> None:
    if wanted.tenant is not None:
        walk.pick("m.tenant = %(tenant)s", tenant=wanted.tenant)
    if wanted.source is not None:
        walk.pick("m.source_id = (SELECT id FROM sources WHERE slug = %(source)s)", source=wanted.source)
    if wanted.status is not None:
        of_recipient = "AND e.recipient = %(recipient)s" if wanted.recipient is not None else ""
        states = f"({EFFECTIVE} AND s.message_id = m.id) AS e"
        walk.pick(f"EXISTS (SELECT FROM {states} WHERE e.status = %(status)s {of_recipient})", status=wanted.status)


def _own_id(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _recipients(connection: Connection, ids: Sequence[UUID]) -> Mapping[UUID, Sequence[RecipientFacts]]:
    rows = connection.exec_driver_sql(
        f"SELECT * FROM ({EFFECTIVE} AND s.message_id = ANY(%(ids)s)) AS e ORDER BY recipient NULLS FIRST",
        {"ids": list(ids)},
    ).mappings()
    found: dict[UUID, list[RecipientFacts]] = defaultdict(list)
    for row in rows:
        found[row["message_id"]].append(_facts(row))
    return found


_PLAIN = frozenset(entry.name for entry in fields(RecipientFacts)) - {
    "classification_code", "opened", "clicked", "read", "complained", "unsubscribed"
}  # fmt: skip


def _facts(row: RowMapping) -> RecipientFacts:
    word = row["classification"]
    ended, begun = row["unsubscribed_at"], row["subscribed_at"]
    return RecipientFacts(
        **{name: row[name] for name in _PLAIN},
        classification_code=None if word is None else classification.code(Classification(word)),
        opened=row["opens"] > 0,
        clicked=row["clicks"] > 0,
        read=row["reads"] > 0,
        complained=row["complained_at"] is not None,
        unsubscribed=ended is not None and (begun is None or ended >= begun),
    )
