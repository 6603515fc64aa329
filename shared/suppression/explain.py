"""Why an address is suppressed, or is not: everything that is known about it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from sqlalchemy import Connection

from shared.messages import event_queries
from shared.messages.event_queries import EventFacts
from shared.suppression import (
    history as suppression_history,
)
from shared.suppression import (
    lifts as suppression_lifts,
)
from shared.suppression import (
    soft_bounce_store,
)
from shared.suppression import (
    store as suppressions,
)
from shared.suppression.history import Step
from shared.suppression.lifts import Lift
from shared.suppression.recipient_hashes import RecipientKeys
from shared.suppression.store import Entry
from shared.targets import Target

_MOST_EVENTS = 200
_T = TypeVar("_T", Entry, Step)


@dataclass(frozen=True, slots=True, kw_only=True)
class Happened:
    """A step in the history, and which address or domain it is about."""

    about: Target
    step: Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is known. `entries` are those that suppress now, `ended` those whose time is over, the domain's included.

    `events` are the evidence, in the order in which they happened, as far as they are still kept.
    """

    target: Target
    entries: Sequence[Entry]
    ended: Sequence[Entry]
    history: Sequence[Happened]
    lifts: Sequence[Lift]
    events: Sequence[EventFacts]

    @property
    def is_suppressed(self) -> bool:
        """Whether any mail to it is."""
        return bool(self.entries)


def why(
    connection: Connection, target: Target, keys: RecipientKeys, now: datetime, *, tenant: str | None = None
) -> Case:
    """All that is known about a target: to a tenant what is its own, and that something holds for all; not why."""
    named = {keys.of(about): about for about in _concerned(target)}
    entries = _seen([entry for key in named for entry in suppressions.find(connection, key)], tenant)
    history = [
        Happened(about=about, step=step)
        for key, about in named.items()
        for step in _seen(suppression_history.history(connection, key), tenant)
    ]
    told = [entry.evidence_event_id for entry in entries] + [happened.step.event_id for happened in history]
    if target.address is not None:
        told += soft_bounce_store.event_ids(connection, target.address, _MOST_EVENTS)
    return Case(
        target=target,
        entries=[entry for entry in entries if entry.is_active(now)],
        ended=[entry for entry in entries if not entry.is_active(now)],
        history=sorted(history, key=lambda happened: happened.step.id),
        lifts=[
            lift
            for lift in suppression_lifts.find(connection, list(named))
            if tenant is None or lift.tenant in (None, "", tenant)
        ],
        events=_in_time(
            connection, list(dict.fromkeys(event_id for event_id in told if event_id))[:_MOST_EVENTS], tenant
        ),
    )


def _concerned(target: Target) -> list[Target]:
    """Whom entries may be about that hold for a target: itself, and the domain of an address."""
    if target.address is None:
        return [target]
    _, at, domain = target.address.rpartition("@")
    return [target, *([Target(domain=domain)] if at else [])]


def _seen(found: Sequence[_T], tenant: str | None) -> list[_T]:
    """What a tenant sees of these, None being everybody."""
    if tenant is None:
        return list(found)
    return [one if one.tenant else one.without_evidence() for one in found if one.tenant in ("", tenant)]


def _in_time(connection: Connection, ids: Sequence[UUID], tenant: str | None) -> list[EventFacts]:
    return sorted(event_queries.by_ids(connection, ids, tenant=tenant), key=lambda event: (event.occurred_at, event.id))
