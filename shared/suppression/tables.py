"""The tables of suppression. Migrations create them; a test proves that both agree."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Identity,
    Index,
    LargeBinary,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY

from shared.postgres.metadata import Timestamp, metadata

suppressions = Table(
    "suppressions",
    metadata,
    Column("key", Uuid, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("origin", Text, nullable=False),
    Column("id", Uuid, nullable=False),
    Column("address", Text),
    Column("domain", Text),
    Column("types", ARRAY(Text), nullable=False),
    Column("classification", Text),
    Column("source_id", BigInteger),
    Column("since", Timestamp, nullable=False),
    Column("until", Timestamp),
    Column("expired_at", Timestamp),
    Column("evidence_event_id", Uuid),
    Column("evidence_key", Uuid),
    Column("level", SmallInteger, nullable=False, server_default=text("1")),
    Column("actor", Text),
    Column("note", Text),
    Column("created_at", Timestamp, nullable=False),
    PrimaryKeyConstraint("key", "tenant", "reason", "origin"),
    UniqueConstraint("id", name="suppressions_id_key"),
    Index("suppressions_by_end", "until", postgresql_where=text("(until IS NOT NULL) AND (expired_at IS NULL)")),
    Index("suppressions_by_evidence", "evidence_event_id", postgresql_where=text("evidence_event_id IS NOT NULL")),
    Index(
        "suppressions_for_soft_bounces",
        "address",
        postgresql_using="hash",
        postgresql_where=text("(reason = 'soft_bounce') AND (origin = 'event')"),
    ),
)

suppression_history = Table(
    "suppression_history",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("key", Uuid, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("at", Timestamp, nullable=False),
    Column("action", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("types", ARRAY(Text), nullable=False),
    Column("classification", Text),
    Column("origin", Text, nullable=False),
    Column("source_id", BigInteger),
    Column("since", Timestamp),
    Column("until", Timestamp),
    Column("level", SmallInteger, nullable=False),
    Column("event_id", Uuid),
    Column("actor", Text),
    Column("note", Text),
    Index("suppression_history_of_key", "key", "id"),
)

suppression_lifts = Table(
    "suppression_lifts",
    metadata,
    Column("key", Uuid, nullable=False),
    Column("tenant", Text),
    Column("reason", Text),
    Column("by_event", Boolean, nullable=False),
    Column("lifted_at", Timestamp, nullable=False),
    UniqueConstraint(
        "key",
        "tenant",
        "reason",
        "by_event",
        name="suppression_lifts_key_tenant_reason_by_event_key",
        postgresql_nulls_not_distinct=True,
    ),
)

soft_bounces = Table(
    "soft_bounces",
    metadata,
    Column("recipient", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("message_id", Uuid, nullable=False),
    Column("source_id", BigInteger, nullable=False),
    Column("first_at", Timestamp, nullable=False),
    Column("first_key", Uuid, nullable=False),
    Column("first_event_id", Uuid, nullable=False),
    Column("last_at", Timestamp, nullable=False),
    Column("last_key", Uuid, nullable=False),
    Column("last_event_id", Uuid, nullable=False),
    Column("classification", Text),
    PrimaryKeyConstraint("recipient", "tenant", "message_id"),
    Index("soft_bounces_by_time", "first_at", postgresql_using="brin", postgresql_with={"pages_per_range": "32"}),
    postgresql_with={"fillfactor": 80},
)

soft_bounce_checks = Table(
    "soft_bounce_checks",
    metadata,
    Column("due_at", Timestamp, nullable=False),
    Column("id", BigInteger, Identity(always=True), nullable=False),
    Column("recipient", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    PrimaryKeyConstraint("due_at", "id"),
    postgresql_with={"autovacuum_vacuum_scale_factor": 0.02, "autovacuum_vacuum_cost_delay": 0},
)

staged_suppressions = Table(
    "staged_suppressions",
    metadata,
    Column("job_id", Uuid, nullable=False),
    Column("key", Uuid, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("address", Text),
    Column("domain", Text),
    Column("types", ARRAY(Text), nullable=False),
    Column("classification", Text),
    Column("until", Timestamp),
    Column("note", Text),
    PrimaryKeyConstraint("job_id", "key", "tenant", "reason"),
)

peppers = Table(
    "peppers",
    metadata,
    Column("name", Text, primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
)
