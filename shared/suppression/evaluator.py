"""Applies events to the suppression list, in the transaction that stores them.

`shared.suppression.policy` decides. A batch without failures, complaints and the like costs one look-up of the few
addresses that soft bounces have suppressed: a delivery shows that the mailbox works again.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row

from shared import ids
from shared.addresses import MAX_LENGTH
from shared.messages.store import NewEvent, find_ids
from shared.suppression import evidence, mass_failures, recipient_hashes, soft_bounce_store, store
from shared.suppression import policy as suppression_policy
from shared.suppression.evidence import Changes, Evidence, Resubscription, Support
from shared.suppression.policy import SOFT_EVENTS, SuppressionPolicy
from shared.suppression.recipient_hashes import RecipientHasher
from shared.suppression.soft_bounce_store import NewSoftBounce, RecipientTenant
from shared.vocabulary import Classification, EventType

_SUPPRESSING = frozenset({EventType.BOUNCED, EventType.FAILED, EventType.COMPLAINED, EventType.UNSUBSCRIBED})
_COLLECTED = _SUPPRESSING | SOFT_EVENTS | {EventType.SUBSCRIBED, EventType.DELIVERED}
_LAST_POSITION = (1 << ids.EVENTS_PER_RECEIPT_BITS) - 2

AnyEvent = NewEvent | Row[Any]
"""A new event, or a stored one as `evidence.list_events_…` returns it."""


@dataclass(slots=True, kw_only=True)
class Signals:
    """What a batch of events means for the list, sorted by what has to be written."""

    evidence: list[Evidence] = field(default_factory=list)
    resubscribed: list[Resubscription] = field(default_factory=list)
    soft_bounces: list[NewSoftBounce] = field(default_factory=list)
    delivered: set[str] = field(default_factory=set)
    delivered_messages: set[str] = field(default_factory=set)

    @property
    def keys(self) -> list[str]:
        """Return the recipients whose entries are to be written."""
        return [*(new.key for new in self.evidence), *(new.key for new in self.resubscribed)]


def apply_events(
    connection: Connection,
    policy: SuppressionPolicy,
    hasher: RecipientHasher,
    events: Sequence[NewEvent],
    now: datetime,
) -> int:
    """Apply these events, which are stored already; return how many entries were added or removed.

    Repetitions change nothing, and neither does the order of the batches.
    """
    signals = _collect(policy, hasher, events)
    soft_bounce_store.schedule_after_delivery(connection, signals.delivered, signals.delivered_messages, now)
    # Before the locks of suppression are taken: in another order two batches could deadlock.
    soft_bounce_store.add(connection, signals.soft_bounces, now)
    return len(_write(connection, signals, now))


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptSnapshot:
    """A receipt's events before it is processed again, and the entries that they support, with their addresses."""

    events: Sequence[Row[Any]]
    supported: Mapping[Support, str | None]


def snapshot_receipt(connection: Connection, receipt_id: UUID) -> ReceiptSnapshot:
    """Return what the stored events of a receipt mean for the list."""
    last = ids.event_id(receipt_id, _LAST_POSITION)
    return ReceiptSnapshot(
        events=evidence.list_events_between(connection, receipt_id, last, _COLLECTED),
        supported=evidence.list_supported(connection, receipt_id, last),
    )


def reapply_receipt(
    connection: Connection,
    policy: SuppressionPolicy,
    hasher: RecipientHasher,
    before: ReceiptSnapshot,
    events: Sequence[NewEvent],
    now: datetime,
) -> tuple[Changes, set[RecipientTenant]]:
    """Apply a receipt's new events, which are stored already, in place of those before.

    Returns the entries that were added or removed, and who is to be evaluated for soft bounces a moment later.
    Unchanged entries are not announced again. An entry that has lost its evidence is withdrawn, unless another stored
    event supports it.
    """
    scheduled = _replace_soft_bounces(connection, policy, hasher, before, events, now)
    signals = _collect(policy, hasher, events)
    supported = {Support(new.key, new.tenant, new.reason, new.event_key) for new in signals.evidence}
    lost = {support: address for support, address in before.supported.items() if support not in supported}
    subscribed = {new.event_key for new in signals.resubscribed}
    no_longer_subscribed = {
        event.recipient
        for event in before.events
        if event.type == EventType.SUBSCRIBED and event.key not in subscribed and event.recipient
    }
    changes: list[Row[Any]] = []
    if lost or no_longer_subscribed:
        keys = [hasher.hash_address(recipient) for recipient in no_longer_subscribed]
        # All at once and exclusively: locks have one order, and what is read from here on must be complete.
        store.lock_exclusive(connection, [*(support.key for support in lost), *keys, *signals.keys])
        changes += evidence.withdraw(connection, lost, now)
        evidence.delete_resubscriptions(connection, keys)
        # Other events of these recipients may support an entry now.
        recipients = no_longer_subscribed | {
            address or recipient_hashes.pseudonym(support.key) for support, address in lost.items()
        }
        others = evidence.list_events_of_recipients(connection, recipients, _SUPPRESSING | {EventType.SUBSCRIBED})
        changes += _write(connection, _collect(policy, hasher, others), now)
    changes += _write(connection, signals, now)
    return changes, scheduled


