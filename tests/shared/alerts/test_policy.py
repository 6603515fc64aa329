"""When an alert fires, when it is repeated, and when it is resolved."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.alerts import kinds
from shared.alerts.policy import (
    STALE_AFTER,
    AlertRule,
    Decision,
    Escalate,
    Fire,
    FiringAlert,
    KeepFiring,
    Measurement,
    Number,
    Resolve,
    ResolvedAlert,
    Subject,
    decide,
)
from shared.alerts.rules import (
    CLASSES,
    RATES,
    AnnouncedRule,
    BrokerUnusableRule,
    DeadDeliveriesRule,
    DeadReceiptsRule,
    EventRule,
    GivenUpRule,
    MassFailuresRule,
    PendingAgeRule,
    Rate,
    ReconciledRule,
    ReconciliationFailuresRule,
    RulesRefusedRule,
    SetAsideRule,
    SilenceRule,
    SubscriptionDisabledRule,
    UnverifiedAgeRule,
    VerificationRule,
    usual_rate,
)
from shared.counters.store import Tally
from shared.rules.model import tallies
from shared.vocabulary import AlertKind, EventType, Per, Severity

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
MAIN = Subject(name="main", source_id=1, source="main")
RULE = usual_rate("bounce-rate", Rate.BOUNCE)  # 5 % and 10 %, resolved after 5 minutes, 60 of cool-down


def minutes(number: float) -> timedelta:
    return timedelta(minutes=number)


def reading(value: float | None) -> Measurement:
    return Measurement(subject=MAIN, value=value)


def firing(
    severity: Severity = Severity.WARNING, *, calm_minutes: float | None = None, judged: timedelta = timedelta(0)
) -> FiringAlert:
    return FiringAlert(
        id="one",
        rule=RULE.name,
        kind=AlertKind.RATE,
        subject=MAIN,
        severity=severity,
        started_at=NOW - minutes(30),
        evaluated_at=NOW - judged,
        keep_firing_since=None if calm_minutes is None else NOW - minutes(calm_minutes),
    )


def past(severity: Severity, minutes_ago: float) -> ResolvedAlert:
    return ResolvedAlert(severity=severity, resolved_at=NOW - minutes(minutes_ago))


WARNING, CRITICAL = Severity.WARNING, Severity.CRITICAL

CASES: list[tuple[str, float | None, FiringAlert | None, ResolvedAlert | None, Decision | None]] = [
    ("nothing begins below the threshold", 4.99, None, None, None),
    ("it fires at the threshold", 5.0, None, None, Fire(WARNING)),
    ("it fires as critical at once", 10.0, None, None, Fire(CRITICAL)),
    ("too little volume begins nothing", None, None, None, None),
    ("it fires once", 7.0, firing(), None, KeepFiring(None)),
    ("a warning becomes critical", 10.0, firing(), None, Escalate(CRITICAL)),
    ("it goes on as critical", 10.0, firing(CRITICAL), None, KeepFiring(None)),
    ("critical never becomes a warning again", 6.0, firing(CRITICAL), None, KeepFiring(None)),
    ("calm begins below the threshold", 4.0, firing(), None, KeepFiring(NOW)),
    ("calm goes on", 4.0, firing(calm_minutes=4), None, KeepFiring(NOW - minutes(4))),
    ("calm ends when it is above again", 6.0, firing(calm_minutes=4), None, KeepFiring(None)),
    ("calm begins anew after a break", 4.0, firing(calm_minutes=50, judged=minutes(6)), None, KeepFiring(NOW)),
    ("calm goes on when judging was slow", 4.0, firing(calm_minutes=5, judged=minutes(5)), None, Resolve()),
    ("calm of five minutes is the end", 4.0, firing(calm_minutes=5), None, Resolve()),
    ("too little volume is no calm", None, firing(), None, None),
    ("too little volume does not end what is calm", None, firing(calm_minutes=50), None, None),
    ("too little volume for a day is the end", None, firing(judged=STALE_AFTER), None, Resolve(stale=True)),
    ("after a warning the same is no news for an hour", 7.0, None, past(WARNING, 59), None),
    ("after an hour it is news", 7.0, None, past(WARNING, 60), Fire(WARNING)),
    ("that it became worse is news at once", 10.0, None, past(WARNING, 1), Fire(CRITICAL)),
    ("after critical critical is no news for an hour", 12.0, None, past(CRITICAL, 1), None),
    ("after critical a warning is no news for an hour", 6.0, None, past(CRITICAL, 1), None),
]


@pytest.mark.parametrize(("value", "current", "last", "expected"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_what_follows_from_a_reading(
    value: float | None, current: FiringAlert | None, last: ResolvedAlert | None, expected: Decision | None
) -> None:
    assert decide(RULE, reading(value), current, last, NOW) == expected


def test_a_rule_with_one_threshold_knows_one_severity() -> None:
    critical = replace(RULE, warning=None, critical=10)
    assert decide(critical, reading(9.99), None, None, NOW) is None
    assert decide(critical, reading(10), None, None, NOW) == Fire(CRITICAL)
    warning = replace(RULE, warning=5, critical=None)
    assert decide(warning, reading(100), None, None, NOW) == Fire(WARNING)


def test_an_alert_can_be_over_at_once_where_the_rule_says_so() -> None:
    rule = replace(RULE, resolve_after_minutes=0)
    assert decide(rule, reading(0), firing(), None, NOW) == Resolve()


@given(st.lists(st.tuples(st.one_of(st.none(), st.floats(0, 20)), st.floats(0.1, 90)), max_size=60))
def test_whatever_comes_it_fires_before_it_escalates_or_ends_and_never_twice(
    story: list[tuple[float | None, float]],
) -> None:
    current: FiringAlert | None = None
    last: ResolvedAlert | None = None
    now = NOW
    for value, pause in story:
        now += minutes(pause)
        match decide(RULE, reading(value), current, last, now):
            case Fire(severity):
                assert current is None
                if last is not None and now - last.resolved_at < minutes(RULE.cool_down_minutes):
                    assert severity.exceeds(last.severity)
                current = replace(firing(severity), started_at=now, evaluated_at=now)
            case Escalate(severity):
                assert current is not None
                assert severity.exceeds(current.severity)
                current = replace(current, severity=severity, evaluated_at=now, keep_firing_since=None)
            case KeepFiring(calm_since):
                assert current is not None
                current = replace(current, evaluated_at=now, keep_firing_since=calm_since)
            case Resolve():
                assert current is not None
                last, current = ResolvedAlert(severity=current.severity, resolved_at=now), None
        if current is None and last is None and value is not None:
            assert value < RULE.min_threshold


def test_a_severity_exceeds_only_those_before_it() -> None:
    assert CRITICAL.exceeds(WARNING)
    assert not WARNING.exceeds(CRITICAL)
    assert not WARNING.exceeds(WARNING)


def test_every_kind_has_its_class() -> None:
    assert set(CLASSES) == set(AlertKind)
    assert all(kind is found.kind for kind, found in CLASSES.items())


class TestWhatIsCounted:
    def test_is_every_type_for_each_source_and_what_was_set_aside_unless_a_rule_asks_for_more(self) -> None:
        everything = {Tally("", kind) for kind in EventType} | {Tally("set_aside", EventType.UNKNOWN)}
        assert set(tallies([])) == everything
        assert set(tallies([RULE, SilenceRule(name="silence")])) == everything

    def test_is_by_tenants_and_domains_what_the_rules_ask_for(self) -> None:
        rules = [
            replace(RULE, per=Per.TENANT),
            EventRule(name="dns", types=frozenset({EventType.DOMAIN_DNS_ERROR}), per=Per.SENDER_DOMAIN),
            replace(usual_rate("off", Rate.COMPLAINT), per=Per.RECIPIENT_DOMAIN, enabled=False),
        ]
        share = RATES[Rate.BOUNCE]
        extra = {Tally("tenant", kind) for kind in share.events | share.volume}
        assert set(tallies(rules)) - set(tallies([])) == extra | {Tally("sender_domain", EventType.DOMAIN_DNS_ERROR)}


SHARE: Mapping[str, Number] = {"percent": 7.3, "events": 73, "volume": 1000}

SENTENCES: list[tuple[AlertRule, Subject, Mapping[str, Number], str]] = [
    (RULE, MAIN, SHARE, "The bounce rate of source main is 7.3 % (73 of 1,000 in 60 minutes); warning at 5 %."),
    (
        replace(usual_rate("c", Rate.COMPLAINT), per=Per.SENDER_DOMAIN, warning=0.1),
        Subject(name="shop.example"),
        {"percent": 0.1234, "events": 3, "volume": 2431},
        "The complaint rate of sender domain shop.example is 0.1234 % (3 of 2,431 in 24 hours); warning at 0.1 %.",
    ),
    (
        replace(RULE, per=Per.ALL),
        Subject(),
        SHARE,
        "The bounce rate of all sources is 7.3 % (73 of 1,000 in 60 minutes); warning at 5 %.",
    ),
    (
        EventRule(name="e", types=frozenset({EventType.DOMAIN_DNS_ERROR}), per=Per.SENDER_DOMAIN),
        Subject(name="shop.example"),
        {"events": 1},
        "1 event (domain_dns_error) of sender domain shop.example in 60 minutes; warning at 1.",
    ),
    (
        SilenceRule(name="s"),
        MAIN,
        {"silent_minutes": 400, "events_before": 12345},
        ("No events of source main for 6.7 hours, after 12,345 in the 24 hours before; warning at 6 hours."),
    ),
    (
        SilenceRule(name="s"),
        MAIN,
        {"silent_minutes": 9 * 24 * 60},
        "No events of source main for 9 days; warning at 6 hours.",
    ),
    (
        AnnouncedRule(name="a"),
        MAIN,
        {"messages": 12, "oldest_at": "2026-01-01 11:00 UTC", "oldest_message": str(uuid4())},
        (
            "12 messages announced for source main without any event for 30 minutes,"
            " the oldest from 2026-01-01 11:00 UTC; warning at 1."
        ),
    ),
    (
        VerificationRule(name="v"),
        MAIN,
        {"requests": 120, "usual": 1.5},
        "120 requests to source main failed verification in 15 minutes (usual: 1.5); warning at 20.",
    ),
    (
        PendingAgeRule(name="p"),
        Subject(),
        {"seconds": 312, "source": "main", "receipt": str(uuid4())},
        "A receipt of source main has waited 312 seconds to be processed; warning at 120 seconds.",
    ),
    (
        UnverifiedAgeRule(name="u"),
        MAIN,
        {"seconds": 612, "reason": "unknown_key", "receipt": str(uuid4())},
        "A request to source main has waited 612 seconds to be verified (unknown_key); warning at 600 seconds.",
    ),
    (
        DeadReceiptsRule(name="d"),
        MAIN,
        {"receipts": 1, "last_receipt": str(uuid4())},
        "1 receipt of source main became dead in 60 minutes; warning at 1.",
    ),
    (
        SetAsideRule(name="s"),
        MAIN,
        {"events": 3, "reason": "Of another account: 'x'"},
        "3 events of source main were set aside in 60 minutes: Of another account: 'x'; warning at 1.",
    ),
    (
        ReconciledRule(name="r"),
        MAIN,
        {"events": 42, "last_receipt": str(uuid4())},
        "Reconciliation recovered 42 missing events of source main in 60 minutes; warning at 1.",
    ),
    (
        ReconciliationFailuresRule(name="k"),
        MAIN,
        {"failures": 3, "error": "MailChannels rejected the `api_key`."},
        (
            "Fetching failed deliveries from the provider of source main failed 3 times in a row:"
            " MailChannels rejected the `api_key`; warning at 3."
        ),
    ),
    (
        GivenUpRule(name="g"),
        MAIN,
        {"deliveries": 1, "events": 9, "reason": "the provider has it no more: 404"},
        (
            "1 failed delivery of source main (9 events) given up in 60 minutes:"
            " the provider has it no more: 404; warning at 1."
        ),
    ),
    (
        DeadDeliveriesRule(name="l"),
        Subject(name="01a2"),
        {"deliveries": 3, "subscription": "shop"},
        "3 deliveries to subscription shop (01a2) became dead in 60 minutes; warning at 1.",
    ),
    (
        SubscriptionDisabledRule(name="s", warning=1),
        Subject(name="01a2"),
        {"subscriptions": 1, "subscription": "shop", "reason": "the endpoint answered 410: it is gone for good"},
        ("The subscription shop (01a2) is disabled: the endpoint answered 410: it is gone for good; warning at 1."),
    ),
    (
        RulesRefusedRule(name="f"),
        Subject(),
        {"errors": 2, "first": "rules.yaml:3:4: alerts: expected a list, found 5"},
        (
            "The rules file has 2 errors, and the previous rules stay in force:"
            " rules.yaml:3:4: alerts: expected a list, found 5; warning at 1."
        ),
    ),
    (
        MassFailuresRule(name="m"),
        Subject(name="example.net"),
        {"recipients": 25, "classifications": "invalid_recipient"},
        (
            "25 recipients of example.net failed alike (invalid_recipient) in 60 minutes, with hardly any delivery in"
            " between: the sender is at fault, and none of them is suppressed; warning at 1."
        ),
    ),
    (
        BrokerUnusableRule(name="b"),
        Subject(),
        {"problems": 1, "problem": "no wake-up arrives; check that beat runs"},
        "The broker is unusable: no wake-up arrives; check that beat runs; warning at 1.",
    ),
]


@pytest.mark.parametrize(("rule", "subject", "numbers", "sentence"), SENTENCES)
def test_an_alert_says_in_a_sentence_what_it_was_judged_by(
    rule: AlertRule, subject: Subject, numbers: Mapping[str, Number], sentence: str
) -> None:
    assert kinds.summarize_firing(rule, Measurement(subject=subject, value=1, numbers=numbers), WARNING) == sentence


def test_every_kind_of_rule_has_a_sentence() -> None:
    assert {rule.kind for rule, *_ in SENTENCES} == set(AlertKind)


def test_the_end_of_an_alert_says_since_when_it_is_calm_or_why_it_is_not_judged_any_more() -> None:
    calm = Measurement(subject=MAIN, value=1, numbers={"percent": 1.0, "events": 10, "volume": 1000})
    assert kinds.summarize_resolved(RULE, calm, below_since=NOW) == (
        "The bounce rate of source main is 1 % (10 of 1,000 in 60 minutes); below 5 % since 2026-01-01 12:00 UTC."
    )
    unknown = reading(None)
    assert "too little data to evaluate bounce-rate for a day: source main" in kinds.summarize_resolved(
        RULE, unknown, below_since=None, stale=True
    )
    back = Measurement(subject=MAIN, value=0, numbers={"silent_minutes": 0, "events_before": 0})
    assert kinds.summarize_resolved(SilenceRule(name="s"), back, below_since=NOW) == "Source main has events again."
    assert kinds.summarize_withdrawn("bounce-rate") == "The rule bounce-rate is no longer in force."
