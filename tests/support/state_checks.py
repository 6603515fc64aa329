"""What must hold of the stored states and events, whatever happened before."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection

from shared.events import event
from shared.messages.state import STATUS_EFFECTS, Fact, State, Weight, fold
from shared.vocabulary import EventType
from simulator.mail import Happening

StateKey = tuple[str, str]
"""The key of a message (32 hex digits) and a recipient of it, '' for the whole message."""


class StoredState(NamedTuple):
    """The columns of a state, as stored or as the pure fold computes them."""

    status: str | None
    status_at: datetime | None
    opens: int
    clicks: int
    reads: int
    remarks: int
    opened_at: datetime | None
    clicked_at: datetime | None
    read_at: datetime | None
    complained_at: datetime | None
    unsubscribed_at: datetime | None


# Each finds rows that must not be.
_DOUBLED = {
    "an event is stored twice": "SELECT key, count(*) FROM events GROUP BY key HAVING count(*) > 1",
    "an event has no key": "SELECT id FROM events WHERE id NOT IN (SELECT event_id FROM event_keys)",
    "a key has no event": "SELECT key FROM event_keys WHERE event_id NOT IN (SELECT id FROM events)",
    "an event is announced twice": "SELECT event_id, count(*) FROM state_changes WHERE event_id IS NOT NULL"
    " AND data IS NULL GROUP BY event_id HAVING count(*) > 1",
    "a change is announced twice": "SELECT message_id, recipient, version, event_id, count(*) FROM state_changes"
    " WHERE message_id IS NOT NULL GROUP BY 1, 2, 3, 4 HAVING count(*) > 1",
    "a change is ahead of its state": "SELECT c.id FROM state_changes AS c JOIN recipient_states AS s"
    " ON s.message_id = c.message_id AND s.recipient = coalesce(c.recipient, '') WHERE c.version > s.version",
    "a receipt is in two places": "SELECT receipt_id FROM pending_receipts JOIN parked_receipts USING (receipt_id)",
}


def stored_states(connection: Connection) -> Mapping[StateKey, StoredState]:
    """Read every state."""
    columns = ", ".join(f"s.{name}" for name in StoredState._fields)
    rows = connection.exec_driver_sql(
        f"SELECT coalesce(m.key, m.id), recipient, {columns} FROM recipient_states AS s JOIN messages AS m"
        " ON m.id = message_id"
    )
    return {(row[0].hex, row[1]): StoredState(*row[2:]) for row in rows}


def expected_states(source_id: int, happenings: Iterable[Happening]) -> Mapping[StateKey, StoredState]:
    """Compute the states that must follow from these happenings, sent by MailChannels."""
    facts: dict[StateKey, list[Fact]] = defaultdict(list)
    for happening in happenings:
        message = event.message_key(source_id, f"request:{happening.subject_message.request_id}")
        for recipient in happening.recipients or ("",):
            key = f"{happening.kind} {happening.at} {message} {recipient}"
            facts[message, recipient].append(Fact(key=key, type=happening.kind, at=happening.at))
    return {key: _stored_state(fold(found), {fact.key: fact.type for fact in found}) for key, found in facts.items()}


def assert_nothing_doubled(connection: Connection) -> None:
    """Check that every event is stored and announced once, and that no receipt is both pending and parked."""
    wrong: dict[str, Sequence[Any]] = {
        fault: rows for fault, query in _DOUBLED.items() if (rows := connection.exec_driver_sql(query).all())
    }
    assert not wrong


def _stored_state(state: State, kinds: Mapping[str, EventType]) -> StoredState:
    return StoredState(
        status=state.status,
        status_at=state.claim.at if state.claim else None,
        opens=len(state.opens),
        clicks=len(state.clicks),
        reads=len(state.reads),
        remarks=sum(STATUS_EFFECTS[kind][0] <= Weight.IMPLIED for kind in kinds.values()),
        opened_at=state.opened_at,
        clicked_at=state.clicked_at,
        read_at=state.read_at,
        complained_at=state.complained_at,
        unsubscribed_at=state.unsubscribed_at,
    )
