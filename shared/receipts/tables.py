"""The tables of receipts. Migrations create them; a test proves that both agree."""

from typing import Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ColumnElement,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    Uuid,
    or_,
    text,
)

from shared.postgres.metadata import Timestamp, metadata

receipts = Table(
    "receipts",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("source_id", BigInteger, nullable=False),
    Column("received_at", Timestamp, nullable=False),
    Column("idempotency_key", Text),
    Column("remote_ip", Text),
    Column("headers", JSON),  # NULL: they are in `content`
    Column("body", LargeBinary),  # NULL: it is in `content`, or an erasure has deleted it
    Column("bytes", Integer, doc="of the body; NULL: stored by an earlier version, or erased"),
    Column("content", LargeBinary, doc="headers and body, compressed (shared.postgres.stored_requests)"),
    postgresql_partition_by="RANGE (id)",
)

BODY_BYTES: Final = "coalesce(bytes, length(body))"
"""SQL: the length of a receipt's body; NULL once it is erased."""

HAS_BODY: Final[ColumnElement[bool]] = or_(receipts.c.body.is_not(None), receipts.c.content.is_not(None))
"""The condition that no erasure has deleted a receipt's body."""

receipt_keys = Table(
    "receipt_keys",
    metadata,
    Column("key", Uuid, primary_key=True),
    Column("receipt_id", Uuid, nullable=False),
    Column("expires_at", Timestamp, nullable=False),
)

pending_receipts = Table(
    "pending_receipts",
    metadata,
    Column("receipt_id", Uuid, primary_key=True),
    Column("source_id", BigInteger, nullable=False),
    Column("bytes", Integer, nullable=False),
    Column("available_at", Timestamp, nullable=False),
    Column("lease_until", Timestamp),
    Column("lease_token", Uuid),
    Column("attempts", SmallInteger, nullable=False, server_default=text("0")),
    Column("reprocess", Boolean, nullable=False, server_default=text("false")),
    Column("last_error", Text),
    Index("pending_receipts_again", "receipt_id", postgresql_where=text("reprocess")),
    Index("pending_receipts_live", "receipt_id", postgresql_where=text("NOT reprocess")),
    postgresql_with={"autovacuum_vacuum_scale_factor": 0.02, "autovacuum_vacuum_cost_delay": 0, "fillfactor": 40},
)

parked_receipts = Table(
    "parked_receipts",
    metadata,
    Column("receipt_id", Uuid, primary_key=True),
    Column("source_id", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("key_id", Text),
    Column("bytes", Integer, nullable=False),
    Column("attempts", SmallInteger, nullable=False, server_default=text("0")),
    Column("reprocess", Boolean, nullable=False, server_default=text("false")),
    Column("available_at", Timestamp, nullable=False),
    Column("parked_at", Timestamp, nullable=False),
    Column("dedup_key", Uuid),  # of an unverified receipt: forgotten once the receipt is verified or rejected
    CheckConstraint("state IN ('unverified', 'rejected', 'dead')", name="parked_receipts_state_check"),
    Index("parked_receipts_dead", "parked_at", postgresql_where=text("(state = 'dead') AND (NOT reprocess)")),
    Index("parked_receipts_of_source", "source_id", "state"),
    Index("parked_receipts_unverified", "source_id", "receipt_id", postgresql_where=text("state = 'unverified'")),
)

# The receipts whose body an erasure has deleted.
erased_receipts = Table(
    "erased_receipts",
    metadata,
    Column("receipt_id", Uuid, primary_key=True),
    Column("erased_at", Timestamp, nullable=False),
)

refusals = Table(
    "refusals",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("source", Text, nullable=False),
    Column("refused_at", Timestamp, nullable=False),
    Column("status_code", SmallInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("remote_ip", Text),
    Column("headers", JSON, nullable=False),
    Column("bytes", Integer, nullable=False),
    Column("count", Integer, nullable=False, server_default=text("1")),
)
