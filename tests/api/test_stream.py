"""The event stream: a client receives every change once, in order, however often it reconnects."""

import asyncio
import json
import random
import resource
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine

from api.app import create_app
from api.core.resource import Deps
from api.streaming.app import ApiApp
from api.streaming.connections import ConnectionLimits
from api.streaming.live_log import PollingTimes
from api.streaming.log_reader import LogReader
from cli import embedded
from shared.auth import keys
from shared.auth.keys import Scope
from shared.changes import log as change_log
from shared.postgres import engine, migrate
from shared.settings import Settings
from tests.support.api_server import Call, Served, StreamReader, calling, served
from tests.support.databases import DatabasePool
from tests.support.servers import PATIENCE_SECONDS
from tests.support.system import ADMIN_KEY, BEGIN, System, mailchannels_event, open_system

ANN, BOB = "ann@example.net", "bob@example.org"
INSERT = "INSERT INTO state_changes (type, source_id, recipient) VALUES (%(type)s, 1, %(recipient)s)"
QUICK = PollingTimes(poll_seconds=0.01, retry_seconds=0.05)


@pytest.fixture(scope="module")
def lived_in(databases: DatabasePool) -> Iterator[System]:
    """A Tidings of this module's own, where the log only grows."""
    with databases.database() as database_url, open_system(database_url, begin=BEGIN) as system:
        system.create_source()
        yield system


@pytest.fixture(scope="module")
def api(lived_in: System) -> Iterator[Served]:
    """Its API, served."""
    with served(url(lived_in.engine)) as made:
        yield made


def url(engine: Engine) -> str:
    return engine.url.set(drivername="postgresql").render_as_string(hide_password=False)


def write(system: System, *types: str, recipient: str = ANN) -> None:
    for name in types:
        system.execute(INSERT, type=name, recipient=recipient)


def end(system: System) -> str:
    """The cursor of the end of the log."""
    with system.engine.begin() as connection:
        transaction, number = change_log.get_end(connection)
    return f"{transaction}-{number}"


def logged(system: System, after: str) -> list[str]:
    """The ids of all changes behind a cursor."""
    transaction, _, number = after.partition("-")
    rows = system.execute(
        "SELECT transaction, id FROM state_changes WHERE (transaction, id) > (%(transaction)s::text::xid8, %(id)s)"
        " ORDER BY transaction, id",
        transaction=transaction,
        id=int(number),
    )
    return [f"{row[0]}-{row[1]}" for row in rows]


def types(events: list[Any]) -> list[str]:
    return [event.event for event in events]


