"""The kinds of alert rules: what each watches, and what can be set."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, NamedTuple

from shared.alerts.policy import AlertRule
from shared.vocabulary import AlertKind, EventType, Per, RefusalReason


class Rate(StrEnum):
    """Which share is watched."""

    BOUNCE = "bounce"
    COMPLAINT = "complaint"
    DEFERRAL = "deferral"
    FAILURE = "failure"


class Share(NamedTuple):
    """What a rate is made of (`events` among `volume`), and the defaults of its rules."""

    events: frozenset[EventType]
    volume: frozenset[EventType]
    warning: float
    critical: float
    window_minutes: int
    minimum_events: int


_ENDED = frozenset({EventType.DELIVERED, EventType.BOUNCED, EventType.FAILED})

# Bounces and complaints as Amazon SES counts them: what the provider dropped unsent (`rejected`) is no attempt, and
# only who got a message can complain. Its account reviews begin at 5 % and 0.1 %, Gmail's limit for spam is 0.3 %.
RATES: Mapping[Rate, Share] = {
    Rate.BOUNCE: Share(
        events=frozenset({EventType.BOUNCED}),
        volume=_ENDED,
        warning=5,
        critical=10,
        window_minutes=60,
        minimum_events=5,
    ),
    Rate.COMPLAINT: Share(
        events=frozenset({EventType.COMPLAINED}),
        volume=frozenset({EventType.DELIVERED}),
        warning=0.1,
        critical=0.3,
        window_minutes=24 * 60,  # they are few, and come hours late
        minimum_events=3,
    ),
    # Of attempts: a message that is put off three times counts three times.
    Rate.DEFERRAL: Share(
        events=frozenset({EventType.DEFERRED}),
        volume=_ENDED | {EventType.DEFERRED},
        warning=25,
        critical=50,
        window_minutes=60,
        minimum_events=20,
    ),
    Rate.FAILURE: Share(
        events=frozenset({EventType.FAILED, EventType.REJECTED}),
        volume=_ENDED | {EventType.REJECTED},
        warning=5,
        critical=20,
        window_minutes=60,
        minimum_events=5,
    ),
}

MINIMUM_VOLUME = 50

VERIFICATION_FAILURES = frozenset(
    {
        RefusalReason.MISSING_SIGNATURE,
        RefusalReason.MALFORMED_SIGNATURE,
        RefusalReason.BAD_SIGNATURE,
        RefusalReason.DIGEST_MISMATCH,
        RefusalReason.STALE,
        RefusalReason.UNKNOWN_KEY,
        RefusalReason.BAD_CREDENTIALS,
        RefusalReason.QUARANTINE_FULL,  # so many could not be verified that there is no room for more
    }
)
"""Refusals of what the provider did not sign, or not so that we can tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRule(AlertRule):
    """A rule about sources. `sources` are the names of those it is about; none means all."""

    sources: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class RateRule(SourceRule):
    """Too large a share of what happened in the window. Thresholds in percent.

    It is judged only by a volume of at least `minimum_volume`, and holds only with at least `minimum_events`.
    """

    kind: ClassVar[AlertKind] = AlertKind.RATE

    rate: Rate
    warning: float | None
    critical: float | None
    window_minutes: int
    minimum_events: int
    minimum_volume: int = MINIMUM_VOLUME
    per: Per = Per.SOURCE
    cool_down_minutes: int = 60


