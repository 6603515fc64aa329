"""Users and sessions of the console."""

from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    """Create the tables. A session belongs to a user, to an API key, or to TIDINGS_ADMIN_KEY if both are NULL."""
    op.execute(
        """
        CREATE TABLE console_users (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            email text NOT NULL,
            role text NOT NULL,
            tenant text,
            password_hash text NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            last_sign_in_at timestamptz,
            disabled_at timestamptz,
            CONSTRAINT console_users_email_key UNIQUE (email)
        )
        """
    )
    op.execute(
        """
        CREATE TABLE console_sessions (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            hash bytea NOT NULL,
            user_id bigint,
            key_id bigint,
            is_link boolean NOT NULL,
            created_at timestamptz NOT NULL,
            expires_at timestamptz NOT NULL,
            CONSTRAINT console_sessions_hash_key UNIQUE (hash)
        )
        """
    )
    op.execute("CREATE INDEX console_sessions_by_end ON console_sessions (expires_at)")
