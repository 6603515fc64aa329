"""Everything works through PgBouncer in transaction mode with its defaults."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from sqlalchemy import make_url

from cli.supervisor import ports
from shared.postgres import engine, migrate
from shared.postgres.engine import PlanCacheMode
from tests.receiver.test_app import BASIC, BODY
from tests.support import supervised_system
from tests.support.cluster import eventually
from tests.support.servers import Server

PGBOUNCER = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin")
SETTINGS = ("jit", "enable_seqscan", "statement_timeout", "synchronous_commit", "plan_cache_mode", "TimeZone")


@pytest.fixture
def pooler_url(empty_database: str, data_dir: Path) -> Iterator[str]:
    """A PgBouncer in front of an empty database. Its pool is smaller than the number of its clients."""
    if PGBOUNCER is None:
        pytest.skip("PgBouncer is not installed")
    url = make_url(empty_database)
    port = ports.free_port()
    configuration = data_dir / "pgbouncer.ini"
    configuration.write_text(
        f"[databases]\n{url.database} = host={url.host} port={url.port} user={url.username} password={url.password}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n"
        "pool_mode = transaction\ndefault_pool_size = 3\n"
    )
    configuration.chmod(0o644)
    process = subprocess.Popen([PGBOUNCER, "-q", "-u", "nobody", str(configuration)])
    pooled = url.set(host="127.0.0.1", port=port).render_as_string(hide_password=False)

    def answers() -> bool:
        try:
            psycopg.connect(pooled).close()
        except psycopg.OperationalError:
            return False
        return True

    try:
        assert eventually(answers, 20)
        yield pooled
    finally:
        process.terminate()
        process.wait(20)


def settings_of(connection: Any) -> list[str]:
    return [connection.exec_driver_sql(f"SHOW {name}").scalar() for name in SETTINGS]


def test_each_transaction_has_the_settings_of_its_engine(pooler_url: str) -> None:
    first = engine.create_engine(pooler_url, application="first", statement_timeout_ms=1000)
    second = engine.create_engine(
        pooler_url, application="second", synchronous_commit=False, plan_cache_mode=PlanCacheMode.CUSTOM
    )
    for _ in range(5):  # enough for a statement to be prepared
        with first.begin() as one, second.begin() as other:
            assert settings_of(one) == ["off", "off", "1s", "on", "auto", "UTC"]
            assert settings_of(other) == ["off", "off", "30s", "off", "force_custom_plan", "UTC"]
    with psycopg.connect(pooler_url) as plain:
        assert plain.execute("SHOW enable_seqscan").fetchone() == ("on",)
    first.dispose()
    second.dispose()


def test_statements_do_not_depend_on_the_session(pooler_url: str) -> None:
    with ExitStack() as stack:
        engines = [engine.create_engine(pooler_url, application="test", pool_size=4) for _ in range(3)]
        for made in engines:
            stack.callback(made.dispose)
        connections = [stack.enter_context(made.connect()) for made in engines for _ in range(4)]
        for number in range(60):
            connection = connections[number * 7 % len(connections)]
            assert engine.is_pooled(connection)
            assert connection.exec_driver_sql("SELECT %(n)s::int", {"n": number}).scalar() == number
            connection.rollback()


def test_a_direct_connection_is_not_pooled(database_url: str) -> None:
    made = engine.create_engine(database_url, application="test")
    with made.connect() as connection:
        assert not engine.is_pooled(connection)
        assert settings_of(connection) == ["off", "off", "30s", "on", "auto", "UTC"]
    made.dispose()


def test_the_whole_system_runs_behind_it(pooler_url: str, data_dir: Path) -> None:
    migrate.upgrade(pooler_url)
    with supervised_system.running(data_dir, TIDINGS_DATABASE_URL=pooler_url) as up:
        facts = up.ready()
        key = {"Authorization": f"Bearer {facts['admin_key']}", "Content-Type": "application/json"}
        api, receiver = (
            Server(urlsplit(facts[name]).port or 0, up.process)  # type: ignore[arg-type]
            for name in ("api_url", "receiver_url")
        )
        source = {"slug": "cm", "provider": "cloudmailin", "credentials": {"username": "user", "password": "old"}}
        assert api.call("POST", "/v1/sources", json.dumps(source).encode(), key)[0].status == 201
        assert eventually(lambda: receiver.call("POST", "/webhooks/cm", BODY, BASIC)[0].status == 401)
        credentials = {"credentials": {"username": "user", "password": "secret"}}
        assert api.call("PATCH", "/v1/sources/cm", json.dumps(credentials).encode(), key)[0].status == 200
        answers: list[bytes] = []  # of two processes, each of which reloads its sources by itself

        def is_accepted() -> bool:
            response, answer = receiver.call("POST", "/webhooks/cm", BODY, BASIC)
            answers.append(answer)
            return response.status == 200

        assert eventually(is_accepted)
        path = f"/v1/receipts/{json.loads(answers[-1])['receipt']}"
        assert eventually(lambda: b'"processed"' in api.call("GET", path, None, key)[1])
