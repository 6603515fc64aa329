"""Both ends of the simulator's HTTP: a receiver that records its requests, and a client of an API."""

import http.client
import json
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode, urlsplit

from simulator import post
from simulator.providers.api.account import Account
from simulator.providers.base import Dialect
from simulator.scenarios import SCENARIOS
from simulator.serving import Call, Response, Server
from simulator.staging import Posting, stage


class Receiver(Server):
    """Answers with the given codes in turn, and with 200 when they are used up."""

    def __init__(self) -> None:
        super().__init__()
        self.codes: list[int] = []
        self.calls: list[Call] = []
        self._noting = threading.Lock()

    @property
    def endpoint(self) -> str:
        return f"{self.url}/webhooks/x"

    @property
    def bodies(self) -> list[bytes]:
        return [call.body for call in self.calls]

    def answer(self, call: Call) -> Response:
        with self._noting:
            self.calls.append(call)
            return Response(status=self.codes.pop(0) if self.codes else 200, content=b"noted")


@dataclass(frozen=True, kw_only=True)
class Answer:
    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.content)


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Calls the API at `base` with these headers."""

    base: str
    headers: dict[str, str] = field(default_factory=dict)
    timeout_seconds: float = 60.0

    def __call__(self, method: str, path: str, body: Any = None, **query: str | int) -> Answer:
        address = urlsplit(self.base)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=self.timeout_seconds)
        target = f"{address.path}{path}" + (f"?{urlencode(query)}" if query else "")
        content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        try:
            connection.request(method, target, content, self.headers)
            response = connection.getresponse()
            headers = {name.lower(): value for name, value in response.getheaders()}
            return Answer(status=response.status, headers=headers, content=response.read())
        finally:
            connection.close()


def make_postings(dialect: Dialect, count: int) -> list[Posting]:
    play = stage(SCENARIOS["happy"], dialect, count=count, seed=1, now=datetime.now(UTC))
    return list(play.postings)[:count]


def send_postings(account: Account, receiver: Receiver, *codes: int) -> list[Posting]:
    """One posting for each code that the receiver answers, in that order."""
    receiver.codes = list(codes)
    postings = make_postings(account.dialect, len(codes))
    post.send(postings, account.dialect, receiver.endpoint, connections=1, log=account.log)
    return postings
