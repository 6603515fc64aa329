"""Which events suppress an address: every line of the policy, independent of the order of events."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.classification.classify import Hardness, hardness
from shared.suppression import policy as suppression_policy
from shared.suppression.policy import (
    Claim,
    Consequence,
    HardBounce,
    Lift,
    SoftBounce,
    SoftBounces,
    SuppressionPeriod,
    SuppressionPolicy,
    Tenants,
)
from shared.vocabulary import ALL_MAIL, Classification, EventType, MailType, SuppressionReason

C, E = Classification, EventType
POLICY = SuppressionPolicy()
RULE = SoftBounces()
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
FOREVER = None


def day(number: float) -> datetime:
    return BEGIN + timedelta(days=number)


def reason_for(kind: EventType, why: Classification | None = None, policy: SuppressionPolicy = POLICY) -> str | None:
    """What follows at once, or `soft` where it only counts."""
    found = suppression_policy.consequence(policy, kind, why)
    if found is not None:
        return found[0]
    return "soft" if suppression_policy.is_soft(policy, kind, why) else None


class TestWhatFollowsFromOneEvent:
    @pytest.mark.parametrize("kind", [E.BOUNCED, E.FAILED])
    @pytest.mark.parametrize("why", [C.INVALID_RECIPIENT, C.INACTIVE_MAILBOX, C.INVALID_DOMAIN])
    def test_a_recipient_who_does_not_exist_is_suppressed_for_good_and_for_all_mail(self, kind, why):
        found = suppression_policy.consequence(POLICY, kind, why)
        assert found is not None
        reason, consequence = found
        assert (reason, consequence.days, consequence.types) == (SuppressionReason.HARD_BOUNCE, FOREVER, ALL_MAIL)

    def test_a_complaint_suppresses_for_good_and_for_all_mail(self):
        found = suppression_policy.consequence(POLICY, E.COMPLAINED, None)
        assert found is not None
        assert (found[0], found[1].days, found[1].types) == (SuppressionReason.COMPLAINT, FOREVER, ALL_MAIL)

    def test_who_unsubscribes_still_gets_transactional_mail(self):
        found = suppression_policy.consequence(POLICY, E.UNSUBSCRIBED, None)
        assert found is not None
        assert (found[0], found[1].types) == (SuppressionReason.UNSUBSCRIBE, frozenset({MailType.NON_TRANSACTIONAL}))

    @pytest.mark.parametrize("kind", [E.BOUNCED, E.FAILED, E.DEFERRED, E.REJECTED])
    @pytest.mark.parametrize("why", [C.SPAM_BLOCK, C.SPAM_CONTENT, C.POLICY_REJECTION])
    def test_what_is_the_senders_problem_never_suppresses_whatever_the_rules_say(self, kind, why):
        everything = frozenset(C)
        bold = SuppressionPolicy(
            hard_bounce=HardBounce(classifications=everything), soft_bounce=SoftBounces(classifications=everything)
        )
        assert reason_for(kind, why, POLICY) is None
        assert reason_for(kind, why, bold) is None

    @pytest.mark.parametrize("why", list(C))
    def test_what_the_provider_did_not_even_try_proves_nothing(self, why):
        assert reason_for(E.REJECTED, why) is None

    @pytest.mark.parametrize("kind", sorted(set(E) - {E.BOUNCED, E.FAILED, E.DEFERRED, E.COMPLAINED, E.UNSUBSCRIBED}))
    def test_nothing_follows_from_any_other_event(self, kind):
        assert reason_for(kind, C.INVALID_RECIPIENT) is None

    @pytest.mark.parametrize("kind", [E.BOUNCED, E.FAILED, E.DEFERRED, E.REJECTED])
    @pytest.mark.parametrize("why", [*C, None])
    def test_hard_and_soft_are_what_the_classification_calls_so(self, kind, why):
        expected = {Hardness.HARD: SuppressionReason.HARD_BOUNCE, Hardness.SOFT: "soft", Hardness.NONE: None}
        assert reason_for(kind, why) == expected[hardness(kind, why)]

    def test_a_rule_that_is_switched_off_is_not_applied(self):
        off = SuppressionPolicy(
            hard_bounce=HardBounce(enabled=False),
            complaint=Consequence(enabled=False),
            unsubscribe=Consequence(enabled=False),
            soft_bounce=SoftBounces(enabled=False),
        )
        events = [(E.BOUNCED, C.INVALID_RECIPIENT), (E.COMPLAINED, None), (E.UNSUBSCRIBED, None), (E.DEFERRED, None)]
        assert [reason_for(kind, why, off) for kind, why in events] == [None] * 4

    def test_what_the_rules_call_hard_is_not_soft_too(self):
        both = SuppressionPolicy(hard_bounce=HardBounce(classifications=frozenset({C.MAILBOX_FULL})))
        assert reason_for(E.BOUNCED, C.MAILBOX_FULL, both) == SuppressionReason.HARD_BOUNCE
        assert reason_for(E.DEFERRED, C.MAILBOX_FULL, both) == "soft"

    @pytest.mark.parametrize(
        ("tenants", "tenant", "expected"),
        [(Tenants.OWN, "acme", "acme"), (Tenants.OWN, None, ""), (Tenants.ALL, "acme", ""), (Tenants.ALL, None, "")],
    )
    def test_it_holds_for_the_tenant_of_the_mail_or_for_all(self, tenants, tenant, expected):
        assert suppression_policy.tenant_of(tenants, tenant) == expected


def claim(
    number: float, reason: SuppressionReason = SuppressionReason.HARD_BOUNCE, until: float | None = None, key: str = "a"
) -> Claim:
    end = None if until is None else day(until)
    return Claim(reason=reason, tenant="", at=day(number), key=key, until=end)


class TestOfSeveralEvents:
    def test_the_first_is_the_evidence(self):
        first, second = claim(1), claim(2)
        assert suppression_policy.fold([second, first], []) == {("", SuppressionReason.HARD_BOUNCE): first}

    def test_the_one_that_suppresses_longest_holds(self):
        short, long = claim(1, until=31), claim(2, until=32)
        assert suppression_policy.fold([long, short], []) == {("", SuppressionReason.HARD_BOUNCE): long}
        assert suppression_policy.fold([long, short, claim(3)], []) == {("", SuppressionReason.HARD_BOUNCE): claim(3)}

    def test_of_unsubscriptions_the_last_holds_for_one_may_have_subscribed_in_between(self):
        first, last = claim(1, SuppressionReason.UNSUBSCRIBE), claim(3, SuppressionReason.UNSUBSCRIBE)
        again = Lift(at=day(2), tenant="", reason=SuppressionReason.UNSUBSCRIBE, by_event=True)
        assert suppression_policy.fold([first, last], [again]) == {("", SuppressionReason.UNSUBSCRIBE): last}
        assert suppression_policy.fold([first], [again]) == {}

    def test_reasons_and_tenants_stand_side_by_side(self):
        claims = [claim(1), claim(1, SuppressionReason.COMPLAINT), replace(claim(1), tenant="acme")]
        assert len(suppression_policy.fold(claims, [])) == 3

    @pytest.mark.parametrize(("at", "counts"), [(1, False), (2, False), (2.1, True)])
    def test_what_happened_before_a_person_lifted_counts_no_more(self, at, counts):
        assert bool(suppression_policy.fold([claim(at)], [Lift(at=day(2))])) is counts

    @pytest.mark.parametrize(("at", "counts"), [(1, False), (2, True), (2.1, True)])
    def test_ending_a_subscription_wins_over_beginning_it_at_the_same_instant(self, at, counts):
        again = Lift(at=day(2), reason=SuppressionReason.UNSUBSCRIBE, by_event=True)
        assert bool(suppression_policy.fold([claim(at, SuppressionReason.UNSUBSCRIBE)], [again])) is counts

    @pytest.mark.parametrize(
        ("tenant", "reason", "counts"),
        [
            (None, None, False),
            ("acme", None, False),
            (None, SuppressionReason.COMPLAINT, False),
            ("", None, True),
            ("other", None, True),
            (None, SuppressionReason.HARD_BOUNCE, True),
        ],
    )
    def test_a_lift_is_about_its_tenant_and_its_reason(self, tenant, reason, counts):
        complaint = replace(claim(1, SuppressionReason.COMPLAINT), tenant="acme")
        assert bool(suppression_policy.fold([complaint], [Lift(at=day(2), tenant=tenant, reason=reason)])) is counts


claims = st.builds(
    Claim,
    reason=st.sampled_from(SuppressionReason),
    tenant=st.sampled_from(["", "acme"]),
    at=st.integers(0, 5).map(day),
    key=st.text("abc", min_size=1, max_size=2),
    until=st.none() | st.integers(6, 9).map(day),
)
lifts = st.builds(
    Lift,
    at=st.integers(0, 5).map(day),
    tenant=st.sampled_from([None, "", "acme"]),
    reason=st.none() | st.sampled_from(SuppressionReason),
    by_event=st.booleans(),
)


@given(st.lists(claims, max_size=12), st.lists(lifts, max_size=3), st.randoms(use_true_random=False))
def test_no_order_and_no_repetition_changes_what_holds(found, lifted, random):
    again = found + random.choices(found, k=len(found)) if found else found
    random.shuffle(again)
    assert suppression_policy.fold(again, lifted) == suppression_policy.fold(found, lifted)


@given(st.lists(claims, max_size=12), st.lists(lifts, max_size=3))
def test_what_holds_in_parts_and_is_put_together_holds_of_the_whole(found, lifted):
    half = len(found) // 2
    parts = [
        *suppression_policy.fold(found[:half], lifted).values(),
        *suppression_policy.fold(found[half:], lifted).values(),
    ]
    assert suppression_policy.fold(parts, lifted) == suppression_policy.fold(found, lifted)


@given(st.lists(claims, max_size=12), st.lists(lifts, min_size=1, max_size=3))
def test_nothing_from_before_a_persons_lift_ever_holds(found, lifted):
    person = replace(lifted[0], by_event=False)
    for held in suppression_policy.fold(found, [person, *lifted[1:]]).values():
        covered = person.tenant in (None, held.tenant) and person.reason in (None, held.reason)
        assert held.at > person.at or not covered


def bounced(*days: float) -> list[SoftBounce]:
    """A message for each day, that bounced once."""
    return [SoftBounce(first_at=day(d), first_key=f"{d}", last_at=day(d), last_key=f"{d}") for d in days]


def retried(first: float, last: float) -> SoftBounce:
    return SoftBounce(first_at=day(first), first_key=f"{first}", last_at=day(last), last_key=f"{last}")


def period(
    bounces: Sequence[SoftBounce], after: float | None = None, rule: SoftBounces = RULE
) -> SuppressionPeriod | None:
    return suppression_policy.soft_bounce_period(rule, bounces, None if after is None else day(after))


class TestSoftBounces:
    def test_of_five_messages_within_two_weeks_suppress_for_thirty_days(self):
        assert period(bounced(0, 1, 2, 3, 4)) == SuppressionPeriod(since=day(4), until=day(34), level=1, key="4")

    @pytest.mark.parametrize("days", [(), (0,), (0, 1, 2, 3), (0, 4, 8, 12, 14.1), (0, 10, 20, 30, 40, 50)])
    def test_that_are_fewer_or_further_apart_do_not(self, days):
        assert period(bounced(*days)) is None

    @pytest.mark.parametrize("days", [(0, 4, 8, 12, 14), (0, 20, 21, 22, 23, 24), (0, 0, 0, 0, 0)])
    def test_are_counted_wherever_they_are_close_enough(self, days):
        assert period(bounced(*days)) is not None

    def test_of_one_message_count_once_however_often_it_is_tried(self):
        assert period([retried(0, 2), *bounced(1, 2, 3)]) is None

    def test_suppress_from_the_first_bounce_of_the_last_message_needed(self):
        messages = [retried(n / 10, n / 10 + 2) for n in range(7)]
        found = period(messages)
        assert found is not None
        assert (found.since, found.key) == (day(0.4), "0.4")

    def test_with_a_delivery_between_do_not_suppress(self):
        assert period(bounced(0, 1, 2, 3, 4), after=2.5) is None
        assert period(bounced(0, 1, 2, 3, 4, 5, 6), after=1.5) == SuppressionPeriod(
            since=day(6), until=day(36), level=1, key="6"
        )

    @pytest.mark.parametrize("after", [4, 5, 33, 400])
    def test_with_a_delivery_after_them_do_not_suppress_for_the_mailbox_works(self, after):
        assert period(bounced(0, 1, 2, 3, 4), after=after) is None

    def test_of_a_message_that_went_on_bouncing_after_the_delivery_count_again(self):
        messages = [retried(n, 10 + n) for n in range(5)]
        assert period(messages, after=5) == SuppressionPeriod(since=day(14), until=day(44), level=1, key="14")

    def test_suppress_longer_every_time_and_in_the_end_for_good(self):
        first, second, third = (0, 1, 2, 3, 4), (35, 36, 37, 38, 39), (130, 131, 132, 133, 134)
        assert period(bounced(*first, *second)) == SuppressionPeriod(since=day(39), until=day(129), level=2, key="39")
        assert period(bounced(*first, *second, *third)) == SuppressionPeriod(
            since=day(134), until=None, level=3, key="134"
        )

    def test_after_the_last_length_of_the_rule_suppress_as_long_again(self):
        rule = replace(RULE, days=(1,))
        found = period(bounced(0, 1, 2, 3, 4, 6, 7, 8, 9, 10), rule=rule)
        assert found == SuppressionPeriod(since=day(10), until=day(11), level=2, key="10")

    def test_restart_with_thirty_days_after_a_delivery_or_a_lift(self):
        days = (0, 1, 2, 3, 4, 35, 36, 37, 38, 39)
        assert period(bounced(*days), after=34) == SuppressionPeriod(since=day(39), until=day(69), level=1, key="39")

    def test_during_a_period_do_not_count_for_the_next(self):
        assert period(bounced(0, 1, 2, 3, 4, 30, 31, 32, 33, 33.5)) == SuppressionPeriod(
            since=day(4), until=day(34), level=1, key="4"
        )


soft_bounces = st.lists(st.tuples(st.integers(0, 120), st.integers(0, 5)), max_size=25).map(
    lambda found: [
        SoftBounce(first_at=day(at), first_key=f"{n}f", last_at=day(at + late), last_key=f"{n}l")
        for n, (at, late) in enumerate(found)
    ]
)


@given(soft_bounces, st.none() | st.integers(0, 120).map(day), st.randoms(use_true_random=False))
def test_no_order_of_soft_bounces_changes_the_period(found, after, random):
    shuffled = random.sample(found, k=len(found))
    assert suppression_policy.soft_bounce_period(RULE, shuffled, after) == suppression_policy.soft_bounce_period(
        RULE, found, after
    )


@given(soft_bounces, st.integers(0, 120).map(day))
def test_a_period_begins_after_the_mailbox_last_worked(found, after):
    found_period = suppression_policy.soft_bounce_period(RULE, found, after)
    assert found_period is None or found_period.since > after


@given(soft_bounces)
def test_too_few_messages_never_suppress(found):
    assert suppression_policy.soft_bounce_period(RULE, found[: RULE.messages - 1], None) is None
