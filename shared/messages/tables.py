"""The tables of messages. Migrations create them; a test proves that both agree."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    Uuid,
    text,
)

from shared.postgres.metadata import Timestamp, metadata

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
    Index(
        "messages_awaited",
        "source_id",
        "submitted_at",
        postgresql_where=text("first_event_at = 'infinity'::timestamp with time zone"),
    ),
    Index("messages_by_provider_id", "provider_message_id", postgresql_where=text("provider_message_id IS NOT NULL")),
    Index("messages_by_request", "request_id", postgresql_where=text("request_id IS NOT NULL")),
    Index("messages_by_sender", "sender", "created_at", postgresql_where=text("sender IS NOT NULL")),
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
    PrimaryKeyConstraint("message_id", "recipient"),
    Index("recipient_states_by_recipient", "recipient", "message_id", postgresql_where=text("recipient <> ''")),
    Index("recipient_states_by_smtp_id", "smtp_id", postgresql_where=text("smtp_id IS NOT NULL")),
    postgresql_with={"fillfactor": 80},
)

events = Table(
    "events",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("receipt_id", Uuid, nullable=False),
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
    Column("provider_object", JSON),  # NULL: it is in event_objects
    Index("events_of_message", "message_id", postgresql_where=text("message_id IS NOT NULL")),
    Index("events_set_aside", "id", postgresql_where=text("type = 'unknown'")),
    postgresql_partition_by="RANGE (id)",
)

# What the events of one provider object share; `id` is that of the first one. An event without a provider object of its
# own belongs to the nearest row at or before it.
event_objects = Table(
    "event_objects",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("data", JSON, nullable=False),
    Column("provider_object", JSON, nullable=False),
    postgresql_partition_by="RANGE (id)",
)

event_keys = Table(
    "event_keys",
    metadata,
    Column("key", Uuid, primary_key=True),
    Column("event_id", Uuid, nullable=False),
)
