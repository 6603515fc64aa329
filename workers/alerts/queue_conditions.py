"""Conditions of what waits: announced messages, and receipts."""

from collections.abc import Iterator, Sequence
from datetime import timedelta

from shared import ids
from shared.alerts import queue_conditions, summaries
from shared.alerts.policy import AlertRule, Number, Reading, Subject
from shared.alerts.queue_conditions import AskedWait
from shared.alerts.rules import AnnouncedRule, DeadReceiptsRule, PendingAgeRule, UnverifiedAgeRule
from workers.alerts.measurement import Look, Measured, about, asked_since, counted, names, of_source


def waits(look: Look, rules: Sequence[AnnouncedRule]) -> Iterator[Measured]:
    """How many announced messages were not heard of."""
    asked = [
        AskedWait(
            number=number,
            since=look.now - timedelta(hours=rule.within_hours),
            until=look.now - timedelta(minutes=rule.after_minutes),
            sources=names(rule),
        )
        for number, rule in enumerate(rules)
    ]
    for found in queue_conditions.waits(look.connection, asked):
        rule, oldest_at = rules[found.number], summaries.moment(found.oldest_at)
        oldest = str(found.oldest_id)
        count = counted(rule, of_source(found), found.messages, oldest_at=oldest_at, oldest_message=oldest)
        yield Measured(rule, count)


def pending(look: Look, rules: Sequence[PendingAgeRule]) -> Iterator[Measured]:
    """How long the oldest receipt has waited."""
    found = queue_conditions.oldest_pending(look.connection)
    reading = nobody_waits(rules[0], Subject())
    if found is not None:
        # One that was never tried may have been kept apart for long; then it waits since it was let in.
        since = ids.made_at(found.receipt_id) if found.attempts else found.available_at
        seconds = max(0.0, (look.now - since).total_seconds())
        receipt = str(found.receipt_id)
        numbers: dict[str, Number] = {"seconds": round(seconds), "source": found.source, "receipt": receipt}
        reading = Reading(subject=Subject(), value=seconds, numbers=numbers)
    for rule in rules:
        yield Measured(rule, reading)


def unverified(look: Look, rules: Sequence[UnverifiedAgeRule]) -> Iterator[Measured]:
    """How long the oldest request that is kept apart has waited, of every source."""
    for found in queue_conditions.oldest_unverified(look.connection):
        seconds = max(0.0, (look.now - ids.made_at(found.receipt_id)).total_seconds())
        receipt = str(found.receipt_id)
        numbers: dict[str, Number] = {"seconds": round(seconds), "reason": found.reason, "receipt": receipt}
        for rule in about(rules, found.source):
            yield Measured(rule, Reading(subject=of_source(found), value=seconds, numbers=numbers))


def dead(look: Look, rules: Sequence[DeadReceiptsRule]) -> Iterator[Measured]:
    """How many receipts are dead."""
    for found in queue_conditions.dead(look.connection, asked_since(look, rules)):
        rule = rules[found.number]
        yield Measured(rule, counted(rule, of_source(found), found.amount, last_receipt=str(found.last_id)))


def nobody_waits(_rule: AlertRule, subject: Subject) -> Reading:
    """Nothing waits."""
    return Reading(subject=subject, value=0, numbers={"seconds": 0})
