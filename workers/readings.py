"""Conditions as they are now: what the rules ask for, measured by one statement for each kind of rule."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from sqlalchemy import Connection

from shared import ids
from shared.db import count_conditions, counts, delivery_conditions, queue_conditions, recovery_conditions
from shared.db.conditions import Asked
from shared.db.count_conditions import AskedRefusals, AskedShare, Silence
from shared.db.delivery_conditions import Concerned
from shared.db.queue_conditions import AskedWait
from shared.domain import alert_words
from shared.domain.alert_rules import (
    RATES,
    VERIFICATION_FAILURES,
    AnnouncedRule,
    DeadDeliveriesRule,
    DeadReceiptsRule,
    EventRule,
    GivenUpRule,
    PendingAgeRule,
    Per,
    RateRule,
    ReconciledRule,
    ReconciliationFailuresRule,
    RulesRefusedRule,
    SilenceRule,
    SourceRule,
    SubscriptionDisabledRule,
    UnverifiedAgeRule,
    VerificationRule,
)
from shared.domain.alerts import AlertRule, Firing, Kind, Number, Reading, Subject
from shared.domain.rules import dimension_of

_DAY_MINUTES = 24 * 60

_COUNTED_FOR = counts.KEPT_FOR - timedelta(days=1)
"""After a longer silence some of the day before it is forgotten. An alert goes on all the same."""

OfSources = TypeVar("OfSources", bound=SourceRule)


class Measured(NamedTuple):
    """A rule and one of its conditions."""

    rule: AlertRule
    reading: Reading


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a look is taken with. `errors` are those of a rules file that was refused."""

    connection: Connection
    now: datetime
    firing: Sequence[Firing]
    errors: Sequence[str]


def read(look: Look, rules: Sequence[AlertRule]) -> list[Measured]:
    """The conditions of these rules, as far as they may hold, and those of all alerts that fire by them."""
    found = [
        measured
        for kinds, reader in _READERS.items()
        if (of_kind := [rule for rule in rules if rule.kind in kinds])
        for measured in reader(look, of_kind)
    ]
    by_name = {rule.name: rule for rule in rules}
    seen = {(rule.name, reading.subject.name) for rule, reading in found}
    for alert in look.firing:
        rule = by_name.get(alert.rule)
        if rule is not None and (alert.rule, alert.subject.name) not in seen:
            found.append(Measured(rule, _UNSEEN[rule.kind](rule, alert.subject)))
    return found


def _shares(look: Look, rules: Sequence[RateRule | EventRule]) -> Iterator[Measured]:
    asked = [_asked_share(look, number, rule) for number, rule in enumerate(rules)]
    for found in count_conditions.shares(look.connection, asked):
        rule = rules[found.number]
        tenant = found.subject if rule.per is Per.TENANT else None
        subject = Subject(name=found.subject, source_id=found.source_id, source=found.source, tenant=tenant)
        if isinstance(rule, RateRule):
            yield Measured(rule, _rate(rule, subject, found.events, found.volume, _id(found.last_event_id)))
        else:
            yield Measured(rule, _count(rule, subject, found.events, evidence=_id(found.last_event_id)))


def _asked_share(look: Look, number: int, rule: RateRule | EventRule) -> AskedShare:
    if isinstance(rule, RateRule):
        events, volume = RATES[rule.rate].events, RATES[rule.rate].volume
        least_events, least_percent = float(rule.minimum_events), rule.least
    else:
        events, volume = rule.types, frozenset()
        least_events, least_percent = rule.least, 0.0
    return AskedShare(
        number=number,
        since=counts.begin(look.now, rule.window_minutes),
        sources=_names(rule),
        per=rule.per,
        dimension=dimension_of(rule.per),
        events=sorted(events),
        volume=sorted(volume),
        least_events=least_events,
        least_percent=least_percent,
        firing=[alert.subject.name for alert in look.firing if alert.rule == rule.name],
    )


def _silences(look: Look, rules: Sequence[SilenceRule]) -> Iterator[Measured]:
    since = look.now - timedelta(minutes=min(rule.least for rule in rules))
    began = {(alert.rule, alert.subject.name): alert.started_at for alert in look.firing}
    for found in count_conditions.silences(look.connection, since):
        silent = _silent_for(look, found)
        for rule in _about(rules, found.source):
            least, began_at = timedelta(minutes=rule.least), began.get((rule.name, found.source))
            # It may be heard of although nothing has happened lately: what it tells may be old.
            if silent is not None and (found.events >= rule.minimum_events or silent < least):
                yield Measured(rule, _silence(_source(found), silent, found.events))
            elif began_at is not None and (silent is None or silent > _COUNTED_FOR):
                known = silent or max(look.now - began_at + least, counts.KEPT_FOR)
                yield Measured(rule, _silence(_source(found), known))


def _silent_for(look: Look, found: Silence) -> timedelta | None:
    """How long nothing has come; None if that is not known any more."""
    if found.last_event_id is not None:
        return look.now - ids.made_at(found.last_event_id)
    return None if found.is_quiet else timedelta(0)


