"""What is stored of a body grows with its length, whatever its events share, and how many they are."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from shared import ids
from shared.errors import PayloadError
from shared.messages.store import NewEvent
from shared.providers.registry import PROVIDERS
from shared.providers.webhooks import payload
from shared.receipts import normalize
from shared.sources.source import Source, SourceSettings

NOW = datetime.now(UTC)
CREDENTIALS: dict[str, dict[str, Any]] = {
    "mailchannels": {"customer_handles": ["acct"]},
    "mailwebhook": {"signing_secrets": {"k": "secret"}},
    "ark": {},
    "cloudmailin": {"username": "user", "password": "secret"},
}


def parse(provider: str, body: Any) -> list[NewEvent]:
    adapter = PROVIDERS[provider]
    source = Source(
        id=1,
        slug="main",
        version=1,
        provider=adapter,
        credentials=adapter.read_credentials(CREDENTIALS[provider], {}),
        settings=SourceSettings(),
    )
    return normalize.parse_events(source, ids.receipt_id(NOW), NOW, json.dumps(body).encode())


def stored_bytes(rows: list[NewEvent]) -> int:
    """Return the length of all texts that the rows and their objects bring into the database."""
    objects = {row.shared.id: row.shared for row in rows if row.shared}
    texts = [value for row in rows for value in row[:-1] if isinstance(value, str)]
    return sum(map(len, texts)) + sum(len(text) for one in objects.values() for text in one[1:])


LONG = "x" * 100_000
ITEM = {"customer_handle": "acct", "event": "hard-bounced", "request_id": "r1", "timestamp": 1_790_000_000}
MAIL = {"schema": {"name": "mailwebhook.generic"}, "event": {"id": "e1"}}


@pytest.mark.parametrize("number", [10, 1000, 20_000])
@pytest.mark.parametrize("long", ["", LONG], ids=["short", "long"])
def test_no_body_stores_many_times_its_length(number: int, long: str) -> None:
    recipients = [f"person{position}@example.net" for position in range(number)]
    bodies = {
        "mailchannels": [ITEM | dict.fromkeys(("reason", "user_agent", "url"), long) | {"recipients": recipients}],
        "mailwebhook": MAIL
        | {
            "envelope": {"rcpt_to": recipients},
            "message": {
                "message_id": "<m@example.com>",
                "subject": long,
                "headers": {"x-long": long, "to": recipients},
            },
        },
    }
    for provider, body in bodies.items():
        rows = parse(provider, body)
        assert len(rows) == number
        assert stored_bytes(rows) < 30 * len(json.dumps(body)) + 10_000


def test_an_event_with_one_recipient_is_stored_as_it_was() -> None:
    (row,) = parse("mailchannels", [ITEM | {"recipients": ["ann@example.net"], "user_agent": "u"}])
    assert row.shared is None
    assert json.loads(row.provider_object or "")["recipients"] == ["ann@example.net"]
    assert json.loads(row.data) == {"request_id": "r1", "tenant": "acct", "user_agent": "u"}


def test_events_of_one_object_keep_what_statements_read_and_refer_to_the_rest() -> None:
    rows = parse(
        "mailchannels",
        [
            ITEM
            | {"recipients": ["ann@example.net", "bob@example.net"], "user_agent": "u", "smtp_id": "<s@x.example>"},
            ITEM | {"recipients": ["eve@example.net"], "user_agent": "v"},
            ITEM | {"recipients": ["joe@example.net", "kim@example.net"], "user_agent": "w"},
        ],
    )
    assert [row.shared and row.shared.id for row in rows] == [rows[0].id, rows[0].id, None, rows[3].id, rows[3].id]
    assert [row.provider_object is None for row in rows] == [True, True, False, True, True]
    assert json.loads(rows[0].data) == json.loads(rows[1].data) == {"smtp_id": "s@x.example", "tenant": "acct"}
    assert rows[0].shared is rows[1].shared
    assert rows[0].shared
    assert json.loads(rows[0].shared.data) == {"request_id": "r1", "user_agent": "u"}


def test_texts_and_structures_that_are_too_long_for_every_subscriber_are_cut() -> None:
    (row,) = parse("mailchannels", [ITEM | {"recipients": ["ann@example.net"], "user_agent": LONG, "reason": LONG}])
    assert len(row.data) < 70_000
    assert row.reason == "x" * 8192
    assert json.loads(row.provider_object or "")["user_agent"] == LONG


def test_more_events_than_a_webhook_may_have_are_refused() -> None:
    recipients = [f"{position}@x.example" for position in range(payload.MAX_EVENTS // 2 + 1)]
    with pytest.raises(PayloadError, match="the limit is 200000"):
        parse("mailchannels", [ITEM | {"recipients": recipients}, ITEM | {"recipients": recipients, "ip": "192.0.2.1"}])
