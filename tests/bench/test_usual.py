"""The usual way is slow and correct: otherwise a comparison would mean nothing."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime

import psycopg
import pytest
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session

from bench import signing
from bench.scenarios import agreement
from bench.usual import work
from shared import ids
from shared.messages import store as state
from shared.messages.store import NewEvent
from shared.postgres import engine
from shared.providers.registry import PROVIDERS
from shared.providers.webhooks.base import SourceSettings
from shared.receipts import normalize
from shared.rules.model import tallies
from shared.sources.source import Source
from simulator import staging
from tests.support.databases import DatabasePool

mailchannels = PROVIDERS["mailchannels"]

NOW = datetime.now(UTC)  # there are partitions for these weeks only


@pytest.fixture
def usual_url(databases: DatabasePool) -> Iterator[str]:
    """A second database, as migrated and as empty as the first."""
    with databases.database() as url:
        yield url


def story(count: int) -> list[list[NewEvent]]:
    """The events of each body of a play of everything, out of order and partly repeated."""
    dialect = signing.dialect()
    credentials = mailchannels.read_credentials(dialect.credentials(), {}, SourceSettings())
    source = Source(id=1, slug="bench", version=1, provider=mailchannels, credentials=credentials)
    play = staging.stage(agreement.SCENARIO, dialect, count=count, seed=1, now=NOW)
    parsed = [normalize.parse_events(source, ids.receipt_id(NOW), NOW, posting.body) for posting in play.postings]
    return [
        [work.include_object(event, posting.body) for event in events]
        for events, posting in zip(parsed, play.postings, strict=True)
    ]


def test_its_states_are_those_of_tidings(database_url: str, usual_url: str) -> None:
    bodies = story(40)
    ours = engine.create_engine(database_url, application="test")
    with ours.begin() as connection:
        for body in bodies:
            state.apply(connection, body, tallies([]))
    ours.dispose()
    theirs = create_engine(make_url(usual_url).set(drivername="postgresql+psycopg"), json_serializer=str)
    events = [event for body in bodies for event in body]
    random.Random(2).shuffle(events)
    for event in events:
        with Session(theirs) as session, session.begin():
            work.apply(session, event)
    theirs.dispose()
    with psycopg.connect(database_url) as one, psycopg.connect(usual_url) as other:
        held = agreement.contents(one)
        assert agreement.differences(held, agreement.contents(other)) == []
    assert len(held["recipients' states"]) > 40
    assert held["counts"]
