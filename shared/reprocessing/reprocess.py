"""Processing again what was received: after a parser was mended, or a reason for `dead` removed.

A receipt that was processed before is replaced: its events go, the events it gives now come, and the states they
touch are folded anew from all events that are kept. Nothing is announced twice: what is logged is the events that
were not there before, as if they had just come, and what holds of a delivery where that differs from what it was.
So it is with suppressions: those come that the events now give, those go that they no longer support.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from shared.errors import TidingsError
from shared.messages import rebuild
from shared.messages.rebuild import Standing
from shared.messages.state import Weight
from shared.messages.store import NewEvent
from shared.receipts import normalize
from shared.receipts import store as receipts
from shared.sources.source import Source
from shared.suppression import evaluator as suppression_evaluator
from shared.suppression import soft_bounces
from shared.suppression.evidence import Changes
from shared.suppression.policy import SuppressionPolicy
from shared.suppression.recipient_hashes import RecipientHasher
from shared.suppression.soft_bounce_store import RecipientTenant


class NothingToReprocessError(TidingsError):
    """There is no such receipt, its body was erased, or there is no source to read it by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What processing a receipt again would change.

    Events that go and come, states before and after, and suppressions that come and go.
    """

    events_before: int
    events_after: int
    states: Sequence[tuple[Standing | None, Standing | None]]
    suppressions: Changes

    def as_json(self) -> dict[str, Any]:
        """The difference, as the API shows it."""
        return {
            "events_before": self.events_before,
            "events_after": self.events_after,
            "states": [
                {"before": before and before._asdict(), "after": after and after._asdict()}
                for before, after in self.states
            ],
            "suppressions": [{"action": told.action, **told.entry} for told in self.suppressions],
        }


def queue(connection: Connection, ids: Sequence[UUID]) -> int:
    """Queue these receipts to be processed again, wherever they stand; return how many there are.

    What is unverified stays where it is: only its provider's signature lets it in. A receipt whose body was erased
    cannot be processed again.
    """
    return receipts.queue_again(connection, ids)


def select(
    connection: Connection,
    *,
    source_id: int | None = None,
    state: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int = 10_000,
) -> list[UUID]:
    """The receipts that fit, the oldest first."""
    return receipts.select_ids(connection, source_id=source_id, state=state, since=since, until=until, limit=limit)


def replace(
    connection: Connection,
    receipt_id: UUID,
    rows: Sequence[NewEvent],
    policy: SuppressionPolicy,
    keys: RecipientHasher,
    now: datetime,
) -> tuple[Difference, set[RecipientTenant]]:
    """Let a receipt say what these events say, instead of what it said before.

    Returns also who is going to be judged for their soft bounces, a moment later.
    """
    touched = rebuild.touched_by(connection, receipt_id) | {
        (row.message_id, row.recipient or "") for row in rows if row.message_id
    }
    rebuild.lock(connection, touched)
    before = rebuild.standings(connection, touched)
    said = suppression_evaluator.snapshot_receipt(connection, receipt_id)
    went = rebuild.forget(connection, receipt_id)
    came = rebuild.insert(connection, rows)
    rebuild.fold(connection, touched)
    after = rebuild.standings(connection, touched)
    differing = [
        (before.get(place), after.get(place))
        for place in sorted(touched)
        if _says(before.get(place)) != _says(after.get(place))
    ]
    rebuild.log_changes(connection, _told([row for row in rows if row.key not in went], differing))
    told, to_be_judged = suppression_evaluator.reapply_receipt(connection, policy, keys, said, rows, now)
    return Difference(events_before=len(went), events_after=came, states=differing, suppressions=told), to_be_judged


def preview(
    connection: Connection,
    source: Source,
    receipt_id: UUID,
    policy: SuppressionPolicy,
    keys: RecipientHasher,
    now: datetime,
) -> Difference:
    """The difference that processing it again would make. The caller must roll back."""
    found = receipts.find_body(connection, receipt_id)
    if found is None:
        raise NothingToReprocessError(f"there is no receipt {receipt_id}; retention may have passed")
    received_at, body = found
    if body is None:
        raise NothingToReprocessError(f"the body of receipt {receipt_id} was deleted by an erasure")
    rows = normalize.rows(source, receipt_id, received_at, body)
    difference, to_be_judged = replace(connection, receipt_id, rows, policy, keys, now)
    judged = soft_bounces.decide(connection, policy, keys, to_be_judged, now)
    told = soft_bounces.apply(connection, judged, now)
    return dataclasses.replace(difference, suppressions=[*difference.suppressions, *told])


def _told(new: Sequence[NewEvent], differing: Sequence[tuple[Standing | None, Standing | None]]) -> set[str]:
    """The events to be announced, by the rule of `shared.messages.store`, and those that a state has fallen back to."""
    ids = {str(row.id) for row in new}
    risen = {
        after.event_id
        for before, after in differing
        if after and after.event_id and (after.event_id in ids or _course(before) != _course(after))
    }
    return risen | {str(row.id) for row in new if row.weight <= Weight.IMPLIED}


def _course(standing: Standing | None) -> tuple[Any, ...] | None:
    return standing and (standing.status, standing.classification, standing.enhanced_code)


def _says(standing: Standing | None) -> tuple[Any, ...] | None:
    return standing and standing[:-1]  # all but the version, which rises with every fold
