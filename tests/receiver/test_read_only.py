"""A database that answers and refuses to write: providers are asked to try again, and the receiver is not ready."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from sqlalchemy.exc import OperationalError

from shared.postgres import engine
from tests.receiver.test_app import BASIC, BODY, CLOUDMAILIN
from tests.support.api_server import served
from tests.support.cluster import eventually


@contextmanager
def read_only(database_url: str) -> Iterator[None]:
    """End all sessions of the database; new ones cannot write, as after a failover to a standby."""
    with psycopg.connect(database_url, autocommit=True, options="-c default_transaction_read_only=off") as connection:
        name = connection.info.dbname
        connection.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        try:
            yield
        finally:
            connection.execute(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')


@pytest.fixture(autouse=True)
def _source(receiver) -> None:
    receiver.add_source("cm", "cloudmailin", CLOUDMAILIN)


def post(receiver):
    return receiver.client.post("/webhooks/cm", data=BODY, headers=BASIC).status_code


def test_the_receiver_asks_to_retry_is_not_ready_and_recovers_by_itself(receiver, database_url) -> None:
    assert post(receiver) == 200
    with read_only(database_url):
        assert post(receiver) == 503
        assert eventually(lambda: receiver.client.get("/readyz").status_code == 503)
    assert eventually(lambda: receiver.client.get("/readyz").status_code == 200)
    assert receiver.client.post("/webhooks/cm", data=b"2" + BODY, headers=BASIC).status_code == 200


def test_readyz_finds_it_without_any_webhook(receiver, database_url) -> None:
    with read_only(database_url):
        assert eventually(lambda: receiver.client.get("/readyz").status_code == 503)


def test_a_full_disk_makes_it_not_ready_although_a_commit_has_room(receiver) -> None:
    """The trigger raises the error of a full disk: the table's file cannot be extended, the log can be written."""
    with receiver.database.begin() as connection:
        connection.exec_driver_sql(
            "CREATE FUNCTION is_full() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE 'no space left on device' USING ERRCODE = 'disk_full'; END $$"
        )
        connection.exec_driver_sql(
            "CREATE TRIGGER full_disk BEFORE INSERT ON pending_receipts EXECUTE FUNCTION is_full()"
        )
    try:
        assert post(receiver) == 503
        assert receiver.client.get("/readyz").status_code == 503
    finally:
        with receiver.database.begin() as connection:
            connection.exec_driver_sql("DROP TRIGGER full_disk ON pending_receipts")
            connection.exec_driver_sql("DROP FUNCTION is_full")
    assert post(receiver) == 200
    assert receiver.client.get("/readyz").status_code == 200


def test_readyz_commits_at_most_once_a_second(receiver) -> None:
    def transaction() -> int:
        return int(receiver.rows("SELECT pg_snapshot_xmax(pg_current_snapshot())::text")[0][0])

    before, began = transaction(), time.monotonic()
    assert {receiver.client.get("/readyz").status_code for _ in range(300)} == {200}
    assert transaction() - before <= 1 + (time.monotonic() - began)


def test_the_api_answers_503_with_retry_after_and_goes_on_reading(database_url) -> None:
    with served(database_url) as api, read_only(database_url):
        document = b'{"slug": "new", "provider": "cloudmailin", "credentials": {"username": "u", "password": "p"}}'
        response, _ = api.call("POST", "/v1/sources", document, {"Content-Type": "application/json"})
        assert response.status == 503
        assert int(response.headers["Retry-After"]) > 0
        assert api.call("GET", "/v1/sources")[0].status == 200


def test_a_connection_that_cannot_write_is_closed(database_url) -> None:
    made = engine.create_engine(database_url, application="test", pool_size=1)
    with (
        read_only(database_url),
        pytest.raises(OperationalError, match="read-only") as raised,
        made.begin() as connection,
    ):
        connection.exec_driver_sql("CREATE TABLE t (a int)")
    assert raised.value.connection_invalidated
    with made.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE t (a int)")
        connection.exec_driver_sql("DROP TABLE t")
    made.dispose()