def _replace_soft_bounces(
    connection: Connection,
    policy: SuppressionPolicy,
    hasher: RecipientHasher,
    before: ReceiptSnapshot,
    events: Sequence[NewEvent],
    now: datetime,
) -> set[RecipientTenant]:
    """Rewrite the soft bounces of all messages that the receipt is or was about; schedule their recipients."""
    old_and_new: list[AnyEvent] = [*before.events, *events]
    concerned = [event for event in old_and_new if event.type in _COLLECTED]
    keys = {event.message_key for event in concerned if event.message_key}
    if not keys:
        return set()
    message_ids = find_ids(connection, keys).values()
    recipients = {event.recipient for event in concerned if event.recipient}
    scheduled = soft_bounce_store.list_recipients(connection, recipients, message_ids)
    soft_bounce_store.delete(connection, recipients, message_ids)
    stored = evidence.list_events_of_messages(connection, message_ids, SOFT_EVENTS)
    bounces = _collect(policy, hasher, (event for event in stored if event.recipient in recipients)).soft_bounces
    soft_bounce_store.add(connection, bounces, now)
    soft_bounce_store.schedule(connection, scheduled, now)
    return scheduled | {(bounce.recipient, bounce.tenant) for bounce in bounces}


def _write(connection: Connection, signals: Signals, now: datetime) -> Changes:
    if signals.resubscribed:
        store.lock_exclusive(connection, signals.keys)
    elif signals.evidence:
        store.lock_shared(connection, signals.keys)
    ended = evidence.resubscribe(connection, signals.resubscribed, now)
    return [*ended, *evidence.add(connection, mass_failures.exclude(connection, signals.evidence), now)]


def _collect(policy: SuppressionPolicy, hasher: RecipientHasher, events: Iterable[AnyEvent]) -> Signals:
    """Sort events by what they mean. Events that belong to no message of ours (foreign, or a test) mean nothing."""
    signals = Signals()
    for event in events:
        if event.type not in _COLLECTED or event.message_key is None:
            continue
        recipient = event.recipient
        if event.type == EventType.DELIVERED:
            if recipient is None:
                signals.delivered_messages.add(event.message_key)
            else:
                signals.delivered.add(recipient)
            continue
        local, _, domain = (recipient or "").rpartition("@")
        if recipient is None or not local or not domain:
            continue  # not an address: providers also send words such as `undisclosed`
        # A provider's clock may be ahead of ours: an event that we have received has happened.
        at = min(event.occurred_at, event.received_at)
        type_ = EventType(event.type)
        classification = None if event.classification is None else Classification(event.classification)
        if type_ is EventType.SUBSCRIBED:
            tenant = suppression_policy.tenant_of(policy.unsubscribe.tenants, event.tenant)
            key = hasher.hash_address(recipient)
            signals.resubscribed.append(Resubscription(key, tenant, at, event.id, event.key))
        elif decided := suppression_policy.consequence(policy, type_, classification):
            reason, consequence = decided
            signals.evidence.append(
                Evidence(
                    key=hasher.hash_address(recipient),
                    tenant=suppression_policy.tenant_of(consequence.tenants, event.tenant),
                    reason=reason,
                    address=recipient,
                    types=",".join(sorted(consequence.types)),
                    classification=event.classification,
                    source_id=event.source_id,
                    since=at,
                    until=suppression_policy.end(at, consequence.days),
                    event_id=event.id,
                    event_key=event.key,
                )
            )
        # No mailbox has a longer address, and the index on recipient and tenant takes no longer one.
        elif suppression_policy.is_soft(policy, type_, classification) and len(recipient.encode()) <= MAX_LENGTH:
            signals.soft_bounces.append(
                NewSoftBounce(
                    recipient=recipient,
                    tenant=suppression_policy.tenant_of(policy.soft_bounce.tenants, event.tenant),
                    source_id=event.source_id,
                    at=at,
                    event_id=event.id,
                    event_key=event.key,
                    classification=event.classification,
                )
            )
    return signals
