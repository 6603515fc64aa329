"""What events mean for the suppression list: judged in the transaction that keeps them.

What is decided is in `shared.suppression.policy`. A batch without failures, complaints and the like costs one look
at the few addresses that several soft bounces have suppressed: a delivery shows that the mailbox works again.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection

from shared import ids
from shared.messages.store import NewEvent
from shared.suppression import evidence, recipient_hashes, soft_bounce_store
from shared.suppression import locks as suppression_locks
from shared.suppression import policy as suppression_policy
from shared.suppression.evidence import Evidence, KeptEvent, Resubscription, Support, Told
from shared.suppression.policy import SOFT_EVENTS, SuppressionPolicy
from shared.suppression.recipient_hashes import RecipientKeys
from shared.suppression.soft_bounce_store import Place
from shared.vocabulary import Classification, EventType

_SUPPRESSING = frozenset({EventType.BOUNCED, EventType.FAILED, EventType.COMPLAINED, EventType.UNSUBSCRIBED})
_DELIVERED = EventType.DELIVERED
_HEARD = _SUPPRESSING | SOFT_EVENTS | {EventType.SUBSCRIBED, _DELIVERED}
_LAST_POSITION = (1 << ids.EVENTS_PER_RECEIPT_BITS) - 2

Happened = NewEvent | KeptEvent
"""An event, as it comes or as it is kept."""


@dataclass(slots=True, kw_only=True)
class _Heard:
    """What a batch says, sorted by what is to be done."""

    evidence: list[Evidence] = field(default_factory=list)
    resubscribed: list[Resubscription] = field(default_factory=list)
    soft: list[soft_bounce_store.Heard] = field(default_factory=list)
    delivered: set[str] = field(default_factory=set)
    delivered_to_all: set[str] = field(default_factory=set)


def judge(
    connection: Connection, policy: SuppressionPolicy, keys: RecipientKeys, rows: Sequence[NewEvent], now: datetime
) -> int:
    """Let these events, which are kept by now, change the suppression list; return how many entries came or went.

    Repetitions change nothing, and neither does the order in which batches come.
    """
    heard = _hear(policy, keys, rows)
    soft_bounce_store.wake(connection, heard.delivered, heard.delivered_to_all, now)
    # Always before the locks of suppression are taken: in another order two batches could wait for one another.
    soft_bounce_store.note(connection, heard.soft, now)
    return len(_tell(connection, heard, now))


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """What a receipt said before it is replaced: its events, and the addresses of the entries that stand by them."""

    events: Sequence[KeptEvent]
    supports: Mapping[Support, str | None]


def before(connection: Connection, receipt_id: UUID) -> Before:
    """What the events of a receipt say that are kept."""
    first, last = receipt_id, ids.event_id(receipt_id, _LAST_POSITION)
    return Before(
        events=evidence.kept_of_receipt(connection, first, last, _HEARD),
        supports=evidence.of_receipt(connection, first, last),
    )


def rejudge(
    connection: Connection,
    policy: SuppressionPolicy,
    keys: RecipientKeys,
    said: Before,
    rows: Sequence[NewEvent],
    now: datetime,
) -> tuple[list[Told], set[Place]]:
    """Let a receipt's events, which are kept by now, mean what they mean instead of what it said before.

    What was there already is not told again. An entry whose evidence is none any more is withdrawn, unless another
    event that is kept supports it. Soft bounces are judged a moment later, as always: returns what came and went,
    and who is going to be judged.
    """
    to_be_judged = _note_anew(connection, policy, said, rows, now)
    heard = _hear(policy, keys, rows)
    told = _take_back(connection, policy, keys, said, heard, now)
    return told + _tell(connection, heard, now), to_be_judged


def _take_back(
    connection: Connection, policy: SuppressionPolicy, keys: RecipientKeys, said: Before, heard: _Heard, now: datetime
) -> list[Told]:
    """Undo what the receipt says no more, and let the other events of those recipients speak instead."""
    supported = {Support(new.key, new.tenant, new.reason, new.event_key) for new in heard.evidence}
    lost = {support: address for support, address in said.supports.items() if support not in supported}
    still = {new.event_key for new in heard.resubscribed}
    subscribed = (event for event in said.events if event.type == EventType.SUBSCRIBED and event.key not in still)
    not_subscribed = {event.recipient for event in subscribed if event.recipient}
    if not lost and not not_subscribed:
        return []
    recipients = not_subscribed | {
        address or recipient_hashes.pseudonym(support.key) for support, address in lost.items()
    }
    taken_back = [keys.of_address(recipient) for recipient in not_subscribed]
    # All at once, and alone: locks are to be taken in one order, and what is read now must be all there is.
    suppression_locks.hold(connection, [*(support.key for support in lost), *taken_back, *_keys(heard)])
    told = evidence.withdraw(connection, lost, now)
    evidence.forget_resubscriptions(connection, taken_back)
    others = evidence.kept_of_recipients(connection, recipients, _SUPPRESSING | {EventType.SUBSCRIBED})
    return told + _tell(connection, _hear(policy, keys, others), now)


def _note_anew(
    connection: Connection, policy: SuppressionPolicy, said: Before, rows: Sequence[NewEvent], now: datetime
) -> set[Place]:
    """Keep the soft bounces that there are now of all that the receipt speaks of, and have the recipients judged."""
    everything: list[Happened] = [*said.events, *rows]
    concerned = [row for row in everything if row.type in _HEARD]
    messages = {row.message_id for row in concerned if row.message_id}
    if not messages:
        return set()
    recipients = {row.recipient for row in concerned if row.recipient}
    places = soft_bounce_store.known(connection, recipients, messages)
    soft_bounce_store.forget(connection, recipients, messages)
    kept = [row for row in evidence.kept_of_messages(connection, messages, SOFT_EVENTS) if row.recipient in recipients]
    heard = [soft for row in kept if (soft := _soft(policy, row))]
    soft_bounce_store.note(connection, heard, now)
    soft_bounce_store.check(connection, places, now)
    return places | {(soft.recipient, soft.tenant) for soft in heard}


def _tell(connection: Connection, heard: _Heard, now: datetime) -> list[Told]:
    if heard.resubscribed:
        suppression_locks.hold(connection, _keys(heard))
    elif heard.evidence:
        suppression_locks.share(connection, _keys(heard))
    ended = evidence.resubscribe(connection, heard.resubscribed, now)
    return ended + evidence.record(connection, heard.evidence, now)


def _keys(heard: _Heard) -> list[str]:
    return [*(new.key for new in heard.evidence), *(new.key for new in heard.resubscribed)]


def _hear(policy: SuppressionPolicy, keys: RecipientKeys, rows: Iterable[Happened]) -> _Heard:
    """Sort out what concerns suppression: never an event that belongs to no message of ours (foreign, or a test)."""
    heard = _Heard()
    for row in rows:
        kind = row.type
        if kind not in _HEARD or row.message_id is None:
            continue
        if kind == _DELIVERED:
            if row.recipient is None:
                heard.delivered_to_all.add(row.message_id)
            else:
                heard.delivered.add(row.recipient)
        elif row.recipient is not None and _is_address(row.recipient):
            _hear_one(policy, keys, row, row.recipient, heard)
    return heard


def _hear_one(policy: SuppressionPolicy, keys: RecipientKeys, row: Happened, recipient: str, heard: _Heard) -> None:
    kind = EventType(row.type)
    if kind is EventType.SUBSCRIBED:
        tenant = suppression_policy.tenant_of(policy.unsubscribe.tenants, row.tenant)
        heard.resubscribed.append(Resubscription(keys.of_address(recipient), tenant, _at(row), row.id, row.key))
        return
    decided = suppression_policy.consequence(policy, kind, _classification(row))
    if decided is not None:
        reason, consequence = decided
        heard.evidence.append(
            Evidence(
                key=keys.of_address(recipient),
                tenant=suppression_policy.tenant_of(consequence.tenants, row.tenant),
                reason=reason,
                address=recipient,
                types=",".join(sorted(consequence.types)),
                classification=row.classification,
                source_id=row.source_id,
                since=_at(row),
                until=suppression_policy.end(_at(row), consequence.days),
                event_id=row.id,
                event_key=row.key,
            )
        )
    elif soft := _soft(policy, row):
        heard.soft.append(soft)


def _soft(policy: SuppressionPolicy, row: Happened) -> soft_bounce_store.Heard | None:
    if row.recipient is None or row.message_id is None or not _is_address(row.recipient):
        return None
    if not suppression_policy.is_soft(policy, EventType(row.type), _classification(row)):
        return None
    return soft_bounce_store.Heard(
        recipient=row.recipient,
        tenant=suppression_policy.tenant_of(policy.soft_bounce.tenants, row.tenant),
        message_id=row.message_id,
        source_id=row.source_id,
        at=_at(row),
        event_id=row.id,
        event_key=row.key,
        classification=row.classification,
    )


def _classification(row: Happened) -> Classification | None:
    return None if row.classification is None else Classification(row.classification)


def _at(row: Happened) -> datetime:
    """A provider's clock that is ahead is not believed beyond ours: what we have received has happened."""
    return min(row.occurred_at, row.received_at)


def _is_address(recipient: str) -> bool:
    """Whether mail can go there: what providers call a recipient may be `undisclosed`."""
    local, _, domain = recipient.rpartition("@")
    return bool(local and domain)
