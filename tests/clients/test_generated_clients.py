"""Clients that are generated from the OpenAPI document work with the API."""

import importlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.support import openapi
from tests.support.api_server import served
from tests.support.system import ADMIN_KEY, System, mailchannels_event, open_system

ANN = "ann@example.net"
TYPESCRIPT = Path(__file__).with_name("typescript")
NO_NETWORK = re.compile(
    "ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|EHOSTUNREACH|ENETUNREACH|ETIMEDOUT|ERR_SOCKET_TIMEOUT|code E(429|5..)"
)
CSV_BODY = "Unsupported content type text/csv"
"""The only part that the generator for Python leaves out: the upload of a list as a file."""


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The document in a file."""
    path = tmp_path_factory.mktemp("document") / "openapi.json"
    path.write_text(json.dumps(openapi.document()))
    return path


@pytest.fixture
def system(database_url: str) -> Iterator[System]:
    with open_system(database_url) as opened:
        opened.create_source()
        yield opened


@pytest.fixture
def url(system: System, database_url: str) -> Iterator[str]:
    with served(database_url, TIDINGS_SECRET_KEYS=system.secret_key) as server:
        yield f"http://127.0.0.1:{server.port}"


@pytest.fixture
def generated(document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The package that openapi-python-client generates."""
    options = ["--path", str(document), "--output-path", str(tmp_path / "generated_client"), "--meta", "none"]
    # The generator formats the code with ruff, which it looks for beside the other programs.
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    # -E: it prints the document's examples, which are no logs of ours for the tests to search.
    command = [sys.executable, "-E", "-m", "openapi_python_client", "generate", *options]
    made = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout + made.stderr
    warnings = re.findall(r"^WARNING parsing.*\n+(.*)", made.stdout + made.stderr, re.MULTILINE)
    assert [line.strip() for line in warnings if line.strip() != CSV_BODY] == []
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "modules", {n: m for n, m in sys.modules.items() if not n.startswith("generated_client")})
    return importlib.import_module("generated_client")


def test_the_generated_python_client_calls_every_operation(generated: ModuleType, system: System, url: str) -> None:
    def load(name: str) -> Any:
        return importlib.import_module(f"{generated.__name__}.{name}")

    for method, path in openapi.operations(document := openapi.document()):
        name = re.sub("([A-Z])", r"_\1", document["paths"][path][method]["operationId"]).lower()
        (tag,) = document["paths"][path][method]["tags"]
        assert callable(load(f"api.{tag}.{name}").sync_detailed)
    models = load("models")
    with generated.AuthenticatedClient(base_url=url, token=ADMIN_KEY) as client:
        use(client, models, load, system)


def use(client: Any, models: Any, load: Callable[[str], Any], system: System) -> None:
    """Announce, list page by page, be refused, and read a webhook."""
    sends = [
        models.Announcement(source="main", sender="shop@example.com", recipients=[ANN], request_id=f"r{number}")
        for number in range(1, 4)
    ]
    announced = load("api.messages.announce_messages").sync(client=client, body=models.Announcements(messages=sends))
    assert [result.is_new for result in announced.results] == [True] * 3
    system.process_events(mailchannels_event("hard-bounced", ANN, status="5.1.1"))
    list_messages, seen = load("api.messages.list_messages"), []
    cursor: dict[str, str] = {}
    while True:
        page = list_messages.sync(client=client, recipient=ANN, limit=2, **cursor)
        seen += page.items
        if page.next_cursor is None:
            break
        cursor = {"cursor": page.next_cursor}
    assert {message.id for message in seen} == {result.id for result in announced.results}
    (bounced,) = [message for message in seen if message.request_id == "r1"]
    assert bounced.recipients[0].status == "bounced"
    assert bounced.recipients[0].classification == "invalid_recipient"
    wrong = models.Announcement(source="absent", sender="shop@example.com", recipients=[ANN])
    refused = load("api.messages.announce_message").sync_detailed(client=client, body=wrong)
    assert refused.status_code == 422
    assert "absent" in refused.parsed.errors["source"][0]
    (change,) = system.get("/v1/changes")["items"]
    found = models.MessageBouncedChange.from_dict(change)
    assert found.data.event.classification == "invalid_recipient"
    assert json.loads(json.dumps(found.to_dict()).replace("+00:00", "Z")) == change


@pytest.fixture
def node(document: Path, tmp_path: Path) -> Path:
    """The program for Node, compiled with the types that openapi-typescript generates."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node or npm is not installed, which generate and compile the types")
    for name in ("package.json", "package-lock.json", ".npmrc", "usage.ts"):
        shutil.copy(TYPESCRIPT / name, tmp_path)

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    installed = run("npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
    if installed.returncode and NO_NETWORK.search(installed.stderr):
        pytest.skip("npm cannot reach its registry")
    assert installed.returncode == 0, installed.stderr
    made = run("node_modules/.bin/openapi-typescript", str(document), "--output", "schema.d.ts")
    assert made.returncode == 0, made.stderr
    strict = ("--strict", "--noUncheckedIndexedAccess", "--skipLibCheck", "false")
    form = ("--module", "nodenext", "--target", "es2022", "--lib", "es2022,dom", "--outDir", "built")
    compiled = run("node_modules/.bin/tsc", *strict, *form, "usage.ts")
    assert compiled.returncode == 0, compiled.stdout
    return tmp_path / "built/usage.js"


def test_the_generated_typescript_client_compiles_and_reads_the_answers(node: Path, system: System, url: str) -> None:
    system.process_events(mailchannels_event("hard-bounced", "bob@example.net", status="5.1.1", request_id="r2"))
    (change,) = system.get("/v1/changes")["items"]
    command = ["node", str(node), url, ADMIN_KEY, json.dumps(change)]
    ran = subprocess.run(command, cwd=node.parent, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    (message,) = system.get("/v1/messages", recipient=ANN)["items"]
    assert found["announced"] == found["listed"] == message["id"]
    assert (found["status"], found["about"]) == ("submitted", "invalid_recipient")
    assert "absent" in found["refused"][0]
