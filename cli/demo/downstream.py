"""The demo's audience: three applications that are told of everything that happens, and bear it differently."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli.demo import patience
from cli.demo.claims import Claim
from cli.demo.report import table_of
from simulator.api import Api
from simulator.subscribing import behaviours
from simulator.subscribing.behaviours import Behaviour
from simulator.subscribing.subscriber import Subscriber

NETWORK = "127.0.0.0/8"
"""Where the applications are: TIDINGS_EGRESS_ALLOW must have it."""

_RETRY_SCHEDULE = (0, 1, 1, 1, 1, 2, 2, 2, 3, 3)
_WAIT_SECONDS = 20.0
_PAGE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What an application is to be told of, and how it answers at first."""

    name: str
    about: str
    types: Sequence[str]
    behaviour: Behaviour
    ordered: bool = False


_HEALTHY = Part(
    name="healthy", about="takes everything, one by one", types=("*",), behaviour=behaviours.healthy(), ordered=True
)
_FLAPPING = Part(
    name="flapping", about="every third answer is 503", types=("message.*",), behaviour=behaviours.flapping(3)
)
_DEAD = Part(
    name="dead",
    about="404, then mended",
    types=("message.*", "suppression.*"),
    behaviour=behaviours.answering(HTTPStatus.NOT_FOUND),
)


@dataclass(slots=True, kw_only=True)
class Application:
    """One that has subscribed. `log` is what it should have been told since then, read as far as `cursor`."""

    part: Part
    subscriber: Subscriber
    subscription_id: str
    cursor: str
    log: list[str] = field(default_factory=list)

    @property
    def missed(self) -> list[str]:
        """What was never taken."""
        return self.subscriber.tally.missed(self.log)

    def is_up_to_date(self, api: Api) -> bool:
        """Read the log on; whether all of it was taken."""
        self.cursor, more = _read_on(api, self.cursor, self.part.types)
        self.log += more
        return not self.missed


@dataclass(frozen=True, slots=True, kw_only=True)
class Audience:
    """The applications."""

    healthy: Application
    flapping: Application
    dead: Application


@contextmanager
def subscribed(api: Api) -> Iterator[Audience]:
    """The applications, which have just subscribed, and answer until this is left."""
    with ExitStack() as stack:
        healthy, flapping, dead = (
            _subscribe(api, part, stack.enter_context(Subscriber(part.behaviour)))
            for part in (_HEALTHY, _FLAPPING, _DEAD)
        )
        yield Audience(healthy=healthy, flapping=flapping, dead=dead)


def _subscribe(api: Api, part: Part, subscriber: Subscriber) -> Application:
    wishes = {
        "name": part.name,
        "url": subscriber.endpoint,
        "types": part.types,
        "retry_schedule": _RETRY_SCHEDULE,
        "ordered": part.ordered,
    }
    made = api.call("POST", "/v1/subscriptions", wishes)
    subscriber.trust(made["secret"])
    cursor, _ = _read_on(api, None, part.types)
    return Application(part=part, subscriber=subscriber, subscription_id=made["id"], cursor=cursor)


def _read_on(api: Api, cursor: str | None, types: Sequence[str]) -> tuple[str, list[str]]:
    """Where the log ends, and the ids of the changes of these types from the cursor up to there."""
    found: list[str] = []
    while True:
        query = {"types": ",".join(types), "limit": _PAGE, **({"cursor": cursor} if cursor else {})}
        page = api.call("GET", f"/v1/changes?{urlencode(query)}")
        found += [change["id"] for change in page["items"]]
        if page["next_cursor"] == cursor:  # an empty page alone says nothing: it may have skipped other types
            return page["next_cursor"], found
        cursor = page["next_cursor"]


def play(console: Console, api: Api, audience: Audience, *, within_seconds: float = _WAIT_SECONDS) -> list[Claim]:
    """Wait until all have been told, mend the dead one, replay what it missed; what should be so in the end."""
    deadline = time.monotonic() + within_seconds
    dead = _wait(console, api, audience, deadline)
    table = _table()
    for application in (audience.healthy, audience.flapping, audience.dead):
        _add(table, application, application.part.about)
    advice = api.call("GET", f"/v1/deliveries/{dead[0]['id']}") if dead else None
    replayed = _mend(console, api, audience.dead, deadline)
    _add(table, audience.dead, "mended, and replayed")
    console.print(table)
    if advice:
        _show(console, advice)
    return [
        _told_all(audience.healthy),
        _recovered(audience.flapping, api),
        _revived(audience.dead, dead, replayed),
    ]


