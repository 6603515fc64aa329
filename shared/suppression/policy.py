"""Which event suppresses its recipient, for which mail and for how long. Pure: the operator's rules are an argument."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from shared.classification.classify import TEMPORARY
from shared.classification.patterns import ADDRESS_INVALID
from shared.vocabulary import ALL_MAIL, Classification, EventType, MailType, SuppressionReason


class Tenants(StrEnum):
    """Whether an event suppresses its recipient for the tenant whose mail it was about, or for all tenants."""

    OWN = "own"
    ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Consequence:
    """How one event suppresses its recipient. `days` None is for good; a disabled rule never applies."""

    enabled: bool = True
    types: frozenset[MailType] = ALL_MAIL
    days: int | None = None
    tenants: Tenants = Tenants.OWN


@dataclass(frozen=True, slots=True, kw_only=True)
class HardBounce(Consequence):
    """A permanent failure with one of these classifications suppresses the address."""

    classifications: frozenset[Classification] = ADDRESS_INVALID


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftBounces:
    """`messages` soft bounces within `within_days`, with no delivery between them, suppress the address.

    `days` is the length of the first suppression, of the second, and so on; None is for good. The last length applies
    to every later one.
    """

    enabled: bool = True
    types: frozenset[MailType] = ALL_MAIL
    messages: int = 5
    within_days: int = 14
    days: tuple[int | None, ...] = (30, 90, None)
    tenants: Tenants = Tenants.OWN
    classifications: frozenset[Classification] = TEMPORARY


@dataclass(frozen=True, slots=True, kw_only=True)
class SuppressionPolicy:
    """The rules about suppression (`suppression:` in the rules file). The defaults are Ark's own advice."""

    hard_bounce: HardBounce = field(default_factory=HardBounce)
    complaint: Consequence = field(default_factory=Consequence)
    unsubscribe: Consequence = field(default_factory=lambda: Consequence(types=frozenset({MailType.NON_TRANSACTIONAL})))
    soft_bounce: SoftBounces = field(default_factory=SoftBounces)


NEVER = frozenset({Classification.SPAM_BLOCK, Classification.SPAM_CONTENT, Classification.POLICY_REJECTION})
"""These failures are the sender's fault, so no rule may suppress the recipient for them."""

_GIVEN_UP = frozenset({EventType.BOUNCED, EventType.FAILED})
"""Without `rejected`: the provider did not try, often because its own list has the address, so it proves nothing."""

SOFT_EVENTS = _GIVEN_UP | {EventType.DEFERRED}
"""Events that can be soft bounces, depending on their classification."""

FOR_GOOD = datetime.max.replace(tzinfo=UTC)


def consequence(
    policy: SuppressionPolicy, kind: EventType, classification: Classification | None
) -> tuple[SuppressionReason, Consequence] | None:
    """Return why and how an event of this type suppresses at once; None where it does not."""
    found: tuple[SuppressionReason, Consequence] | None = None
    if kind is EventType.COMPLAINED:
        found = SuppressionReason.COMPLAINT, policy.complaint
    elif kind is EventType.UNSUBSCRIBED:
        found = SuppressionReason.UNSUBSCRIBE, policy.unsubscribe
    elif kind in _GIVEN_UP and classification in policy.hard_bounce.classifications - NEVER:
        found = SuppressionReason.HARD_BOUNCE, policy.hard_bounce
    return found if found and found[1].enabled else None


def is_soft(policy: SuppressionPolicy, kind: EventType, classification: Classification | None) -> bool:
    """Return whether the event counts for the soft-bounce rule. Unclassified failures are soft.

    A deferral with a hard classification is soft too: the provider will try again.
    """
    word = classification or Classification.UNCLASSIFIED
    if not policy.soft_bounce.enabled or kind not in SOFT_EVENTS or word in NEVER:
        return False
    if kind is EventType.DEFERRED and word in policy.hard_bounce.classifications:
        return True
    return word in policy.soft_bounce.classifications and consequence(policy, kind, word) is None


def tenant_of(tenants: Tenants, tenant: str | None) -> str:
    """Return the tenant for which a suppression holds; '' is all tenants."""
    return (tenant or "") if tenants is Tenants.OWN else ""


