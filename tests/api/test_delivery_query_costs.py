"""The cost of a query about deliveries does not grow with history."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection

from shared import ids
from shared.deliveries import queries, recovery
from shared.deliveries.queries import DeliveryFilters
from shared.subscriptions import store as subscriptions
from shared.vocabulary import DeliveryStatus
from tests.api.test_query_costs import cost
from tests.support.system import System

HISTORY = 30_000
MUCH = 1_000
LATE = datetime.now(UTC)
BUSY, QUIET = UUID(int=1), UUID(int=2)


def id_of(number: int) -> UUID:
    """The id of a delivery: the greater its number, the later it was made."""
    return UUID(int=(ids.first_at(LATE).int | 7 << 76 | 2 << 62) + number)


@pytest.fixture(scope="module")
def crowded(shared_system: System) -> System:
    """A Tidings with a history: one subscription has nearly all deliveries, of which nearly all were delivered."""
    with shared_system.engine.begin() as connection:
        for subscription_id in (BUSY, QUIET):
            values = {
                "name": "test", "url": "http://127.0.0.1/", "types": ["*"], "headers": b"", "secrets": b"",
                "payload": "tidings", "timeout_s": 1, "retry_schedule": [], "concurrency": 1, "ordered": False,
            }  # fmt: skip
            subscriptions.create(connection, subscription_id, values, LATE)
    shared_system.execute(
        "INSERT INTO deliveries (id, subscription_id, change_transaction, change_id, type, message_id, status,"
        " created_at, last_http_status) SELECT overlay(%(first)s::text placing lpad(to_hex(n), 12, '0') from 25)::uuid,"
        " CASE WHEN n %% 10000 = 0 THEN %(quiet)s ELSE %(busy)s END::uuid, n::text::xid8, n, 'message.sent',"
        " ('00000000-0000-0000-0000-' || lpad(to_hex(n), 12, '0'))::uuid,"
        " CASE WHEN n %% 5000 = 1 THEN 'dead' WHEN n %% 3000 = 1 THEN 'pending' ELSE 'delivered' END, now(),"
        " CASE WHEN n %% 10 = 1 THEN 503 WHEN n %% 10 = 2 THEN 404 WHEN n %% 10000 = 5 THEN 429"
        " WHEN n %% 10 = 3 THEN 0 ELSE 200 END"
        " FROM generate_series(1, %(history)s) AS n",
        first=str(id_of(0)),
        busy=str(BUSY),
        quiet=str(QUIET),
        history=HISTORY,
    )
    shared_system.execute(
        "INSERT INTO pending_deliveries (delivery_id, subscription_id, change_transaction, change_id, lane,"
        " available_at) SELECT id, subscription_id, change_transaction, change_id, 0, now() FROM deliveries"
        " WHERE status = 'pending'"
    )
    shared_system.execute(
        "INSERT INTO delivery_attempts (id, delivery_id, subscription_id, number, created_at, status, http_status,"
        " latency_ms, request_capture, response_capture)"
        " SELECT id, id, subscription_id, 1, now(), 'success', 200, 1, '{}', '{}' FROM deliveries"
    )
    shared_system.execute("ANALYZE deliveries, pending_deliveries, delivery_attempts, subscriptions")
    return shared_system


def asked(**wanted: Any) -> Callable[[Connection], Any]:
    return lambda connection: queries.get_page(connection, DeliveryFilters(**wanted))


QUESTIONS: dict[str, Callable[[Connection], Any]] = {
    "newest": asked(),
    "dead ones": asked(status=DeliveryStatus.DEAD),
    "ones to be retried, of which there are none": asked(status=DeliveryStatus.RETRY),
    "pending ones": asked(status=DeliveryStatus.PENDING),
    "of a subscription": asked(subscription=BUSY),
    "of a subscription with few": asked(subscription=QUIET),
    "of an unknown subscription": asked(subscription=UUID(int=3)),
    "dead ones of a subscription": asked(subscription=BUSY, status=DeliveryStatus.DEAD),
    "dead ones of a subscription that has none": asked(subscription=QUIET, status=DeliveryStatus.DEAD),
    "of a message": asked(message_id=UUID(int=7)),
    "of an unknown message": asked(message_id=UUID(int=HISTORY + 1)),
    "dead ones of a message": asked(message_id=UUID(int=7), status=DeliveryStatus.DEAD),
    "of another time": asked(until=datetime(2026, 1, 1, tzinfo=UTC)),
    "answered with a status code": asked(status_code="503"),
    "answered with a rare status code": asked(status_code="429"),
    "answered with an unused status code": asked(status_code="418"),
    "answered with a class of status codes": asked(status_code="5xx"),
    "not answered": asked(status_code="network_error"),
    "successful ones": asked(status_code="2xx"),
    "a page of a subscription": lambda c: queries.get_page(
        c, DeliveryFilters(subscription=BUSY), after=("15000", 15_000, id_of(15_000))
    ),
    "dead ones, in their order": lambda c: queries.get_replayable(
        c, DeliveryFilters(status=DeliveryStatus.DEAD), after=None, limit=50
    ),
    "delivered ones of a subscription, in their order": lambda c: queries.get_replayable(
        c, DeliveryFilters(subscription=QUIET, status=DeliveryStatus.DELIVERED), after=None, limit=50
    ),
    "one": lambda c: queries.find(c, id_of(7)),
    "attempts at one": lambda c: queries.get_attempts(c, id_of(7)),
    "what there is of changes": lambda c: recovery.get_existing(
        c, BUSY, [(number, number) for number in range(1, 101)]
    ),
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_question_reads_little(crowded: System, name: str) -> None:
    assert cost(crowded, QUESTIONS[name]) < MUCH


def test_the_questions_have_answers(crowded: System) -> None:
    with crowded.engine.begin() as connection:
        found = {name: question(connection) for name, question in QUESTIONS.items() if "attempts" not in name}
    assert len(found["newest"].items) == 50
    assert len(found["dead ones"].items) == 6
    assert len(found["pending ones"].items) == 8
    assert len(found["of a subscription with few"].items) == 3
    assert len(found["delivered ones of a subscription, in their order"].items) == 3
    assert found["a page of a subscription"].items[0].id == id_of(14_999)
    assert len(found["what there is of changes"]) == 100
