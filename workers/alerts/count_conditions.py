"""Conditions told from counts: rates, numbers of events, silences and refused requests."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from shared import ids
from shared.alerts import count_conditions
from shared.alerts.count_conditions import AskedRefusals, AskedShare, Silence
from shared.alerts.policy import Reading, Subject
from shared.alerts.rules import RATES, VERIFICATION_FAILURES, EventRule, Per, RateRule, SilenceRule, VerificationRule
from shared.counters import store as counts
from shared.rules.model import dimension_of
from workers.alerts.measurement import Look, Measured, about, counted, names, of_source

_DAY_MINUTES = 24 * 60

_COUNTED_FOR = counts.KEPT_FOR - timedelta(days=1)
"""After a longer silence some of the day before it is forgotten. An alert goes on all the same."""


def shares(look: Look, rules: Sequence[RateRule | EventRule]) -> Iterator[Measured]:
    """What share some events have, or how many there are."""
    asked = [_asked_share(look, number, rule) for number, rule in enumerate(rules)]
    for found in count_conditions.shares(look.connection, asked):
        rule = rules[found.number]
        tenant = found.subject if rule.per is Per.TENANT else None
        subject = Subject(name=found.subject, source_id=found.source_id, source=found.source, tenant=tenant)
        if isinstance(rule, RateRule):
            yield Measured(rule, _rate(rule, subject, found.events, found.volume, _id(found.last_event_id)))
        else:
            yield Measured(rule, counted(rule, subject, found.events, evidence=_id(found.last_event_id)))


def silences(look: Look, rules: Sequence[SilenceRule]) -> Iterator[Measured]:
    """How long sources have brought nothing."""
    since = look.now - timedelta(minutes=min(rule.least for rule in rules))
    began = {(alert.rule, alert.subject.name): alert.started_at for alert in look.firing}
    for found in count_conditions.silences(look.connection, since):
        silent = _silent_for(look, found)
        for rule in about(rules, found.source):
            least, began_at = timedelta(minutes=rule.least), began.get((rule.name, found.source))
            # It may be heard of although nothing has happened lately: what it tells may be old.
            if silent is not None and (found.events >= rule.minimum_events or silent < least):
                yield Measured(rule, _silence(of_source(found), silent, found.events))
            elif began_at is not None and (silent is None or silent > _COUNTED_FOR):
                known = silent or max(look.now - began_at + least, counts.KEPT_FOR)
                yield Measured(rule, _silence(of_source(found), known))


def refusals(look: Look, rules: Sequence[VerificationRule]) -> Iterator[Measured]:
    """How many requests were refused because they could not be verified."""
    counts.count_refusals(look.connection, look.now)
    asked = [
        AskedRefusals(
            number=number,
            since=counts.begin(look.now, rule.window_minutes),
            sources=names(rule),
            usual_until=_usual_until(look, rule),
        )
        for number, rule in enumerate(rules)
    ]
    for found in count_conditions.refused(look.connection, asked, sorted(VERIFICATION_FAILURES)):
        rule = rules[found.number]
        yield Measured(rule, refusal(rule, of_source(found), found.requests, found.before))


def refusal(rule: VerificationRule, subject: Subject, requests: int = 0, before: int = 0) -> Reading:
    """So many refused requests; they are none while that is usual."""
    usual = before * rule.window_minutes / _DAY_MINUTES
    return Reading(
        subject=subject,
        value=requests if requests >= rule.factor * usual else 0,
        numbers={"requests": requests, "usual": round(usual, 1)},
    )


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
        sources=names(rule),
        per=rule.per,
        dimension=dimension_of(rule.per),
        events=sorted(events),
        volume=sorted(volume),
        least_events=least_events,
        least_percent=least_percent,
        firing=[alert.subject.name for alert in look.firing if alert.rule == rule.name],
    )


def _silent_for(look: Look, found: Silence) -> timedelta | None:
    """How long nothing has come; None if that is not known any more."""
    if found.last_event_id is not None:
        return look.now - ids.made_at(found.last_event_id)
    return None if found.is_quiet else timedelta(0)


def _usual_until(look: Look, rule: VerificationRule) -> Mapping[str, datetime]:
    """What came since an alert fired is not usual, however long it goes on; nor is the hour in which it began."""
    return {
        alert.subject.name: counts.begin(alert.started_at, rule.window_minutes).replace(minute=0)
        for alert in look.firing
        if alert.rule == rule.name
    }


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


def _id(event_id: UUID | None) -> str | None:
    return None if event_id is None else str(event_id)
