"""The tables of deliveries. Migrations create them; a test proves that both agree."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ColumnElement,
    Index,
    Integer,
    SmallInteger,
    Table,
    Text,
    Uuid,
    literal_column,
    text,
)

from shared.postgres.metadata import Timestamp, Xid8, metadata

FAILED: ColumnElement[bool] = literal_column("(last_http_status < 200 OR last_http_status >= 300)", Boolean)
"""The latest attempt had no success; NULL: there was none."""
http_class: ColumnElement[int] = literal_column("last_http_status / 100", Integer)
"""The first digit of the status code; 0: no response."""
_UNDELIVERED = text("status IN ('retry', 'dead', 'quarantined')")

fan_out = Table(
    "fan_out",
    metadata,
    Column("single", Boolean, primary_key=True, server_default=text("true")),
    Column("transaction", Xid8, nullable=False),
    Column("id", BigInteger, nullable=False),
    CheckConstraint("single", name="fan_out_single_check"),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", Uuid, primary_key=True, doc="UUIDv7"),
    Column("subscription_id", Uuid, nullable=False),
    Column("change_transaction", Xid8, nullable=False),
    Column("change_id", BigInteger, nullable=False),
    Column("type", Text, nullable=False),
    Column("message_id", Uuid),
    Column("status", Text, nullable=False),
    Column("attempts", SmallInteger, nullable=False, server_default=text("0")),
    Column("last_http_status", SmallInteger, doc="0: no response"),
    Column("last_error", Text),
    Column("next_attempt_at", Timestamp),
    Column("delivered_at", Timestamp),
    Column("dead_at", Timestamp),
    Column("created_at", Timestamp, nullable=False),
    CheckConstraint(
        "status IN ('pending', 'delivered', 'retry', 'dead', 'quarantined')", name="deliveries_status_check"
    ),
    postgresql_partition_by="RANGE (id)",
)
Index(
    "deliveries_of_subscription", deliveries.c.subscription_id, deliveries.c.change_transaction, deliveries.c.change_id
)
Index(
    "deliveries_of_message",
    deliveries.c.message_id,
    deliveries.c.id,
    postgresql_where=deliveries.c.message_id.is_not(None),
)
Index("deliveries_dead", deliveries.c.dead_at, postgresql_where=text("status = 'dead'"))
Index("deliveries_undelivered", deliveries.c.status, deliveries.c.id, postgresql_where=_UNDELIVERED)
Index(
    "deliveries_undelivered_to",
    deliveries.c.subscription_id,
    deliveries.c.status,
    deliveries.c.id,
    postgresql_where=_UNDELIVERED,
)

Index("deliveries_failed_by_status", deliveries.c.last_http_status, deliveries.c.id, postgresql_where=FAILED)
Index("deliveries_failed_by_class", text("(last_http_status / 100)"), deliveries.c.id, postgresql_where=FAILED)

# The queue: a small table, so that the cost of a claim does not grow with the history of deliveries.
pending_deliveries = Table(
    "pending_deliveries",
    metadata,
    Column("delivery_id", Uuid, primary_key=True),
    Column("subscription_id", Uuid, nullable=False),
    Column("change_transaction", Xid8, nullable=False),
    Column("change_id", BigInteger, nullable=False),
    Column("message_id", Uuid),
    Column("lane", SmallInteger, nullable=False, doc="see `shared.deliveries.store.Lane`"),
    Column("available_at", Timestamp, nullable=False),
    Column(
        "ordered",
        Boolean,
        nullable=False,
        server_default=text("false"),
        doc="later ones of its message wait for it",
    ),
    Column("attempts", SmallInteger, nullable=False, server_default=text("0"), doc="since it was created or replayed"),
    Column(
        "again",
        Boolean,
        nullable=False,
        server_default=text("false"),
        doc="a replay was requested during an attempt",
    ),
    Column(
        "lapses",
        SmallInteger,
        nullable=False,
        server_default=text("0"),
        doc="leases in a row that ran out without an outcome",
    ),
    Column("lease_until", Timestamp),
    Column("lease_token", Uuid),
    postgresql_with={"fillfactor": 70, "autovacuum_vacuum_scale_factor": 0.02, "autovacuum_vacuum_cost_delay": 0},
)
Index(
    "pending_deliveries_due",
    pending_deliveries.c.subscription_id,
    pending_deliveries.c.lane,
    pending_deliveries.c.available_at,
    pending_deliveries.c.change_transaction,
    pending_deliveries.c.change_id,
)
Index(
    "pending_deliveries_in_order",
    pending_deliveries.c.subscription_id,
    pending_deliveries.c.message_id,
    pending_deliveries.c.change_transaction,
    pending_deliveries.c.change_id,
    postgresql_where=text("ordered"),
)

delivery_attempts = Table(
    "delivery_attempts",
    metadata,
    Column("id", Uuid, primary_key=True, doc="UUIDv7"),
    Column("delivery_id", Uuid, nullable=False),
    Column("subscription_id", Uuid, nullable=False),
    Column("number", SmallInteger, nullable=False),
    Column("created_at", Timestamp, nullable=False),
    Column("status", Text, nullable=False),
    Column("http_status", SmallInteger, nullable=False, doc="0: no response"),
    Column("latency_ms", Integer, nullable=False),
    Column("request_capture", JSON, nullable=False),
    Column("response_capture", JSON, nullable=False),
    CheckConstraint("status IN ('success', 'failed')", name="delivery_attempts_status_check"),
    postgresql_partition_by="RANGE (id)",
)
Index("delivery_attempts_of_delivery", delivery_attempts.c.delivery_id, delivery_attempts.c.id)
