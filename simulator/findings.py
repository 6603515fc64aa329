"""Compares what Tidings knows with what should be known at the end of a play."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from simulator.api import Api
from simulator.mail import Message
from simulator.providers.base import Dialect
from simulator.staging import Expectation, Play

_PAUSE_SECONDS = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that should be so. `difference` says what is wrong; None if nothing is."""

    about: str
    difference: str | None

    @property
    def held(self) -> bool:
        """Whether it is so."""
        return self.difference is None


class Examiner:
    """Asks the API about the messages of one play, which came through the source of this slug."""

    def __init__(self, api: Api, dialect: Dialect, slug: str) -> None:
        self._api = api
        self._dialect = dialect
        self._slug = slug

    def known(self, message: Message) -> list[dict[str, Any]]:
        """Return the API's items for the message's id: one, one per recipient, or none."""
        items = self._api.items("/v1/messages", **self._dialect.lookup(message))
        return [item for item in items if item["source"] == self._slug]

    def recipient(self, expectation: Expectation) -> dict[str, Any] | None:
        """Return the API's state of one recipient."""
        items = self.known(expectation.message)
        entries = (entry for item in items for entry in item["recipients"])
        return next((entry for entry in entries if entry["recipient"] == expectation.recipient), None)

    def examine(self, play: Play) -> list[Finding]:
        """Check everything that the play should have led to."""
        return [check() for check in self.checks(play)]

    def checks(self, play: Play) -> list[Callable[[], Finding]]:
        """Return the examinations, each to be made when there is time for it, and again if it fails."""

        def of_expectation(expectation: Expectation) -> Callable[[], Finding]:
            return lambda: self._of_recipient(expectation)

        def of_stranger(message: Message) -> Callable[[], Finding]:
            return lambda: self._of_stranger(message)

        def of_notice(kind: str, count: int) -> Callable[[], Finding]:
            return lambda: self._of_notice(kind, count)

        return [
            *map(of_expectation, play.expectations),
            *map(of_stranger, play.strangers),
            *(of_notice(kind, count) for kind, count in play.notices.items()),
        ]

    def _of_recipient(self, expectation: Expectation) -> Finding:
        about = f"{expectation.message.subject} to {expectation.recipient} ({expectation.story})"
        known = self.recipient(expectation)
        return Finding(about=about, difference=difference(expectation, known))

    def _of_stranger(self, message: Message) -> Finding:
        known = self.known(message)
        about = f"{message.subject}, which only forgers spoke of"
        return Finding(about=about, difference=f"is known: {known}" if known else None)

    def _of_notice(self, kind: str, count: int) -> Finding:
        seen = len(self._api.items("/v1/events", type=kind, source=self._slug))
        wrong = f"{seen} events instead of {count}" if seen < count else None
        return Finding(about=f"events of type {kind}", difference=wrong)


def difference(expectation: Expectation, known: dict[str, Any] | None) -> str | None:
    """Return a description of the differences; None if there are none."""
    fate = expectation.fate
    if known is None:
        return "is not known"
    wanted: dict[str, Any] = {
        "status": fate.status,
        "opened": fate.opened,
        "clicked": fate.clicked,
        "complained": fate.complained,
        "unsubscribed": fate.unsubscribed,
    }
    if fate.classification:
        wanted["classification"] = fate.classification
    wrong = [f"{name} is {known[name]}, not {value}" for name, value in wanted.items() if known[name] != value]
    return "; ".join(wrong) or None


def settle(
    checks: Sequence[Callable[[], Finding]],
    *,
    within_seconds: float,
    on_held: Callable[[], None] | None = None,
) -> list[Finding]:
    """Make the checks until all hold or the time is over; the last finding of each, in their order."""
    deadline = time.monotonic() + within_seconds
    findings: dict[int, Finding] = {}
    open_checks = dict(enumerate(checks))
    while open_checks:
        for index, check in list(open_checks.items()):
            findings[index] = check()
            if findings[index].held:
                del open_checks[index]
                if on_held:
                    on_held()
        if time.monotonic() > deadline:
            break
        if open_checks:
            time.sleep(_PAUSE_SECONDS)
    return [findings[index] for index in sorted(findings)]
