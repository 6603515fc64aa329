"""Conditions of what providers could not deliver, and of asking them for it."""

from collections.abc import Iterator, Sequence

from shared.alerts import recovery_conditions
from shared.alerts.rules import GivenUpRule, ReconciledRule, ReconciliationFailuresRule
from workers.alerts.measurement import Look, Measured, about, asked_since, counted, of_source


def reconciled(look: Look, rules: Sequence[ReconciledRule]) -> Iterator[Measured]:
    """How many events were brought in because they had been missing."""
    for found in recovery_conditions.reconciled(look.connection, asked_since(look, rules)):
        rule = rules[found.number]
        yield Measured(rule, counted(rule, of_source(found), found.amount, last_receipt=str(found.last_id)))


def given_up(look: Look, rules: Sequence[GivenUpRule]) -> Iterator[Measured]:
    """How many failed deliveries were given up."""
    for found in recovery_conditions.given_up(look.connection, asked_since(look, rules)):
        rule = rules[found.number]
        count = counted(rule, of_source(found), found.deliveries, events=found.events, reason=found.reason)
        yield Measured(rule, count)


def unasked(look: Look, rules: Sequence[ReconciliationFailuresRule]) -> Iterator[Measured]:
    """How many times in a row providers could not be asked."""
    for found in recovery_conditions.unasked(look.connection):
        for rule in about(rules, found.source):
            yield Measured(rule, counted(rule, of_source(found), found.failures, error=found.error))
