"""The tables of sources. Migrations create them; a test proves that both agree."""

from sqlalchemy import (
    BigInteger,
    Column,
    Identity,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from shared.postgres.metadata import Timestamp, metadata

sources = Table(
    "sources",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("slug", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("credentials", LargeBinary, nullable=False),
    Column("settings", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    Column("fetched_keys", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    Column("version", Integer, nullable=False, server_default=text("1")),
    Column("created_at", Timestamp, nullable=False, server_default=text("now()")),
    Column("updated_at", Timestamp, nullable=False, server_default=text("now()")),
    Column("deleted_at", Timestamp),
    UniqueConstraint("slug", name="sources_slug_key"),
)

source_queues = Table(
    "source_queues",
    metadata,
    Column("source_id", BigInteger, primary_key=True, autoincrement=False),
    Column("next_at", Timestamp, nullable=False),
    Column("polled_at", Timestamp),
    Column("stored", BigInteger, nullable=False, server_default=text("0")),
    Column("refused", BigInteger, nullable=False, server_default=text("0")),
    Column("failures", Integer, nullable=False, server_default=text("0")),
    Column("error", Text),
)