class TestAListener:
    def test_receives_what_the_feed_shows_of_a_change(self, lived_in: System, api: Served) -> None:
        begin = end(lived_in)
        reader = api.open_stream().wait_until_open()
        lived_in.process_events(mailchannels_event("hard-bounced", ANN, status="5.1.1", request_id="received"))
        [event] = reader.read_events(1)
        [item] = api.get("/v1/changes", cursor=begin)["items"]
        assert (event.event, event.id, event.data) == (item["type"], item["id"], item)
        assert event.data["data"]["event"]["classification"] == "invalid_recipient"
        assert reader.response.getheader("Content-Type") == "text/event-stream"
        assert reader.response.getheader("Cache-Control") == "no-store"

    def test_begins_now_unless_it_says_where(self, lived_in: System, api: Served) -> None:
        write(lived_in, "before")
        reader = api.open_stream().wait_until_open()
        write(lived_in, "after")
        assert types(reader.read_events(1)) == ["after"]

    def test_begins_with_the_oldest_that_is_kept(self, lived_in: System, api: Served) -> None:
        write(lived_in, "one", "two")
        ids = logged(lived_in, "0-0")
        assert [event.id for event in api.open_stream(cursor="0-0").wait_until_open().read_events(len(ids))] == ids

    def test_continues_after_the_last_change_it_received(self, lived_in: System, api: Served) -> None:
        begin = end(lived_in)
        write(lived_in, "one", "two", "three")
        first = api.open_stream(cursor=begin).wait_until_open().read_events(1)[0]
        assert types(api.open_stream(cursor=first.id).wait_until_open().read_events(2)) == ["two", "three"]
        assert types(api.open_stream(cursor=begin, last=first.id).wait_until_open().read_events(2)) == ["two", "three"]

    def test_that_received_nothing_yet_has_a_cursor_to_continue_from(self, lived_in: System, api: Served) -> None:
        write(lived_in, "before")
        place = api.open_stream().wait_until_open().place
        write(lived_in, "meanwhile")
        assert types(api.open_stream(last=place).wait_until_open().read_events(1)) == ["meanwhile"]

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ({"types": "message.*"}, ["message.opened", "message.bounced"]),
            ({"types": "message.bounced,alert.firing"}, ["message.bounced", "alert.firing"]),
            ({"recipient_domain": "Example.ORG"}, ["message.bounced"]),
            ({"sources": "main"}, ["message.opened", "message.bounced", "alert.firing"]),
            ({"types": "*", "sources": "main, main", "recipient_domain": "@example.net"},
             ["message.opened", "alert.firing"]),
        ],
    )  # fmt: skip
    def test_receives_what_it_asked_for(
        self, lived_in: System, api: Served, query: dict[str, str], expected: list[str]
    ) -> None:
        begin = end(lived_in)
        live = api.open_stream(**query).wait_until_open()
        write(lived_in, "message.opened")
        write(lived_in, "message.bounced", recipient=BOB)
        write(lived_in, "alert.firing")
        assert types(live.read_events(len(expected))) == expected
        assert types(api.open_stream(cursor=begin, **query).wait_until_open().read_events(len(expected))) == expected
        assert [item["type"] for item in api.get("/v1/changes", cursor=begin, **query)["items"]] == expected

    def test_with_the_key_of_a_tenant_receives_only_that_tenants_changes(self, lived_in: System, api: Served) -> None:
        with lived_in.engine.begin() as connection:
            secret = keys.create_key(connection, "acme's", Scope.READ, "acme").secret
        begin = end(lived_in)
        live = api.open_stream(key=secret).wait_until_open()
        for tenant in ("acme", None, "other"):
            lived_in.execute(
                "INSERT INTO state_changes (type, data) VALUES ('alert.firing', jsonb_build_object('tenant',"
                " %(tenant)s::text))",
                tenant=tenant,
            )
        write(lived_in, "nobody's")
        lived_in.execute("INSERT INTO state_changes (type, data) VALUES ('last', '{\"tenant\": \"acme\"}')")
        late = api.open_stream(key=secret, cursor=begin).wait_until_open()
        for reader in (live, late):
            assert [event.data["data"].get("alert") for event in reader.read_events(2)] == [{"tenant": "acme"}, None]
        assert api.open_stream(key=secret, tenant="other").response.status == 403

    @pytest.mark.parametrize("cursor", ["1", "a-b", "9" * 19 + "-1"])
    def test_with_a_cursor_that_is_none_is_refused(self, api: Served, cursor: str) -> None:
        assert api.open_stream(cursor=cursor).response.status == 400
        assert api.open_stream(last=cursor).response.status == 400

    def test_without_a_key_is_refused(self, api: Served) -> None:
        assert api.open_stream(key="none").response.status == 401

    def test_that_would_miss_deleted_changes_is_answered_with_410(self, lived_in: System, api: Served) -> None:
        live = api.open_stream().wait_until_open()
        write(lived_in, "gone", "gone", "kept")
        live.read_events(3)
        first, last, kept = logged(lived_in, "0-0")[-3:]
        floor = {"transaction": last.partition("-")[0], "id": int(last.partition("-")[2])}
        lived_in.execute(
            "INSERT INTO change_floor (transaction, id) VALUES (%(transaction)s::text::xid8, %(id)s)", **floor
        )
        lived_in.execute(
            "DELETE FROM state_changes WHERE (transaction, id) <= (%(transaction)s::text::xid8, %(id)s)", **floor
        )
        refused = api.open_stream(last=first)
        assert (refused.response.status, refused.response.getheader("Content-Type")) == (
            410,
            "application/problem+json",
        )
        problem = json.loads(refused.response.read())
        assert "oldest_cursor" in problem["detail"]
        assert api.call("GET", f"/v1/changes?cursor={first}")[0].status == 410
        assert [
            event.id for event in api.open_stream(last=problem["oldest_cursor"]).wait_until_open().read_events(1)
        ] == [kept]
        assert [item["id"] for item in api.get("/v1/changes", cursor=last)["items"]] == [kept]
        assert api.get("/v1/changes")["items"][0]["id"] == kept


