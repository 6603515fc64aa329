"""What is let go of besides partitions: keys, refusals and old messages that nothing speaks of any more."""

from datetime import datetime

from sqlalchemy import Connection

from shared import ids

_STATEMENTS = {
    "receipt_keys": "DELETE FROM receipt_keys WHERE expires_at < %(oldest)s",
    "event_keys": "DELETE FROM event_keys WHERE event_id < %(oldest_id)s",
    "refusals": "DELETE FROM refusals WHERE id < %(oldest_id)s",
    "parked_receipts": "DELETE FROM parked_receipts WHERE receipt_id < %(oldest_id)s",
}


def trim(connection: Connection, oldest: datetime) -> dict[str, int]:
    """Delete what is older than retention; return how many rows of each table went."""
    values = {"oldest": oldest, "oldest_id": ids.first_at(oldest)}
    return {table: connection.exec_driver_sql(statement, values).rowcount for table, statement in _STATEMENTS.items()}
