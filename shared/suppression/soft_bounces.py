"""The soft-bounce rule: recipients whose mail bounced softly again and again.

`shared.suppression.policy.soft_bounce_period` decides from the soft bounces, the last delivery and the last lift by a
person that are known now, so the order in which they became known does not matter.
"""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row

from shared.suppression import policy as suppression_policy
from shared.suppression import recipient_hashes, soft_bounce_store, store
from shared.suppression.evidence import Changes
from shared.suppression.policy import SoftBounce, SuppressionPeriod, SuppressionPolicy
from shared.suppression.recipient_hashes import RecipientHasher
from shared.suppression.soft_bounce_store import RecipientTenant, Removal, SoftBounceEntry
from shared.vocabulary import SuppressionAction

_EVALUATE_AGAIN_AFTER = timedelta(minutes=5)
"""Longer than a batch may take to commit: each of its few statements is cancelled after half a minute."""

Decisions = Sequence[SoftBounceEntry | Removal]


def decide(
    connection: Connection,
    policy: SuppressionPolicy,
    hasher: RecipientHasher,
    recipients: Collection[RecipientTenant],
    now: datetime,
) -> Decisions:
    """Return the entries to write and to remove for these recipients and tenants."""
    relevant = soft_bounce_store.select_relevant(connection, recipients, policy.soft_bounce.messages)
    if not relevant:
        return []
    keys = {recipient: hasher.hash_address(recipient) for recipient, _ in relevant}
    store.lock_shared(connection, keys.values())
    bounces = soft_bounce_store.list_bounces(connection, relevant)
    entries = soft_bounce_store.get_entries(connection, keys.values())
    lifted = soft_bounce_store.get_lifts(connection, keys.values())
    candidates = []
    for recipient, tenant in relevant:
        key = keys[recipient]
        entry, rows = entries.get((key, tenant)), bounces.get((recipient, tenant), ())
        lifts = [lift.lifted_at for lift in lifted.get(key, ()) if lift.tenant in (None, tenant)]
        if entry or _period(policy, rows, max(lifts, default=None)):
            candidates.append((recipient, tenant, entry, rows, lifts))
    if not candidates:
        return []
    # Only for the few whose entry depends on it: this reads all their mail.
    deliveries = soft_bounce_store.get_last_deliveries(connection, {recipient for recipient, *_ in candidates})
    decisions: list[SoftBounceEntry | Removal] = []
    for recipient, tenant, entry, rows, lifts in candidates:
        delivery = deliveries.get(recipient)
        period = _period(policy, rows, max([*lifts, *([delivery.at] if delivery else [])], default=None))
        if entry and entry.address is None and (period is None or entry.until is None or entry.until > now):
            continue  # erased: its bounces were deleted too, which is no reason to send mail again
        if entry and period is None:
            lifted_by_delivery = delivery is not None and delivery.at >= entry.since
            action = SuppressionAction.LIFTED if lifted_by_delivery else SuppressionAction.WITHDRAWN
            decisions.append(Removal(keys[recipient], tenant, action, delivery and delivery.event_id))
        elif period:
            new = _entry(recipient, tenant, keys[recipient], period, policy, rows)
            existing = entry and (
                entry.since, entry.until, entry.level, entry.evidence_key.hex, ",".join(sorted(entry.types))
            )  # fmt: skip
            if existing != (new.since, new.until, new.level, new.event_key, new.types):
                decisions.append(new)
    return decisions


def apply(connection: Connection, decisions: Decisions, now: datetime) -> Changes:
    """Write and remove entries; return those that were added or removed."""
    removals = [decision for decision in decisions if isinstance(decision, Removal)]
    entries = [decision for decision in decisions if isinstance(decision, SoftBounceEntry)]
    removed = soft_bounce_store.remove_entries(connection, removals, now)
    return [*removed, *soft_bounce_store.write_entries(connection, entries, now, now + _EVALUATE_AGAIN_AFTER)]


def _period(policy: SuppressionPolicy, rows: Sequence[Row[Any]], after: datetime | None) -> SuppressionPeriod | None:
    if not policy.soft_bounce.enabled:
        return None
    bounces = [
        SoftBounce(first_at=row.first_at, first_key=row.first_key.hex, last_at=row.last_at, last_key=row.last_key.hex)
        for row in rows
    ]
    return suppression_policy.soft_bounce_period(policy.soft_bounce, bounces, after)


def _entry(
    recipient: str,
    tenant: str,
    key: str,
    period: SuppressionPeriod,
    policy: SuppressionPolicy,
    rows: Sequence[Row[Any]],
) -> SoftBounceEntry:
    event_ids = {
        event_key.hex: (event_id, row)
        for row in rows
        for event_key, event_id in ((row.first_key, row.first_event_id), (row.last_key, row.last_event_id))
    }
    event_id, evidence = event_ids[period.key]
    return SoftBounceEntry(
        key=key,
        tenant=tenant,
        # The pseudonym of an erased recipient is nobody's address: the entry keeps the key alone.
        address=None if recipient_hashes.key_of(recipient) else recipient,
        types=",".join(sorted(policy.soft_bounce.types)),
        source_id=evidence.source_id,
        classification=evidence.classification,
        since=period.since,
        until=period.until,
        event_id=event_id,
        event_key=period.key,
        level=period.level,
    )
