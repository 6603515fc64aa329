"""Alert kinds about the events of messages: rates, counts, silence, and announced messages without events."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import sqlalchemy as sql
from sqlalchemy import JSON, Connection, Row, Text, Uuid, column, func

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
    subject_words,
    windows,
)
from shared.alerts.policy import Measurement, Number, Subject
from shared.alerts.rules import RATES, AnnouncedRule, EventRule, MassFailuresRule, RateRule, SilenceRule
from shared.counters import store as counters
from shared.counters.store import dimension_of
from shared.vocabulary import AlertKind, Per

ShareRuleT = TypeVar("ShareRuleT", RateRule, EventRule)

MAX_ANNOUNCED = 1000
"""Announced messages of one source are counted up to this number."""

MAX_EVENTS_READ = 5000
"""The newest events that are read for the replies of a rate that is too high."""

DNS_RECORDS: Mapping[str, str] = {"spf": "SPF", "dkim": "DKIM", "mx": "MX", "return_path": "return_path"}
"""The records of a DNS error, by the beginning of their fields in an event, with the names of an alert's numbers."""

# Only these columns are needed here; the table belongs to `shared.messages`, which alerts do not import.
events = sql.table(
    "events",
    column("id", Uuid),
    column("source_id"),
    *(column(name, Text) for name in ("type", "smtp_status", "enhanced_code", "classification", "reason")),
    column("data", JSON),
)

_MAX_TEXT = 200
_MAX_REPLIES = 3

_MAX_SILENCE = counters.RETENTION - timedelta(days=1)
"""After a longer silence, counts of the day before it have been deleted. An alert that fires goes on all the same."""

# Counts are summed once for all rules with the same dimension and window, then distributed to the rules. The latest
# event is looked up only for the rows that are returned.
_SHARES = f"""
WITH asked AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset(%(asked)s::jsonb) AS given (number int, since timestamptz, sources text[],
        per text, dimension text, events text[], volume text[], min_events float8, min_percent float8,
        firing text[])
),
windows AS MATERIALIZED (
    SELECT dimension, since, array_agg(DISTINCT name) AS types
    FROM asked CROSS JOIN unnest(events || volume) AS name GROUP BY dimension, since
),
summed AS MATERIALIZED (
    SELECT dimension, since, of_window.* FROM windows CROSS JOIN LATERAL (
        SELECT source_id, value, type, sum(count) AS count FROM minute_counts AS c
        WHERE c.dimension = windows.dimension AND minute >= since AND type = ANY(types)
        GROUP BY source_id, value, type
    ) AS of_window
),
found AS (
    SELECT asked.number, CASE per WHEN 'all' THEN '' WHEN 'source' THEN s.slug ELSE value END AS subject,
        min(value) AS value, array_agg(DISTINCT source_id) AS source_ids, min(s.slug) AS source,
        coalesce(sum(count) FILTER (WHERE type = ANY(events)), 0)::int8 AS events,
        coalesce(sum(count) FILTER (WHERE type = ANY(volume)), 0)::int8 AS volume
    FROM asked JOIN summed USING (dimension, since) JOIN sources AS s ON s.id = source_id AND {ACTIVE_SOURCE}
    WHERE type = ANY(events || volume)
    GROUP BY 1, 2
)
SELECT number, subject, CASE WHEN cardinality(source_ids) = 1 THEN source_ids[1] END AS source_id,
    CASE WHEN cardinality(source_ids) = 1 THEN source END AS source, found.events, found.volume, last_event_id
FROM found JOIN asked USING (number) LEFT JOIN LATERAL (
    SELECT last_event_id FROM minute_counts AS c
    WHERE c.dimension = asked.dimension AND minute >= asked.since AND source_id = ANY(source_ids)
        AND c.value = found.value AND type = ANY(asked.events)
    ORDER BY minute DESC LIMIT 1
) AS latest ON true
WHERE (found.events >= min_events AND 100.001 * found.events >= min_percent * found.volume)
    OR subject = ANY(firing)
ORDER BY number, found.events DESC, subject
"""

