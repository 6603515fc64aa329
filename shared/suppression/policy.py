"""Whom not to write to again: decided from events, by a policy that the operator can change."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from shared.classification.classify import PASSING
from shared.classification.patterns import CONDEMNING
from shared.vocabulary import ALL_MAIL, Classification, EventType, MailType, SuppressionReason


class Tenants(StrEnum):
    """For whom an event's suppression holds: the tenant whose mail it was about, or all."""

    OWN = "own"
    ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Consequence:
    """What follows from one event. `days` is how long it holds, None for good; disabled, nothing follows."""

    enabled: bool = True
    types: frozenset[MailType] = ALL_MAIL
    days: int | None = None
    tenants: Tenants = Tenants.OWN


@dataclass(frozen=True, slots=True, kw_only=True)
class HardBounce(Consequence):
    """A permanent failure with one of these classifications suppresses the address."""

    classifications: frozenset[Classification] = CONDEMNING


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftBounces:
    """So many messages that softly bounced within so many days, with no delivery between, suppress the address.

    `days` is how long the first time, the second, and so on; None for good. The last holds for every time after.
    """

    enabled: bool = True
    types: frozenset[MailType] = ALL_MAIL
    messages: int = 5
    within_days: int = 14
    days: tuple[int | None, ...] = (30, 90, None)
    tenants: Tenants = Tenants.OWN
    classifications: frozenset[Classification] = PASSING


@dataclass(frozen=True, slots=True, kw_only=True)
class SuppressionPolicy:
    """The rules about suppression (`suppression:` in the rules file). The defaults are Ark's own advice."""

    hard_bounce: HardBounce = field(default_factory=HardBounce)
    complaint: Consequence = field(default_factory=Consequence)
    unsubscribe: Consequence = field(default_factory=lambda: Consequence(types=frozenset({MailType.NON_TRANSACTIONAL})))
    soft_bounce: SoftBounces = field(default_factory=SoftBounces)


NEVER = frozenset({Classification.SPAM_BLOCK, Classification.SPAM_CONTENT, Classification.POLICY_REJECTION})
"""What is the sender's problem, not the recipient's: no rule makes it suppress anybody."""

_GIVEN_UP = frozenset({EventType.BOUNCED, EventType.FAILED})
"""Not `rejected`: the provider did not try, often because its own list has the address, so it proves nothing."""

SOFT_EVENTS = _GIVEN_UP | {EventType.DEFERRED}
"""What may be a soft bounce, by its classification."""

FOR_GOOD = datetime.max.replace(tzinfo=UTC)


def consequence(
    policy: SuppressionPolicy, kind: EventType, classification: Classification | None
) -> tuple[SuppressionReason, Consequence] | None:
    """What follows at once from an event of this kind; None where nothing does."""
    found: tuple[SuppressionReason, Consequence] | None = None
    if kind is EventType.COMPLAINED:
        found = SuppressionReason.COMPLAINT, policy.complaint
    elif kind is EventType.UNSUBSCRIBED:
        found = SuppressionReason.UNSUBSCRIBE, policy.unsubscribe
    elif kind in _GIVEN_UP and classification in policy.hard_bounce.classifications - NEVER:
        found = SuppressionReason.HARD_BOUNCE, policy.hard_bounce
    return found if found and found[1].enabled else None


def is_soft(policy: SuppressionPolicy, kind: EventType, classification: Classification | None) -> bool:
    """Whether the event counts for the rule about several soft bounces. What nobody classified is soft.

    So is what would be hard, as long as it is only deferred: what is tried again is not for good.
    """
    word = classification or Classification.UNCLASSIFIED
    if not policy.soft_bounce.enabled or kind not in SOFT_EVENTS or word in NEVER:
        return False
    if kind is EventType.DEFERRED and word in policy.hard_bounce.classifications:
        return True
    return word in policy.soft_bounce.classifications and consequence(policy, kind, word) is None


def tenant_of(tenants: Tenants, tenant: str | None) -> str:
    """For whom what follows holds: '' is all tenants."""
    return (tenant or "") if tenants is Tenants.OWN else ""


