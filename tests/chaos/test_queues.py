"""Whenever the reader of a queue is killed, every message has its effect once."""

import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from shared.http import client as http_client
from shared.sources import store as sources
from simulator.providers.ses.webhooks import Ses
from simulator.scenarios import SCENARIOS
from simulator.serving import Call, Response, Server
from simulator.staging import stage
from tests.support import http_sink, rows, sqs
from tests.support.cluster import Cluster
from tests.support.http_sink import HttpSink
from tests.support.sqs import KEY, Queue

MESSAGES = 12


class Sqs(Server):
    """Passes every call on to a local SQS, except that calls of one operation may be held back, with their answers."""

    def __init__(self, server: str) -> None:
        super().__init__()
        self.held = ""
        self.holding = threading.Event()
        self.handles: list[str] = []
        self._server = server

    def answer(self, call: Call) -> Response:
        operation = call.headers["x-amz-target"].partition(".")[2]
        if operation == self.held:
            self.holding.set()
            self.closing.wait(30)
            return Response(status=503)
        headers = {name: call.headers[name] for name in ("content-type", "x-amz-target")}
        signed = {**headers, "Authorization": call.headers["authorization"], "X-Amz-Date": call.headers["x-amz-date"]}
        answer = http_client.call("POST", self._server, headers=signed, body=call.body, timeout_seconds=30)
        if operation == "ReceiveMessage":
            received = json.loads(answer.body).get("Messages", [])
            self.handles += [message["ReceiptHandle"] for message in received]
        return Response(
            status=answer.status, content=answer.body, headers={"Content-Type": "application/x-amz-json-1.0"}
        )


@pytest.fixture
def queue() -> Iterator[Queue]:
    with sqs.sqs_server() as server:
        yield sqs.create_queue(server)


@pytest.fixture
def sink() -> Iterator[HttpSink]:
    with http_sink.http_sink() as sink:
        yield sink


def test_messages_reach_state_and_subscriber_once_although_their_reader_is_killed(
    cluster: Cluster, queue: Queue, sink: HttpSink
) -> None:
    """Killed between commit and deletion, and then between receipt and commit, with SIGKILL."""
    with Sqs(queue.server) as proxy:
        source_id = add_source(cluster, queue, proxy)
        with cluster.engine.begin() as connection:
            rows.insert_subscription(connection, cluster.vault, sink.url, sources=["queued"])

        def pulled(is_done: Callable[[], bool]) -> None:
            """Wait for something, while leases of killed readers and the visibility timeout are made to pass."""

            def look() -> bool:
                with cluster.engine.begin() as connection:
                    connection.exec_driver_sql("UPDATE source_queues SET next_at = now() WHERE next_at > now()")
                return is_done()

            cluster.wait_for(look, "deliverer")

        def kill_reader() -> None:
            cluster.processes["deliverer"].kill()
            queue.release_all(*proxy.handles)
            proxy.handles.clear()
            proxy.held = ""

        proxy.held = "DeleteMessageBatch"
        queue.send(*events(0))
        cluster.start("deliverer")
        pulled(proxy.holding.is_set)
        assert stored(cluster, source_id) > 0
        kill_reader()
        assert queue.visible() == MESSAGES

        cluster.restart("deliverer")
        pulled(lambda: queue.remaining() == 0)
        assert stored(cluster, source_id) == MESSAGES

        with cluster.engine.connect() as connection, connection.begin():
            connection.exec_driver_sql("LOCK TABLE receipt_keys IN EXCLUSIVE MODE")
            proxy.handles.clear()
            queue.send(*events(1))
            pulled(lambda: bool(proxy.handles))
            kill_reader()
        assert queue.visible() == MESSAGES
        assert stored(cluster, source_id) == MESSAGES

        cluster.restart("deliverer")
        pulled(lambda: queue.remaining() == 0)
        assert stored(cluster, source_id) == 2 * MESSAGES

        cluster.wait_until_processed()
        assert len(cluster.states(source_id)) == 2 * MESSAGES
        changes = cluster.rows("SELECT transaction::text, id FROM state_changes WHERE source_id = %(id)s", id=source_id)
        assert len(changes) == 2 * MESSAGES
        logged = {f"{transaction}-{id_}" for transaction, id_ in changes}
        pulled(lambda: logged == {request.id for request in sink.received})
        with cluster.engine.begin() as connection:
            sources.delete(connection, "queued")  # later tests need not wait for calls to it that fail


def add_source(cluster: Cluster, queue: Queue, proxy: Sqs) -> int:
    credentials = {"access_key_id": KEY.access_key_id, "secret_access_key": KEY.secret_access_key}
    # `api_base`: the key would also be used for calls to the real API.
    settings = {"queue": {**queue.settings(), "endpoint_url": f"{proxy.url}/"}, "api_base": "http://127.0.0.1:9"}
    with cluster.engine.begin() as connection:
        row = sources.create(
            connection,
            slug="queued",
            provider="ses",
            credentials=cluster.vault.seal(credentials),
            settings=settings,
        )
    return row.id


def events(part: int) -> list[bytes]:
    """The sending of as many messages."""
    dialect, now = Ses(), datetime.now(UTC)
    plays = [stage(SCENARIOS["happy"], dialect, count=1, seed=100 * part + n, now=now) for n in range(MESSAGES)]
    return [play.postings[0].body for play in plays]


def stored(cluster: Cluster, source_id: int) -> int:
    found: int = cluster.rows("SELECT count(*) FROM receipts WHERE source_id = %(id)s", id=source_id)[0][0]
    return found