# For sources that had events lately, only the recent counts are read.
_SILENCES = f"""
WITH active AS (SELECT DISTINCT source_id FROM minute_counts WHERE dimension = '' AND minute > %(since)s),
quiet AS MATERIALIZED (
    SELECT id FROM sources WHERE deleted_at IS NULL AND id NOT IN (SELECT source_id FROM active)
),
last AS MATERIALIZED (
    SELECT source_id, {counters.GREATEST.format(name="last_event_id")} AS event_id, max(minute) AS minute
    FROM minute_counts
    WHERE dimension = '' AND minute <= %(since)s AND minute >= %(kept_since)s
        AND source_id IN (SELECT id FROM quiet) GROUP BY source_id
),
busy AS (
    SELECT c.source_id, sum(count) AS events FROM last JOIN minute_counts AS c USING (source_id)
    WHERE dimension = '' AND c.minute > last.minute - interval '1 day' GROUP BY c.source_id
)
SELECT s.id AS source_id, s.slug AS source, quiet.id IS NOT NULL AS is_quiet, event_id AS last_event_id,
    coalesce(events, 0)::int8 AS events
FROM sources AS s LEFT JOIN quiet ON quiet.id = s.id LEFT JOIN last ON last.source_id = s.id
LEFT JOIN busy ON busy.source_id = s.id
WHERE s.deleted_at IS NULL ORDER BY s.slug
"""

_ANNOUNCED = f"""
SELECT number, s.id AS source_id, s.slug AS source, messages, oldest_at, oldest_id
FROM jsonb_to_recordset(%(asked)s::jsonb) AS asked (number int, since timestamptz, sources text[], until timestamptz)
JOIN sources AS s ON {ACTIVE_SOURCE}
CROSS JOIN LATERAL (
    SELECT count(*) AS messages, min(submitted_at) AS oldest_at, (array_agg(id ORDER BY submitted_at))[1] AS oldest_id
    FROM (
        SELECT id, submitted_at FROM messages WHERE source_id = s.id AND first_event_at = 'infinity'
            AND submitted_at >= asked.since AND submitted_at < asked.until ORDER BY submitted_at LIMIT {MAX_ANNOUNCED}
    ) AS first
) AS waiting
WHERE messages > 0 ORDER BY number, s.slug
"""


_MASS_FAILURES = f"""
SELECT number, value AS domain, sum(count)::int8 AS recipients,
    string_agg(DISTINCT replace(type, '_', ' '), ', ') AS classifications,
    CASE WHEN count(DISTINCT s.id) = 1 THEN min(s.id) END AS source_id,
    CASE WHEN count(DISTINCT s.id) = 1 THEN min(s.slug) END AS source,
    {counters.GREATEST.format(name="last_event_id")} AS last_event_id
FROM jsonb_to_recordset(%(asked)s::jsonb) AS asked (number int, since timestamptz, sources text[])
JOIN sources AS s ON {ACTIVE_SOURCE}
JOIN minute_counts AS c ON source_id = s.id AND minute >= asked.since
WHERE dimension = '{counters.MASS_FAILURES}' AND minute >= %(earliest)s
GROUP BY 1, 2 ORDER BY 1, 2
"""


class Rate(Kind[RateRule]):
    """A share of the events in the window, in percent."""

    kind = AlertKind.RATE
    next_step = (
        "Check the events of these messages (`tidings events{of_source}`, `tidings trace`): the most frequent reply or "
        "recipient domain shows the cause. Stop sending to that list or domain until the cause is known; providers "
        "suspend senders for such rates."
    )
    unit = "{} %"

    def measure(self, snapshot: Snapshot, rules: Sequence[RateRule]) -> Iterator[tuple[RateRule, Measurement]]:
        """Yield the rates. Too few events do not make a rate; with too small a volume the rate is unknown."""
        for rule, subject, row in _measure_shares(snapshot, rules):
            percent = 100 * row.events / row.volume if row.volume else 0.0
            value = percent if row.events >= rule.minimum_events else 0.0
            yield (
                rule,
                Measurement(
                    subject=subject,
                    value=value if row.volume >= rule.minimum_volume else None,
                    numbers={
                        "percent": round(percent, 4),
                        "events": row.events,
                        "volume": row.volume,
                        **describe_replies(snapshot, rule, row, is_high=percent >= rule.min_threshold),
                    },
                    evidence=row.last_event_id and str(row.last_event_id),
                ),
            )

    def measure_absent(self, rule: RateRule, subject: Subject) -> Measurement:  # noqa: ARG002
        """Return an unknown rate."""
        return Measurement(subject=subject, value=None)

    def summarize(self, rule: RateRule, subject: Subject, numbers: Numbers) -> str:
        """Return the rate, and the counts that it was computed from."""
        events, volume = formatting.number(numbers["events"]), formatting.number(numbers["volume"])
        share = f"{events} of {volume} in {formatting.minutes(rule.window_minutes)}"
        percent = formatting.number(numbers["percent"])
        text = f"The {rule.rate} rate of {subject_words(rule, subject)} is {percent} % ({share})"
        return f"{text}, most often {numbers['replies']}" if "replies" in numbers else text


