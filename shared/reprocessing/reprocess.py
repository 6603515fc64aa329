"""Reprocessing: parse the body of a receipt again, by the parser and rules of today, and replace its events.

The states that the events touch are computed again from all stored events. The change log gets only the events that are
new and the states that differ, so nothing is announced twice. Suppressions follow the same rule: those that the events
now support are added, and those that they no longer support are removed.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from shared.encryption import Vault
from shared.errors import ConflictError, NotFoundError
from shared.messages import rebuild
from shared.messages import store as message_store
from shared.messages.rebuild import StateSummary
from shared.messages.state import Weight
from shared.messages.store import NewEvent
from shared.receipts import normalize
from shared.receipts import store as receipts
from shared.rules import store as rules
from shared.sources import store as sources
from shared.sources.source import open_source
from shared.suppression import evaluator as suppression_evaluator
from shared.suppression import recipient_hashes, soft_bounces
from shared.suppression.evidence import Changes
from shared.suppression.policy import SuppressionPolicy
from shared.suppression.recipient_hashes import RecipientHasher
from shared.suppression.soft_bounce_store import RecipientTenant

_DELIVERY = ("status", "classification", "enhanced_code")
"""The fields of a state whose change is logged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What reprocessing a receipt changes: its events, and states and suppressions before and after."""

    events_before: int
    events_after: int
    states: Sequence[tuple[StateSummary | None, StateSummary | None]]
    suppressions: Changes

    def as_json(self) -> dict[str, Any]:
        """Return the difference as the API shows it."""
        return {
            "events_before": self.events_before,
            "events_after": self.events_after,
            "states": [
                {"before": before and before._asdict(), "after": after and after._asdict()}
                for before, after in self.states
            ],
            "suppressions": [{"action": change.action, **change.entry} for change in self.suppressions],
        }


def replace(
    connection: Connection,
    receipt_id: UUID,
    rows: Sequence[NewEvent],
    policy: SuppressionPolicy,
    hasher: RecipientHasher,
    now: datetime,
) -> tuple[Difference, set[RecipientTenant]]:
    """Replace the events of a receipt by these; return the difference, and whose soft bounces will be evaluated."""
    known = message_store.find_ids(connection, {row.message_key for row in rows if row.message_key})
    touched = rebuild.list_states_of_receipt(connection, receipt_id) | {
        (known[row.message_key].hex, row.recipient or "") for row in rows if row.message_key in known
    }
    rebuild.lock_states(connection, touched)
    states_before = rebuild.get_states(connection, touched)
    snapshot = suppression_evaluator.snapshot_receipt(connection, receipt_id)
    removed = rebuild.delete_events(connection, receipt_id)
    inserted = rebuild.insert_events(connection, rows)
    touched |= rebuild.list_states_of_receipt(connection, receipt_id)  # of messages that are new
    rebuild.rebuild_states(connection, touched)
    states_after = rebuild.get_states(connection, touched)
    pairs = [(states_before.get(key), states_after.get(key)) for key in sorted(touched)]
    # The last field is the version, which rises with every fold.
    differing = [(old, new) for old, new in pairs if (old and old[:-1]) != (new and new[:-1])]
    # Log the new events that `shared.messages.store` would log, and the events that a state has fallen back to.
    new = [row for row in rows if row.key not in removed]
    new_ids = {str(row.id) for row in new}
    to_log = {str(row.id) for row in new if row.weight <= Weight.IMPLIED}
    for before, after in differing:
        if after and after.event_id:
            has_changed = before is None or any(getattr(before, name) != getattr(after, name) for name in _DELIVERY)
            if has_changed or after.event_id in new_ids:
                to_log.add(after.event_id)
    rebuild.log_changes(connection, to_log)
    changes, to_evaluate = suppression_evaluator.reapply_receipt(connection, policy, hasher, snapshot, rows, now)
    difference = Difference(events_before=len(removed), events_after=inserted, states=differing, suppressions=changes)
    return difference, to_evaluate


def preview(connection: Connection, receipt_id: UUID, vault: Vault) -> Difference:
    """Return what reprocessing a receipt would change, by the rules in force. The caller must roll back.

    Raises NotFoundError if there is no such receipt, ConflictError if its body was erased, PayloadError if it cannot be
    parsed, CredentialsError or SecretsError if its source cannot be opened, RulesError if the rules cannot be used.
    """
    found = receipts.get_body(connection, receipt_id)
    if found is None:
        raise NotFoundError(f"There is no receipt {receipt_id}; retention may have deleted it.")
    if found.body is None:
        raise ConflictError(f"The body of receipt {receipt_id} was deleted by an erasure.")
    (row,) = sources.by_ids(connection, [found.source_id])
    events = normalize.parse_events(open_source(row, vault), receipt_id, found.received_at, found.body)
    policy = rules.overview(connection).rules.suppression
    hasher, now = recipient_hashes.load(connection, vault), datetime.now(UTC)
    difference, to_evaluate = replace(connection, receipt_id, events, policy, hasher, now)
    decisions = soft_bounces.decide(connection, policy, hasher, to_evaluate, now)
    later = soft_bounces.apply(connection, decisions, now)
    return dataclasses.replace(difference, suppressions=[*difference.suppressions, *later])