def usual_rate(name: str, rate: Rate) -> RateRule:
    """The rule about a rate, as it is unless something is said."""
    share = RATES[rate]
    return RateRule(
        name=name,
        rate=rate,
        warning=share.warning,
        critical=share.critical,
        window_minutes=share.window_minutes,
        minimum_events=share.minimum_events,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRule(SourceRule):
    """Events of these types in the window. Thresholds in events."""

    kind: ClassVar[AlertKind] = AlertKind.EVENT

    types: frozenset[EventType]
    warning: float | None = 1
    window_minutes: int = 60
    per: Per = Per.SOURCE
    cool_down_minutes: int = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class SilenceRule(SourceRule):
    """Nothing comes any more. Thresholds in minutes.

    Only of a source that brought at least `minimum_events` in the 24 hours before it fell silent.
    """

    kind: ClassVar[AlertKind] = AlertKind.SILENCE

    warning: float | None = 6 * 60
    critical: float | None = 24 * 60
    minimum_events: int = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnouncedRule(SourceRule):
    """Messages that were announced, and of which nothing was heard for `after_minutes`. Thresholds in messages.

    Those that were submitted more than `within_hours` ago are counted no more.
    """

    kind: ClassVar[AlertKind] = AlertKind.ANNOUNCED

    warning: float | None = 1
    critical: float | None = 100
    after_minutes: int = 30
    within_hours: int = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationRule(SourceRule):
    """Requests that fail verification, many more than usual. Thresholds in requests in the window.

    It holds only if they are at least `factor` times what is usual: the average of the 24 hours before the window,
    or, of an alert that fires, of those before it began.
    """

    kind: ClassVar[AlertKind] = AlertKind.VERIFICATION_FAILURES

    warning: float | None = 20
    critical: float | None = 500
    window_minutes: int = 15
    factor: float = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingAgeRule(AlertRule):
    """How long the receipt that has waited longest has waited. Thresholds in seconds.

    Receipts that are processed again do not count: they wait behind each other for as long as there are many.
    """

    kind: ClassVar[AlertKind] = AlertKind.PENDING_AGE

    warning: float | None = 120
    critical: float | None = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class UnverifiedAgeRule(SourceRule):
    """How long the oldest request to a source has waited to be verified. Thresholds in seconds."""

    kind: ClassVar[AlertKind] = AlertKind.UNVERIFIED_AGE

    warning: float | None = 600
    critical: float | None = 3600  # what cannot be verified for some hours is rejected


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadReceiptsRule(SourceRule):
    """Receipts that were set aside as dead in the window. Thresholds in receipts.

    Those that were processed again, and could not be, do not count.
    """

    kind: ClassVar[AlertKind] = AlertKind.DEAD_RECEIPTS

    warning: float | None = 1
    critical: float | None = 100
    window_minutes: int = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconciledRule(SourceRule):
    """Events that had been missing until reconciliation brought them in, in the window. Thresholds in events."""

    kind: ClassVar[AlertKind] = AlertKind.RECONCILED

    warning: float | None = 1
    window_minutes: int = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconciliationFailuresRule(SourceRule):
    """A source's provider cannot be asked what it could not deliver. Thresholds in failures in a row."""

    kind: ClassVar[AlertKind] = AlertKind.RECONCILIATION_FAILURES

    warning: float | None = 3  # after some minutes
    critical: float | None = 8  # after some four hours


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenUpRule(SourceRule):
    """What a provider could not deliver, and reconciliation gave up in the window. Thresholds in failed deliveries."""

    kind: ClassVar[AlertKind] = AlertKind.GIVEN_UP

    warning: float | None = 1
    critical: float | None = 100
    window_minutes: int = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadDeliveriesRule(AlertRule):
    """Deliveries to a subscription that became dead in the window. Thresholds in deliveries."""

    kind: ClassVar[AlertKind] = AlertKind.DEAD_DELIVERIES

    warning: float | None = 1
    critical: float | None = 100
    window_minutes: int = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionDisabledRule(AlertRule):
    """A subscription that was disabled, because of what its endpoint answered. Thresholds in subscriptions."""

    kind: ClassVar[AlertKind] = AlertKind.SUBSCRIPTION_DISABLED

    warning: float | None = None
    critical: float | None = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RulesRefusedRule(AlertRule):
    """A rules file that is wrong, so that the rules before it stay in force. Thresholds in errors."""

    kind: ClassVar[AlertKind] = AlertKind.RULES_REFUSED

    warning: float | None = 1


CLASSES: Mapping[AlertKind, type[AlertRule]] = {
    found.kind: found
    for found in (
        RateRule,
        EventRule,
        SilenceRule,
        AnnouncedRule,
        VerificationRule,
        PendingAgeRule,
        UnverifiedAgeRule,
        DeadReceiptsRule,
        ReconciledRule,
        ReconciliationFailuresRule,
        GivenUpRule,
        DeadDeliveriesRule,
        SubscriptionDisabledRule,
        RulesRefusedRule,
    )
}
"""The class of each kind."""
