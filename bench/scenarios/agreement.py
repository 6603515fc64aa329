"""Whether both sides make the same of the same events: without that, comparing their speed would mean nothing."""

import time
from datetime import UTC, datetime
from typing import Any, Final

import psycopg

from bench import load, signing
from bench.figures import Findings
from bench.plan import Plan
from bench.sides import Side
from bench.stage import Stage
from simulator import staging
from simulator.load import raw_request
from simulator.scenarios import Scenario

SCENARIO: Final = Scenario(
    name="agreement",
    summary="Everything that happens, out of order and repeated",
    bodies=(1, 20),
    shuffled=True,
    repeats=0.2,
)
# The usual way has no keys of messages beside their ids.
_KEY: Final = "coalesce((to_jsonb(m) ->> 'key')::uuid, m.id)"
_STATES: Final = (
    f"SELECT {_KEY}, s.recipient, s.weight, s.status_at, s.rank, s.status_key, s.status, s.classification,"
    " s.smtp_status, s.enhanced_code, s.reason, s.smtp_id, s.opens, s.clicks, s.reads, s.remarks, s.opened_at,"
    " s.clicked_at, s.read_at, s.complained_at, s.unsubscribed_at, s.subscribed_at"
    " FROM recipient_states AS s JOIN messages AS m ON m.id = s.message_id ORDER BY 1, 2"
)
_MESSAGES: Final = (
    f"SELECT {_KEY}, first_event_at, provider_message_id, request_id, smtp_id, sender, subject, tenant, tag, campaign"
    " FROM messages AS m ORDER BY 1"
)
_EVENTS: Final = (
    f"SELECT e.key, type, {_KEY}, recipient, occurred_at"
    " FROM events AS e LEFT JOIN messages AS m ON m.id = e.message_id ORDER BY e.key"
)
# By the hour, because a worker may have merged those of yesterday.
_COUNTS: Final = (
    "SELECT date_trunc('hour', minute), source_id, type, sum(count) FROM minute_counts WHERE dimension = ''"
    " GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
)
_COMPARED: Final = {"events": _EVENTS, "messages": _MESSAGES, "recipients' states": _STATES, "counts": _COUNTS}
_PATIENCE_SECONDS: Final = 60.0


def run(stage: Stage, plan: Plan) -> Findings:
    """Post the same to both sides, and compare what both databases hold, row by row."""
    postings = _postings(plan.stories)
    held: dict[str, dict[str, list[tuple[Any, ...]]]] = {}
    findings = Findings()
    for side in stage.sides:
        side.reset()
        with side.working():
            outcome = load.run(side.address, postings, connections=8)
            if set(outcome.statuses) != {200}:
                findings.wrong.append(f"agreement, {side.name}: answers were {dict(outcome.statuses)}")
            _settle(side)
        with side.connect() as connection:
            held[side.name] = contents(connection)
    findings.wrong += differences(held["tidings"], held["usual"])
    if not findings.wrong:
        counts = ", ".join(f"{len(rows)} {name}" for name, rows in held["tidings"].items())
        findings.notes.append(
            f"Agreement: after {len(postings)} requests, out of order and a fifth of them repeated, "
            f"both databases held the same {counts}."
        )
    return findings


def contents(connection: psycopg.Connection) -> dict[str, list[tuple[Any, ...]]]:
    """Return what a side has made of its events, without the times of processing."""
    return {name: connection.execute(query).fetchall() for name, query in _COMPARED.items()}


def differences(one: dict[str, list[tuple[Any, ...]]], other: dict[str, list[tuple[Any, ...]]]) -> list[str]:
    """Return where two databases do not hold the same, in a sentence each."""
    found = []
    for name, rows in one.items():
        differing = set(map(repr, rows)) ^ set(map(repr, other[name]))
        if differing:
            found.append(f"agreement: {name} differ: {len(differing)} rows are not in both, such as {min(differing)}")
    return found


def _postings(stories: int) -> list[bytes]:
    dialect, now = signing.dialect(), datetime.now(UTC)
    play = staging.stage(SCENARIO, dialect, count=stories, seed=1, now=now)
    requests = []
    for posting in play.postings:
        signed = posting.request(dialect, now)
        requests.append(raw_request(f"/webhooks/{signing.SLUG}", "receiver.example", signed.headers, signed.body))
    return requests


def _settle(side: Side) -> None:
    """Wait until nothing waits, and what was under way then is done too."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    with side.connect() as connection:
        events, quiet = -1, 0
        while quiet < 3 and time.monotonic() < deadline:
            now = side.events(connection)
            quiet = quiet + 1 if now == events and side.is_idle(connection) else 0
            events = now
            time.sleep(0.3)
