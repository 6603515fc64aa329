"""What an alert says: one sentence with the numbers it was judged by, for whoever is on call."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from shared.alerts.policy import AlertRule, Ending, Number, Reading, Subject
from shared.alerts.rules import (
    AnnouncedRule,
    DeadDeliveriesRule,
    DeadReceiptsRule,
    EventRule,
    GivenUpRule,
    Per,
    RateRule,
    ReconciledRule,
    SubscriptionDisabledRule,
    VerificationRule,
)
from shared.vocabulary import AlertKind, Severity

_UNITS = {
    AlertKind.RATE: "{} %",
    AlertKind.SILENCE: "{} minutes",
    AlertKind.PENDING_AGE: "{} seconds",
    AlertKind.UNVERIFIED_AGE: "{} seconds",
}
_ENDS = {
    AlertKind.SILENCE: "Source {} brings events again.",
    AlertKind.RECONCILIATION_FAILURES: "The provider of source {} can be asked again what it could not deliver.",
    AlertKind.SUBSCRIPTION_DISABLED: "The subscription {} is disabled no more.",
    AlertKind.RULES_REFUSED: "The rules file is in force.",
}
_LONG_MINUTES = 120
_LONG_HOURS = 48

Numbers = Mapping[str, Number]


def firing(rule: AlertRule, reading: Reading, severity: Severity) -> str:
    """Why an alert fires, or has become worse."""
    return f"{_fact(rule, reading)}; {severity} at {_threshold(rule, rule.threshold(severity))}."


def resolved(rule: AlertRule, reading: Reading, ending: Ending, calm_since: datetime | None) -> str:
    """Why it does not fire any more."""
    if ending is Ending.FORGOTTEN:
        return f"There was too little to judge {rule.name} by for a day: {subject(rule, reading.subject)}."
    if rule.kind in _ENDS:
        return _ENDS[rule.kind].format(reading.subject.name)
    if calm_since is None:
        return f"{_fact(rule, reading)}."
    return f"{_fact(rule, reading)}; below {_threshold(rule, rule.least)} since {moment(calm_since)}."


def withdrawn(rule: str) -> str:
    """Why an alert does not fire any more whose rule is gone."""
    return f"The rule {rule} is not in force any more."


def subject(rule: AlertRule, about: Subject) -> str:
    """What an alert is about, in words."""
    per = getattr(rule, "per", Per.SOURCE)
    if not about.name:
        return "all sources"
    return f"{str(per).replace('_', ' ')} {about.name}"


def moment(at: datetime) -> str:
    """A time, to the minute."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _fact(rule: AlertRule, reading: Reading) -> str:
    return _FACTS[rule.kind](rule, reading.subject, reading.numbers)


def _rate(rule: RateRule, about: Subject, numbers: Numbers) -> str:
    share = f"{_number(numbers['events'])} of {_number(numbers['volume'])} in {_minutes(rule.window_minutes)}"
    return f"The {rule.rate} rate of {subject(rule, about)} is {_number(numbers['percent'])} % ({share})"


def _event(rule: EventRule, about: Subject, numbers: Numbers) -> str:
    events = "event" if numbers["events"] == 1 else "events"
    count = f"{_number(numbers['events'])} {events} ({', '.join(sorted(rule.types))})"
    return f"{count} of {subject(rule, about)} in {_minutes(rule.window_minutes)}"


def _silence(_rule: AlertRule, about: Subject, numbers: Numbers) -> str:
    silence = f"Source {about.name} has brought nothing for {_minutes(numbers['silent_minutes'])}"
    if "events_before" not in numbers:
        return silence
    return f"{silence}, after {_number(numbers['events_before'])} events in the 24 hours before"


def _announced(rule: AnnouncedRule, about: Subject, numbers: Numbers) -> str:
    messages = "message" if numbers["messages"] == 1 else "messages"
    told = f"{_number(numbers['messages'])} {messages} announced for source {about.name}"
    oldest = f", the oldest from {numbers['oldest_at']}" if "oldest_at" in numbers else ""
    return f"{told} without any event for {_minutes(rule.after_minutes)}{oldest}"


def _verification(rule: VerificationRule, about: Subject, numbers: Numbers) -> str:
    usual = f"{_number(numbers['usual'])} would be usual"
    failed = f"{_number(numbers['requests'])} requests to source {about.name} failed verification"
    return f"{failed} in {_minutes(rule.window_minutes)}, {usual}"


def _pending(_rule: AlertRule, _about: Subject, numbers: Numbers) -> str:
    if "source" not in numbers:
        return "No receipt waits to be processed"
    return f"A receipt of source {numbers['source']} has waited {_number(numbers['seconds'])} seconds to be processed"