def end(since: datetime, days: int | None) -> datetime | None:
    """Return when a suppression that began at `since` ends; None is never."""
    return None if days is None else since + timedelta(days=days)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One event's claim that its recipient be suppressed. `key` identifies the event; `until` None is for good."""

    reason: SuppressionReason
    tenant: str
    at: datetime
    key: str
    until: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lift:
    """Cancels claims from before `at`. None stands for every tenant or every reason.

    A person's lift (`by_event` false) also cancels claims of the same instant. When a recipient subscribes again, a
    claim of the same instant still counts.
    """

    at: datetime
    tenant: str | None = None
    reason: SuppressionReason | None = None
    by_event: bool = False


def counts(claim: Claim, lifts: Iterable[Lift]) -> bool:
    """Return whether no lift cancels this claim."""
    return not any(
        lift.tenant in (None, claim.tenant)
        and lift.reason in (None, claim.reason)
        and (claim.at < lift.at or (claim.at == lift.at and not lift.by_event))
        for lift in lifts
    )


def fold(claims: Iterable[Claim], lifts: Collection[Lift]) -> Mapping[tuple[str, SuppressionReason], Claim]:
    """Return the claim that holds for each tenant and reason, whatever the order and repetition of the arguments.

    The claim with the latest end holds. Of several with the same end the earliest holds; of unsubscriptions the
    latest, because the recipient may have subscribed again in between. `shared.suppression.evidence` implements the
    same rule in SQL; a test proves that the two agree.
    """
    held: dict[tuple[str, SuppressionReason], Claim] = {}
    for claim in claims:
        group = (claim.tenant, claim.reason)
        if counts(claim, lifts) and (group not in held or _precedence(claim) < _precedence(held[group])):
            held[group] = claim
    return held


def _precedence(claim: Claim) -> tuple[timedelta, timedelta, str]:
    age = FOR_GOOD - claim.at
    by_age = age if claim.reason is SuppressionReason.UNSUBSCRIBE else -age
    return FOR_GOOD - (claim.until or FOR_GOOD), by_age, claim.key


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftBounce:
    """The first and the last soft bounce of one message. The keys identify the events."""

    first_at: datetime
    first_key: str
    last_at: datetime
    last_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SuppressionPeriod:
    """How long soft bounces suppress an address. `until` None is for good.

    `level` counts the periods since the mailbox last accepted mail. `key` identifies the event that completed the
    number of messages: the evidence.
    """

    since: datetime
    until: datetime | None
    level: int
    key: str


def soft_bounce_period(
    rule: SoftBounces, bounces: Collection[SoftBounce], after: datetime | None
) -> SuppressionPeriod | None:
    """Return the last period that these soft bounces give; None where they were never enough.

    `after` is when the mailbox last proved to work: a delivery, or a person's lift. Nothing before it counts. A message
    counts once, by its first soft bounce after that; bounces during a period do not count for the next. The period may
    be over already: a later one is longer because of it.
    """
    found: SuppressionPeriod | None = None
    level, start = 1, after
    while (completing := _completing_bounce(rule, bounces, start)) is not None:
        since, key = completing
        until = end(since, rule.days[min(level, len(rule.days)) - 1])
        found = SuppressionPeriod(since=since, until=until, level=level, key=key)
        if until is None:
            break
        level, start = level + 1, until
    return found


def _completing_bounce(
    rule: SoftBounces, bounces: Collection[SoftBounce], start: datetime | None
) -> tuple[datetime, str] | None:
    """Return the time and key of the event with which enough messages had bounced within the window."""
    counted = sorted(
        # Bounces between the first and the last are not stored; the last one is certainly after the start.
        (bounce.first_at, bounce.first_key)
        if start is None or bounce.first_at > start
        else (bounce.last_at, bounce.last_key)
        for bounce in bounces
        if start is None or bounce.last_at > start
    )
    window = timedelta(days=rule.within_days)
    for first, last in zip(counted, counted[rule.messages - 1 :], strict=False):
        if last[0] - first[0] <= window:
            return last
    return None
