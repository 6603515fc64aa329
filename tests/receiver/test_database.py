"""How a receiver reaches the database, and finds it again."""

import subprocess
import sys
import time
from base64 import b64encode
from datetime import UTC, datetime

from shared import ids
from shared.encryption import Vault, new_key
from shared.postgres import engine, migrate
from shared.receipts.store import Refusal
from shared.sources import service
from shared.sources import store as sources
from simulator.providers.mailchannels.webhooks import MailChannels
from tests.support.cluster import frozen
from tests.support.receiver import receiving

CLOUDMAILIN = {"username": "user", "password": "secret"}


def eventually(condition):
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def add_source(url, vault, slug, provider, credentials):
    database = engine.create_engine(url, application="test", pool_size=1)
    with database.begin() as connection:
        sources.create(connection, slug=slug, provider=provider, credentials=vault.seal(credentials), settings={})
    database.dispose()


def test_a_receiver_loads_no_library_that_it_has_no_use_for():
    unwanted = ("sqlalchemy.orm", "alembic", "marshmallow", "pycurl")
    code = f"import sys, receiver.app, receiver.notifier; print([name for name in {unwanted} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


def test_what_is_refused_at_once_is_listed_in_one_commit(receiver):
    now = datetime.now(UTC)
    for number in range(20):
        receiver.rejections.record(
            Refusal(
                id=ids.receipt_id(now),
                source=f"source-{number}",
                refused_at=now,
                status_code=404,
                reason="unknown_source",
                detail="",
                remote_ip=None,
                headers="{}",
                bytes=0,
            )
        )
    assert len(receiver.refused()) == 20
    [(commits,)] = receiver.rows("SELECT count(DISTINCT xmin::text) FROM refusals")
    assert commits <= 2  # the book may have been at its work in the middle


def test_a_new_source_is_known_by_notification_alone(make_receiver):
    receiver = make_receiver(max_age_seconds=3600)
    receiver.add_source("first", "cloudmailin", CLOUDMAILIN)
    eventually(lambda: receiver.sources.find("first"))
    receiver.add_source("second", "cloudmailin", CLOUDMAILIN)
    eventually(lambda: receiver.sources.find("second"))


def test_sources_are_kept_up_with_after_the_database_was_away(make_postgres):
    server = make_postgres()
    migrate.upgrade(server.url)
    vault = Vault([new_key()])
    with receiving(server.url, vault) as parts:
        source_cache = parts.deps.sources
        eventually(lambda: parts.loop.call(source_cache.refresh))
        server.kill()
        server.start()
        add_source(server.url, vault, "late", "cloudmailin", CLOUDMAILIN)
        eventually(lambda: source_cache.find("late"))


def test_what_cannot_be_looked_up_is_to_be_tried_again_and_not_refused_for_good(make_postgres):
    server = make_postgres()
    migrate.upgrade(server.url)
    vault, dialect = Vault([new_key()]), MailChannels(seed=1)
    add_source(server.url, vault, "mc", "mailchannels", dialect.credentials())
    with receiving(server.url, vault) as parts:
        eventually(lambda: parts.deps.sources.find("mc"))
        dialect.rotate()
        with frozen(server):
            eventually(lambda: parts.deps.sources.age_seconds > 1)
            sent = {"data": b"[]", "headers": dialect.sign(b"[]", datetime.now(UTC))}
            assert parts.app.at_once([("/webhooks/mc", sent)]) == [503]


def test_a_password_that_was_changed_is_accepted_from_the_next_request_on(receiver):
    receiver.add_source("cm", "cloudmailin", CLOUDMAILIN)
    eventually(lambda: receiver.parts.deps.sources.find("cm"))
    answers = []
    for number in range(10):
        with receiver.database.begin() as connection:
            service.change(connection, receiver.vault, "cm", credentials={"password": f"secret {number}"})
        pair = b64encode(f"user:secret {number}".encode()).decode()
        sent = {"data": b'{"events": []}', "headers": {"Authorization": f"Basic {pair}"}}
        answers += receiver.parts.app.at_once([("/webhooks/cm", sent)])
    assert answers == [200] * 10
