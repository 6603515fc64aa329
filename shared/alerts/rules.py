"""The rule of each alert kind: its fields and their defaults."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, NamedTuple

from shared.alerts.policy import AlertRule
from shared.vocabulary import AlertKind, EventType, Per, RefusalReason


class Rate(StrEnum):
    """The share of events that a rate rule measures."""

    BOUNCE = "bounce"
    COMPLAINT = "complaint"
    DEFERRAL = "deferral"
    FAILURE = "failure"


class Share(NamedTuple):
    """How a rate is computed (`events` among `volume`), and the defaults of its rules."""

    events: frozenset[EventType]
    volume: frozenset[EventType]
    warning: float
    critical: float
    window_minutes: int
    minimum_events: int


_ENDED = frozenset({EventType.DELIVERED, EventType.BOUNCED, EventType.FAILED})

# Bounces and complaints as Amazon SES counts them: a message that the provider dropped unsent (`rejected`) is not an
# attempt, and only recipients of a delivered message can complain. Amazon reviews accounts from 5 % and 0.1 % on;
# Gmail's limit for spam is 0.3 %.
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
        window_minutes=24 * 60,  # complaints are few, and arrive hours late
        minimum_events=3,
    ),
    # Of attempts: a message that is deferred three times counts three times.
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
        RefusalReason.REPLAYED,
        RefusalReason.UNKNOWN_KEY,
        RefusalReason.BAD_CREDENTIALS,
        RefusalReason.QUARANTINE_FULL,  # more unverified requests than the quarantine holds
    }
)
"""Refusals of requests whose signature is missing, wrong, or cannot be verified."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRule(AlertRule):
    """A rule about sources. `sources` are their names; empty means all."""

    sources: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class RateRule(SourceRule):
    """The share of some events among others in the window. Thresholds in percent.

    The rate is unknown below a volume of `minimum_volume`, and 0 with fewer events than `minimum_events`.
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
    """Return the rule about a rate with its default values."""
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
    """The number of events of these types in the window. Thresholds in events."""

    kind: ClassVar[AlertKind] = AlertKind.EVENT

    types: frozenset[EventType]
    warning: float | None = 1
    window_minutes: int = 60
    per: Per = Per.SOURCE
    cool_down_minutes: int = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class SilenceRule(SourceRule):
    """The time for which a source has had no events. Thresholds in minutes.

    Only for a source that had at least `minimum_events` in the 24 hours before its silence.
    """

    kind: ClassVar[AlertKind] = AlertKind.SILENCE

    warning: float | None = 6 * 60
    critical: float | None = 24 * 60
    minimum_events: int = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnouncedRule(SourceRule):
    """Announced messages without any event for `after_minutes`. Thresholds in messages.

    Messages that were submitted more than `within_hours` ago do not count.
    """

    kind: ClassVar[AlertKind] = AlertKind.ANNOUNCED

    warning: float | None = 1
    critical: float | None = 100
    after_minutes: int = 30
    within_hours: int = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class MassFailuresRule(SourceRule):
    """Recipients of one domain that failed alike in the window, and are not suppressed. Thresholds in recipients."""

    kind: ClassVar[AlertKind] = AlertKind.MASS_FAILURES

    warning: float | None = 1
    critical: float | None = 1000
    window_minutes: int = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationRule(SourceRule):
    """Requests that failed verification in the window. Thresholds in requests.

    They count only if there are at least `factor` times the usual number, which is the average of the 24 hours before
    the window, or before the alert began.
    """

    kind: ClassVar[AlertKind] = AlertKind.VERIFICATION_FAILURES

    warning: float | None = 20
    critical: float | None = 500
    window_minutes: int = 15
    factor: float = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingAgeRule(AlertRule):
    """How long the oldest receipt has been waiting to be processed. Thresholds in seconds.

    Reprocessed receipts do not count: a long queue of them is normal.
    """

    kind: ClassVar[AlertKind] = AlertKind.PENDING_AGE

    warning: float | None = 120
    critical: float | None = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class UnverifiedAgeRule(SourceRule):
    """How long the oldest request to a source has been waiting to be verified. Thresholds in seconds."""

    kind: ClassVar[AlertKind] = AlertKind.UNVERIFIED_AGE

    warning: float | None = 600
    critical: float | None = 3600  # unverified requests are rejected after some hours


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadReceiptsRule(SourceRule):
    """Receipts that became dead in the window. Thresholds in receipts. Reprocessed receipts do not count."""

    kind: ClassVar[AlertKind] = AlertKind.DEAD_RECEIPTS

    warning: float | None = 1
    critical: float | None = 100
    window_minutes: int = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAsideRule(SourceRule):
    """Authentic events that changed nothing (type `unknown`) in the window. Thresholds in events."""

    kind: ClassVar[AlertKind] = AlertKind.SET_ASIDE

    warning: float | None = 1
    critical: float | None = 100
    window_minutes: int = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconciledRule(SourceRule):
    """Missing events that reconciliation recovered in the window. Thresholds in events."""

    kind: ClassVar[AlertKind] = AlertKind.RECONCILED

    warning: float | None = 1
    window_minutes: int = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconciliationFailuresRule(SourceRule):
    """Failed attempts to fetch a source's failed deliveries from its provider. Thresholds in failures in a row."""

    kind: ClassVar[AlertKind] = AlertKind.RECONCILIATION_FAILURES

    warning: float | None = 3  # after some minutes
    critical: float | None = 8  # after some four hours


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenUpRule(SourceRule):
    """Failed deliveries of a provider that were given up in the window. Thresholds in failed deliveries."""

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
    """A subscription that was disabled because of its endpoint's responses. Thresholds in subscriptions."""

    kind: ClassVar[AlertKind] = AlertKind.SUBSCRIPTION_DISABLED

    warning: float | None = None
    critical: float | None = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RulesRefusedRule(AlertRule):
    """Errors of a rejected rules file; the previous rules stay in force. Thresholds in errors."""

    kind: ClassVar[AlertKind] = AlertKind.RULES_REFUSED

    warning: float | None = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerUnusableRule(AlertRule):
    """Workers look for work by their own clock, because no wake-ups come. Thresholds in problems: 1 or none."""

    kind: ClassVar[AlertKind] = AlertKind.BROKER_UNUSABLE

    warning: float | None = 1


CLASSES: Mapping[AlertKind, type[AlertRule]] = {
    found.kind: found
    for found in (
        RateRule,
        EventRule,
        SilenceRule,
        AnnouncedRule,
        MassFailuresRule,
        VerificationRule,
        PendingAgeRule,
        UnverifiedAgeRule,
        DeadReceiptsRule,
        SetAsideRule,
        ReconciledRule,
        ReconciliationFailuresRule,
        GivenUpRule,
        DeadDeliveriesRule,
        SubscriptionDisabledRule,
        RulesRefusedRule,
        BrokerUnusableRule,
    )
}
"""The class of each kind."""
