"""The numbers of transactions in the log of changes, which must go on rising when the database moves to another server.

A dump takes the log along, but not the server's own count of transactions. What the new server numbered would stand
far in front of what is there, where nobody who follows the log looks any more.
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


def go_on(connection: Connection) -> bool:
    """Have numbers rise from the greatest that the log knows, if the server's are behind it; whether they were.

    Nothing else may write meanwhile: it is part of a migration.
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
