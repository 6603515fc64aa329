"""The demo's subscribers: a healthy application, one that fails at times, and one that fails always."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from rich.console import Console
from rich.table import Table

from cli.demo.report import Check, table_of
from cli.demo.system import wait_until
from cli.formatting import escape
from simulator.api import Api
from simulator.subscribing import behaviours
from simulator.subscribing.behaviours import Behaviour
from simulator.subscribing.subscriber import Subscriber

NETWORK = "127.0.0.0/8"
"""The network of the applications, for TIDINGS_EGRESS_ALLOW."""

_RETRY_SCHEDULE = (0, 1, 1, 1, 1, 2, 2, 2, 3, 3)
_WAIT_SECONDS = 60.0
_PAGE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """The subscription of an application, and how it answers at first."""

    name: str
    about: str
    types: Sequence[str]
    behaviour: Behaviour
    ordered: bool = False


_HEALTHY = Profile(
    name="healthy", about="accepts everything, in order", types=("*",), behaviour=behaviours.healthy(), ordered=True
)
_FLAPPING = Profile(
    name="flapping", about="every third answer is 503", types=("message.*",), behaviour=behaviours.flapping(3)
)
_DEAD = Profile(
    name="dead",
    about="404, then repaired",
    types=("message.*", "suppression.*"),
    behaviour=behaviours.answering(HTTPStatus.NOT_FOUND),
)


@dataclass(slots=True, kw_only=True)
class Application:
    """A subscribed application. `log` holds the changes it should have received, read up to `cursor`."""

    profile: Profile
    subscriber: Subscriber
    subscription_id: str
    cursor: str
    log: list[str] = field(default_factory=list)

    @property
    def missed(self) -> list[str]:
        """Return the changes that it has not accepted."""
        return self.subscriber.tally.missed(self.log)

    def is_up_to_date(self, api: Api) -> bool:
        """Read new changes; return whether the application has accepted all of them."""
        self.cursor, more = _read_changes(api, self.cursor, self.profile.types)
        self.log += more
        return not self.missed


@dataclass(frozen=True, slots=True, kw_only=True)
class Applications:
    """The applications of the demo."""

    healthy: Application
    flapping: Application
    dead: Application


@contextmanager
def subscribe_applications(api: Api) -> Iterator[Applications]:
    """Start and subscribe the applications; stop them at the end."""
    with ExitStack() as stack:
        applications = []
        for profile in (_HEALTHY, _FLAPPING, _DEAD):
            subscriber = stack.enter_context(Subscriber(profile.behaviour))
            subscription = {
                "name": profile.name,
                "url": subscriber.endpoint,
                "types": profile.types,
                "retry_schedule": _RETRY_SCHEDULE,
                "ordered": profile.ordered,
            }
            made = api.call("POST", "/v1/subscriptions", subscription)
            subscriber.trust(made["secret"])
            cursor, _ = _read_changes(api, None, profile.types)
            applications.append(
                Application(profile=profile, subscriber=subscriber, subscription_id=made["id"], cursor=cursor)
            )
        healthy, flapping, dead = applications
        yield Applications(healthy=healthy, flapping=flapping, dead=dead)


def _read_changes(api: Api, cursor: str | None, types: Sequence[str]) -> tuple[str, list[str]]:
    """Return the cursor at the end of the log, and the ids of the changes of these types up to it."""
    found: list[str] = []
    while True:
        query = {"types": ",".join(types), "limit": _PAGE, **({"cursor": cursor} if cursor else {})}
        page = api.call("GET", f"/v1/changes?{urlencode(query)}")
        found += [change["id"] for change in page["items"]]
        if page["next_cursor"] == cursor:  # an empty page alone is not the end: it may have skipped other types
            return page["next_cursor"], found
        cursor = page["next_cursor"]


def check_applications(
    console: Console, api: Api, applications: Applications, *, within_seconds: float = _WAIT_SECONDS
) -> list[Check]:
    """Wait for all deliveries, repair the failing application, replay its deliveries; return the checks."""
    deadline = time.monotonic() + within_seconds
    broken = applications.dead

    def list_dead_when_complete() -> list[dict[str, Any]]:
        """Return the dead deliveries once there is one for each change that the application missed."""
        if broken.is_up_to_date(api):
            return []
        found = _dead(api, broken)
        return found if len(found) == len(broken.missed) else []

    with console.status("waiting for the deliveries to every subscriber …"):
        for application in (applications.healthy, applications.flapping):
            wait_until(partial(application.is_up_to_date, api), within_seconds=deadline - time.monotonic())
        dead = wait_until(list_dead_when_complete, within_seconds=deadline - time.monotonic()) or []
    table = table_of(
        "\nsubscribers", name=8, behaviour=0, requests=8, failed=6, unsigned=8, log=5, accepted=8, twice=5, missed=6
    )
    for column in table.columns[2:]:
        column.justify = "right"
    for application in (applications.healthy, applications.flapping, broken):
        _add(table, application, application.profile.about)
    advice = api.call("GET", f"/v1/deliveries/{dead[0]['id']}") if dead else None
    replayed = _repair(console, api, broken, deadline)
    _add(table, broken, "repaired, then replayed")
    console.print(table)
    if advice:
        console.print(f"[dim]$ GET /v1/deliveries/{advice['id']}[/]")
        parts = (advice["status"], advice["last_error"], advice["usually_means"], advice["next_action"])
        console.print(escape(" · ".join(parts)), highlight=False)
    return [
        _check_healthy(applications.healthy),
        _check_flapping(applications.flapping, api),
        _check_replayed(broken, dead, replayed),
    ]


def _repair(console: Console, api: Api, application: Application, deadline: float) -> int:
    """Let the application answer 200 and replay its dead deliveries; return their number."""
    application.subscriber.behave(behaviours.healthy())
    filters = {"subscription": application.subscription_id, "status": "dead"}
    job_id = api.call("POST", "/v1/deliveries/replay", {"filter": filters})["id"]

    def find_finished_job() -> dict[str, Any] | None:
        job: dict[str, Any] = api.call("GET", f"/v1/jobs/{job_id}")
        return job if job["state"] == "done" else None

    with console.status("waiting for the replayed deliveries …"):
        finished = wait_until(find_finished_job, within_seconds=deadline - time.monotonic())
        wait_until(partial(application.is_up_to_date, api), within_seconds=deadline - time.monotonic())
    return int(finished["done"]) if finished else 0


def _dead(api: Api, application: Application) -> list[dict[str, Any]]:
    return api.items("/v1/deliveries", subscription=application.subscription_id, status="dead", limit=_PAGE)


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
    table.add_row(application.profile.name, about, *(str(figure or "·") for figure in figures))


def _check_healthy(application: Application) -> Check:
    wrong = _failures(application)
    if disordered := application.subscriber.tally.disordered:
        wrong.append(f"{disordered} arrived after newer ones of the same recipient")
    return Check(
        text=f"downstream: {len(application.log)} changes reached the healthy subscriber, signed and in order",
        differences=tuple(wrong),
    )


def _check_flapping(application: Application, api: Api) -> Check:
    failures = application.subscriber.tally.decided[HTTPStatus.SERVICE_UNAVAILABLE]
    wrong = _failures(application)
    if not failures:
        wrong.append("it never failed")
    if dead := _dead(api, application):
        wrong.append(f"{len(dead)} deliveries are dead")
    return Check(
        text=f"downstream: the flapping one failed {failures} times and got everything by retries",
        differences=tuple(wrong),
    )


def _check_replayed(application: Application, dead: Sequence[Mapping[str, Any]], replayed: int) -> Check:
    wrong = _failures(application)
    if not dead:
        wrong.append("not all of its deliveries were dead")
    if replayed != len(dead):
        wrong.append(f"{replayed} were replayed")
    return Check(
        text=f"downstream: all {len(dead)} deliveries to the dead one were dead, and were replayed after its repair",
        differences=tuple(wrong),
    )


def _failures(application: Application) -> list[str]:
    """Return the failures that no subscriber may have."""
    tally = application.subscriber.tally
    found = {
        "missed": len(application.missed),
        "badly signed": tally.bad_signatures,
        "under two names": tally.mislabelled,
    }
    wrong = [f"{count} {what}" for what, count in found.items() if count]
    return wrong if application.log else [*wrong, "there were no changes"]