def test_listeners_that_join_at_any_moment_receive_every_change_once_in_order(lived_in: System, api: Served) -> None:
    """Between what is read from the log and what all are sent together there is no seam, however many write."""
    chance = random.Random(7)
    begin = end(lived_in)
    over = threading.Event()
    readers: list[tuple[str, StreamReader]] = []
    with ThreadPoolExecutor(3) as writers:
        writing = [writers.submit(write_in_transactions, lived_in.engine, number, over) for number in range(3)]
        try:
            for _ in range(20):
                after = chance.choice([begin, *logged(lived_in, begin)[-40:], *[reader.place for _, reader in readers]])
                readers.append((after, api.open_stream(last=after).wait_until_open()))
                time.sleep(0.02)
        finally:
            over.set()
    for one in writing:
        one.result()
    write(lived_in, "the end")
    for after, reader in readers:
        expected = logged(lived_in, after)
        assert [event.id for event in reader.read_events(len(expected))] == expected


def write_in_transactions(engine: Engine, number: int, over: threading.Event) -> None:
    chance = random.Random(number)
    while not over.is_set():
        with engine.begin() as connection:
            for _ in range(chance.randrange(1, 4)):
                connection.exec_driver_sql(INSERT, {"type": f"message.{number}", "recipient": ANN})
                time.sleep(chance.random() / 200)


def test_a_thousand_listen_and_everybody_else_is_served(lived_in: System, api: Served) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    request = f"GET /v1/changes/stream HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer {ADMIN_KEY}\r\n\r\n".encode()
    listeners = [socket.create_connection(("127.0.0.1", api.port), timeout=30) for _ in range(1000)]
    try:
        for listener in listeners:
            listener.sendall(request)
        for listener in listeners:
            take_until(listener, b"id: ")
        assert api.get("/v1/changes")["items"]
        write(lived_in, "for.all")
        for listener in listeners:
            take_until(listener, b"event: for.all")
    finally:
        for listener in listeners:
            listener.close()


def take_until(listener: socket.socket, words: bytes) -> None:
    taken = b""
    while words not in taken:
        chunk = listener.recv(65536)
        assert chunk, taken
        taken += chunk


