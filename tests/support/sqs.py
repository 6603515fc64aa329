"""A local server of SQS, and what a test does with its queues."""

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import Any

from moto.server import ThreadedMotoServer

from shared.http import aws_signature
from shared.http import client as http_client
from shared.http.aws_signature import AccessKey

REGION = "eu-west-1"
KEY = AccessKey(access_key_id="AKIATEST", secret_access_key="a-secret-of-the-test")
_numbers = count(1)


@dataclass(frozen=True)
class Queue:
    """A queue of the server, seen with the rights of its owner."""

    server: str
    url: str

    def call(self, operation: str, **parameters: Any) -> Any:
        return call(self.server, operation, {"QueueUrl": self.url, **parameters})

    def send(self, *bodies: bytes | str) -> None:
        for body in bodies:
            self.call("SendMessage", MessageBody=body if isinstance(body, str) else body.decode())

    def visible(self) -> int:
        return self._count("ApproximateNumberOfMessages")

    def in_flight(self) -> int:
        return self._count("ApproximateNumberOfMessagesNotVisible")

    def remaining(self) -> int:
        return self.visible() + self.in_flight()

    def release_all(self, *handles: str) -> None:
        for handle in handles:
            self.call("ChangeMessageVisibility", ReceiptHandle=handle, VisibilityTimeout=0)

    def settings(self) -> dict[str, str]:
        """As a source has it."""
        return {"url": self.url, "region": REGION}

    def _count(self, name: str) -> int:
        return int(self.call("GetQueueAttributes", AttributeNames=[name])["Attributes"][name])


def call(server: str, operation: str, parameters: Mapping[str, Any]) -> Any:
    body = json.dumps(parameters).encode()
    headers = {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": f"AmazonSQS.{operation}"}
    signed = aws_signature.sign(
        "POST", f"{server}/", headers, body, KEY, region=REGION, service="sqs", now=datetime.now(UTC)
    )
    answer = http_client.call("POST", f"{server}/", headers=signed, body=body, timeout_seconds=30)
    assert answer.status == 200, answer.body
    return json.loads(answer.body)


def create_queue(server: str, **attributes: str) -> Queue:
    created = call(server, "CreateQueue", {"QueueName": f"events-{next(_numbers)}", "Attributes": attributes})
    return Queue(server, created["QueueUrl"])


@contextmanager
def sqs_server() -> Iterator[str]:
    """The URL of a server without any queue."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # not a line for each call
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()