class Event(Kind[EventRule]):
    """The number of events of some types in the window."""

    kind = AlertKind.EVENT
    next_step = (
        "Check the event that is given as evidence, and do at the provider what it requires: fix the DNS records of "
        "the domain, request a higher limit, or send less."
    )

    def advise(self, numbers: Mapping[str, Any]) -> str:
        """Return what to do about the type of the latest event."""
        if domain := numbers.get("domain"):
            records = ", ".join(name for name in DNS_RECORDS.values() if name in numbers)
            return (
                f"Publish the {records.replace('_', ' ') or 'DNS'} record of {plain(domain)} as the provider's page of "
                "the domain shows it, then have the domain checked again there."
            )
        if "limit" in numbers:
            return "Ask the provider of{source} for a higher limit, or send less until the volume falls below it."
        return self.next_step

    def measure(self, snapshot: Snapshot, rules: Sequence[EventRule]) -> Iterator[tuple[EventRule, Measurement]]:
        """Yield the counts."""
        for rule, subject, row in _measure_shares(snapshot, rules):
            evidence = row.last_event_id and str(row.last_event_id)
            more = describe_event(snapshot.connection, row.last_event_id) if evidence else {}
            yield rule, self.count(subject, row.events, evidence=evidence, **more)

    def summarize(self, rule: EventRule, subject: Subject, numbers: Numbers) -> str:
        """Return the number of events, their types, and what the latest one says."""
        count = f"{formatting.count(numbers['events'], 'event')} ({', '.join(sorted(rule.types))})"
        text = f"{count} of {subject_words(rule, subject)} in {formatting.minutes(rule.window_minutes)}"
        if "domain" in numbers:
            records = [f"{name.replace('_', ' ')} {numbers[name]}" for name in DNS_RECORDS.values() if name in numbers]
            return f"{text}; {numbers['domain']}: {'; '.join(records) or 'no record was named'}"
        if "limit" in numbers and "volume" in numbers:
            volume, limit = formatting.number(numbers["volume"]), formatting.number(numbers["limit"])
            return f"{text}; {volume} of {limit} messages an hour"
        return f"{text}; the latest: {numbers['reason']}" if "reason" in numbers else text


def describe_event(connection: Connection, event_id: UUID) -> dict[str, Number]:
    """Return what an event says: the domain and its failing DNS records, volume and limit, or the reason."""
    latest = sql.select(events.c.reason, events.c.data).where(events.c.id == event_id)
    row = connection.execute(latest).one_or_none()
    details = row.data.get("details") if row is not None else None
    found: dict[str, Number] = {}
    if isinstance(details, dict):
        for name in ("domain", "volume", "limit"):
            if isinstance(details.get(name), str | int | float):
                found[name] = details[name] if name != "domain" else str(details[name])[:_MAX_TEXT]
        for field, name in DNS_RECORDS.items():
            status, error = details.get(f"{field}_status"), details.get(f"{field}_error")
            if isinstance(status, str) and status.upper() != "OK":
                found[name] = f"{status}: {error}"[:_MAX_TEXT] if error else status[:_MAX_TEXT]
    if not found and row is not None and row.reason:
        found["reason"] = str(row.reason)[:_MAX_TEXT]
    return found