class TestWaitingForAPage:
    def test_is_over_as_soon_as_there_is_something(self, lived_in: System, api: Served) -> None:
        cursor = end(lived_in)
        timer = threading.Timer(0.3, write, (lived_in, "other", "message.sent"))
        timer.start()
        page = api.get("/v1/changes", cursor=cursor, wait=60, types="message.*")
        assert [item["type"] for item in page["items"]] == ["message.sent"]
        timer.join()

    def test_is_over_when_the_time_is_and_the_cursor_has_moved_on(self, lived_in: System, api: Served) -> None:
        cursor = end(lived_in)
        timer = threading.Timer(0.2, write, (lived_in, "other"))
        timer.start()
        page = api.get("/v1/changes", cursor=cursor, wait=0.6, types="message.*")
        while page["next_cursor"] == cursor:  # nothing was written meanwhile, because this machine is busy
            page = api.get("/v1/changes", cursor=cursor, wait=0.6, types="message.*")
        timer.join()
        assert (page["items"], page["next_cursor"]) == ([], logged(lived_in, cursor)[-1])

    def test_is_not_done_where_there_is_something_already(self, lived_in: System, api: Served) -> None:
        cursor = end(lived_in)
        write(lived_in, "there")
        assert len(api.get("/v1/changes", cursor=cursor, wait=60)["items"]) == 1

    def test_does_not_keep_others_from_being_served(self, lived_in: System, api: Served) -> None:
        cursor = end(lived_in)
        found: list[int] = []

        def wait() -> None:
            found.append(len(api.get("/v1/changes", cursor=cursor, wait=15)["items"]))

        waiters = [threading.Thread(target=wait) for _ in range(100)]
        for waiter in waiters:
            waiter.start()
        time.sleep(0.5)
        for _ in range(10):
            api.get("/v1/sources")
        assert found == []
        write(lived_in, "for all")
        for waiter in waiters:
            waiter.join()
        assert found == [1] * 100

    @pytest.mark.parametrize("wait", ["-1", "61", "long"])
    def test_has_an_end(self, api: Served, wait: str) -> None:
        assert api.call("GET", f"/v1/changes?wait={wait}")[0].status == 422


def test_a_process_that_stops_lets_all_go_and_they_go_on_with_the_next(lived_in: System) -> None:
    with served(url(lived_in.engine)) as first:
        readers = [first.open_stream().wait_until_open() for _ in range(20)]
        cursor = end(lived_in)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(first.get, "/v1/changes", cursor=cursor, wait=60)
            time.sleep(0.3)  # so that it waits, as a rule
            write(lived_in, "heard")
            assert [types(reader.read_events(1)) for reader in readers] == [["heard"]] * 20
            assert [item["type"] for item in waiting.result()["items"]] == ["heard"]
        assert first.stop() == 0
        # One that was killed would have cut the streams off.
        assert [reader.read_to_end() for reader in readers] == [[]] * 20
        assert all("connect again" in reader.comments[-1] for reader in readers)
    write(lived_in, "meanwhile")
    with served(url(lived_in.engine)) as second:
        for reader in readers:
            assert types(second.open_stream(last=reader.place).wait_until_open().read_events(1)) == ["meanwhile"]


def test_listeners_outlast_the_database(make_postgres: Callable[[], embedded.Postgres]) -> None:
    server = make_postgres()
    migrate.upgrade(server.url)
    made = engine.create_engine(server.url, application="test")
    with served(server.url) as api:
        reader = api.open_stream().wait_until_open()
        server.kill()
        made.dispose()
        server.start()
        with made.begin() as connection:
            connection.exec_driver_sql("INSERT INTO state_changes (type) VALUES ('later')")
        assert types(reader.read_events(1)) == ["later"]
    made.dispose()


