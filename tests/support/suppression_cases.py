"""Events for tests of suppression, as rows; and the entries that the pure policy derives from them."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection

from shared import ids
from shared.events.event import key_minute
from shared.messages import store as state
from shared.messages.state import RANKS, STATUS_EFFECTS, Fact, fold
from shared.messages.store import NewEvent
from shared.suppression import policy as suppression_policy
from shared.suppression.policy import Claim, Lift, SoftBounce, SuppressionPolicy
from shared.suppression.recipient_hashes import RecipientHasher
from shared.vocabulary import CHANGE_TYPES, Classification, EventType, Status, SuppressionReason

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
KEYS = RecipientHasher(b"a pepper for tests, of 32 bytes.")
ANN, BOB = "ann@example.net", "bob@example.net"
TABLES = (
    "events, event_keys, messages, recipient_states, state_changes, suppressions, suppression_lifts,"
    " suppression_history, soft_bounces, soft_bounce_checks"
)

Address = str
Place = tuple[Address, str, str]
"""A recipient, a tenant and a reason."""


def day(number: float) -> datetime:
    return BEGIN + timedelta(days=number)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseEvent:
    """One event: `number` tells it from all others, `at` is the provider's time and `received` ours, in days."""

    number: int
    kind: EventType
    at: float
    received: float
    recipient: str | None = ANN
    tenant: str | None = None
    message: int | None = 1
    classification: Classification | None = None

    @property
    def key(self) -> str:
        return f"{self.number:032x}"

    @property
    def happened(self) -> datetime:
        return day(min(self.at, self.received))


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifted:
    """A person lifts a suppression at that time."""

    at: float
    recipient: str = ANN
    tenant: str | None = None
    reason: SuppressionReason | None = None


class Held(NamedTuple):
    """The compared columns of an entry."""

    since: datetime
    until: datetime | None
    evidence: str
    level: int


def rows(story: Sequence[CaseEvent], receipt: UUID | None = None) -> list[NewEvent]:
    """Build the rows of a receipt with these events."""
    receipt = receipt or ids.receipt_id(datetime.now(UTC))
    return [_row(one, receipt, position) for position, one in enumerate(story)]


def _row(story: CaseEvent, receipt: UUID, position: int) -> NewEvent:
    weight, status = STATUS_EFFECTS[story.kind]
    return NewEvent(
        id=ids.event_id(receipt, position),
        receipt_id=receipt,
        source_id=1,
        key=story.key,
        key_minute=key_minute(day(story.at)),
        type=story.kind,
        message_key=None if story.message is None else f"{story.message:032x}",
        recipient=story.recipient,
        occurred_at=day(story.at),
        received_at=day(story.received),
        sender=None,
        subject=None,
        provider_message_id=None,
        request_id=None,
        smtp_id=None,
        tenant=story.tenant,
        tag=None,
        campaign=None,
        classification=story.classification,
        smtp_status=None,
        enhanced_code=None,
        reason=None,
        data="{}" if story.tenant is None else f'{{"tenant": "{story.tenant}"}}',
        provider_object="{}",
        object_at=None,
        object_length=None,
        weight=int(weight),
        rank=RANKS[status] if status else -1,
        status=status,
        change_type=CHANGE_TYPES[story.kind],
    )


def keep(connection: Connection, found: Sequence[NewEvent]) -> None:
    state.apply(connection, found)


def expected(
    policy: SuppressionPolicy, story: Iterable[CaseEvent], lifted: Iterable[Lifted], now: datetime
) -> Mapping[Place, Held]:
    """Compute the entries that suppress at that time, for any order of arrival."""
    story, lifted = list(story), list(lifted)
    found: dict[Place, Held] = {}
    for recipient in {one.recipient for one in story if one.recipient}:
        lifts = [
            Lift(at=day(lift.at), tenant=lift.tenant, reason=lift.reason)
            for lift in lifted
            if lift.recipient == recipient
        ]
        own = [one for one in story if one.recipient == recipient and one.message is not None]
        for (tenant, reason), claim in suppression_policy.fold(_claims(policy, own), [*lifts, *_again(own)]).items():
            found[recipient, tenant, reason] = Held(claim.at, claim.until, claim.key, 1)
        for tenant, period in _periods(policy, story, own, lifts):
            found[recipient, tenant, SuppressionReason.SOFT_BOUNCE] = Held(
                period.since, period.until, period.key, period.level
            )
    return {place: held for place, held in found.items() if held.until is None or held.until > now}


def stored(connection: Connection, now: datetime) -> Mapping[Place, Held]:
    """Read the entries that suppress at that time."""
    found = connection.exec_driver_sql(
        "SELECT address, tenant, reason, since, until, evidence_key, level FROM suppressions"
        " WHERE until IS NULL OR until > %(now)s",
        {"now": now},
    )
    return {(row[0], row[1], row[2]): Held(row[3], row[4], row[5].hex, row[6]) for row in found}


def _claims(policy: SuppressionPolicy, story: Iterable[CaseEvent]) -> Iterable[Claim]:
    for one in story:
        decided = suppression_policy.consequence(policy, one.kind, one.classification)
        if decided:
            reason, consequence = decided
            yield Claim(
                reason=reason,
                tenant=suppression_policy.tenant_of(consequence.tenants, one.tenant),
                at=one.happened,
                key=one.key,
                until=suppression_policy.end(one.happened, consequence.days),
            )


def _again(story: Iterable[CaseEvent]) -> Iterable[Lift]:
    for one in story:
        if one.kind is EventType.SUBSCRIBED:
            yield Lift(at=one.happened, tenant=one.tenant or "", reason=SuppressionReason.UNSUBSCRIBE, by_event=True)


def _periods(
    policy: SuppressionPolicy, story: Sequence[CaseEvent], own: Sequence[CaseEvent], lifts: Sequence[Lift]
) -> Iterable[tuple[str, suppression_policy.SuppressionPeriod]]:
    delivered = _deliveries(story, own)
    messages: dict[tuple[str, int | None], list[CaseEvent]] = defaultdict(list)
    for one in own:
        if suppression_policy.is_soft(policy, one.kind, one.classification) and one.message not in delivered:
            messages[one.tenant or "", one.message].append(one)
    for tenant in {tenant for tenant, _ in messages}:
        lifted = [
            lift.at
            for lift in lifts
            if lift.tenant in (None, tenant) and lift.reason in (None, SuppressionReason.SOFT_BOUNCE)
        ]
        bounces = [_bounce(found) for (of, _), found in messages.items() if of == tenant]
        after = max([*delivered.values(), *lifted], default=None)
        if period := suppression_policy.soft_bounce_period(policy.soft_bounce, bounces, after):
            yield tenant, period


def _deliveries(story: Sequence[CaseEvent], own: Sequence[CaseEvent]) -> dict[int | None, datetime]:
    """Return when each message was delivered, from the fold of its events."""
    found: dict[int | None, datetime] = {}
    for message in {one.message for one in own}:
        for about in (own, [one for one in story if one.recipient is None]):
            facts = [Fact(key=one.key, type=one.kind, at=day(one.at)) for one in about if one.message == message]
            state_ = fold(facts)
            if state_.status is Status.DELIVERED and state_.claim:
                found[message] = max(state_.claim.at, found.get(message, state_.claim.at))
    return found


def _bounce(story: Iterable[CaseEvent]) -> SoftBounce:
    moments = sorted((one.happened, one.key) for one in story)
    (first_at, first_key), (last_at, last_key) = moments[0], moments[-1]
    return SoftBounce(first_at=first_at, first_key=first_key, last_at=last_at, last_key=last_key)
