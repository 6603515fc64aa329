"""Alert kinds about what operators and applications configure: the rules file, subscriptions and the broker."""

from collections.abc import Iterator, Sequence

from shared.alerts import formatting
from shared.alerts.kinds.base import Kind, Numbers, Snapshot, select
from shared.alerts.policy import Measurement, Subject
from shared.alerts.rules import BrokerUnusableRule, DeadDeliveriesRule, RulesRefusedRule, SubscriptionDisabledRule
from shared.counters.store import window_start
from shared.jobs import periodic
from shared.vocabulary import AlertKind

_MAX_ANSWERS_LENGTH = 200

_DEAD = """
SELECT s.id, s.name, s.tenant, sum(deliveries)::int8 AS deliveries,
    string_agg(answer || ' (' || deliveries || ')', ', ' ORDER BY deliveries DESC, answer) AS answers
FROM (
    SELECT subscription_id, count(*) AS deliveries, CASE last_http_status
        WHEN 0 THEN coalesce(last_error, 'no response') ELSE coalesce(last_http_status::text, 'not tried') END AS answer
    FROM deliveries WHERE status = 'dead' AND dead_at >= %(since)s GROUP BY 1, 3
) AS d
JOIN subscriptions AS s ON s.id = d.subscription_id AND s.deleted_at IS NULL GROUP BY s.id
"""

_DISABLED = """
SELECT id, name, tenant, state_reason FROM subscriptions WHERE state = 'disabled' AND deleted_at IS NULL
"""


class DeadDeliveries(Kind[DeadDeliveriesRule]):
    """Deliveries to a subscription that became dead in the window, and still are."""

    kind = AlertKind.DEAD_DELIVERIES
    next_step = (
        "See the failures with `tidings deliveries list --status dead --subscription {subject}`. Once the endpoint is "
        "fixed, send them again: `tidings deliveries replay --status dead --subscription {subject}`."
    )
    counted = "deliveries"

    def measure(
        self, snapshot: Snapshot, rules: Sequence[DeadDeliveriesRule]
    ) -> Iterator[tuple[DeadDeliveriesRule, Measurement]]:
        """Yield the number of dead deliveries of every subscription that has any."""
        for rule in rules:
            for row in select(snapshot.connection, _DEAD, since=window_start(snapshot.now, rule.window_minutes)):
                subject = Subject(name=str(row.id), tenant=row.tenant)
                answers = row.answers[:_MAX_ANSWERS_LENGTH]
                yield rule, self.count(subject, row.deliveries, subscription=row.name, answers=answers)

    def summarize(self, rule: DeadDeliveriesRule, subject: Subject, numbers: Numbers) -> str:
        """Return the number of dead deliveries."""
        count = formatting.count(numbers["deliveries"], "delivery", "deliveries")
        text = f"{count} to {_words(subject, numbers)} became dead in {formatting.minutes(rule.window_minutes)}"
        return f"{text}; answered: {numbers['answers']}" if "answers" in numbers else text


class SubscriptionDisabled(Kind[SubscriptionDisabledRule]):
    """A subscription that was disabled because its endpoint kept failing."""

    kind = AlertKind.SUBSCRIPTION_DISABLED
    next_step = (
        "Fix the endpoint, then run `tidings subscriptions resume {subject}`, and recover the changes that it missed: "
        "`tidings subscriptions recover {subject} --help` says how."
    )
    counted = "subscriptions"
    resolved = "Subscription {} is no longer disabled."

    def measure(
        self, snapshot: Snapshot, rules: Sequence[SubscriptionDisabledRule]
    ) -> Iterator[tuple[SubscriptionDisabledRule, Measurement]]:
        """Yield a count of 1 for every disabled subscription."""
        for row in select(snapshot.connection, _DISABLED):
            subject = Subject(name=str(row.id), tenant=row.tenant)
            for rule in rules:
                yield rule, self.count(subject, 1, subscription=row.name, reason=row.state_reason or "")

    def summarize(self, rule: SubscriptionDisabledRule, subject: Subject, numbers: Numbers) -> str:  # noqa: ARG002
        """Return why the subscription is disabled."""
        return f"The {_words(subject, numbers)} is disabled: {numbers['reason']}"


def _words(subject: Subject, numbers: Numbers) -> str:
    return f"subscription {numbers['subscription']} ({subject.name})" if "subscription" in numbers else subject.name


class RulesRefused(Kind[RulesRefusedRule]):
    """Errors of a rules file that was rejected."""

    kind = AlertKind.RULES_REFUSED
    next_step = (
        "Run `tidings rules check`, which names the wrong line, and fix it. Until then, the previous rules stay in "
        "force."
    )
    counted = "errors"
    resolved = "The rules file is in force."

    def measure(
        self, snapshot: Snapshot, rules: Sequence[RulesRefusedRule]
    ) -> Iterator[tuple[RulesRefusedRule, Measurement]]:
        """Yield the number of errors for each rule; 0 if the file is in force."""
        errors = snapshot.rules_errors
        first = {"first": errors[0]} if errors else {}
        for rule in rules:
            yield rule, self.count(Subject(), len(errors), **first)

    def summarize(self, rule: RulesRefusedRule, subject: Subject, numbers: Numbers) -> str:  # noqa: ARG002
        """Return the number of errors, and the first of them."""
        count = formatting.count(numbers["errors"], "error")
        return f"The rules file has {count}, and the previous rules stay in force: {numbers['first']}"


class BrokerUnusable(Kind[BrokerUnusableRule]):
    """A broker that refuses messages or delivers none. Workers then look for work by their own clock."""

    kind = AlertKind.BROKER_UNUSABLE
    next_step = (
        "Check that the broker at TIDINGS_BROKER_URL is reachable, writable and has free memory, and that beat runs. "
        "Nothing is lost: receipts and deliveries wait in the database, some seconds longer."
    )
    counted = "problems"
    resolved = "Wake-ups arrive again."

    def measure(
        self, snapshot: Snapshot, rules: Sequence[BrokerUnusableRule]
    ) -> Iterator[tuple[BrokerUnusableRule, Measurement]]:
        """Yield 1 for each rule if workers have found a problem in the last minute; otherwise 0."""
        problem = periodic.find_problem(snapshot.connection)
        for rule in rules:
            yield rule, self.count(Subject(), int(problem is not None), **({"problem": problem} if problem else {}))

    def summarize(self, rule: BrokerUnusableRule, subject: Subject, numbers: Numbers) -> str:  # noqa: ARG002
        """Return the problem."""
        return f"The broker is unusable: {numbers['problem']}"