class TestFlaskBehindTheLoop:
    """Whatever is no stream is answered as ever."""

    def test_bytes_arrive_and_leave_as_they_are(self, lived_in: System, api: Served) -> None:
        body = bytes(range(256)) * 4096
        receipt_id = lived_in.queue_body(body)
        response, raw = api.call("GET", f"/v1/receipts/{receipt_id}/raw")
        assert (response.status, raw) == (200, body)
        response, raw = api.call("HEAD", f"/v1/receipts/{receipt_id}/raw")
        assert (response.status, raw) == (200, b"")

    def test_bodies_are_read_with_and_without_a_length(self, api: Served) -> None:
        source = {"slug": "long", "provider": "mailchannels", "credentials": {"customer_handles": ["x" * 200_000]}}
        body = json.dumps(source).encode()
        headers = {"Content-Type": "application/json"}
        assert api.call("POST", "/v1/sources", body, headers)[0].status == 201
        assert api.call("POST", "/v1/sources", iter([body[:9], body[9:]]), headers)[0].status == 409  # type: ignore[arg-type]

    def test_a_body_that_is_too_large_is_refused_unread(self, api: Served) -> None:
        request = f"POST /v1/sources HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer {ADMIN_KEY}\r\n"
        request += "Content-Type: application/json\r\nContent-Length: 1000000000\r\n\r\n"
        with socket.create_connection(("127.0.0.1", api.port), timeout=20) as client:
            client.sendall(request.encode())
            assert client.recv(1024).startswith(b"HTTP/1.1 413")

    @pytest.mark.parametrize(
        ("path", "status"),
        [
            ("/healthz", 200),
            ("/docs", 200),
            ("/openapi.json", 200),
            ("/v1/sources/%FF%00%2F", 404),
            ("/v1/events?recipient=%FF%C3", 200),
            ("/v1/changes?nothing=such", 422),
        ],
    )
    def test_paths_and_queries_mean_what_they_did(self, api: Served, path: str, status: int) -> None:
        assert api.call("GET", path)[0].status == status

    def test_a_path_arrives_as_it_was_meant(self, api: Served) -> None:
        _, body = api.call("GET", "/v1/messages/%C3%A4/%F0%9F%98%80")
        assert json.loads(body)["status"] == 404
        _, body = api.call("DELETE", "/v1/suppressions/%C3%A4%2Fb@example.net")
        assert "ä/b@example.net" in json.loads(body)["detail"]

    def test_a_name_that_looks_like_another_is_no_header(self, api: Served) -> None:
        response, _ = api.call("GET", "/v1/sources", headers={"Authorization": "", "authorization_": ADMIN_KEY})
        assert response.status == 401

    def test_two_requests_share_a_connection(self, api: Served) -> None:
        request = b"GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n"
        with socket.create_connection(("127.0.0.1", api.port), timeout=20) as client:
            for _ in range(2):
                client.sendall(request)
                take_until(client, b"alive")