def describe_replies(snapshot: Snapshot, rule: RateRule, row: Row[Any], *, is_high: bool) -> dict[str, Number]:
    """Return the most frequent codes and classifications among the newest events of a rate that is too high.

    Reads up to `MAX_EVENTS_READ` events, so that a firing alert costs milliseconds however much mail there is.
    """
    if not is_high or row.source_id is None:
        return {}
    newest = (
        sql.select(
            *(events.c[name] for name in ("source_id", "type", "smtp_status", "enhanced_code", "classification"))
        )
        .where(events.c.id >= ids.first_at(counters.window_start(snapshot.now, rule.window_minutes)))
        .order_by(events.c.id.desc())
        .limit(MAX_EVENTS_READ)
        .subquery()
    )
    code = func.coalesce(newest.c.enhanced_code, newest.c.smtp_status)
    words = func.nullif(func.concat_ws(" ", code, newest.c.classification), "")
    counted = (
        sql.select(words.label("words"), func.count().label("count"))
        .where(
            newest.c.source_id == row.source_id, newest.c.type.in_(list(RATES[rule.rate].events)), words.is_not(None)
        )
        .group_by(words)
        .order_by(func.count().desc(), words)
        .limit(_MAX_REPLIES)
    )
    replies = [f"{found.words} ({found.count:,})" for found in snapshot.connection.execute(counted)]
    return {"replies": ", ".join(replies)} if replies else {}


def plain(text: object) -> str:
    """Return foreign text for a template, where braces are places for names."""
    return str(text).replace("{", "{{").replace("}", "}}")


def _measure_shares(snapshot: Snapshot, rules: Sequence[ShareRuleT]) -> Iterator[tuple[ShareRuleT, Subject, Row[Any]]]:
    asked = windows(snapshot, rules)
    for one, rule in zip(asked, rules, strict=True):
        one.update(
            per=rule.per,
            dimension=dimension_of(rule.per),
            firing=[alert.subject.name for alert in snapshot.firing if alert.rule == rule.name],
        )
        if isinstance(rule, RateRule):
            share, least = RATES[rule.rate], {"min_events": rule.minimum_events, "min_percent": rule.min_threshold}
            one.update(events=sorted(share.events), volume=sorted(share.volume), **least)
        else:
            one.update(events=sorted(rule.types), volume=[], min_events=rule.min_threshold, min_percent=0)
    for row in find_shares(snapshot.connection, asked):
        rule = rules[row.number]
        tenant = row.subject if rule.per is Per.TENANT else None
        yield rule, Subject(name=row.subject, source_id=row.source_id, source=row.source, tenant=tenant), row


def find_shares(connection: Connection, asked: Sequence[Mapping[str, Any]]) -> Sequence[Row[Any]]:
    """Return how many `events` there were among how many (`volume`), for each subject of each rule.

    Left out are subjects with fewer than `min_events`, or a smaller share than `min_percent`, unless they are `firing`.
    `source_id` is None if several sources take part; `last_event_id` is of the latest minute that has an event.
    """
    return select(connection, _SHARES, asked)


class MassFailures(Kind[MassFailuresRule]):
    """Recipients of one domain that failed alike, while hardly any mail to the domain was delivered."""

    kind = AlertKind.MASS_FAILURES
    counted = "recipients"
    next_step = (
        "Explain one of the replies with `tidings classify`, and look for the cause at the sender: block lists, DNS "
        "records, the content of the mailing. If the domain itself is gone, suppress it with "
        "`tidings suppressions add @{subject}`."
    )

    def measure(
        self, snapshot: Snapshot, rules: Sequence[MassFailuresRule]
    ) -> Iterator[tuple[MassFailuresRule, Measurement]]:
        """Yield the number of recipients of every domain with mass failures."""
        asked = windows(snapshot, rules)
        for row in select(snapshot.connection, _MASS_FAILURES, asked, earliest=earliest(asked)):
            subject = Subject(name=row.domain, source_id=row.source_id, source=row.source)
            evidence = str(row.last_event_id)
            yield (
                rules[row.number],
                self.count(subject, row.recipients, evidence=evidence, classifications=row.classifications),
            )

    def summarize(self, rule: MassFailuresRule, subject: Subject, numbers: Numbers) -> str:
        """Return the number of recipients, how they failed, and that none of them is suppressed."""
        count = formatting.count(numbers["recipients"], "recipient")
        alike = f"alike ({numbers['classifications']})" if "classifications" in numbers else "alike"
        window = formatting.minutes(rule.window_minutes)
        return (
            f"{count} of {subject.name} failed {alike} in {window}, with hardly any delivery in between: "
            "the sender is at fault, and none of them is suppressed"
        )


