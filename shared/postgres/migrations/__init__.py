"""Alembic's migrations, in raw SQL: partitions and partial indexes say it best."""
