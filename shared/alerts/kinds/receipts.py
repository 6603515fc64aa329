"""Alert kinds about requests and receipts: verification, waiting, and receipts that became dead."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row

from shared import ids
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
from shared.alerts.policy import Measurement, Number, Subject
from shared.alerts.rules import (
    VERIFICATION_FAILURES,
    DeadReceiptsRule,
    PendingAgeRule,
    SetAsideRule,
    UnverifiedAgeRule,
    VerificationRule,
)
from shared.counters import store as counters
from shared.vocabulary import AlertKind, EventType

_DAY_MINUTES = 24 * 60

_REFUSED = f"""
WITH asked AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset(%(asked)s::jsonb)
        AS given (number int, since timestamptz, sources text[], usual_until jsonb)
),
concerned AS MATERIALIZED (
    SELECT number, id, slug, since, coalesce((usual_until->>slug)::timestamptz, since) AS usual_until
    FROM asked JOIN sources AS s ON {ACTIVE_SOURCE}
)
SELECT number, id AS source_id, slug AS source,
    coalesce(sum(count) FILTER (WHERE minute >= since), 0)::int8 AS requests,
    coalesce(sum(count) FILTER (WHERE minute < usual_until), 0)::int8 AS before
FROM concerned JOIN minute_counts AS c ON source_id = id AND minute >= usual_until - interval '1 day'
WHERE dimension = '{counters.REFUSALS}' AND minute >= (SELECT min(usual_until) FROM concerned) - interval '1 day'
    AND type = ANY(%(reasons)s) GROUP BY 1, 2, 3 ORDER BY 1, 3
"""

_DEAD = f"""
SELECT number, s.id AS source_id, s.slug AS source, count(*) AS receipts,
    {counters.GREATEST.format(name="receipt_id")} AS last_receipt
