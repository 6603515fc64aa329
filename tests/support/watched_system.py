"""A `tidings up` that has had traffic of every kind, and what can be watched of it: its metrics and its logs."""

import base64
import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from tests.support import supervised_system
from tests.support.http_sink import answer, http_sink

ADDRESS = "maria.fontaine@customer.example"
OTHER_ADDRESS = "josé.özil@kunde.example"
SUBJECT = "Votre facture confidentielle"
PASSWORD = "a-password-of-the-provider"
HEADER_SECRET = "a-secret-of-the-subscriber"
URL_TOKEN = "a-token-in-the-endpoint"
BODY_WORD = "a-word-of-the-body"
ADMIN_KEY = "the-key-of-the-administrator"

LOGGED = ("receipt processed", "receipt is dead", "delivery failed", "job ended")
"""What workers and deliverers log of this traffic, each with ids."""

# An error whose message quotes an address, as those of constraints do. PostgreSQL's own log is not ours to redact.
QUOTING_ERROR = """
CREATE FUNCTION quote_it() RETURNS trigger LANGUAGE plpgsql SET log_min_messages = panic AS
    $$ BEGIN RAISE 'cannot store %', NEW.recipient; END $$;
CREATE TRIGGER quoting BEFORE INSERT ON events FOR EACH ROW WHEN (NEW.type = 'clicked') EXECUTE FUNCTION quote_it()
"""


@dataclass(frozen=True)
class WatchedSystem:
    """What was seen of the system."""

    metrics: str
    logs: Mapping[str, str]
    """The text of each log file, by its name."""
    earlier_logs: Mapping[str, str]
    """The same before the ids were read: what was logged later may be about something that was created later."""
    secrets: Mapping[str, str]
    """What no log may contain, by what it is."""
    receipt_ids: frozenset[str]
    delivery_ids: frozenset[str]
    message_ids: frozenset[str]
    job_ids: frozenset[str]


class Client:
    """Sends requests to the processes."""

    def __init__(self, facts: Mapping[str, Any]) -> None:
        self.api, self.receiver = str(facts["api_url"]), str(facts["receiver_url"])

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Send a request to the API; its document."""
        headers = {"Authorization": f"Bearer {ADMIN_KEY}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.api + path, data, headers, method=method)  # noqa: S310 - of this machine
        with urllib.request.urlopen(request) as response:  # noqa: S310
            return json.loads(response.read() or b"null")

    def post(self, body: bytes, password: str = PASSWORD) -> int:
        """Post a webhook as the provider does; the status."""
        pair = base64.b64encode(f"ann:{password}".encode()).decode()
        headers = {"Authorization": f"Basic {pair}"}
        request = urllib.request.Request(self.receiver + "/webhooks/shop", body, headers)  # noqa: S310
        try:
            with urllib.request.urlopen(request) as response:  # noqa: S310
                return int(response.status)
        except urllib.error.HTTPError as error:
            error.close()
            return int(error.code)

    def metrics(self) -> str:
        """Return the metrics of the API and of the receivers."""
        urls = (f"{self.api}/metrics", f"{self.receiver}/metrics")
        return "\n".join(urllib.request.urlopen(url).read().decode() for url in urls)  # noqa: S310


@contextmanager
def watched_system(data: Path) -> Iterator[WatchedSystem]:
    """Run a system at the most talkative level, send it traffic of every kind, stop it, and yield what was seen."""
    settings = {
        "TIDINGS_ADMIN_KEY": ADMIN_KEY,
        "TIDINGS_EGRESS_ALLOW": "127.0.0.0/8",
        "TIDINGS_LOG_LEVEL": "debug",
        "TIDINGS_MAX_ATTEMPTS": "1",
    }
    with http_sink() as sink, supervised_system.running(data, **settings) as up:
        sink.always = answer(500, f"{ADDRESS} {HEADER_SECRET}".encode())
        client = Client(up.ready())
        credentials = {"username": "ann", "password": PASSWORD}
        client.call("POST", "/v1/sources", {"slug": "shop", "provider": "cloudmailin", "credentials": credentials})
        endpoint = f"{sink.url}/{URL_TOKEN}"
        wishes = {"url": endpoint, "types": ["*"], "headers": {"X-Secret": HEADER_SECRET}}
        subscription = client.call("POST", "/v1/subscriptions", wishes)
        client.call("POST", "/v1/alert-channels", {"name": "team", "kind": "webhook", "url": endpoint})
        supervised_system.wait_until(lambda: client.post(events("delivery")) == 200)
        assert client.post(events("a kind that is new")) == 200
        assert client.post(f'{{"{BODY_WORD}": "{ADDRESS}'.encode()) == 200  # unreadable: it becomes dead
        assert client.post(events("bounce"), "wrong") == 401
        up.kill("worker")
        assert client.post(events("bounce")) == 200
        job = client.call("POST", "/v1/erasures", {"address": OTHER_ADDRESS})
        supervised_system.wait_until(lambda: client.call("GET", f"/v1/jobs/{job['id']}")["state"] == "done")
        supervised_system.wait_until(lambda: "tidings_events_set_aside_total{" in client.metrics())
        with psycopg.connect(up.ready()["database_url"], autocommit=True) as connection:
            connection.execute(QUOTING_ERROR)
        assert client.post(events("click")) == 200
        supervised_system.wait_until(lambda: len(client.call("GET", "/v1/receipts?state=dead")["items"]) > 1)
        supervised_system.wait_until(lambda: 'result="retry"} 0.0' not in client.metrics())
        supervised_system.wait_until(lambda: all(one in str(read_logs(data)) for one in LOGGED))
        earlier_logs = read_logs(data)
        deliveries = client.call("GET", "/v1/deliveries")["items"]
        receipts = client.call("GET", "/v1/receipts")["items"]
        messages = client.call("GET", "/v1/messages")["items"]
        metrics = client.metrics()
        encryption_key = (data / "secret_keys").read_text()
    yield WatchedSystem(
        metrics=metrics,
        logs=read_logs(data),
        earlier_logs=earlier_logs,
        secrets={
            "an address": ADDRESS,
            "the local part of an address": ADDRESS.partition("@")[0],
            "an international address": OTHER_ADDRESS,
            "a subject": SUBJECT,
            "a provider's password": PASSWORD,
            "a static header": HEADER_SECRET,
            "a token in a URL": URL_TOKEN,
            "a word of a body": BODY_WORD,
            "the administrator's key": ADMIN_KEY,
            "a signing secret": subscription["secret"],
            "an encryption key": encryption_key,
        },
        receipt_ids=frozenset(one["id"] for one in receipts),
        delivery_ids=frozenset(one["id"] for one in deliveries),
        message_ids=frozenset(one["id"] for one in messages),
        job_ids=frozenset({job["id"]}),
    )


def read_logs(data: Path) -> Mapping[str, str]:
    """Return the text of each log file, by its name."""
    return {path.name: path.read_text(errors="replace") for path in (data / "logs").iterdir()}


def events(kind: str) -> bytes:
    """Return a webhook of CloudMailin with two events of this kind."""
    return json.dumps(
        {
            "events": [
                {"kind": kind, "recipient": address, "message_id": f"{kind} {number}", "subject": SUBJECT,
                 "reason": f"550 5.1.1 <{address}>: {SUBJECT} {BODY_WORD}"}
                for number, address in enumerate((ADDRESS, OTHER_ADDRESS))
            ]
        }
    ).encode()  # fmt: skip
