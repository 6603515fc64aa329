"""PostgreSQL: connections, migrations, partitions and keyset pagination."""