def _waits(look: Look, rules: Sequence[AnnouncedRule]) -> Iterator[Measured]:
    asked = [
        AskedWait(
            number=number,
            since=look.now - timedelta(hours=rule.within_hours),
            until=look.now - timedelta(minutes=rule.after_minutes),
            sources=_names(rule),
        )
        for number, rule in enumerate(rules)
    ]
    for found in queue_conditions.waits(look.connection, asked):
        rule, oldest_at = rules[found.number], alert_words.moment(found.oldest_at)
        oldest = str(found.oldest_id)
        yield Measured(rule, _count(rule, _source(found), found.messages, oldest_at=oldest_at, oldest_message=oldest))


def _refusals(look: Look, rules: Sequence[VerificationRule]) -> Iterator[Measured]:
    counts.count_refusals(look.connection, look.now)
    asked = [
        AskedRefusals(
            number=number,
            since=counts.begin(look.now, rule.window_minutes),
            sources=_names(rule),
            usual_until=_usual_until(look, rule),
        )
        for number, rule in enumerate(rules)
    ]
    for found in count_conditions.refused(look.connection, asked, sorted(VERIFICATION_FAILURES)):
        rule = rules[found.number]
        yield Measured(rule, _refusal(rule, _source(found), found.requests, found.before))


def _usual_until(look: Look, rule: VerificationRule) -> Mapping[str, datetime]:
    """What came since an alert fired is not usual, however long it goes on; nor is the hour in which it began."""
    return {
        alert.subject.name: counts.begin(alert.started_at, rule.window_minutes).replace(minute=0)
        for alert in look.firing
        if alert.rule == rule.name
    }


def _pending(look: Look, rules: Sequence[PendingAgeRule]) -> Iterator[Measured]:
    found = queue_conditions.oldest_pending(look.connection)
    reading = _nobody_waits(rules[0], Subject())
    if found is not None:
        # One that was never tried may have been kept apart for long; then it waits since it was let in.
        since = ids.made_at(found.receipt_id) if found.attempts else found.available_at
        seconds = max(0.0, (look.now - since).total_seconds())
        receipt = str(found.receipt_id)
        numbers: dict[str, Number] = {"seconds": round(seconds), "source": found.source, "receipt": receipt}
        reading = Reading(subject=Subject(), value=seconds, numbers=numbers)
    for rule in rules:
        yield Measured(rule, reading)


def _unverified(look: Look, rules: Sequence[UnverifiedAgeRule]) -> Iterator[Measured]:
    for found in queue_conditions.oldest_unverified(look.connection):
        seconds = max(0.0, (look.now - ids.made_at(found.receipt_id)).total_seconds())
        receipt = str(found.receipt_id)
        numbers: dict[str, Number] = {"seconds": round(seconds), "reason": found.reason, "receipt": receipt}
        for rule in _about(rules, found.source):
            yield Measured(rule, Reading(subject=_source(found), value=seconds, numbers=numbers))


def _dead(look: Look, rules: Sequence[DeadReceiptsRule]) -> Iterator[Measured]:
    for found in queue_conditions.dead(look.connection, _asked(look, rules)):
        rule = rules[found.number]
        yield Measured(rule, _count(rule, _source(found), found.amount, last_receipt=str(found.last_id)))


def _reconciled(look: Look, rules: Sequence[ReconciledRule]) -> Iterator[Measured]:
    for found in recovery_conditions.reconciled(look.connection, _asked(look, rules)):
        rule = rules[found.number]
        yield Measured(rule, _count(rule, _source(found), found.amount, last_receipt=str(found.last_id)))


def _given_up(look: Look, rules: Sequence[GivenUpRule]) -> Iterator[Measured]:
    for found in recovery_conditions.given_up(look.connection, _asked(look, rules)):
        rule = rules[found.number]
        count = _count(rule, _source(found), found.deliveries, events=found.events, reason=found.reason)
        yield Measured(rule, count)


def _unasked(look: Look, rules: Sequence[ReconciliationFailuresRule]) -> Iterator[Measured]:
    for found in recovery_conditions.unasked(look.connection):
        for rule in _about(rules, found.source):
            yield Measured(rule, _count(rule, _source(found), found.failures, error=found.error))


def _dead_deliveries(look: Look, rules: Sequence[DeadDeliveriesRule]) -> Iterator[Measured]:
    for rule in rules:
        since = counts.begin(look.now, rule.window_minutes)
        for found in delivery_conditions.dead(look.connection, since):
            count = _count(rule, _subscription(found), found.deliveries, subscription=found.name)
            yield Measured(rule, count)


def _disabled(look: Look, rules: Sequence[SubscriptionDisabledRule]) -> Iterator[Measured]:
    for found in delivery_conditions.disabled(look.connection):
        for rule in rules:
            count = _count(rule, _subscription(found), 1, subscription=found.name, reason=found.reason or "")
            yield Measured(rule, count)


