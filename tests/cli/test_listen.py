"""`tidings listen` posts every change of a running API to a local URL, signed, once, and resumes where it was."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from cli.embedded.server import eventually
from cli.supervisor.ports import free_port
from tests.support.api_server import Served, served
from tests.support.command_line import Commands
from tests.support.http_sink import HttpSink, answer, hang_up, http_sink
from tests.support.system import ADMIN_KEY

WAIT_SECONDS = 120.0


@pytest.fixture
def api(commands: Commands) -> Iterator[Served]:
    """The API of the commands' system."""
    with served(commands.system.database_url) as server:
        yield server


@pytest.fixture
def sink() -> Iterator[HttpSink]:
    """The application that is developed."""
    with http_sink() as found:
        yield found


@dataclass
class Listening:
    """A running `tidings listen`, and the file that it prints to."""

    process: subprocess.Popen[bytes]
    output: Path

    def wait_for(self, text: str) -> str:
        """Wait until this was printed; everything that was."""
        assert eventually(lambda: text in self.output.read_text(), timeout_seconds=WAIT_SECONDS), (
            self.output.read_text()
        )
        return self.output.read_text()

    def interrupt(self) -> str:
        """Send what Ctrl-C sends; everything that was printed. It must end well."""
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(WAIT_SECONDS) == 0
        return self.output.read_text()


@contextmanager
def listening(commands: Commands, port: int, output: Path, *words: str) -> Iterator[Listening]:
    """Run `tidings listen` on the API at this port."""
    command = [
        sys.executable,
        "-m",
        "cli.main",
        "listen",
        "--api",
        f"http://127.0.0.1:{port}",
        "--key",
        ADMIN_KEY,
        *words,
    ]
    root = Path(__file__).parents[2]
    with output.open("wb") as file:
        process = subprocess.Popen(command, cwd=root, stdout=file, stderr=subprocess.STDOUT)
    try:
        yield Listening(process, output)
    finally:
        process.kill()
        process.wait(WAIT_SECONDS)


def test_each_change_is_posted_as_a_subscriber_would_get_it(
    commands: Commands, api: Served, sink: HttpSink, tmp_path: Path
) -> None:
    first = commands.system.log_change("message.bounced", recipient="ann@example.net")
    commands.system.log_change("message.opened")
    second = commands.system.log_change("message.delivered")
    sink.then(answer(500), answer(204))
    words = (
        "--forward",
        f"{sink.url}/hook?a=b",
        "--cursor",
        "0-0",
        "--type",
        "message.bounced",
        "--type",
        "message.delivered",
    )
    with listening(commands, api.port, tmp_path / "out", *words) as found:
        output = found.wait_for("→ 204")  # the number alone may be a part of a port or a cursor
        secret = output.partition("whsec_")[2].split()[0]
        ended = found.interrupt()
    assert [one.id for one in sink.received] == [first, second]
    for one in sink.received:
        assert one.path == "/hook?a=b"
        Webhook(f"whsec_{secret}").verify(one.body, dict(one.headers))
    assert sink.received[0].json == api.get("/v1/changes")["items"][0]
    assert f"message.bounced  {first}  ann@example.net  → 500" in output
    assert f"tidings listen --cursor {second}" in ended


def test_a_lost_connection_is_resumed_without_a_gap(commands: Commands, sink: HttpSink, tmp_path: Path) -> None:
    words = ("--forward", sink.url, "--cursor", "0-0")
    with served(commands.system.database_url) as api:
        first = commands.system.log_change()
        with listening(commands, api.port, tmp_path / "out", *words) as found:
            found.wait_for(first)
            os.killpg(api.process.pid, signal.SIGKILL)
            api.process.wait(WAIT_SECONDS)
            found.wait_for("The connection is lost")
            second = commands.system.log_change()
            with served(commands.system.database_url, port=api.port):
                found.wait_for(second)
                third = commands.system.log_change()
                output = found.wait_for(third)
                found.interrupt()
    assert "Connected again" in output
    assert [one.id for one in sink.received] == [first, second, third]


def test_an_application_that_is_away_stops_nothing(
    commands: Commands, api: Served, sink: HttpSink, tmp_path: Path
) -> None:
    sink.then(hang_up)
    first, second = commands.system.log_change(), commands.system.log_change()
    with listening(commands, api.port, tmp_path / "out", "--forward", sink.url, "--cursor", "0-0") as found:
        output = found.wait_for(second)
    (line,) = (line for line in output.splitlines() if first in line)
    assert "no response" in line


def test_changes_wait_for_an_application_that_is_not_started(commands: Commands, api: Served, tmp_path: Path) -> None:
    first, second = commands.system.log_change(), commands.system.log_change()
    port = free_port()
    url = f"http://127.0.0.1:{port}/mail"
    with listening(commands, api.port, tmp_path / "out", "--forward", url, "--cursor", "0-0") as found:
        found.wait_for(f"Nothing can be reached at {url}: Connection refused. Start your application there")
        with http_sink(port) as sink:
            found.wait_for(second)
            output = found.interrupt()
    assert [one.id for one in sink.received] == [first, second]
    assert output.count("Nothing can be reached") == 1
    assert f"tidings listen --cursor {second}" in output


def test_without_an_application_changes_are_printed(commands: Commands, api: Served, tmp_path: Path) -> None:
    cursor = commands.system.log_change(recipient="\x1b[2Jann@example.net")
    with listening(commands, api.port, tmp_path / "out", "--cursor", "0-0") as found:
        assert "\x1b" not in found.wait_for(cursor)
    with listening(commands, api.port, tmp_path / "json", "--cursor", "0-0", "--json") as found:
        (line,) = (line for line in found.wait_for(cursor).splitlines() if line.startswith("{"))
    assert json.loads(line)["id"] == cursor


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--forward", "localhost:3000"), "--forward: 'localhost:3000' is not a URL"),
        (("--api", "ftp://x/"), "--api: 'ftp://x/' is not a URL"),
        (("--secret", "whsec_x"), "secret"),
        (("--api", "http://127.0.0.1:1"), "Is the API running there?"),
        (("--type", "message.bonced"), "Did you mean 'message.bounced'?"),
        (("--key", "tdk_unknown"), "401"),
        (("--cursor", "x"), "400"),
    ],
)
def test_what_cannot_work_is_refused_at_once(
    commands: Commands, api: Served, words: tuple[str, ...], sentence: str
) -> None:
    given = ("--api", f"http://127.0.0.1:{api.port}", "--key", ADMIN_KEY)
    assert sentence in commands.run("listen", *given, *words, code=2)


def test_the_running_system_is_found_by_its_data(commands: Commands, tmp_path: Path) -> None:
    facts = {"api_url": "http://127.0.0.1:1", "admin_key": "x"}
    (tmp_path / "ready.json").write_text(json.dumps(facts))
    unset = Commands(commands.system, {"TIDINGS_DATABASE_URL": ""})
    assert "http://127.0.0.1:1" in unset.run("listen", "--data", str(tmp_path), code=2)
    assert "There is no key" in unset.run("listen", "--data", str(tmp_path / "absent"), code=2)
