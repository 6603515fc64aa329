"""The examples for application developers work as they stand, against a running Tidings, in both languages."""

import base64
import importlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cli.embedded.server import eventually
from cli.supervisor import ports
from tests.support.supervised_system import running, wait_until

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="Node is not installed: apt-get install nodejs")
LANGUAGES = ["python", pytest.param("node", marks=needs_node)]
SECONDS = 120
PASSWORD = "a password of the provider"


@dataclass(frozen=True)
class Installation:
    """A running Tidings with the source `shop`."""

    receiver: str
    api: str
    key: str

    def call(self, method: str, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(
            self.api + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def report(self, kind: str, recipient: str, message: str) -> None:
        """Post one event as the provider does."""
        body = {"events": [{"kind": kind, "recipient": recipient, "message_id": message}]}
        login = base64.b64encode(f"shop:{PASSWORD}".encode()).decode()
        headers = {"Authorization": f"Basic {login}", "Content-Type": "application/json"}
        request = urllib.request.Request(
            f"{self.receiver}/webhooks/shop", data=json.dumps(body).encode(), headers=headers
        )
        urllib.request.urlopen(request, timeout=SECONDS).close()

    def known(self, recipient: str) -> set[str]:
        """Return the ids of the changes about a recipient."""
        page = self.call("GET", "/v1/changes?limit=500")
        return {change["id"] for change in page["items"] if change["data"].get("recipient") == recipient}


@pytest.fixture(scope="module")
def tidings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with running(tmp_path_factory.mktemp("up"), TIDINGS_EGRESS_ALLOW="127.0.0.0/8") as up:
        facts = up.ready()
        found = Installation(facts["receiver_url"], facts["api_url"], facts["admin_key"])
        credentials = {"username": "shop", "password": PASSWORD}
        found.call("POST", "/v1/sources", {"slug": "shop", "provider": "cloudmailin", "credentials": credentials})
        yield found


def command(language: str, name: str, *arguments: str) -> list[str]:
    if language == "python":
        return [sys.executable, str(EXAMPLES / "python" / f"{name}.py"), *arguments]
    return [NODE or "node", str(EXAMPLES / "node" / f"{name}.mjs"), *arguments]


def environment(tidings: Installation, **more: str) -> dict[str, str]:
    return {**os.environ, "TIDINGS_URL": tidings.api, "TIDINGS_KEY": tidings.key, **more}


@dataclass
class Example:
    """A running example, and what it has printed."""

    process: subprocess.Popen[bytes]
    output: Path

    def lines(self) -> list[str]:
        return self.output.read_text().splitlines()

    def ids(self, recipient: str) -> list[str]:
        """Return the ids of the changes about a recipient that it took, as often as it took them."""
        return [line.split()[0] for line in self.lines() if line.endswith(f" {recipient}")]


@contextmanager
def started(words: list[str], settings: dict[str, str], output: Path) -> Iterator[Example]:
    with output.open("ab") as sink:
        process = subprocess.Popen(words, env=settings, stdout=sink, stderr=subprocess.STDOUT)
    try:
        yield Example(process, output)
    finally:
        process.kill()
        process.wait()


def assert_takes(example: Example, tidings: Installation, recipient: str) -> None:
    """Wait until it has taken every change about a recipient; none twice."""

    def complete() -> bool:
        known = tidings.known(recipient)
        return bool(known) and set(example.ids(recipient)) == known

    assert eventually(complete, timeout_seconds=SECONDS), example.lines()
    assert len(example.ids(recipient)) == len(set(example.ids(recipient)))


@pytest.mark.parametrize("language", LANGUAGES)
def test_sending_leaves_out_who_is_suppressed_and_announces_the_rest(tidings: Installation, language: str) -> None:
    gone, fine = f"gone@{language}.example", f"fine@{language}.example"
    tidings.call("POST", "/v1/suppressions", {"address": gone, "reason": "hard_bounce"})
    words = command(language, "send", "shop", "news@shop.example", gone, fine)
    printed = subprocess.run(words, env=environment(tidings), capture_output=True, text=True, check=True).stdout
    assert f"not sent to {gone}: hard_bounce" in printed
    message = tidings.call("GET", f"/v1/messages/{printed.split()[-1]}")
    assert [one["recipient"] for one in message["recipients"]] == [fine]
    assert message["recipients"][0]["status"] == "submitted"


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_error_of_the_api_says_what_is_wrong(tidings: Installation, language: str) -> None:
    words = command(language, "send", "nobody", "news@shop.example", "ann@x.example")
    done = subprocess.run(words, env=environment(tidings), capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "nobody" in done.stderr, done.stderr


@pytest.mark.parametrize("name", ["feed", "stream"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_each_change_is_taken_once_also_after_a_kill(
    tidings: Installation, language: str, name: str, tmp_path: Path
) -> None:
    recipient, store = f"{name}@{language}.example", str(tmp_path / "store")
    words, settings = command(language, name, store), environment(tidings)
    with started(words, settings, tmp_path / "output") as example:
        # The stream begins with the present: only what comes after its beginning can be expected.
        wait_until(lambda: bool(_cursor(language, store)) or name == "feed")
        for kind in ("registration", "dispatch"):
            tidings.report(kind, recipient, f"{name}-{language}")
        assert_takes(example, tidings, recipient)
    tidings.report("delivery", recipient, f"{name}-{language}")
    with started(words, settings, tmp_path / "output") as example:
        assert_takes(example, tidings, recipient)


def _cursor(language: str, store: str) -> bool:
    if language == "node":
        return Path(store, "cursors", "stream").exists()
    with sqlite3.connect(store) as database:
        try:
            return bool(database.execute("SELECT cursor FROM cursors").fetchall())
        except sqlite3.OperationalError:
            return False


@contextmanager
def receiving(
    tidings: Installation, language: str, scheme: str, tmp_path: Path
) -> Iterator[tuple[Example, dict[str, Any]]]:
    """Run the example of webhooks, and subscribe it."""
    port = ports.free_port()
    url = f"http://127.0.0.1:{port}/mail"
    subscription = tidings.call("POST", "/v1/subscriptions", {"url": url, "types": ["message.*"], "scheme": scheme})
    secret = subscription["public_key"] if scheme == "v1a" else subscription["secret"]
    other = "whsec_" + base64.b64encode(bytes(32)).decode()  # one of two secrets, as during a rotation
    settings = environment(tidings, WEBHOOK_SECRETS=f"{other} {secret}")
    words = command(language, "webhooks", str(port), str(tmp_path / "store"))
    with started(words, settings, tmp_path / "output") as example:
        wait_until(lambda: _status(url, {}) == 401)
        yield example, subscription
    tidings.call("DELETE", f"/v1/subscriptions/{subscription['id']}")


def _status(url: str, headers: dict[str, str]) -> int:
    request = urllib.request.Request(url, data=b"{}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


@pytest.mark.parametrize("scheme", ["v1", "v1a"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_webhooks_are_verified_and_stored_once(
    tidings: Installation, language: str, scheme: str, tmp_path: Path
) -> None:
    recipient = f"{scheme}@{language}.example"
    with receiving(tidings, language, scheme, tmp_path) as (example, subscription):
        tidings.report("delivery", recipient, f"{scheme}-{language}")
        assert_takes(example, tidings, recipient)
        path = f"/v1/deliveries?subscription={subscription['id']}&status=delivered"
        wait_until(lambda: len(tidings.call("GET", path)["items"]) == 1)
        (delivery,) = tidings.call("GET", path)["items"]
        tidings.call("POST", f"/v1/deliveries/{delivery['id']}/replay")
        attempts = f"/v1/deliveries/{delivery['id']}/attempts"
        wait_until(lambda: len(tidings.call("GET", attempts)["items"]) == 2)
        answers = [attempt["response_capture"]["body"] for attempt in tidings.call("GET", attempts)["items"]]
        assert sorted(answers) == ["known", "stored"]
        assert_takes(example, tidings, recipient)


@pytest.mark.parametrize("scheme", ["v1", "v1a"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_forged_and_malformed_signatures_are_refused(
    tidings: Installation, language: str, scheme: str, tmp_path: Path
) -> None:
    with receiving(tidings, language, scheme, tmp_path) as (example, subscription):
        url = subscription["url"]
        now = str(int(time.time()))
        valid_form = base64.b64encode(bytes(64)).decode()
        for signature in ("", "v1", "v1a", ",", f"{scheme},{valid_form}", f"{scheme},é", f"{scheme},%%%", "v9,AAAA"):
            signed = {"webhook-signature": signature.encode().decode("latin-1")}
            headers = {"webhook-id": "1-1", "webhook-timestamp": now, **signed}
            assert _status(url, headers) == 401, signature
        for at in ("", "soon", "-1", "1", "9" * 30, "²"):
            timed = {"webhook-timestamp": at.encode().decode("latin-1")}
            headers = {"webhook-id": "1-1", "webhook-signature": "v1,AAAA", **timed}
            assert _status(url, headers) == 401, at
        assert example.process.poll() is None


def test_an_older_change_does_not_replace_a_newer_state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES / "python"))
    example: Any = importlib.import_module("tidings")

    def change(identifier: str, status: str, version: int) -> dict[str, Any]:
        data = {"message": {"id": "m"}, "recipient": "ann@x.example", "status": status, "version": version}
        return {"id": identifier, "type": f"message.{status}", "data": data}

    database = example.open_store(str(tmp_path / "store"))
    taken = [change("1-2", "delivered", 2), change("1-1", "sent", 1), change("1-2", "delivered", 2)]
    assert [example.store(database, one) for one in taken] == [True, True, False]
    assert database.execute("SELECT status FROM recipients").fetchall() == [("delivered",)]


@needs_node
def test_an_older_change_does_not_replace_a_newer_state_in_node(tmp_path: Path) -> None:
    code = f"""
        import {{ newest, openStore }} from {json.dumps((EXAMPLES / "node" / "tidings.mjs").as_uri())};
        const message = {{ id: "m" }};
        const change = (id, status, version) => ({{ id, data: {{ message, recipient: "a", status, version }} }});
        const store = openStore({json.dumps(str(tmp_path))});
        const taken = [change("1-2", "delivered", 2), change("1-1", "sent", 1), change("1-2", "delivered", 2)];
        console.log(taken.map((one) => store.add(one)).join(), taken.reduce(newest, new Map()).get("m a").status);
    """
    done = subprocess.run(
        [NODE or "", "--input-type=module", "-e", code], capture_output=True, text=True, check=True
    ).stdout
    assert done == "true,true,false delivered\n"