FROM jsonb_to_recordset(%(asked)s::jsonb) AS asked (number int, since timestamptz, sources text[])
JOIN parked_receipts AS p ON state = 'dead' AND NOT reprocess AND parked_at >= asked.since
JOIN sources AS s ON s.id = source_id AND {ACTIVE_SOURCE}
WHERE parked_at >= %(earliest)s GROUP BY 1, 2, 3 ORDER BY 1, 3
"""

_SET_ASIDE = f"""
SELECT counted.*, (SELECT data->>'problem' FROM events WHERE id = last_event_id) AS reason FROM (
    SELECT number, s.id AS source_id, s.slug AS source, sum(count)::int8 AS events,
        {counters.GREATEST.format(name="last_event_id")} AS last_event_id
    FROM jsonb_to_recordset(%(asked)s::jsonb) AS asked (number int, since timestamptz, sources text[])
    JOIN sources AS s ON {ACTIVE_SOURCE}
    JOIN minute_counts AS c ON source_id = s.id AND minute >= asked.since
    WHERE dimension = '{counters.EVERYTHING}' AND type = '{EventType.UNKNOWN}' AND minute >= %(earliest)s
    GROUP BY 1, 2, 3
) AS counted ORDER BY number, source
"""

_OLDEST_UNVERIFIED = """
SELECT s.id AS source_id, s.slug AS source, receipt_id, reason FROM sources AS s CROSS JOIN LATERAL (
    SELECT receipt_id, reason FROM parked_receipts WHERE source_id = s.id AND state = 'unverified'
    ORDER BY receipt_id LIMIT 1
) AS oldest WHERE deleted_at IS NULL ORDER BY s.slug
"""

_OLDEST_PENDING = """
SELECT receipt_id, slug AS source, attempts, available_at FROM (
    SELECT receipt_id, source_id, attempts, available_at FROM pending_receipts
    WHERE NOT reprocess ORDER BY receipt_id LIMIT 1
) AS oldest JOIN sources ON sources.id = source_id
"""


class VerificationFailures(Kind[VerificationRule]):
    """Requests that failed verification. They count as 0 while their number is usual for the source."""

    kind = AlertKind.VERIFICATION_FAILURES
    next_step = (
        "Check the reasons with `tidings refusals{of_source}` and `tidings sources check{source}`. If a secret was "
        "rotated at the provider, set the new one with `tidings sources rotate{source}`. Until then, keep the requests "
        "with `tidings sources quarantine{source}`."
    )

    def measure(
        self, snapshot: Snapshot, rules: Sequence[VerificationRule]
    ) -> Iterator[tuple[VerificationRule, Measurement]]:
        """Yield the failures in the window, compared with those of the day before it."""
        counters.count_refusals(snapshot.connection, snapshot.now)
        asked = windows(snapshot, rules)
        for one, rule in zip(asked, rules, strict=True):
            # Requests since an alert fired, and those of the hour in which it began, never become usual.
            one["usual_until"] = {
                alert.subject.name: counters.window_start(alert.started_at, rule.window_minutes).replace(minute=0)
                for alert in snapshot.firing
                if alert.rule == rule.name
            }
        for row in find_refused(snapshot.connection, asked, sorted(VERIFICATION_FAILURES)):
            yield rules[row.number], self._compare(rules[row.number], source_subject(row), row.requests, row.before)

    def measure_absent(self, rule: VerificationRule, subject: Subject) -> Measurement:
        """Return no failures."""
        return self._compare(rule, subject, 0, 0)

    def summarize(self, rule: VerificationRule, subject: Subject, numbers: Numbers) -> str:
        """Return the failures in the window, and their usual number."""
        failed = f"{formatting.count(numbers['requests'], 'request')} to source {subject.name} failed verification"
        return f"{failed} in {formatting.minutes(rule.window_minutes)} (usual: {formatting.number(numbers['usual'])})"

    def _compare(self, rule: VerificationRule, subject: Subject, requests: int, before: int) -> Measurement:
        usual = before * rule.window_minutes / _DAY_MINUTES
        return Measurement(
            subject=subject,
            value=requests if requests >= rule.factor * usual else 0,
            numbers={"requests": requests, "usual": round(usual, 1)},
        )


def find_refused(
    connection: Connection, asked: Sequence[Mapping[str, Any]], reasons: Sequence[str]
) -> Sequence[Row[Any]]:
    """Return the counted refusals for these reasons in each window, and in the 24 hours before it.

    `usual_until` has, by the name of a source, an earlier end of these 24 hours.
    """
    return select(connection, _REFUSED, asked, reasons=list(reasons))


class PendingAge(Kind[PendingAgeRule]):
    """How long the oldest receipt has been waiting to be processed. Reprocessed receipts do not count."""

    kind = AlertKind.PENDING_AGE
    next_step = (
        "Check that workers run, and read their log: the oldest receipt that waits is of the source{source}. If the "
        "workers are busy, start more of them."
    )
    unit = "{} seconds"

    def measure(
        self, snapshot: Snapshot, rules: Sequence[PendingAgeRule]
    ) -> Iterator[tuple[PendingAgeRule, Measurement]]:
        """Yield one age for each rule; 0 if no receipt is waiting."""
        measurement = Measurement(subject=Subject(), value=0, numbers={"seconds": 0})
        for row in select(snapshot.connection, _OLDEST_PENDING):
            # A receipt that was never tried may have been in quarantine; it has been waiting since it left.
            since = ids.made_at(row.receipt_id) if row.attempts else row.available_at
            measurement = _age(snapshot, Subject(), since, source=row.source, receipt=str(row.receipt_id))
        for rule in rules:
            yield rule, measurement

    def summarize(self, rule: PendingAgeRule, subject: Subject, numbers: Numbers) -> str:  # noqa: ARG002
        """Return the age of the oldest receipt."""
        if "source" not in numbers:
            return "No receipt is waiting to be processed"
        waited = f"A receipt of source {numbers['source']} has waited {formatting.number(numbers['seconds'])} seconds"
        return f"{waited} to be processed"


class UnverifiedAge(Kind[UnverifiedAgeRule]):
    """How long the oldest request to a source has been in quarantine."""

    kind = AlertKind.UNVERIFIED_AGE
    next_step = (
        "Check the errors with `GET /v1/receipts?state=unverified` and run `tidings sources check{source}`: the "
        "provider's keys may be unreachable, or a secret may be wrong. Fix it before these requests are rejected. To "
        "accept requests that were rejected wrongly, run `tidings reprocess{of_source} --state rejected`."
    )
    unit = "{} seconds"

    def measure(
        self, snapshot: Snapshot, rules: Sequence[UnverifiedAgeRule]
    ) -> Iterator[tuple[UnverifiedAgeRule, Measurement]]:
        """Yield the age of the oldest request of every source that has one."""
        for row in select(snapshot.connection, _OLDEST_UNVERIFIED):
            since = ids.made_at(row.receipt_id)
            measurement = _age(snapshot, source_subject(row), since, reason=row.reason, receipt=str(row.receipt_id))
            for rule in about_source(rules, row.source):
                yield rule, measurement

    def measure_absent(self, rule: UnverifiedAgeRule, subject: Subject) -> Measurement:  # noqa: ARG002
        """Return an age of 0: no request is waiting."""
        return Measurement(subject=subject, value=0, numbers={"seconds": 0})

    def summarize(self, rule: UnverifiedAgeRule, subject: Subject, numbers: Numbers) -> str:  # noqa: ARG002
        """Return the age of the oldest request, and why it is in quarantine."""
        if "reason" not in numbers:
            return f"No request to source {subject.name} is waiting to be verified"
        waited = f"A request to source {subject.name} has waited {formatting.number(numbers['seconds'])} seconds"
        return f"{waited} to be verified ({numbers['reason']})"


class DeadReceipts(Kind[DeadReceiptsRule]):
    """Receipts that became dead in the window. Reprocessed receipts do not count."""

    kind = AlertKind.DEAD_RECEIPTS
    next_step = (
        "Check their errors with `tidings receipts --state dead{of_source}`. Once the cause is fixed, process them "
        "again with `tidings reprocess{of_source}`."
    )
    counted = "receipts"

    def measure(
        self, snapshot: Snapshot, rules: Sequence[DeadReceiptsRule]
    ) -> Iterator[tuple[DeadReceiptsRule, Measurement]]:
        """Yield the number of dead receipts of every source that has any."""
        asked = windows(snapshot, rules)
        for row in select(snapshot.connection, _DEAD, asked, earliest=earliest(asked)):
            yield rules[row.number], self.count(source_subject(row), row.receipts, last_receipt=str(row.last_receipt))

    def summarize(self, rule: DeadReceiptsRule, subject: Subject, numbers: Numbers) -> str:
        """Return the number of dead receipts."""
        count = f"{formatting.count(numbers['receipts'], 'receipt')} of source {subject.name}"
        return f"{count} became dead in {formatting.minutes(rule.window_minutes)}"


class SetAside(Kind[SetAsideRule]):
    """Authentic events that changed nothing: of another account, of an unknown kind, or without a required field."""

    kind = AlertKind.SET_ASIDE
    next_step = (
        "List them with `tidings events --set-aside{of_source}`: `problem` is the reason. If they are yours, add the "
        "account to the source's credentials or to `settings.sub_accounts`, or set `settings.events_without_tenant`. "
        "Then process them again with `tidings reprocess{of_source} --state all`. Unknown kinds and forms need a newer "
        "version of Tidings."
    )

    def measure(self, snapshot: Snapshot, rules: Sequence[SetAsideRule]) -> Iterator[tuple[SetAsideRule, Measurement]]:
        """Yield the number of such events of every source that has any, with the newest one's reason."""
        asked = windows(snapshot, rules)
        for row in select(snapshot.connection, _SET_ASIDE, asked, earliest=earliest(asked)):
            evidence, reason = str(row.last_event_id), row.reason or "unknown"
            yield rules[row.number], self.count(source_subject(row), row.events, evidence=evidence, reason=reason)

    def summarize(self, rule: SetAsideRule, subject: Subject, numbers: Numbers) -> str:
        """Return the number of events, and the newest one's reason."""
        count = formatting.count(numbers["events"], "event")
        verb = "was" if numbers["events"] == 1 else "were"
        text = f"{count} of source {subject.name} {verb} set aside in {formatting.minutes(rule.window_minutes)}"
        return f"{text}: {str(numbers['reason']).rstrip('.')}" if "reason" in numbers else text


def _age(snapshot: Snapshot, subject: Subject, since: datetime, **more: Number) -> Measurement:
    seconds = max(timedelta(0), snapshot.now - since).total_seconds()
    return Measurement(subject=subject, value=seconds, numbers={"seconds": round(seconds), **more})
