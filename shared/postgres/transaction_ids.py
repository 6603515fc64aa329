"""Transaction ids in the change log, which must keep rising when the database moves to another server.

A dump contains the log, but not the server's transaction counter. Without a correction the new server would give new
changes lower numbers than existing ones, and every cursor would skip them.
"""

from sqlalchemy import Connection

_GREATEST = """
SELECT greatest(
    (SELECT transaction FROM state_changes ORDER BY transaction DESC LIMIT 1),
    (SELECT max(transaction) FROM fan_out),
    (SELECT max(transaction) FROM change_marks),
    (SELECT max(transaction) FROM change_floor),
    (SELECT max(begins) FROM subscriptions)
)
"""

_AHEAD = f"""
SELECT greatest::text::bigint + 1 - pg_snapshot_xmin(pg_current_snapshot())::text::bigint
FROM ({_GREATEST}) AS known (greatest) WHERE greatest > log_beyond()
"""

_NUMBERS = {
    "log_transaction": "pg_current_xact_id()",
    "log_horizon": "pg_snapshot_xmin(pg_current_snapshot())",
    "log_beyond": "pg_snapshot_xmax(pg_current_snapshot())",
}


def continue_numbering(connection: Connection) -> bool:
    """Continue from the greatest id in the log if the server's counter is behind it; return whether it was.

    Nothing else may write at the same time: call it within a migration.
    """
    ahead = connection.exec_driver_sql(_AHEAD).scalar()
    if ahead is None:
        return False
    for name, number in _NUMBERS.items():
        connection.exec_driver_sql(
            f"CREATE OR REPLACE FUNCTION {name}() RETURNS xid8 LANGUAGE sql STABLE"
            f" AS 'SELECT ({number}::text::bigint + {int(ahead)})::text::xid8'"
        )
    return True
