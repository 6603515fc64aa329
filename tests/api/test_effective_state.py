"""A recipient's state is the fold of its own events and of those without a recipient, in any order."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID, uuid4

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared import ids
from shared.messages import queries as messages
from shared.messages import store as state
from shared.messages.state import RANKS, STATUS_EFFECTS, Fact, State, fold
from shared.messages.store import NewEvent
from shared.vocabulary import CHANGE_TYPES, EventType, Status
from tests.support.system import BEGIN, System

RECIPIENTS = ["ann@example.net", "bob@example.net"]

events = st.tuples(st.sampled_from(EventType), st.integers(0, 3), st.sampled_from([*RECIPIENTS, None]))
stories = st.lists(st.lists(events, min_size=1, max_size=6), min_size=1, max_size=3)


def facts(batches: Sequence[Sequence[tuple[EventType, int, str | None]]]) -> list[list[tuple[Fact, str | None]]]:
    return [
        [
            (Fact(key=uuid4().hex, type=kind, at=BEGIN + timedelta(seconds=second)), recipient)
            for kind, second, recipient in batch
        ]
        for batch in batches
    ]


def row(
    fact: Fact, recipient: str | None, message_key: str, receipt_id: UUID, position: int, source_id: int
) -> NewEvent:
    weight, status = STATUS_EFFECTS[fact.type]
    blank: dict[str, Any] = dict.fromkeys(NewEvent.__struct_fields__)
    return NewEvent(
        **{
            **blank,
            "id": ids.event_id(receipt_id, position),
            "receipt_id": receipt_id,
            "source_id": source_id,
            "key": fact.key,
            "key_minute": 0,
            "type": fact.type,
            "message_key": message_key,
            "recipient": recipient,
            "occurred_at": fact.at,
            "received_at": fact.at,
            "data": "{}",
            "provider_object": "{}",
            "weight": int(weight),
            "rank": RANKS[status] if status else -1,
            "status": status,
            "change_type": CHANGE_TYPES[fact.type],
        }
    )


def shown(folded: State) -> dict[str, Any]:
    """What the API should show of a state."""
    return {
        "status": folded.status,
        "status_at": folded.claim and folded.claim.at,
        "opens": len(folded.opens),
        "clicks": len(folded.clicks),
        "reads": len(folded.reads),
        "opened_at": folded.opened_at,
        "clicked_at": folded.clicked_at,
        "read_at": folded.read_at,
        "complained_at": folded.complained_at,
        "unsubscribed_at": folded.unsubscribed_at,
        "subscribed_at": folded.subscribed_at,
        "unsubscribed": folded.unsubscribed,
    }


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(batches=stories)
def test_what_is_shown_is_the_fold_of_own_and_wide_events(
    system: System, batches: list[list[tuple[EventType, int, str | None]]]
) -> None:
    slug = f"s-{uuid4().hex}"
    source_id, message_key, given_facts = system.create_source(slug), uuid4().hex, facts(batches)
    with system.engine.begin() as connection:
        for batch in given_facts:
            receipt_id = ids.receipt_id(datetime.now(UTC))
            rows = [
                row(fact, recipient, message_key, receipt_id, position, source_id)
                for position, (fact, recipient) in enumerate(batch)
            ]
            state.apply(connection, cast("Any", rows))
        found = messages.get_message(connection, state.find_ids(connection, [message_key])[message_key])
    assert found is not None
    everything = [entry for batch in given_facts for entry in batch]
    named: list[str | None] = [name for name in RECIPIENTS if name in {recipient for _, recipient in everything}]
    assert [entry.recipient for entry in found.recipients] == (named or [None])
    for entry in found.recipients:
        folded = fold(fact for fact, recipient in everything if recipient in (entry.recipient, None))
        assert {name: getattr(entry, name) for name in shown(folded)} == shown(folded)
    _lists_agree(system, slug, {entry.status for entry in found.recipients})


def _lists_agree(system: System, slug: str, statuses: set[str | None]) -> None:
    """The filter by status finds a message under exactly the statuses that it shows."""
    for status in Status:
        found = system.get("/v1/messages", source=slug, status=status)["items"]
        assert len(found) == (status in statuses)
