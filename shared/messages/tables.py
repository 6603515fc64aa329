"""The tables of messages. Migrations create them; a test proves that both agree."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    ARRAY,
    JSON,
    BigInteger,
    BindParameter,
    Boolean,
    Column,
    ColumnElement,
    Date,
    Identity,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Select,
    SmallInteger,
    Table,
    Text,
    Uuid,
    case,
    func,
    literal,
    literal_column,
    select,
    text,
    true,
)

from shared.postgres.metadata import Timestamp, metadata

_CREATED_ON = "(created_at AT TIME ZONE 'UTC')::date"

MESSAGE_FIELDS = ("provider_message_id", "request_id", "smtp_id", "sender", "subject", "tenant", "tag", "campaign")
"""Fields of a message that its events may name. Their order is stored (`bit_of`)."""

messages = Table(
    "messages",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("source_id", BigInteger, nullable=False),
    Column("created_at", Timestamp, nullable=False),
    Column("first_event_at", Timestamp, nullable=False),
    Column("provider_message_id", Text),
    Column("request_id", Text),
    Column("smtp_id", Text),
    Column("sender", Text),
    Column("subject", Text),
    Column("tenant", Text),
    Column("tag", Text),
    Column("campaign", Text),
    Column("submitted_at", Timestamp),
    Column("key", Uuid, doc="by which its events name it; NULL: stored by an earlier version, and the id is the key"),
    Column("first_values", JSON, doc="of MESSAGE_FIELDS that have changed: events have these values from here"),
    Index(
        "messages_awaited",
        "source_id",
        "submitted_at",
        postgresql_where=text("first_event_at = 'infinity'::timestamp with time zone"),
    ),
    Index("messages_by_key", text("coalesce(key, id)"), unique=True),
    Index(
        "messages_by_provider_id",
        text(f"({_CREATED_ON})"),
        text("hashtext(provider_message_id)"),
        postgresql_where=text("provider_message_id IS NOT NULL"),
    ),
    Index(
        "messages_by_request",
        text(f"({_CREATED_ON})"),
        text("hashtext(request_id)"),
        postgresql_where=text("request_id IS NOT NULL"),
    ),
    Index("messages_by_sender", text("hashtext(sender)"), "created_at", postgresql_where=text("sender IS NOT NULL")),
    Index("messages_by_time", "created_at", "id"),
    postgresql_with={"fillfactor": 90},
)

recipient_states = Table(
    "recipient_states",
    metadata,
    Column("message_id", Uuid, nullable=False),
    Column("recipient", Text, nullable=False),
    Column("source_id", BigInteger, nullable=False),
    Column("smtp_id", Text),
    Column("weight", SmallInteger, nullable=False),
    Column("status_at", Timestamp, nullable=False),
    Column("timed", Boolean, doc="whether the time is the provider's; NULL: stored by an earlier version"),
    Column("rank", SmallInteger, nullable=False),
    Column("status_key", Uuid, nullable=False),
    Column("status", Text),
    Column("previous_status", Text),
    Column("status_event_id", Uuid),
    Column("classification", Text),
    Column("smtp_status", Text),
    Column("enhanced_code", Text),
    Column("reason", Text),
    Column("opens", Integer, nullable=False, server_default=text("0")),
    Column("clicks", Integer, nullable=False, server_default=text("0")),
    Column("reads", Integer, nullable=False, server_default=text("0")),
    Column("opened_at", Timestamp),
    Column("clicked_at", Timestamp),
    Column("read_at", Timestamp),
    Column("complained_at", Timestamp),
    Column("unsubscribed_at", Timestamp),
    Column("subscribed_at", Timestamp),
    Column("remarks", Integer, nullable=False, server_default=text("0")),
    Column("version", Integer, nullable=False, server_default=text("1")),
    Column("updated_at", Timestamp, nullable=False),
    Column(
        "created_on", Date, nullable=False, server_default=text("'1970-01-01'::date")
    ),  # that: by an earlier version
    PrimaryKeyConstraint("message_id", "recipient"),
    Index(
        "recipient_states_by_recipient",
        "created_on",
        text("hashtext(recipient)"),
        postgresql_where=text("recipient <> ''"),
    ),
    Index(
        "recipient_states_by_smtp_id",
        "created_on",
        text("hashtext(smtp_id)"),
        postgresql_where=text("smtp_id IS NOT NULL"),
    ),
    # Room for new versions: an update on the same page adds nothing to three indexes (decision 75).
    postgresql_with={"fillfactor": 65},
)

events = Table(
    "events",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("receipt_id", Uuid),  # only of an earlier version: the id tells it (`shared.ids.receipt_of`)
    Column("source_id", BigInteger, nullable=False),
    Column("key", Uuid, nullable=False),
    Column("type", Text, nullable=False),
    Column("message_id", Uuid),
    Column("recipient", Text),
    Column("occurred_at", Timestamp, nullable=False),
    Column("received_at", Timestamp, nullable=False),
    Column("classification", Text),
    Column("smtp_status", Text),
    Column("enhanced_code", Text),
    Column("reason", Text),
    Column("data", JSON, nullable=False),
    Column("provider_object", JSON),  # NULL: it is in the receipt's body at this place, in bytes, or in event_objects
    Column("key_minute", Integer, nullable=False, server_default=text("0")),
    Column("object_at", Integer),
    Column("object_length", Integer),
    Column(
        "message_fields", SmallInteger, doc="which fields it has from its message, by `bit_of`; NULL: all are in `data`"
    ),
    Index("events_of_message", "message_id", postgresql_where=text("message_id IS NOT NULL")),
    Index("events_set_aside", "id", postgresql_where=text("type = 'unknown'")),
    Index("events_without_message", "id", postgresql_where=text("message_id IS NULL")),
    postgresql_partition_by="RANGE (id)",
)

# What the events of one provider object share; `id` is that of the first one. An event without a provider object of its
# own belongs to the nearest row at or before it.
event_objects = Table(
    "event_objects",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("data", JSON, nullable=False),
    Column("provider_object", JSON),  # NULL: it is in the receipt's body at this place, in bytes
    Column("object_at", Integer),
    Column("object_length", Integer),
    postgresql_partition_by="RANGE (id)",
)

event_keys = Table(
    "event_keys",
    metadata,
    Column("key", Uuid, nullable=False),
    Column("event_id", Uuid, nullable=False),
    Column("minute", Integer, nullable=False, server_default=text("0")),
    PrimaryKeyConstraint("minute", "key"),
)

# What recipients answered about their mailboxes. The key is a hash of the address, so that nothing is left to erase.
recipient_answers = Table(
    "recipient_answers",
    metadata,
    Column("message_id", Uuid, nullable=False),
    Column("recipient_key", Text, nullable=False),
    Column("place", Text, nullable=False),
    Column("answer", Text, nullable=False),
    Column("answered_at", Timestamp, nullable=False),
    Column("recorded_by", Text, nullable=False),
    PrimaryKeyConstraint("message_id", "recipient_key", "place"),
    Index("recipient_answers_by_time", "answered_at"),
)

# Messages without signatures, in batches. Triggers write it (migration 0016).
search_queue = Table(
    "search_queue",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("message_ids", ARRAY(Uuid), nullable=False),
)

# Signatures of thousands of messages (`shared.messages.search_store`).
search_signatures = Table(
    "search_signatures",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("oldest_at", Timestamp, nullable=False, doc="when the first of its messages became known"),
    Column("newest_at", Timestamp, nullable=False),
    Column("entries", Integer, nullable=False),
    Column("message_ids", LargeBinary, nullable=False, doc="16 bytes each"),
    Column("bits", LargeBinary, nullable=False, doc="for each slot a string of bits, one for each entry"),
    Index("search_signatures_by_time", "newest_at", "id"),
)


def select_by_text(column: Column[str | None], values: Sequence[str] | BindParameter[Any]) -> Select[Any]:
    """Select the rows of `messages` or `recipient_states` with one of these values in an indexed text column.

    The index is by day and hash, so that new rows are all in one part of it. It is read once for each day with rows,
    the last day first.
    """
    table = column.table
    day: ColumnElement[Any] = table.c.created_on if table is recipient_states else literal_column(_CREATED_ON)
    # Literals, not parameters: a generic plan could not use a partial index, or one on an expression.
    is_indexed = column != literal_column("''") if column is recipient_states.c.recipient else column.is_not(None)
    # PostgreSQL 18 could skip through the index by itself.
    last = select(func.max(day).label("day")).where(is_indexed).cte(recursive=True)
    earlier = select(func.max(day)).where(is_indexed, day < last.c.day).scalar_subquery()
    days = last.union_all(select(earlier).where(last.c.day.is_not(None)))
    wanted = (
        func.unnest(values if isinstance(values, BindParameter) else literal(list(values), ARRAY(Text)))
        .table_valued("value")
        .render_derived(name="wanted")
    )
    # OFFSET 0 keeps the condition inside, so that each day and value is looked up by the index.
    found = (
        select(table)
        .where(
            is_indexed,
            day == days.c.day,
            func.hashtext(column) == func.hashtext(wanted.c.value),
            column == wanted.c.value,
        )
        .correlate(days, wanted)
        .offset(0)
        .lateral()
    )
    return select(found).select_from(days.join(wanted, true()).join(found, true()))


def bit_of(name: str) -> int:
    """Return the bit of one of MESSAGE_FIELDS in `events.message_fields`."""
    return 1 << MESSAGE_FIELDS.index(name)


def shared_value(name: str) -> ColumnElement[str | None]:
    """Return the value of one of MESSAGE_FIELDS that events have from a row of `messages`."""
    return func.coalesce(messages.c.first_values[name].as_string(), messages.c[name])


def value_of_event(rows: Any, name: str) -> ColumnElement[str | None]:
    """Return the value that rows of `events` have for one of MESSAGE_FIELDS; NULL if they do not name it."""
    of_message = select(shared_value(name)).where(messages.c.id == rows.c.message_id).scalar_subquery()
    return case((rows.c.message_fields.bitwise_and(bit_of(name)) != 0, of_message), else_=rows.c.data[name].as_string())
