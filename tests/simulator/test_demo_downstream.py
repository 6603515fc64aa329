"""The demo compares its subscribers with the change log, and with what each of them counted."""

import io
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.error import HTTPError
from urllib.parse import parse_qs, urlsplit
from urllib.request import Request, urlopen

import pytest
from rich.console import Console

from cli.demo import downstream
from cli.demo.downstream import Applications
from cli.demo.report import print_checks
from shared.http import standard_webhooks
from simulator.api import Api

_LOG = ["1-1", "1-2", "2-1"]


class Tidings(Api):
    """What the demo asks Tidings; it delivers nothing but what a test tells it to."""

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1:9", "")
        self.log: list[str] = []
        self.subscriptions: list[dict[str, Any]] = []
        self.dead: list[str] = []
        self.replays = True
        self.secret = standard_webhooks.new_secret()

    def call(self, method: str, path: str, body: Any = None) -> Any:
        match method, urlsplit(path).path.split("/")[2:]:
            case "POST", ["subscriptions"]:
                self.subscriptions.append(body)
                return {"id": body["name"], "secret": self.secret}
            case "GET", ["changes"]:
                return self._page(int(parse_qs(urlsplit(path).query).get("cursor", ["0"])[0]))
            case "GET", ["deliveries", _]:
                return dict.fromkeys(("id", "status", "last_error", "usually_means", "next_action"), "[said]")
            case "POST", ["deliveries", "replay"]:
                return {"id": "job"}
            case "GET", ["jobs", _]:
                return {"state": "done", "done": len(self.replay())}
        raise AssertionError(path)

    def _page(self, start: int) -> dict[str, Any]:
        """A page ends after one change, and one that is empty comes before each."""
        items = [{"id": self.log[start // 2]}] if start % 2 else []
        return {"items": items, "next_cursor": str(min(start + 1, len(self.log) * 2))}

    def items(self, path: str, **query: str | int) -> list[dict[str, Any]]:  # noqa: ARG002
        return [{"id": name} for name in self.dead if query["subscription"] == "dead"]

    def replay(self) -> Sequence[str]:
        """Tell the dead one again of what is dead, or do not."""
        names, self.dead = (self.dead, []) if self.replays else ([], self.dead)
        for name in names:
            self.tell("dead", name)
        return names

    def tell(self, subscription: str, name: str, secret: str | None = None) -> int:
        """Return the status with which a subscriber answers a change."""
        url = next(made["url"] for made in self.subscriptions if made["name"] == subscription)
        body = json.dumps({"id": name}).encode()
        signed = standard_webhooks.headers(
            [secret or self.secret], message_id=name, attempted_at=datetime.now(UTC), body=body
        )
        request = Request(url, body, {**signed, "Idempotency-Key": name})  # noqa: S310 - a server of this test's
        try:
            with urlopen(request) as response:  # noqa: S310
                return int(response.status)
        except HTTPError as error:
            error.close()
            return error.code


@pytest.fixture
def tidings() -> Tidings:
    return Tidings()


@pytest.fixture
def audience(tidings: Tidings) -> Iterator[Applications]:
    with downstream.subscribe_applications(tidings) as audience:
        yield audience


def conclude(tidings: Tidings, audience: Applications) -> tuple[bool, str]:
    """Whether everything was as it should be, and what was shown."""
    screen = io.StringIO()
    console = Console(file=screen, width=100)
    made = downstream.check_applications(console, tidings, audience, within_seconds=0)
    return print_checks(console, made), screen.getvalue()


def deliver(tidings: Tidings) -> None:
    """Everything, as Tidings would."""
    tidings.log = list(_LOG)
    for name in _LOG:
        assert tidings.tell("healthy", name) == 200
        while tidings.tell("flapping", name) != 200:
            pass
        assert tidings.tell("dead", name) == 404
        tidings.dead.append(name)


def test_it_holds_where_everything_was_delivered_and_what_was_dead_is_replayed(
    tidings: Tidings, audience: Applications
) -> None:
    deliver(tidings)
    held, shown = conclude(tidings, audience)
    assert held, shown
    assert "3 changes reached the healthy subscriber" in shown
    assert "failed 1 times" in shown
    assert "all 3 deliveries to the dead one were dead" in shown


def test_it_does_not_hold_where_nothing_happened(tidings: Tidings, audience: Applications) -> None:
    held, shown = conclude(tidings, audience)
    assert not held
    assert shown.count("there were no changes") == 3


def test_it_does_not_hold_where_one_change_is_missing(tidings: Tidings, audience: Applications) -> None:
    deliver(tidings)
    tidings.log.append("2-2")
    held, shown = conclude(tidings, audience)
    assert not held
    assert shown.count("1 missed") == 3


def test_it_does_not_hold_where_a_signature_was_wrong(tidings: Tidings, audience: Applications) -> None:
    deliver(tidings)
    assert tidings.tell("healthy", "1-1", standard_webhooks.new_secret()) == 401
    held, shown = conclude(tidings, audience)
    assert not held
    assert "1 badly signed" in shown


def test_it_does_not_hold_where_what_was_dead_is_not_replayed(tidings: Tidings, audience: Applications) -> None:
    deliver(tidings)
    tidings.replays = False
    held, shown = conclude(tidings, audience)
    assert not held
    assert "3 missed" in shown
    assert "0 were replayed" in shown
