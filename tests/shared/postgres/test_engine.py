"""Settings of every connection to the database."""

import pytest
from sqlalchemy.exc import DBAPIError

from shared.postgres import engine


def test_an_error_does_not_repeat_the_values_that_were_sent(database_url: str) -> None:
    database = engine.create_engine(database_url, application="test")
    with database.connect() as connection, pytest.raises(DBAPIError) as caught:
        connection.exec_driver_sql("SELECT 1 / 0, %(body)s", {"body": "for nobody's log"})
    database.dispose()
    assert "division by zero" in str(caught.value)
    assert "for nobody's log" not in str(caught.value)