def end(since: datetime, days: int | None) -> datetime | None:
    """When a suppression that began then is over; None for good."""
    return None if days is None else since + timedelta(days=days)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One event's word that its recipient be suppressed.

    `at` is when it happened, `key` tells the event from all others, `until` is None for good.
    """

    reason: SuppressionReason
    tenant: str
    at: datetime
    key: str
    until: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lift:
    """What happened until then suppresses no more. None stands for every tenant and every reason.

    A person lifts (`by_event` false) all that had happened or had been received at that moment. A recipient who
    subscribes again ends what came before; a word of the same instant still counts.
    """

    at: datetime
    tenant: str | None = None
    reason: SuppressionReason | None = None
    by_event: bool = False


def counts(claim: Claim, lifts: Iterable[Lift]) -> bool:
    """Whether no lift has made this claim void."""
    return not any(
        lift.tenant in (None, claim.tenant)
        and lift.reason in (None, claim.reason)
        and (claim.at < lift.at or (claim.at == lift.at and not lift.by_event))
        for lift in lifts
    )


def fold(claims: Iterable[Claim], lifts: Collection[Lift]) -> Mapping[tuple[str, SuppressionReason], Claim]:
    """The claim that holds for each tenant and reason, whatever the order and repetition of claims and lifts.

    That which holds longest; of those the first that was made, but of unsubscriptions the last, since subscribing
    again may follow on any of them. `shared.suppression.evidence` holds the same rule in SQL; a test proves
    that they agree.
    """
    held: dict[tuple[str, SuppressionReason], Claim] = {}
    for claim in claims:
        place = (claim.tenant, claim.reason)
        if counts(claim, lifts) and (place not in held or _order(claim) < _order(held[place])):
            held[place] = claim
    return held


def _order(claim: Claim) -> tuple[timedelta, timedelta, str]:
    age = FOR_GOOD - claim.at
    turn = age if claim.reason is SuppressionReason.UNSUBSCRIBE else -age
    return FOR_GOOD - (claim.until or FOR_GOOD), turn, claim.key


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftBounce:
    """A message that softly bounced: its first time and its last. The keys tell the events from all others."""

    first_at: datetime
    first_key: str
    last_at: datetime
    last_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """How long several soft bounces suppress. `level` counts the terms since the mailbox worked last.

    `key` is of the event that completed the number: the evidence. `until` is None for good.
    """

    since: datetime
    until: datetime | None
    level: int
    key: str


def term(rule: SoftBounces, bounces: Collection[SoftBounce], after: datetime | None) -> Term | None:
    """The last term that these soft bounces give; None where they never were enough.

    `after` is when the mailbox was last known to work: a delivery, or a person's lift. Nothing before counts. A
    message counts once, with its first soft bounce after that; those during a term do not count for the next.
    The term need not be running: a later one is longer because there was one before.
    """
    found: Term | None = None
    level, start = 1, after
    while (completed := _completed(rule, bounces, start)) is not None:
        since, key = completed
        until = end(since, rule.days[min(level, len(rule.days)) - 1])
        found = Term(since=since, until=until, level=level, key=key)
        if until is None:
            break
        level, start = level + 1, until
    return found


def _completed(
    rule: SoftBounces, bounces: Collection[SoftBounce], start: datetime | None
) -> tuple[datetime, str] | None:
    """The event with which enough messages had bounced within the time: when, and its key."""
    moments = sorted(moment for bounce in bounces if (moment := _moment(bounce, start)) is not None)
    window = timedelta(days=rule.within_days)
    for first, last in zip(moments, moments[rule.messages - 1 :], strict=False):
        if last[0] - first[0] <= window:
            return last
    return None


def _moment(bounce: SoftBounce, start: datetime | None) -> tuple[datetime, str] | None:
    if start is None or bounce.first_at > start:
        return bounce.first_at, bounce.first_key
    # When in between it bounced first after the start is not kept; the last time is what is certain.
    return (bounce.last_at, bounce.last_key) if bounce.last_at > start else None
