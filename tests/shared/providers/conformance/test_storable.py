"""PostgreSQL accepts whatever the adapters return: a refused value would fail a whole batch."""

import json

import msgspec
import psycopg
import pytest

from shared.errors import PayloadError
from shared.providers.registry import PROVIDERS
from tests.shared.providers.conformance.samples import SAMPLES
from tests.support.signed_requests import credentials, samples

# Each is authentic JSON, or nearly: as a value somewhere in an event.
STRANGE = [
    *(
        rb'"\u0000"',
        rb'"\ud800"',
        rb'"\ude00\ud83d"',
        rb'"\ud83d\ude00"',
        rb'"\\u0000"',
        b'"\x7f"',
        '"\uffff"'.encode(),
    ),
    *(b"1e400", b"-0", b"9" * 4000, b"1E-400", b"0.1e-5", b'{"a":1,"a":2}', b'{"":{}}', b"[" * 300 + b"]" * 300),
    *(b'"' + b"x" * 100_000 + b'"', b'"\xf0\x9f\x98\x80"', b"[]", b"true"),
]


def make_bodies(name: str) -> list[bytes]:
    made = [place.replace(b"%s", value) for place in SAMPLES[name].places for value in STRANGE]
    return [*samples(name), *made]


@pytest.mark.parametrize("name", PROVIDERS)
def test_every_event_can_be_stored_and_read_back(name: str, database_url: str) -> None:
    provider = PROVIDERS[name]
    stored = 0
    with psycopg.connect(database_url) as connection:
        for body in make_bodies(name):
            try:
                events = provider.parse(body, credentials(name))
            except PayloadError:
                continue
            for event in events:
                row = (
                    event.provider_object.decode(),
                    msgspec.json.encode([event.details, event.metadata]).decode(),
                    [event.recipient, event.subject, event.url, event.problem, event.message_key],
                )
                found = connection.execute("SELECT %s::json::text, %s::jsonb, %s::text[]", row).fetchone()
                assert found is not None
                assert found[0].encode() == event.provider_object
                assert found[1] == json.loads(row[1])
                stored += 1
    assert stored > len(STRANGE)
