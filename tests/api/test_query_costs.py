"""The cost of a query does not grow with history: each uses an index, whatever the planner estimates."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection

from shared import ids
from shared.messages import event_queries, search_store
from shared.messages import queries as messages
from shared.messages.queries import MessageFilter
from shared.postgres.pagination import Span
from shared.receipts import queries as receipt_queries
from shared.vocabulary import ReceiptState, Status
from tests.support.system import System

HISTORY = 20_000
MUCH = 1_000
LATE = datetime.now(UTC)


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/nothing-of-this-kind"])
def test_an_answer_says_how_long_it_took_here(system: System, path: str) -> None:
    began = time.perf_counter()
    answer = system.call("GET", path)
    whole = 1000 * (time.perf_counter() - began)
    name, _, duration = answer.headers["Server-Timing"].partition(";dur=")
    assert name == "app"
    assert 0 < float(duration) <= whole + 0.1, "rounded to a tenth of a millisecond"


@pytest.fixture(scope="module")
def crowded(shared_system: System) -> System:
    """A Tidings with a history: each message has a recipient and an event; three recipients have the most."""
    shared_system.create_source()
    shared_system.execute(
        "INSERT INTO messages (id, source_id, created_at, first_event_at, request_id, sender)"
        " SELECT ('00000000-0000-0000-0000-' || lpad(to_hex(n), 12, '0'))::uuid, 1, now() - n * interval '1 second',"
        " now(), n::text, 's' || n FROM generate_series(1, %(history)s) AS n",
        history=HISTORY,
    )
    shared_system.execute(
        "INSERT INTO recipient_states (message_id, recipient, source_id, smtp_id, weight, status_at, rank, status_key,"
        " status, updated_at) SELECT id, CASE WHEN request_id::int > 100 THEN 'often' || request_id::int %% 3"
        " ELSE 'r' || request_id END, 1, 'm' || request_id, 2, now(), 1, id, 'delivered', now() FROM messages"
    )
    shared_system.execute(
        "INSERT INTO events (id, receipt_id, source_id, key, type, message_id, recipient, occurred_at, received_at,"
        " data, provider_object) SELECT overlay(%(first)s::text placing right(message_id::text, 12) from 25)::uuid,"
        " %(first)s::uuid, 1, message_id, 'delivered', message_id, recipient, now(), now(), '{}', '{}'"
        " FROM recipient_states",
        first=str(UUID(int=ids.first_at(LATE).int | 7 << 76 | 2 << 62)),
    )
    shared_system.execute(
        "UPDATE recipient_states SET recipient = 'r7@rare.example' WHERE message_id = %(message_id)s",
        message_id=str(UUID(int=9)),
    )
    with shared_system.engine.begin() as connection:
        while search_store.index_queued(connection, least=1):
            pass
    shared_system.execute("ANALYZE messages, recipient_states, events")
    return shared_system


LOOKUPS: dict[str, Callable[[Connection], Any]] = {
    "newest messages": lambda c: messages.list_messages(c, MessageFilter()),
    "request id": lambda c: messages.list_messages(c, MessageFilter(request_id="7")),
    "unknown request id": lambda c: messages.list_messages(c, MessageFilter(request_id="x")),
    "smtp id": lambda c: messages.list_messages(c, MessageFilter(smtp_id="<m7>")),
    "message id": lambda c: messages.list_messages(c, MessageFilter(message_id=str(uuid4()))),
    "provider's id": lambda c: messages.list_messages(c, MessageFilter(message_id="x")),
    "recipient": lambda c: messages.list_messages(c, MessageFilter(recipient="r7")),
    "unknown recipient": lambda c: messages.list_messages(c, MessageFilter(recipient="x")),
    "recipient and status": lambda c: messages.list_messages(c, MessageFilter(recipient="r7", status=Status.BOUNCED)),
    "sender": lambda c: messages.list_messages(c, MessageFilter(sender="s7")),
    "unknown sender": lambda c: messages.list_messages(c, MessageFilter(sender="x")),
    "time": lambda c: messages.list_messages(c, MessageFilter(since=LATE)),
    "timeline": lambda c: event_queries.list_timeline(c, UUID(int=7)),
    "newest events": event_queries.list_events,
    "events of a recipient": lambda c: event_queries.list_events(c, recipient="r7"),
    "events of an unknown recipient": lambda c: event_queries.list_events(c, recipient="x"),
    "events of a request": lambda c: event_queries.list_events(c, request_id="7"),
    "events of an unknown request": lambda c: event_queries.list_events(c, request_id="x"),
    "events by Message-Id": lambda c: event_queries.list_events(c, smtp_id="m7"),
    "events of a message": lambda c: event_queries.list_events(c, message_id=str(UUID(int=7))),
    "events of an unknown message": lambda c: event_queries.list_events(c, message_id="x"),
    "events of a rare domain": lambda c: event_queries.list_events(c, domain="rare.example"),
    "events of an unknown domain": lambda c: event_queries.list_events(c, domain="unknown.example"),
    "events of a time": lambda c: event_queries.list_events(c, span=Span(until=datetime(2026, 1, 1, tzinfo=UTC))),
    "events of a receipt": lambda c: receipt_queries.list_event_ids(c, ids.receipt_id(LATE)),
    "newest receipts": receipt_queries.list_receipts,
    "dead receipts": lambda c: receipt_queries.list_receipts(c, state=ReceiptState.DEAD),
}


def cost(system: System, question: Callable[[Connection], Any]) -> int:
    """How many rows are read to answer it."""
    with system.engine.connect() as connection:
        before = rows_read(connection)
        question(connection)
        return rows_read(connection) - before


def rows_read(connection: Connection) -> int:
    """Rows that this connection has read and not yet reported."""
    return int(
        connection.exec_driver_sql(
            "SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) FROM pg_stat_xact_user_tables"
        ).scalar_one()
    )


@pytest.mark.parametrize("name", LOOKUPS)
def test_a_question_reads_little(crowded: System, name: str) -> None:
    assert cost(crowded, LOOKUPS[name]) < MUCH


def test_the_measure_notices_a_walk_through_everything(crowded: System) -> None:
    assert cost(crowded, lambda c: messages.list_messages(c, MessageFilter(status=Status.BOUNCED))) > MUCH