class TestWithLowLimits:
    """What takes long, made short; in this process."""

    @asynccontextmanager
    async def open(
        self, system: System, pace: PollingTimes = QUICK, app: Flask | None = None, **limits: float
    ) -> AsyncIterator[ApiApp]:
        reading = engine.create_engine(url(system.engine), application="test log")
        server = ApiApp(
            app or system.client.application,
            LogReader(reading),
            times=pace,
            limits=ConnectionLimits(**{"check_seconds": 0.05, **limits}),  # type: ignore[arg-type]
            on_shutdown=reading.dispose,
        )
        server.start()
        try:
            yield server
        finally:
            await server.close()

    def test_a_quiet_stream_shows_that_it_lives_and_how_far_it_is(self, system: System) -> None:
        async def scenario() -> None:
            async with (
                self.open(system, heartbeat_seconds=0.1) as server,
                calling(server, "/v1/changes/stream?types=message.*") as call,
            ):
                await call.until(b"\n\n:\n")
                await asyncio.to_thread(write, system, "other")
                [other] = await asyncio.to_thread(logged, system, "0-0")
                await call.until(f":\nid: {other}\n\n".encode())
                assert b"data:" not in call.body

        asyncio.run(scenario())

    def test_a_listener_that_reads_nothing_is_disconnected_and_delays_no_other(self, system: System) -> None:
        async def scenario() -> None:
            async with (
                self.open(system, send_seconds=0.3) as server,
                calling(server, "/v1/changes/stream") as slow,
                calling(server, "/v1/changes/stream") as quick,
            ):
                await slow.until(b"id: ")
                await quick.until(b"id: ")
                slow.takes.clear()
                await asyncio.to_thread(write, system, "one")
                await quick.until(b"event: one")
                await asyncio.sleep(0.5)
                slow.takes.set()
                await slow.end()
                assert b": too slow; connect again with Last-Event-ID\n\n" in slow.body
                assert slow.sent[-1]["more_body"] is False
                await asyncio.to_thread(write, system, "two")
                await quick.until(b"event: two")

        asyncio.run(scenario())

    def test_the_kernel_ends_connections_whose_other_end_takes_nothing(self, system: System) -> None:
        async def scenario(listening: socket.socket) -> None:
            port = listening.getsockname()[1]
            with socket.create_connection(("127.0.0.1", port)), listening.accept()[0] as accepted:
                async with self.open(system) as server, calling(server, "/v1/changes/stream", port=port) as call:
                    await call.until(b"id: ")
                for each in (listening, accepted):
                    assert each.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 60_000

        with socket.create_server(("127.0.0.1", 0)) as listening:
            asyncio.run(scenario(listening))

    def test_a_listener_that_fell_behind_reads_the_log_at_its_own_pace(self, system: System) -> None:
        async def scenario() -> None:
            async with (
                self.open(system, PollingTimes(poll_seconds=0.01, keep_seconds=0.05)) as server,
                calling(server, "/v1/changes/stream") as slow,
                calling(server, "/v1/changes/stream") as quick,
            ):
                await slow.until(b"id: ")
                await quick.until(b"id: ")
                slow.takes.clear()
                for number in range(20):
                    await asyncio.to_thread(write, system, f"n.{number}")
                    await quick.until(f"event: n.{number}\n".encode())
                slow.takes.set()
                await slow.until(b"event: n.19\n")
                assert heard(slow) == heard(quick) == [f"n.{number}" for number in range(20)]

        asyncio.run(scenario())

    def test_who_waits_for_something_rare_gets_it_however_much_else_happens(self, system: System) -> None:
        async def scenario() -> None:
            async with (
                self.open(system, PollingTimes(poll_seconds=0.01, keep_seconds=0.02)) as server,
                calling(server, "/v1/changes/stream") as other,
                calling(server, "/v1/changes?wait=20&types=message.read") as call,
            ):
                await other.until(b"id: ")
                for number in range(20):
                    await asyncio.to_thread(write, system, f"n.{number}")
                    await other.until(f"event: n.{number}\n".encode())
                assert call.sent == []
                await asyncio.to_thread(write, system, "message.read")
                await call.end()
                assert [item["type"] for item in json.loads(call.body)["items"]] == ["message.read"]

        asyncio.run(scenario())

    def test_who_stops_waiting_is_waited_for_no_longer(self, system: System) -> None:
        async def scenario() -> None:
            async with self.open(system) as server:
                async with calling(server, "/v1/changes?wait=60") as call:
                    while not server.connections.shares.taken:  # noqa: ASYNC110
                        await asyncio.sleep(0.01)
                assert call.sent == []
                assert server.connections.shares.taken == 0

        asyncio.run(scenario())

    def test_a_revoked_key_receives_no_more(self, system: System) -> None:
        with system.engine.begin() as connection:
            made = keys.create_key(connection, "short-lived", Scope.READ)

        async def scenario() -> None:
            async with (
                self.open(system, key_seconds=0.1) as server,
                calling(server, "/v1/changes/stream", made.secret) as revoked,
                calling(server, "/v1/changes/stream") as other,
            ):
                await revoked.until(b"id: ")
                await other.until(b"id: ")
                await asyncio.to_thread(system.execute, "UPDATE api_keys SET revoked_at = now()")
                await revoked.end()
                assert b": the key was revoked" in revoked.body
                await asyncio.to_thread(write, system, "later")
                await other.until(b"event: later")

        asyncio.run(scenario())

    def test_a_client_over_the_limit_is_answered_with_retry_after(self, system: System) -> None:
        async def scenario() -> None:
            async with self.open(system, max_connections=1) as server, calling(server, "/v1/changes/stream") as first:
                await first.until(b"id: ")
                async with calling(server, "/v1/changes/stream") as second:
                    await second.end()
                    assert second.status == 503
                    assert b"retry-after" in dict(second.sent[0]["headers"])
                async with calling(server, "/v1/changes?wait=60") as third:
                    await third.end()
                    assert third.status == 503
                    assert b"retry-after" in dict(third.sent[0]["headers"])
                async with calling(server, "/v1/changes") as page:
                    await page.end()
                    assert page.status == 200
            async with (
                self.open(system, max_connections=1) as server,
                calling(server, "/v1/changes/stream") as next_one,
            ):
                await next_one.until(b"id: ")

        asyncio.run(scenario())

    def test_one_key_leaves_places_for_others(self, system: System) -> None:
        with system.engine.begin() as connection:
            acme = [keys.create_key(connection, f"acme {number}", Scope.READ, "acme").secret for number in range(2)]
            other = keys.create_key(connection, "other", Scope.READ).secret

        async def scenario() -> None:
            async with self.open(system, max_connections=5) as server, AsyncExitStack() as stack:
                for secret in acme:
                    call = await stack.enter_async_context(calling(server, "/v1/changes/stream", secret))
                    await call.until(b"id: ")
                waiting = await stack.enter_async_context(calling(server, "/v1/changes?wait=60", acme[0]))
                while server.connections.shares.free > 2:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                for path in ("/v1/changes/stream", "/v1/changes?wait=60"):
                    async with calling(server, path, acme[1]) as refused:
                        await refused.end()
                        assert refused.status == 429
                        assert b"retry-after" in dict(refused.sent[0]["headers"])
                        assert b"Tenant 'acme' holds 3 of the 5 places for streams and long polls" in refused.body
                async with calling(server, "/v1/changes/stream", other) as admitted:
                    await admitted.until(b"id: ")
                assert not waiting.sent

        asyncio.run(scenario())

    def test_who_waits_is_counted_once(self, system: System) -> None:
        settings = Settings(admin_key=ADMIN_KEY, api_rate=0.001, api_burst=3)
        app = create_app(Deps(settings=settings, engine=system.engine, vault=system.vault, notifier=system.notifier))

        async def scenario() -> None:
            async with self.open(system, app=app) as server:
                left = []
                for _ in range(4):
                    async with calling(server, "/v1/changes?wait=0.05") as call:
                        await call.end()
                        left.append((call.status, dict(call.sent[0]["headers"])[b"ratelimit"][:9]))
                assert left == [(200, b'"key";r=2'), (200, b'"key";r=1'), (200, b'"key";r=0'), (429, b'"key";r=0')]

        asyncio.run(scenario())

    def test_a_log_that_is_another_than_before_ends_the_streams(self, system: System) -> None:
        """As when the database is put back to an earlier time while the process runs."""

        async def scenario() -> None:
            async with self.open(system) as server, calling(server, "/v1/changes/stream") as call:
                await call.until(b"id: ")
                await asyncio.to_thread(write, system, "one")
                await call.until(b"event: one")
                while b"connect again" not in call.body:
                    server.log._end = (10**15, 1)  # unless it is just being read  # noqa: SLF001
                    await asyncio.sleep(0.01)
                await call.end()
                assert b": the log was replaced" in call.body

        asyncio.run(scenario())

    def test_the_log_is_read_only_while_somebody_listens(self, system: System) -> None:
        async def scenario() -> None:
            async with self.open(system) as server:
                async with calling(server, "/v1/changes/stream") as call:
                    await call.until(b"id: ")
                    assert server.log._task is not None  # noqa: SLF001
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await server.log._task  # noqa: SLF001
                assert not server.log._entries  # noqa: SLF001
                async with calling(server, "/v1/changes/stream") as again:
                    await again.until(b"id: ")
                    await asyncio.to_thread(write, system, "one")
                    await again.until(b"event: one")

        asyncio.run(scenario())


def heard(call: Call) -> list[str]:
    return [line.removeprefix("event: ") for line in call.body.decode().splitlines() if line.startswith("event: ")]
