"""Settings of every connection to the database."""

from datetime import UTC, datetime

import psycopg
import pytest
from sqlalchemy.exc import DBAPIError, OperationalError

from shared.postgres import engine


def test_an_error_does_not_repeat_the_values_that_were_sent(database_url: str) -> None:
    database = engine.create_engine(database_url, application="test")
    with database.connect() as connection, pytest.raises(DBAPIError) as caught:
        connection.exec_driver_sql("SELECT 1 / 0, %(body)s", {"body": "for nobody's log"})
    database.dispose()
    assert "division by zero" in str(caught.value)
    assert "for nobody's log" not in str(caught.value)


@pytest.mark.parametrize(
    ("statement", "sentence"),
    [
        ("SELECT * FROM nowhere", 'has the schema of another version: relation "nowhere" does not exist'),
        ("SELECT nothing FROM sources", "has the schema of another version"),
        ("SELECT nothing()", "has the schema of another version"),
        ("CREATE ROLE nobody; SET LOCAL ROLE nobody; SELECT * FROM sources", "lacks a right: permission denied"),
        ("SET LOCAL statement_timeout = 1; SELECT pg_sleep(1)", "failed: canceling statement"),
    ],
)
def test_what_is_no_fault_of_a_statement_is_an_operational_error(
    database_url: str, statement: str, sentence: str
) -> None:
    database = engine.create_engine(database_url, application="test")
    *before, last = statement.split("; ")
    with database.connect() as connection:
        for one in before:
            connection.exec_driver_sql(one)
        with pytest.raises(OperationalError) as caught:
            connection.exec_driver_sql(last)
    assert sentence in engine.explain(caught.value)
    with database.connect() as connection:
        assert connection.exec_driver_sql("SELECT 1").scalar() == 1
    database.dispose()


def test_a_migrated_column_costs_a_prepared_statement_one_connection(database_url: str) -> None:
    database = engine.create_engine(database_url, application="test", pool_size=1)
    with database.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE migrated AS SELECT 1 AS number")
    for _ in range(4):  # prepared at the third time
        with database.begin() as connection:
            connection.exec_driver_sql("SELECT number FROM migrated")
    other = engine.create_engine(database_url, application="test")
    with other.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE migrated ALTER number TYPE bigint")
    other.dispose()
    with database.connect() as connection, pytest.raises(OperationalError):
        connection.exec_driver_sql("SELECT number FROM migrated")
    with database.begin() as connection:
        assert connection.exec_driver_sql("SELECT number FROM migrated").scalar() == 1
        connection.exec_driver_sql("DROP TABLE migrated")
    database.dispose()


def test_defaults_of_the_database_and_the_environment_have_no_effect(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    defaults = {
        "client_encoding": "LATIN1",
        "datestyle": "German",
        "default_transaction_isolation": "serializable",
        "idle_session_timeout": "1s",
        "standard_conforming_strings": "off",
        "timezone": "Asia/Kolkata",
    }
    with psycopg.connect(database_url, autocommit=True) as connection:
        for name, value in defaults.items():
            connection.execute(f"ALTER DATABASE {connection.info.dbname} SET {name} = '{value}'")
    database = engine.create_engine(database_url, application="test")
    with database.begin() as connection:
        at, text, isolation = connection.exec_driver_sql(
            r"SELECT timestamptz '2026-01-31 12:00Z', %(text)s || '\', current_setting('transaction_isolation')",
            {"text": "☃"},
        ).one()
    database.dispose()
    assert (at, text, isolation) == (datetime(2026, 1, 31, 12, tzinfo=UTC), "☃\\", "read committed")
