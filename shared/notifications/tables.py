"""The tables of notifications. Migrations create them; a test proves that both agree."""

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    Column,
    Identity,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)

from shared.postgres.metadata import Timestamp, metadata

alert_channels = Table(
    "alert_channels",
    metadata,
    Column("name", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("target", LargeBinary, nullable=False),
    Column("least_severity", Text, nullable=False),
    Column("created_at", Timestamp, nullable=False),
    Column("updated_at", Timestamp, nullable=False),
    Column("told_at", Timestamp),
    Column("failures", Integer, nullable=False, server_default=text("0")),
    Column("failing_since", Timestamp),
    Column("last_error", Text),
    Column("rests_until", Timestamp),
    Column("lease_until", Timestamp),
    Column("lease_token", Uuid),
    Column("sources", ARRAY(Text), doc="NULL: alerts about any source"),
    Column("tenants", ARRAY(Text), doc="NULL: alerts about any tenant"),
    Column("rules", ARRAY(Text), doc="NULL: alerts of any rule"),
    postgresql_with={"fillfactor": 70},
)

alert_notices = Table(
    "alert_notices",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("channel", Text, nullable=False),
    Column("step_id", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", SmallInteger, nullable=False, server_default=text("0")),
    Column("enqueued_at", Timestamp, nullable=False),
    Column("available_at", Timestamp, nullable=False),
    Column("telling", Uuid),
    Column("last_error", Text),
    Column("sent_at", Timestamp),
    CheckConstraint("state IN ('pending', 'sent', 'dead')", name="alert_notices_state_check"),
    UniqueConstraint("channel", "step_id", name="alert_notices_channel_step_id_key"),
    Index("alert_notices_by_time", "enqueued_at"),
    Index("alert_notices_of_step", "step_id"),
    Index("alert_notices_pending", "channel", "available_at", "id", postgresql_where=text("state = 'pending'")),
    postgresql_with={"fillfactor": 70},
)
