"""The tables of subscriptions. Migrations create them; a test proves that both agree."""

from sqlalchemy import (
    ARRAY,
    REAL,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    Uuid,
    text,
)

from shared.postgres.metadata import Timestamp, Xid8, metadata

subscriptions = Table(
    "subscriptions",
    metadata,
    Column("id", Uuid, primary_key=True, doc="UUIDv7"),
    Column("name", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("types", ARRAY(Text), nullable=False, doc="such as message.* and alert.firing"),
    Column("sources", ARRAY(Text), nullable=False, server_default=text("'{}'"), doc="slugs; empty: all"),
    Column("tenant", Text, doc="the tenant that it belongs to; NULL: all"),
    Column("recipient_domains", ARRAY(Text), nullable=False, server_default=text("'{}'"), doc="empty: all"),
    Column("tags", ARRAY(Text), nullable=False, server_default=text("'{}'"), doc="empty: all"),
    Column("headers", LargeBinary, nullable=False, doc="static headers, encrypted"),
    Column("secrets", LargeBinary, nullable=False, doc="signing secrets with their expiry, encrypted"),
    Column("payload", Text, nullable=False),
    Column("timeout_s", SmallInteger, nullable=False),
    Column("retry_schedule", ARRAY(Integer), nullable=False, doc="seconds before each retry"),
    Column("rate_per_second", REAL, doc="NULL: as fast as the endpoint answers"),
    Column("concurrency", SmallInteger, nullable=False),
    Column("ordered", Boolean, nullable=False, doc="changes of one message one after the other"),
    Column("include_body_text", Boolean, nullable=False, server_default=text("false"), doc="of inbound mail"),
    Column("state", Text, nullable=False),
    Column("state_reason", Text),
    Column("state_since", Timestamp, nullable=False),
    Column(
        "begins",
        Xid8,
        nullable=False,
        server_default=text("log_horizon()"),
        doc="changes of earlier transactions are not delivered to it",
    ),
    Column("version", Integer, nullable=False, server_default=text("1")),
    Column("created_at", Timestamp, nullable=False),
    Column("updated_at", Timestamp, nullable=False),
    Column("deleted_at", Timestamp),
    CheckConstraint("payload IN ('tidings', 'cloudevents')", name="subscriptions_payload_check"),
    CheckConstraint("state IN ('active', 'paused', 'disabled')", name="subscriptions_state_check"),
)

# A trigger raises `version` with every change of any subscription, so that a cache knows when to read again.
subscriptions_stamp = Table(
    "subscriptions_stamp",
    metadata,
    Column("single", Boolean, primary_key=True, server_default=text("true")),
    Column("version", BigInteger, nullable=False),
    CheckConstraint("single", name="subscriptions_stamp_single_check"),
)

# A separate table, because every batch of attempts writes it.
endpoint_health = Table(
    "endpoint_health",
    metadata,
    Column("subscription_id", Uuid, primary_key=True),
    Column("failures", Integer, nullable=False, server_default=text("0"), doc="since the last success"),
    Column(
        "strikes",
        Integer,
        nullable=False,
        server_default=text("0"),
        doc="failures of the endpoint in a row: no response, or a retryable one",
    ),
    Column(
        "openings",
        Integer,
        nullable=False,
        server_default=text("0"),
        doc="how many times in a row the circuit breaker has opened",
    ),
    Column("failing_since", Timestamp),
    Column("open_until", Timestamp, doc="no delivery to it is claimed before"),
    Column("paced_until", Timestamp, doc="with a rate: the time until which it is used up"),
    Column("last_success_at", Timestamp),
    Column("last_failure_at", Timestamp),
    Column("last_error", Text),
    postgresql_with={"fillfactor": 60},
)
