"""The tables of counters. Migrations create them; a test proves that both agree."""

from sqlalchemy import BigInteger, Column, Integer, PrimaryKeyConstraint, SmallInteger, Table, Text, Uuid

from shared.postgres.metadata import Timestamp, metadata

minute_counts = Table(
    "minute_counts",
    metadata,
    Column("dimension", Text, nullable=False),
    Column("minute", Timestamp, nullable=False),
    Column("source_id", BigInteger, nullable=False),
    Column("value", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("shard", SmallInteger, nullable=False),
    Column("count", Integer, nullable=False),
    Column("last_event_id", Uuid, nullable=False),
    PrimaryKeyConstraint("dimension", "minute", "source_id", "value", "type", "shard"),
    postgresql_with={"fillfactor": 60, "autovacuum_vacuum_scale_factor": 0.05},
)
