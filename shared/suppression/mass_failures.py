"""Mass failures: many recipients of one domain fail alike, and hardly any mail to the domain is delivered meanwhile.

Then the sender is at fault, whatever the server writes: blocked, misconfigured, or cut off from a name server. None of
these recipients is suppressed. A worker looks for mass failures once a minute and withdraws the entries that they have
caused. Batches with hard bounces ask for those of the last hour. Both are kept as counters, which the alert reads.
"""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, select

from shared import ids
from shared.counters import store as counters
from shared.counters.tables import minute_counts
from shared.postgres.metadata import is_any
from shared.suppression import evidence, store
from shared.suppression.evidence import Changes, Evidence, Support
from shared.vocabulary import EventType, SuppressionOrigin, SuppressionReason

RECIPIENTS = 20
"""The number of recipients of one domain that fail in a row, with one classification."""

WINDOW = timedelta(hours=1)
"""The time within which they fail, and for which the domain's failures then suppress nobody."""

_MAX_DELIVERED = 1
"""Deliveries to the domain among them: a domain that accepts mail judges single addresses, as after an old list."""

_MAX_EVENTS = 50_000
"""The latest events that are searched for deliveries, so that the search is bounded at any rate of events."""

_DOMAIN = "lower(split_part({name}, '@', -1))"

# Text: window functions over the index of evidence.
_RECENT = f"""
SELECT {_DOMAIN.format(name="address")} AS domain, classification, key, tenant, reason, evidence_key,
    evidence_event_id AS event_id, source_id,
    row_number() OVER (
        PARTITION BY {_DOMAIN.format(name="address")}, classification ORDER BY evidence_event_id DESC
    ) AS number
FROM suppressions
WHERE evidence_event_id >= %(first)s AND origin = '{SuppressionOrigin.EVENT}'
    AND reason = '{SuppressionReason.HARD_BOUNCE}' AND address IS NOT NULL AND classification IS NOT NULL
"""

_DELIVERED = f"""
SELECT domain, classification FROM (
    SELECT id, type, {_DOMAIN.format(name="recipient")} AS domain FROM events
    WHERE id >= %(first)s ORDER BY id DESC LIMIT {_MAX_EVENTS}
) AS e
JOIN unnest(%(domains)b::text[], %(classifications)b::text[], %(began)b::uuid[])
    AS suspected (domain, classification, began) USING (domain)
WHERE type = '{EventType.DELIVERED}' AND id >= began
GROUP BY 1, 2 HAVING count(*) > {_MAX_DELIVERED}
"""


def withdraw(connection: Connection, now: datetime) -> Changes:
    """Look for mass failures of the last hour; remove the entries that they caused, and return these."""
    rows = connection.exec_driver_sql(_RECENT, {"first": ids.first_at(now - WINDOW)}).all()
    began = {(row.domain, row.classification): row.event_id for row in rows if row.number == RECIPIENTS}
    if not began:
        return []
    columns: dict[str, Any] = {
        "domains": [domain for domain, _ in began],
        "classifications": [classification for _, classification in began],
        "began": list(began.values()),
        "first": min(began.values()),
    }
    accepting = {(row.domain, row.classification) for row in connection.exec_driver_sql(_DELIVERED, columns)}
    failures = [row for row in rows if (row.domain, row.classification) in began.keys() - accepting]
    if not failures:
        return []
    store.lock_exclusive(connection, [row.key.hex for row in failures])
    counters.count_mass_failures(
        connection,
        now,
        [(row.domain, row.classification, row.source_id, row.event_id) for row in failures],
    )
    supports = [Support(row.key.hex, row.tenant, row.reason, row.evidence_key.hex) for row in failures]
    return evidence.withdraw(connection, supports, now)


def exclude(connection: Connection, found: Sequence[Evidence]) -> Sequence[Evidence]:
    """Return the evidence without the hard bounces that are a part of mass failures."""
    domains = {_domain_of(new) for new in found if new.reason == SuppressionReason.HARD_BOUNCE}
    if not domains:
        return found
    counted = minute_counts.c
    statement = select(counted.value, counted.type, counted.minute).where(
        counted.dimension == counters.MASS_FAILURES, is_any(counted.value, sorted(domains))
    )
    noticed: dict[tuple[str, str | None], list[datetime]] = defaultdict(list)  # by domain and classification
    for row in connection.execute(statement):
        noticed[row.value, row.type].append(row.minute)
    return [
        new
        for new in found
        if new.reason != SuppressionReason.HARD_BOUNCE
        or all(abs(new.since - minute) > WINDOW for minute in noticed.get((_domain_of(new), new.classification), ()))
    ]


def _domain_of(new: Evidence) -> str:
    return new.address.rpartition("@")[2].lower()