class Silence(Kind[SilenceRule]):
    """The time for which a source has had no events, in minutes."""

    kind = AlertKind.SILENCE
    next_step = (
        "Find out whether any mail was sent. If it was, run `tidings sources check{source}`: the webhook may be "
        "disabled at the provider, or its requests may not reach the receiver. Then have the provider send again what "
        "it could not deliver: by `tidings reconcile{of_source}` if the source has an `api_key`, or else in its "
        "dashboard."
    )
    resolved = "Source {} has events again."

    def measure(self, snapshot: Snapshot, rules: Sequence[SilenceRule]) -> Iterator[tuple[SilenceRule, Measurement]]:
        """Yield the silence of every source that was busy before it, and of those whose alert fires."""
        since = snapshot.now - timedelta(minutes=min(rule.min_threshold for rule in rules))
        started_at = {(alert.rule, alert.subject.name): alert.started_at for alert in snapshot.firing}
        for row in select(snapshot.connection, _SILENCES, since=since, kept_since=snapshot.now - counters.RETENTION):
            silent = None if row.is_quiet else timedelta(0)
            if row.last_event_id is not None:
                silent = snapshot.now - ids.made_at(row.last_event_id)
            for rule in about_source(rules, row.source):
                least, alert_started_at = timedelta(minutes=rule.min_threshold), started_at.get((rule.name, row.source))
                # A source may have received old events lately: then it is quiet for less than the threshold.
                if silent is not None and (row.events >= rule.minimum_events or silent < least):
                    yield rule, self._measurement(source_subject(row), silent, events_before=row.events)
                elif alert_started_at is not None and (silent is None or silent > _MAX_SILENCE):
                    silence = silent or max(snapshot.now - alert_started_at + least, counters.RETENTION)
                    yield rule, self._measurement(source_subject(row), silence)

    def measure_absent(self, rule: SilenceRule, subject: Subject) -> Measurement:  # noqa: ARG002
        """Return an unknown silence."""
        return Measurement(subject=subject, value=None)

    def summarize(self, rule: SilenceRule, subject: Subject, numbers: Numbers) -> str:  # noqa: ARG002
        """Return the silence, and the events of the day before it."""
        silence = f"No events of source {subject.name} for {formatting.minutes(numbers['silent_minutes'])}"
        if "events_before" not in numbers:
            return silence
        return f"{silence}, after {formatting.number(numbers['events_before'])} in the 24 hours before"

    def threshold(self, value: float | None) -> str:
        """Return a threshold as a duration."""
        return "nothing" if value is None else formatting.minutes(value)

    def _measurement(self, subject: Subject, silent: timedelta, **before: int) -> Measurement:
        minutes = silent.total_seconds() / 60
        return Measurement(subject=subject, value=minutes, numbers={"silent_minutes": round(minutes), **before})


class Announced(Kind[AnnouncedRule]):
    """Messages that were announced, and have had no event since."""

    kind = AlertKind.ANNOUNCED
    next_step = (
        "Run `tidings diagnose --message-id {message}` for the oldest of these messages. If many are missing, have the "
        "provider send them again: by `tidings reconcile{of_source}` if the source has an `api_key`, or else in its "
        "dashboard."
    )
    counted = "messages"

    def measure(
        self, snapshot: Snapshot, rules: Sequence[AnnouncedRule]
    ) -> Iterator[tuple[AnnouncedRule, Measurement]]:
        """Yield the number of messages without events of every source that has any."""
        asked = [
            {
                "number": number,
                "since": snapshot.now - timedelta(hours=rule.within_hours),
                "until": snapshot.now - timedelta(minutes=rule.after_minutes),
                "sources": sorted(rule.sources) or None,
            }
            for number, rule in enumerate(rules)
        ]
        for row in select(snapshot.connection, _ANNOUNCED, asked):
            oldest_at: datetime = row.oldest_at
            numbers = {"oldest_at": formatting.time(oldest_at), "oldest_message": str(row.oldest_id)}
            yield rules[row.number], self.count(source_subject(row), row.messages, **numbers)

    def summarize(self, rule: AnnouncedRule, subject: Subject, numbers: Numbers) -> str:
        """Return the number of messages, and when the oldest was submitted."""
        count = f"{formatting.count(numbers['messages'], 'message')} announced for source {subject.name}"
        oldest = f", the oldest from {numbers['oldest_at']}" if "oldest_at" in numbers else ""
        return f"{count} without any event for {formatting.minutes(rule.after_minutes)}{oldest}"
