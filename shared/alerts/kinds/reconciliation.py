"""Alert kinds about deliveries that failed at providers, and about recovering them."""

from collections.abc import Iterator, Sequence

from shared.alerts import formatting
from shared.alerts.kinds.base import (
    ACTIVE_SOURCE,
    Kind,
    Numbers,
    Snapshot,
    about_source,
    earliest,
    select,
    source_subject,
    windows,
)
from shared.alerts.policy import Measurement, Subject
from shared.alerts.rules import GivenUpRule, ReconciledRule, ReconciliationFailuresRule
from shared.counters.store import GREATEST
from shared.vocabulary import AlertKind

_RECONCILED = f"""
SELECT number, s.id AS source_id, s.slug AS source, sum(new_events)::int8 AS events,
    {GREATEST.format(name="receipt_id")} AS last_receipt
FROM jsonb_to_recordset(%(asked)s::jsonb) AS asked (number int, since timestamptz, sources text[])
JOIN sources AS s ON {ACTIVE_SOURCE}
JOIN failed_deliveries AS f ON f.source_id = s.id AND new_events > 0 AND last_attempt_at >= asked.since
GROUP BY 1, 2, 3 ORDER BY 1, 3
"""

# Without a last error, nothing is left to fetch, so earlier failures do not count.
_FAILURES = """
SELECT s.id AS source_id, s.slug AS source, failures, last_error FROM reconciliations JOIN sources AS s
ON s.id = source_id WHERE failures > 0 AND last_error IS NOT NULL AND deleted_at IS NULL ORDER BY s.slug
"""

_GIVEN_UP = f"""
SELECT number, s.id AS source_id, s.slug AS source, count(*) AS deliveries, sum(events)::int8 AS events,
    max(last_error) AS reason
FROM jsonb_to_recordset(%(asked)s::jsonb) AS asked (number int, since timestamptz, sources text[])
JOIN failed_deliveries AS f ON state = 'given_up' AND given_up_at >= asked.since
JOIN sources AS s ON s.id = source_id AND {ACTIVE_SOURCE}
WHERE given_up_at >= %(earliest)s GROUP BY 1, 2, 3 ORDER BY 1, 3
"""


class Reconciled(Kind[ReconciledRule]):
    """Missing events that reconciliation recovered in the window."""

    kind = AlertKind.RECONCILED
    next_step = (
        "Nothing is missing any more. Find out why the events did not arrive by themselves: an outage of the receiver, "
        "a wrong address, or a proxy in front of it. `tidings sources check{source}` shows the address."
    )

    def measure(
        self, snapshot: Snapshot, rules: Sequence[ReconciledRule]
    ) -> Iterator[tuple[ReconciledRule, Measurement]]:
        """Yield the number of recovered events of every source that has any."""
        for row in select(snapshot.connection, _RECONCILED, windows(snapshot, rules)):
            yield rules[row.number], self.count(source_subject(row), row.events, last_receipt=str(row.last_receipt))

    def summarize(self, rule: ReconciledRule, subject: Subject, numbers: Numbers) -> str:
        """Return the number of recovered events."""
        missing = f"{formatting.count(numbers['events'], 'missing event')} of source {subject.name}"
        return f"Reconciliation recovered {missing} in {formatting.minutes(rule.window_minutes)}"


class ReconciliationFailures(Kind[ReconciliationFailuresRule]):
    """Failures in a row to fetch the failed deliveries of a source from its provider."""

    kind = AlertKind.RECONCILIATION_FAILURES
    next_step = (
        "Fix the error: set a valid `api_key` with `tidings sources rotate{source}`, or check that the provider's API "
        "can be reached. Then run `tidings reconcile{of_source}`: providers delete failed deliveries after some days."
    )
    counted = "failures"
    resolved = "Failed deliveries can be fetched from the provider of source {} again."

    def measure(
        self, snapshot: Snapshot, rules: Sequence[ReconciliationFailuresRule]
    ) -> Iterator[tuple[ReconciliationFailuresRule, Measurement]]:
        """Yield the failures in a row of every source whose last run failed."""
        for row in select(snapshot.connection, _FAILURES):
            for rule in about_source(rules, row.source):
                yield rule, self.count(source_subject(row), row.failures, error=row.last_error)

    def summarize(self, rule: ReconciliationFailuresRule, subject: Subject, numbers: Numbers) -> str:  # noqa: ARG002
        """Return the number of failures, and the last error."""
        times = "once" if numbers["failures"] == 1 else f"{formatting.number(numbers['failures'])} times in a row"
        failed = f"Fetching failed deliveries from the provider of source {subject.name} failed {times}"
        return f"{failed}: {str(numbers['error']).rstrip('.')}"


class GivenUp(Kind[GivenUpRule]):
    """Failed deliveries of providers that reconciliation gave up in the window."""

    kind = AlertKind.GIVEN_UP
    next_step = (
        "Check the reasons with `tidings reconcile{of_source} --given-up --dry-run`, fix their cause, and run "
        "`tidings reconcile{of_source} --given-up`. If the provider has deleted the events, ask its support for them."
    )
    counted = "deliveries"

    def measure(self, snapshot: Snapshot, rules: Sequence[GivenUpRule]) -> Iterator[tuple[GivenUpRule, Measurement]]:
        """Yield the number of failed deliveries that were given up, of every source that has any."""
        asked = windows(snapshot, rules)
        for row in select(snapshot.connection, _GIVEN_UP, asked, earliest=earliest(asked)):
            measurement = self.count(source_subject(row), row.deliveries, events=row.events, reason=row.reason)
            yield rules[row.number], measurement

    def summarize(self, rule: GivenUpRule, subject: Subject, numbers: Numbers) -> str:
        """Return the number of failed deliveries, their events, and one reason."""
        count = formatting.count(numbers["deliveries"], "failed delivery", "failed deliveries")
        count = f"{count} of source {subject.name}"
        if "reason" not in numbers:
            return f"{count} given up in {formatting.minutes(rule.window_minutes)}"
        events, reason = formatting.count(numbers["events"], "event"), str(numbers["reason"]).rstrip(".")
        return f"{count} ({events}) given up in {formatting.minutes(rule.window_minutes)}: {reason}"
