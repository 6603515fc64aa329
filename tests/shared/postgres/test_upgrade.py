"""What an earlier version has stored is found, and recognized, after the migrations that change keys and indexes."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from msgspec.structs import asdict
from sqlalchemy import Connection, Engine, event

from shared import ids
from shared.erasure import store as erasure
from shared.messages import event_queries, queries, rebuild
from shared.messages import store as state
from shared.messages.queries import MessageFilter
from shared.messages.store import NewEvent
from shared.postgres import engine, migrate, partitions
from shared.providers.registry import PROVIDERS
from shared.providers.webhooks.base import SourceSettings
from shared.receipts import normalize
from shared.receipts import queries as receipt_queries
from shared.receipts import store as receipts
from shared.sources import store as sources
from shared.sources.source import Source

MIGRATIONS = Path(migrate.__file__).parent / "migrations"
NOW = datetime.now(UTC)
THEN = NOW - timedelta(days=3)
ANN = "ann@example.net"
PROCESSED = {
    "customer_handle": "acct",
    "event": "processed",
    "request_id": "r1",
    "smtp_id": "<m1@shop.example>",
    "recipients": [ANN],
    "timestamp": int(THEN.timestamp()),
}
FIELDS = {"request_id": "r1", "smtp_id": "m1@shop.example", "tenant": "acct"}
DELIVERED = PROCESSED | {"event": "delivered", "timestamp": int(NOW.timestamp())}

# As the version before 0012 stored them: the id of a message is its key.
STORED_BEFORE = (
    "INSERT INTO event_keys (key, event_id) VALUES (%(key)s, %(id)s)",
    (
        "INSERT INTO messages (id, source_id, created_at, first_event_at, request_id, smtp_id)"
        " VALUES (%(message_key)s, 1, %(received_at)s, %(occurred_at)s, %(request_id)s, %(smtp_id)s)"
    ),
    (
        "INSERT INTO events (id, receipt_id, source_id, key, type, message_id, recipient, occurred_at, received_at,"
        " data, provider_object) VALUES (%(id)s, %(receipt_id)s, 1, %(key)s, %(type)s, %(message_key)s, %(recipient)s,"
        " %(occurred_at)s, %(received_at)s, %(data)s, %(provider_object)s)"
    ),
    (
        "INSERT INTO recipient_states (message_id, recipient, source_id, smtp_id, weight, timed, status_at, rank,"
        " status_key, status, status_event_id, updated_at) VALUES (%(message_key)s, %(recipient)s, 1, %(smtp_id)s,"
        " %(weight)s, true, %(occurred_at)s, %(rank)s, %(key)s, %(status)s, %(id)s, %(received_at)s)"
    ),
)


def parse(item: dict[str, Any], at: datetime) -> list[NewEvent]:
    adapter = PROVIDERS["mailchannels"]
    source = Source(
        id=1,
        slug="main",
        version=1,
        provider=adapter,
        credentials=adapter.read_credentials({"customer_handles": ["acct"]}, {}, SourceSettings()),
        settings=SourceSettings(),
    )
    return normalize.parse_events(source, ids.receipt_id(at), at, json.dumps([item]).encode())


@pytest.fixture
def old_event() -> NewEvent:
    """The event that is stored before the update."""
    (event,) = parse(PROCESSED, THEN)
    return event


def migrate_to(connection: Connection, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


@pytest.fixture
def upgraded(empty_database: str, old_event: NewEvent) -> Iterator[Engine]:
    """A database with an event of the version before 0012, migrated to this version."""
    made = engine.create_engine(empty_database, application="test")
    with made.begin() as connection:
        migrate_to(connection, "0011")
        partitions.create_missing(connection)
        sources.create(connection, slug="main", provider="mailchannels", credentials=b"", settings={})
        for statement in STORED_BEFORE:
            connection.exec_driver_sql(statement, asdict(old_event) | {"data": json.dumps(FIELDS)})
    migrate.upgrade(empty_database)
    yield made
    made.dispose()


def test_a_repetition_of_an_event_stored_before_counts_once(upgraded: Engine) -> None:
    with upgraded.begin() as connection:
        assert state.apply(connection, parse(PROCESSED, NOW)) == (0, 0)
        assert state.apply(connection, parse(DELIVERED, NOW)) == (1, 1)
        assert state.apply(connection, parse(DELIVERED, NOW)) == (0, 0)


def test_a_later_event_belongs_to_the_message_stored_before(upgraded: Engine, old_event: NewEvent) -> None:
    with upgraded.begin() as connection:
        state.apply(connection, parse(DELIVERED, NOW))
        (message,) = queries.list_messages(connection, MessageFilter()).items
        assert message.id.hex == old_event.message_key
        assert [recipient.status for recipient in message.recipients] == ["delivered"]
        assert len(event_queries.list_timeline(connection, message.id).items) == 2


def test_events_have_their_fields_whether_stored_before_or_with_those_of_the_message(upgraded: Engine) -> None:
    lesser = DELIVERED | {"event": "open", "smtp_id": "<m0@shop.example>", "timestamp": int(NOW.timestamp()) + 1}
    with upgraded.begin() as connection:
        state.apply(connection, parse(DELIVERED, NOW))
        state.apply(connection, parse(lesser, NOW))
        (message,) = queries.list_messages(connection, MessageFilter()).items
        found = event_queries.list_timeline(connection, message.id).items
        stored = connection.exec_driver_sql("SELECT data FROM events ORDER BY occurred_at").scalars().all()
        of_tenant = event_queries.list_timeline(connection, message.id, tenant="acct").items
        of_mail = event_queries.list_events(connection, smtp_id="m0@shop.example", message_id=str(message.id)).items
    assert stored == [FIELDS, {}, {"smtp_id": "m0@shop.example"}]
    assert [event.smtp_id for event in found] == ["m1@shop.example", "m1@shop.example", "m0@shop.example"]
    assert {(event.request_id, event.tenant) for event in found} == {("r1", "acct")}
    assert (message.smtp_id, of_tenant, of_mail) == ("m0@shop.example", found, found[2:])


@pytest.mark.parametrize(
    "wanted", [{"request_id": "r1"}, {"smtp_id": "m1@shop.example"}, {"recipient": ANN}, {"message_id": None}], ids=str
)
def test_messages_stored_before_are_found_beside_new_ones(
    upgraded: Engine, old_event: NewEvent, wanted: dict[str, Any]
) -> None:
    if "message_id" in wanted:
        wanted = {"message_id": old_event.message_key}
    new = DELIVERED | {"request_id": "r2", "smtp_id": "<m2@shop.example>", "recipients": [ANN, "bob@example.net"]}
    with upgraded.begin() as connection:
        state.apply(connection, parse(new, NOW))
        found = queries.list_messages(connection, MessageFilter(**wanted)).items
        assert [message.request_id for message in found] == (["r2", "r1"] if "recipient" in wanted else ["r1"])
        assert len(event_queries.list_events(connection, recipient=ANN).items) == 2
        assert len(erasure.messages_to(connection, ANN, 10)) == 2


def test_new_messages_have_ids_in_the_order_of_time(upgraded: Engine) -> None:
    (event,) = parse(DELIVERED | {"request_id": "r2"}, NOW)
    with upgraded.begin() as connection:
        state.apply(connection, [event])
        (message,) = queries.list_messages(connection, MessageFilter(request_id="r2")).items
    assert (message.id.version, ids.made_at(message.id)) == (7, ids.made_at(event.id))
    assert event.message_key is not None
    assert message.id.hex[-15:] == event.message_key[-15:]


def test_a_receipt_stored_before_can_be_replaced(upgraded: Engine, old_event: NewEvent) -> None:
    with upgraded.begin() as connection:
        assert rebuild.delete_events(connection, old_event.receipt_id) == {old_event.key}
        assert connection.exec_driver_sql("SELECT count(*) FROM event_keys").scalar_one() == 0
        assert rebuild.insert_events(connection, [old_event]) == 1
        assert len(queries.list_messages(connection, MessageFilter()).items) == 1


def test_a_webhook_stored_before_0024_is_shown_and_processed(empty_database: str) -> None:
    made = engine.create_engine(empty_database, application="test")
    receipt_id, body = ids.receipt_id(NOW), json.dumps([PROCESSED]).encode()
    with made.begin() as connection:
        migrate_to(connection, "0020")
        partitions.create_missing(connection)
        sources.create(connection, slug="main", provider="mailchannels", credentials=b"", settings={})
        connection.exec_driver_sql(
            "INSERT INTO receipts (id, source_id, received_at, headers, body)"
            " VALUES (%(id)s, 1, now(), %(h)s, %(body)s)",
            {"id": receipt_id, "h": '{"x-old": "1"}', "body": body},
        )
        connection.exec_driver_sql(
            "INSERT INTO pending_receipts (receipt_id, source_id, bytes, available_at) VALUES (%(id)s, 1, 9, now())",
            {"id": receipt_id},
        )
    migrate.upgrade(empty_database)
    with made.begin() as connection:
        facts = receipt_queries.get(connection, receipt_id)
        assert facts is not None
        assert (facts.headers, facts.bytes, facts.state) == ({"x-old": "1"}, len(body), "pending")
        (claimed,) = receipts.claim(connection, limit=9, max_bytes=9999, token=receipt_id, lease_seconds=9)
        assert claimed.body == body
    made.dispose()


def test_the_expected_revision_is_the_newest_migration_s_and_a_database_without_tables_has_none(
    empty_database: str,
) -> None:
    made = engine.create_engine(empty_database, application="test")
    with made.begin() as connection:
        assert migrate.revision(connection) is None
        migrate_to(connection, "head")
        assert migrate.revision(connection) == migrate.head()
    made.dispose()
    assert ScriptDirectory(str(MIGRATIONS)).get_heads() == [migrate.head()]


def test_nothing_waits_for_the_indexes_of_this_version(empty_database: str) -> None:
    """All migrations are one transaction, whose locks last until its end."""
    made = engine.create_engine(empty_database, application="test")
    held: list[tuple[str, str]] = []

    @event.listens_for(made, "before_cursor_execute")
    def look(_connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("CREATE INDEX"):
            cursor.execute(
                "SELECT relname FROM pg_locks JOIN pg_class ON pg_class.oid = relation"
                " WHERE pid = pg_backend_pid() AND mode = 'AccessExclusiveLock' AND relname IN ('receipts', 'messages')"
            )
            held.extend((statement, row[0]) for row in cursor.fetchall())

    with made.begin() as connection:
        migrate_to(connection, "0020")
    held.clear()
    with made.begin() as connection:
        migrate_to(connection, "head")
    made.dispose()
    assert held == []
