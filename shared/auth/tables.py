"""The tables of auth. Migrations create them; a test proves that both agree."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Identity,
    Index,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from shared.postgres.metadata import Timestamp, metadata

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("name", Text, nullable=False),
    Column("prefix", Text, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Column("scope", Text, nullable=False),
    Column("created_at", Timestamp, nullable=False, server_default=text("now()")),
    Column("last_used_at", Timestamp),
    Column("revoked_at", Timestamp),
    Column("tenant", Text),
    UniqueConstraint("hash", name="api_keys_hash_key"),
)

audit_log = Table(
    "audit_log",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("at", Timestamp, nullable=False),
    Column("actor", Text, nullable=False),
    Column("tenant", Text),
    Column("action", Text, nullable=False),
    Column("object", Text, nullable=False),
    Column("details", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
)

idempotent_answers = Table(
    "idempotent_answers",
    metadata,
    Column("key", Uuid, primary_key=True),
    Column("request_hash", LargeBinary, nullable=False),
    Column("status_code", SmallInteger),
    Column("headers", JSON),
    Column("body", LargeBinary),
    Column("created_at", Timestamp, nullable=False),
    Index("idempotent_answers_by_age", "created_at"),
)

console_users = Table(
    "console_users",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("email", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("tenant", Text),
    Column("password_hash", Text, nullable=False),
    Column("created_at", Timestamp, nullable=False, server_default=text("now()")),
    Column("last_sign_in_at", Timestamp),
    Column("disabled_at", Timestamp),
    UniqueConstraint("email", name="console_users_email_key"),
)

# A session belongs to a user, to an API key, or to TIDINGS_ADMIN_KEY if both are null.
console_sessions = Table(
    "console_sessions",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("hash", LargeBinary, nullable=False),
    Column("user_id", BigInteger),
    Column("key_id", BigInteger),
    Column("is_link", Boolean, nullable=False, doc="a one-time link that has not been used"),
    Column("created_at", Timestamp, nullable=False),
    Column("expires_at", Timestamp, nullable=False),
    UniqueConstraint("hash", name="console_sessions_hash_key"),
    Index("console_sessions_by_end", "expires_at"),
)