def _unverified(_rule: AlertRule, about: Subject, numbers: Numbers) -> str:
    if "reason" not in numbers:
        return f"No request to source {about.name} waits to be verified"
    waited = f"A request to source {about.name} has waited {_number(numbers['seconds'])} seconds to be verified"
    return f"{waited} ({numbers['reason']})"


def _dead(rule: DeadReceiptsRule, about: Subject, numbers: Numbers) -> str:
    receipts = "receipt" if numbers["receipts"] == 1 else "receipts"
    count = f"{_number(numbers['receipts'])} {receipts} of source {about.name}"
    return f"{count} set aside as dead in {_minutes(rule.window_minutes)}"


def _reconciled(rule: ReconciledRule, about: Subject, numbers: Numbers) -> str:
    events = "event" if numbers["events"] == 1 else "events"
    missing = f"{_number(numbers['events'])} {events} of source {about.name} that had been missing"
    return f"Reconciliation brought in {missing}, in {_minutes(rule.window_minutes)}"


def _unasked(_rule: AlertRule, about: Subject, numbers: Numbers) -> str:
    times = "once" if numbers["failures"] == 1 else f"{_number(numbers['failures'])} times in a row"
    failed = f"Asking the provider of source {about.name} what it could not deliver has failed {times}"
    return f"{failed}: {_without_end(numbers['error'])}"


def _given_up(rule: GivenUpRule, about: Subject, numbers: Numbers) -> str:
    deliveries = "failed delivery" if numbers["deliveries"] == 1 else "failed deliveries"
    count = f"{_number(numbers['deliveries'])} {deliveries} of source {about.name}"
    if "reason" not in numbers:
        return f"{count} given up in {_minutes(rule.window_minutes)}"
    events = f"{_number(numbers['events'])} {'event' if numbers['events'] == 1 else 'events'}"
    reason = _without_end(numbers["reason"])
    return f"{count} ({events}) given up in {_minutes(rule.window_minutes)}: {reason}"


def _dead_deliveries(rule: DeadDeliveriesRule, about: Subject, numbers: Numbers) -> str:
    deliveries = "delivery" if numbers["deliveries"] == 1 else "deliveries"
    count = f"{_number(numbers['deliveries'])} {deliveries} to {_subscription(about, numbers)}"
    return f"{count} ended as dead in {_minutes(rule.window_minutes)}"


def _disabled(_rule: SubscriptionDisabledRule, about: Subject, numbers: Numbers) -> str:
    return f"The {_subscription(about, numbers)} is disabled: {numbers['reason']}"


def _subscription(about: Subject, numbers: Numbers) -> str:
    return f"subscription {numbers['subscription']} ({about.name})" if "subscription" in numbers else about.name


def _refused(_rule: AlertRule, _about: Subject, numbers: Numbers) -> str:
    count = f"{_number(numbers['errors'])} {'error' if numbers['errors'] == 1 else 'errors'}"
    return f"The rules file has {count}, and the rules before it stay in force: {numbers['first']}"


_FACTS: Mapping[AlertKind, Callable[[Any, Subject, Numbers], str]] = {
    AlertKind.RATE: _rate,
    AlertKind.EVENT: _event,
    AlertKind.SILENCE: _silence,
    AlertKind.ANNOUNCED: _announced,
    AlertKind.VERIFICATION_FAILURES: _verification,
    AlertKind.PENDING_AGE: _pending,
    AlertKind.UNVERIFIED_AGE: _unverified,
    AlertKind.DEAD_RECEIPTS: _dead,
    AlertKind.RECONCILED: _reconciled,
    AlertKind.RECONCILIATION_FAILURES: _unasked,
    AlertKind.GIVEN_UP: _given_up,
    AlertKind.DEAD_DELIVERIES: _dead_deliveries,
    AlertKind.SUBSCRIPTION_DISABLED: _disabled,
    AlertKind.RULES_REFUSED: _refused,
}


def _threshold(rule: AlertRule, value: float | None) -> str:
    if value is None:
        return "nothing"
    if rule.kind is AlertKind.SILENCE:
        return _minutes(value)
    return _UNITS.get(rule.kind, "{}").format(_number(value))


def _number(value: Number) -> str:
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else value


def _without_end(sentence: Number) -> str:
    return str(sentence).rstrip(".")


def _minutes(value: Number) -> str:
    minutes = float(value)
    if minutes <= _LONG_MINUTES:
        return f"{_number(round(minutes))} minutes" if round(minutes) != 1 else "a minute"
    hours = minutes / 60
    if hours <= _LONG_HOURS:
        return f"{_number(round(hours, 1))} hours"
    return f"{_number(round(hours / 24, 1))} days"
