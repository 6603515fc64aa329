"""What is stored of a body grows with its length, whatever its events share, and how many they are."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import astuple

from shared import ids
from shared.errors import PayloadError
from shared.messages.store import NewEvent
from shared.messages.tables import bit_of
from shared.providers.registry import PROVIDERS
from shared.providers.webhooks import payload
from shared.providers.webhooks.base import SourceSettings
from shared.receipts import normalize
from shared.sources.source import Source

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
        credentials=adapter.read_credentials(CREDENTIALS[provider], {}, SourceSettings()),
        settings=SourceSettings(),
    )
    return normalize.parse_events(source, ids.receipt_id(NOW), NOW, json.dumps(body).encode())


def read_object(row: NewEvent, body: Any) -> Any:
    """Return the provider's object of an event, which is in the body."""
    place = row.shared or row
    assert (place.provider_object, place.object_at is None, place.object_length is None) == (None, False, False)
    return json.loads(json.dumps(body).encode()[place.object_at or 0 :][: place.object_length])


def stored_bytes(rows: list[NewEvent]) -> int:
    """Return the length of all texts that the rows and their objects bring into the database."""
    objects = {row.shared.id: row.shared for row in rows if row.shared}
    texts = [value for row in rows for value in astuple(row) if isinstance(value, str)]
    return sum(map(len, texts)) + sum(len(one.data) for one in objects.values())


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
    body = [ITEM | {"recipients": ["ann@example.net"], "user_agent": "u"}]
    (row,) = parse("mailchannels", body)
    assert row.shared is None
    assert read_object(row, body) == body[0]
    assert json.loads(row.data) == {"user_agent": "u"}
    assert row.message_fields == bit_of("request_id") | bit_of("tenant")


def test_events_of_one_object_keep_what_statements_read_and_refer_to_the_rest() -> None:
    browser = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Thunderbird/128.5.0 (an unusually long name)"
    body = [
        ITEM
        | {"recipients": ["ann@example.net", "bob@example.net"], "user_agent": browser, "smtp_id": "<s@x.example>"},
        ITEM | {"recipients": ["eve@example.net"], "user_agent": "v"},
        ITEM | {"recipients": ["joe@example.net", "kim@example.net"], "user_agent": f"{browser}!"},
    ]
    rows = parse("mailchannels", body)
    assert [row.shared and row.shared.id for row in rows] == [rows[0].id, rows[0].id, None, rows[3].id, rows[3].id]
    assert [row.object_at is None for row in rows] == [True, True, False, True, True]
    assert [read_object(row, body) for row in rows] == [body[0], body[0], body[1], body[2], body[2]]
    assert rows[0].data == rows[1].data == "{}"
    fields = bit_of("request_id") | bit_of("smtp_id") | bit_of("tenant")
    assert rows[0].message_fields == rows[1].message_fields == fields
    assert rows[0].shared is rows[1].shared
    assert rows[0].shared
    assert json.loads(rows[0].shared.data) == {"user_agent": browser}


def test_a_few_events_repeat_what_takes_less_than_a_shared_object() -> None:
    people = [f"person{number}@example.net" for number in range(5)]
    body = [
        ITEM | {"recipients": people[:2], "user_agent": "u"},
        ITEM | {"recipients": people[:4]},
        ITEM | {"recipients": people},
        ITEM | {"recipients": people[:2], "unread": LONG},
    ]
    rows = parse("mailchannels", body)
    assert [row.shared is None for row in rows] == [True] * 6 + [False] * 7
    assert [read_object(row, body) for row in rows] == [body[0]] * 2 + [body[1]] * 4 + [body[2]] * 5 + [body[3]] * 2
    assert {row.data for row in rows[:2]} == {'{"user_agent":"u"}'}


def test_texts_and_structures_that_are_too_long_for_every_subscriber_are_cut() -> None:
    body = [ITEM | {"recipients": ["ann@example.net"], "user_agent": LONG, "reason": LONG}]
    (row,) = parse("mailchannels", body)
    assert len(row.data) < 70_000
    assert row.reason == "x" * 8192
    assert read_object(row, body) == body[0]


def test_more_events_than_a_webhook_may_have_are_refused() -> None:
    recipients = [f"{position}@x.example" for position in range(payload.MAX_EVENTS // 2 + 1)]
    with pytest.raises(PayloadError, match="the limit is 200000"):
        parse("mailchannels", [ITEM | {"recipients": recipients}, ITEM | {"recipients": recipients, "ip": "192.0.2.1"}])


ENVELOPE = {"event": "MessageSent", "uuid": "u-1", "timestamp": 1_790_000_000}
SENT = {"status": "Sent", "message": {"message_id": "<m@example.com>", "to": "ann@example.net"}}
DELIVERY = {"kind": "delivery", "recipient": "ann@example.net", "message_id": "m-1"}
REPEATED: dict[str, tuple[str, Any, Any]] = {
    "the same body": ("mailchannels", [ITEM], [ITEM]),
    "a replay with a new time in its envelope": (
        "ark",
        ENVELOPE | {"payload": SENT | {"timestamp": 1_789_999_000}},
        ENVELOPE | {"payload": SENT | {"timestamp": 1_789_999_000}, "timestamp": 1_790_009_000},
    ),
    "a replay whose only time is that of its envelope": (
        "ark",
        ENVELOPE | {"payload": SENT},
        ENVELOPE | {"payload": SENT, "timestamp": 1_790_009_000},
    ),
    "a delivery, which happens once, with another time": (
        "cloudmailin",
        {"events": [DELIVERY | {"timestamp": "2026-10-01T00:00:00Z"}]},
        {"events": [DELIVERY | {"timestamp": "2026-10-02T00:00:00Z"}]},
    ),
    "an inbound mail with another time": (
        "mailwebhook",
        MAIL | {"message": {"message_id": "<m@example.com>"}},
        {
            **MAIL,
            "event": {"id": "e1", "created_at": "2026-10-01T00:00:00Z"},
            "message": {"message_id": "<m@example.com>"},
        },
    ),
}


@pytest.mark.parametrize("case", REPEATED)
def test_a_repeated_event_has_the_same_key_in_the_same_minute(case: str) -> None:
    provider, first, second = REPEATED[case]
    keys = [[(row.key, row.key_minute) for row in parse(provider, body)] for body in (first, second)]
    assert keys[0] == keys[1]
    assert len(keys[0]) == 1


def test_keys_are_stored_by_the_minute_of_the_event() -> None:
    (timed,) = parse("mailchannels", [ITEM])
    assert timed.key_minute == 1_790_000_000 // 60
    (once,) = parse("cloudmailin", {"events": [DELIVERY]})
    assert once.key_minute == 0, "a repetition has no time of its own"
    (unidentified,) = parse("cloudmailin", {"events": [DELIVERY | {"kind": "open"}]})
    assert unidentified.key_minute == int(NOW.timestamp()) // 60, "its receipt identifies it"
