"""The tables of changes. Migrations create them; a test proves that both agree."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Identity,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from shared.postgres.metadata import Timestamp, Xid8, metadata

state_changes = Table(
    "state_changes",
    metadata,
    Column("id", BigInteger, Identity(always=True), nullable=False),
    Column("transaction", Xid8, nullable=False, server_default=text("log_transaction()")),
    Column("changed_at", Timestamp, nullable=False, server_default=text("now()")),
    Column("type", Text, nullable=False),
    Column("source_id", BigInteger),
    Column("message_id", Uuid),
    Column("recipient", Text),
    Column("event_id", Uuid),
    Column("status", Text),
    Column("previous_status", Text),
    Column("version", Integer),
    Column("data", JSONB),
    PrimaryKeyConstraint("transaction", "id"),
)

change_floor = Table(
    "change_floor",
    metadata,
    Column("single", Boolean, primary_key=True, server_default=text("true")),
    Column("transaction", Xid8, nullable=False),
    Column("id", BigInteger, nullable=False),
    CheckConstraint("single", name="change_floor_single_check"),
)

change_marks = Table(
    "change_marks",
    metadata,
    Column("at", Timestamp, primary_key=True),
    Column("transaction", Xid8, nullable=False),
    Column("id", BigInteger, nullable=False),
)