def _wait(console: Console, api: Api, audience: Audience, deadline: float) -> list[dict[str, Any]]:
    """Until two have been told of everything, and what the third was told is dead; those deliveries."""
    with console.status("waiting until every subscriber has been told …"):
        for application in (audience.healthy, audience.flapping):
            patience.until(partial(application.is_up_to_date, api), within_seconds=deadline - time.monotonic())
        return patience.until(lambda: _deaths(api, audience.dead), within_seconds=deadline - time.monotonic()) or []


def _deaths(api: Api, application: Application) -> list[dict[str, Any]]:
    """The dead deliveries, as soon as there is one for everything that it missed."""
    if application.is_up_to_date(api):
        return []
    dead = _dead(api, application)
    return dead if len(dead) == len(application.missed) else []


def _dead(api: Api, application: Application) -> list[dict[str, Any]]:
    return api.items("/v1/deliveries", subscription=application.subscription_id, status="dead", limit=_PAGE)


def _mend(console: Console, api: Api, application: Application, deadline: float) -> int:
    """Have it answer as it should, and replay whatever is dead; how many deliveries that was."""
    application.subscriber.behave(behaviours.healthy())
    wanted = {"subscription": application.subscription_id, "status": "dead"}
    job = api.call("POST", "/v1/deliveries/replay", {"filter": wanted})
    with console.status("waiting until the dead deliveries are replayed …"):
        over = patience.until(lambda: _over(api, job["id"]), within_seconds=deadline - time.monotonic())
        patience.until(partial(application.is_up_to_date, api), within_seconds=deadline - time.monotonic())
    return int(over["done"]) if over else 0


def _over(api: Api, job_id: str) -> dict[str, Any] | None:
    job: dict[str, Any] = api.call("GET", f"/v1/jobs/{job_id}")
    return job if job["state"] == "done" else None


def _table() -> Table:
    table = table_of(
        "\nsubscribers", who=8, how=0, requests=8, refused=7, unsigned=8, log=5, taken=5, twice=5, missed=6
    )
    for column in table.columns[2:]:
        column.justify = "right"
    return table


def _add(table: Table, application: Application, about: str) -> None:
    tally = application.subscriber.tally
    figures = (
        tally.requests,
        tally.requests - tally.taken.total(),
        tally.bad_signatures,
        len(application.log),
        len(tally.taken),
        len(tally.doubled()),
        len(application.missed),
    )
    table.add_row(application.part.name, about, *(str(figure or "·") for figure in figures))


def _show(console: Console, delivery: Mapping[str, Any]) -> None:
    """Print what the API says of a delivery that failed."""
    console.print(f"[dim]$ GET /v1/deliveries/{delivery['id']}[/]")
    said = (delivery["status"], delivery["last_error"], delivery["usually_means"], delivery["next_action"])
    console.print(escape(" · ".join(said)), highlight=False)


def _told_all(application: Application) -> Claim:
    wrong = _faults(application)
    if disordered := application.subscriber.tally.disordered:
        wrong.append(f"{disordered} came after newer ones of the same recipient")
    return Claim(
        text=f"downstream: {len(application.log)} changes reached the healthy subscriber, signed and in their order",
        differences=tuple(wrong),
    )


def _recovered(application: Application, api: Api) -> Claim:
    failures = application.subscriber.tally.decided[HTTPStatus.SERVICE_UNAVAILABLE]
    wrong = _faults(application)
    if not failures:
        wrong.append("it never failed")
    if dead := _dead(api, application):
        wrong.append(f"{len(dead)} deliveries are dead")
    return Claim(
        text=f"downstream: the flapping one failed {failures} times, and got everything by retries",
        differences=tuple(wrong),
    )


def _revived(application: Application, dead: Sequence[Mapping[str, Any]], replayed: int) -> Claim:
    wrong = _faults(application)
    if not dead:
        wrong.append("not all of its deliveries were dead")
    if replayed != len(dead):
        wrong.append(f"{replayed} were replayed")
    return Claim(
        text=f"downstream: all {len(dead)} deliveries to the dead one were dead, and were replayed when it was mended",
        differences=tuple(wrong),
    )


def _faults(application: Application) -> list[str]:
    """What must not be of any subscriber."""
    tally = application.subscriber.tally
    found = {
        "missed": len(application.missed),
        "badly signed": tally.bad_signatures,
        "under two names": tally.mislabelled,
    }
    wrong = [f"{count} {what}" for what, count in found.items() if count]
    return wrong if application.log else [*wrong, "there was nothing to tell"]