def _refused_file(look: Look, rules: Sequence[RulesRefusedRule]) -> Iterator[Measured]:
    numbers: dict[str, Number] = {"errors": len(look.errors)}
    if look.errors:
        numbers["first"] = look.errors[0]
    for rule in rules:
        yield Measured(rule, Reading(subject=Subject(), value=len(look.errors), numbers=numbers))


_READERS: Mapping[tuple[Kind, ...], Callable[[Look, Sequence[Any]], Iterator[Measured]]] = {
    (Kind.RATE, Kind.EVENT): _shares,
    (Kind.SILENCE,): _silences,
    (Kind.ANNOUNCED,): _waits,
    (Kind.VERIFICATION_FAILURES,): _refusals,
    (Kind.PENDING_AGE,): _pending,
    (Kind.UNVERIFIED_AGE,): _unverified,
    (Kind.DEAD_RECEIPTS,): _dead,
    (Kind.RECONCILED,): _reconciled,
    (Kind.RECONCILIATION_FAILURES,): _unasked,
    (Kind.GIVEN_UP,): _given_up,
    (Kind.DEAD_DELIVERIES,): _dead_deliveries,
    (Kind.SUBSCRIPTION_DISABLED,): _disabled,
    (Kind.RULES_REFUSED,): _refused_file,
}


def _asked(look: Look, rules: Sequence[DeadReceiptsRule | ReconciledRule | GivenUpRule]) -> list[Asked]:
    return [
        Asked(number=number, since=counts.begin(look.now, rule.window_minutes), sources=_names(rule))
        for number, rule in enumerate(rules)
    ]


def _about(rules: Iterable[OfSources], source: str) -> Iterator[OfSources]:
    return (rule for rule in rules if not rule.sources or source in rule.sources)


def _names(rule: SourceRule) -> list[str] | None:
    return sorted(rule.sources) or None


def _id(event_id: UUID | None) -> str | None:
    return None if event_id is None else str(event_id)


def _source(found: Any) -> Subject:
    return Subject(name=found.source, source_id=found.source_id, source=found.source)


def _subscription(found: Concerned) -> Subject:
    return Subject(name=str(found.subscription_id), tenant=found.tenant)


_COUNTED = {
    Kind.EVENT: "events",
    Kind.ANNOUNCED: "messages",
    Kind.DEAD_RECEIPTS: "receipts",
    Kind.RECONCILED: "events",
    Kind.RECONCILIATION_FAILURES: "failures",
    Kind.GIVEN_UP: "deliveries",
    Kind.DEAD_DELIVERIES: "deliveries",
    Kind.SUBSCRIPTION_DISABLED: "subscriptions",
}


def _count(rule: AlertRule, subject: Subject, count: int = 0, evidence: str | None = None, **more: Number) -> Reading:
    return Reading(subject=subject, value=count, numbers={_COUNTED[rule.kind]: count, **more}, evidence=evidence)


def _rate(rule: RateRule, subject: Subject, events: int, volume: int, evidence: str | None) -> Reading:
    """Too few events are no rate to speak of; too small a volume tells nothing either way."""
    percent = 100 * events / volume if volume else 0.0
    value = percent if events >= rule.minimum_events else 0.0
    return Reading(
        subject=subject,
        value=value if volume >= rule.minimum_volume else None,
        numbers={"percent": round(percent, 4), "events": events, "volume": volume},
        evidence=evidence,
    )


def _silence(subject: Subject, silent: timedelta, events: int | None = None) -> Reading:
    minutes = silent.total_seconds() / 60
    before = {} if events is None else {"events_before": events}
    return Reading(subject=subject, value=minutes, numbers={"silent_minutes": round(minutes), **before})


def _refusal(rule: VerificationRule, subject: Subject, requests: int = 0, before: int = 0) -> Reading:
    usual = before * rule.window_minutes / _DAY_MINUTES
    return Reading(
        subject=subject,
        value=requests if requests >= rule.factor * usual else 0,
        numbers={"requests": requests, "usual": round(usual, 1)},
    )


def _nobody_waits(_rule: AlertRule, subject: Subject) -> Reading:
    return Reading(subject=subject, value=0, numbers={"seconds": 0})


def _unknown(_rule: AlertRule, subject: Subject) -> Reading:
    return Reading(subject=subject, value=None)


_UNSEEN: Mapping[Kind, Callable[[Any, Subject], Reading]] = {
    Kind.RATE: _unknown,
    Kind.SILENCE: _unknown,
    Kind.EVENT: _count,
    Kind.ANNOUNCED: _count,
    Kind.DEAD_RECEIPTS: _count,
    Kind.RECONCILED: _count,
    Kind.RECONCILIATION_FAILURES: _count,
    Kind.GIVEN_UP: _count,
    Kind.DEAD_DELIVERIES: _count,
    Kind.SUBSCRIPTION_DISABLED: _count,
    Kind.VERIFICATION_FAILURES: _refusal,
    Kind.UNVERIFIED_AGE: _nobody_waits,
}
"""What it means that nothing was found of a subject about which an alert fires. Not here: what is always found."""
