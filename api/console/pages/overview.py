"""The overview: problems that need a person, and charts of the last hours."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from flask import Blueprint, Response, request

from api.console.formatting import Entry, mark_command
from api.console.site import call, fetch, may, render
from api.resources.alert_rules import AlertRules
from api.resources.changes import Stream
from api.resources.deliveries import Deliveries
from api.resources.messages import Messages
from api.resources.overview import Figures, InstallationStatus
from api.resources.subscriptions import Subscriptions
from shared.alerts.rules import Rate
from shared.vocabulary import AlertKind, DeliveryStatus, EventType

pages = Blueprint("overview", __name__)

NAVIGATION = (Entry(path="/console/", label="Overview", icon="layout-dashboard", resource=Messages),)

_MEASURED = ("delivered", "bounced", "deferred", "complained", "opened", "clicked", "rejected", "failed", "inbound")

_SPANS: Final[Mapping[str, tuple[str, timedelta]]] = {
    "2h": ("minute", timedelta(hours=2)),
    "24h": ("hour", timedelta(days=1)),
    "7d": ("hour", timedelta(days=7)),
}
"""Bucket and length of the charts, by the `span` in the URL."""

_OUTCOMES: Final = (("delivered", "good"), ("deferred", "warn"), ("failed", "bad"), ("complained", "accent"))
"""The outcomes of messages with the tone of their line."""

_TRAFFIC: Final = (
    "Webhooks count when they arrived, deliveries when they were tried, events at the time that the provider gives."
    " A webhook has one event or many; each change goes to every subscription that wants it."
)
_MAIL: Final = "Events at the time that the provider gives, which is before they arrived."
_SHOWN_NEEDS: Final = 5
"""How many problems the overview shows at once; the others open with a click."""

_RATES: Final = {Rate.BOUNCE: "bounced", Rate.COMPLAINT: "complained"}
"""The rates that the overview shows, with the measure of their events."""

_COUNTED: Final = {
    "delivered": (EventType.DELIVERED,),
    "bounced": (EventType.BOUNCED, EventType.FAILED),
    "complained": (EventType.COMPLAINED,),
}
"""The types of event that each measure counts, as the alert rules do."""


@pages.get("/")
def index() -> Response:
    """Show what needs a person, the figures of every stage, and each source; a tenant sees its own."""
    if not may(InstallationStatus):
        return render(
            "overview/tenant.html",
            failed=fetch(Messages, {"status": "bounced", "limit": 5}),
            dead=fetch(Deliveries, {"status": "dead", "limit": 5}),
            subscriptions=fetch(Subscriptions, {"limit": 20}),
        )
    status = call(InstallationStatus)
    given = request.args.get("span", "")
    span = given if given in _SPANS else "2h"
    hour = _read_series(measure="events", by="type", bucket="minute")[1]
    day = _read_series(measure="events", by="source_type", bucket="hour")[1]
    return render(
        "overview/index.html",
        status=status,
        needs=describe_problems(status),
        shown_needs=_SHOWN_NEEDS,
        stages={stage["stage"]: stage for stage in status["stages"]},
        span=span,
        spans=list(_SPANS),
        bucket=_SPANS[span][0],
        charts=_read_charts(*_SPANS[span]),
        outcomes=_read_outcomes([source["source"] for source in status["sources"]], day),
        measured=[
            (
                name,
                sum(hour.get(name, ())),
                sum(sum(values) for key, values in day.items() if key.rpartition("/")[2] == name),
            )
            for name in _MEASURED
        ],
    )


@pages.get("/live")
def live() -> Response:
    """Stream changes; pages fetch their live parts again when one arrives."""
    response: Response = call(Stream)
    return response


def describe_problems(status: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the problems of a status, each with the page that is about it, and its alert if it is one.

    A command in `mend` is between backticks.
    """
    alerts = {f"{alert['severity']} alert {alert['rule']}": alert for alert in status["alerts"]}
    marked = [{**one, "mend": mark_command(one["mend"])} for one in status["problems"]]
    return [_describe(problem, alerts) for problem in marked]


def _describe(problem: dict[str, str], alerts: dict[str, Any]) -> dict[str, Any]:
    """Return a problem of the status with the page that is about it."""
    about = problem["about"]
    kind, _, name = about.partition(" ")
    alert = alerts.get(about)
    if alert is not None:
        return {**problem, "alert": alert, "target": f"/console/alerts/{alert['id']}", "severity": alert["severity"]}
    targets = {
        "source": f"/console/sources/{name}",
        "receipts": "/console/receipts?state=dead" if name == "dead" else "/console/receipts?state=pending",
        "deliveries": "/console/deliveries?status=dead" if name == "dead" else "/console/deliveries?status=pending",
        "jobs": "/console/jobs?state=failed",
    }
    return {**problem, "alert": None, "target": targets.get(kind, "/console/status"), "severity": "warning"}


def _read_charts(bucket: str, length: timedelta) -> Sequence[dict[str, Any]]:
    """Return two charts: what passes through Tidings, and what became of mail.

    A chart has a title, a note about what it counts, the start of each bucket, and lines of name, tone and values. The
    bucket that is not over yet is left out, because it would look like a decline.
    """
    until = datetime.now(UTC).replace(second=0, microsecond=0)
    if bucket == "hour":
        until = until.replace(minute=0)
    asked = {"bucket": bucket, "since": (until - length).isoformat(), "until": until.isoformat()}

    buckets, received = _read_series(measure="received", **asked)
    _, processed = _read_series(measure="events", **asked)
    _, attempts = _read_series(measure="deliveries", by="type", **asked)
    _, outcomes = _read_series(measure="events", by="outcome", **asked)
    nothing = [0] * len(buckets)
    failures = [attempts.get(result, nothing) for result in (DeliveryStatus.RETRY, DeliveryStatus.DEAD)]
    passed = [
        {"name": "webhooks received", "tone": "quiet", "values": received["received"]},
        {"name": "events", "tone": "accent", "values": processed["events"]},
        {"name": "changes delivered", "tone": "good", "values": attempts.get(DeliveryStatus.DELIVERED, nothing)},
        {"name": "attempts failed", "tone": "bad", "values": [sum(pair) for pair in zip(*failures, strict=True)]},
    ]
    became = [{"name": name, "tone": tone, "values": outcomes.get(name, nothing)} for name, tone in _OUTCOMES]
    return (
        {"title": "Traffic", "name": "flow", "note": _TRAFFIC, "buckets": buckets, "lines": passed},
        {"title": "What became of mail", "name": "mail", "note": _MAIL, "buckets": buckets, "lines": became},
    )


def _read_series(**query: str) -> tuple[Sequence[datetime], dict[str, Sequence[int]]]:
    """Return the start of each bucket, and the values of each series by its name."""
    found = call(Figures, query=query)
    return found["buckets"], {series["name"]: series["values"] for series in found["series"]}


def _read_outcomes(slugs: Sequence[str], day: Mapping[str, Sequence[int]]) -> dict[str, dict[str, Any]]:
    """Return by source what became of its mail in the last day: numbers, and each rate with the thresholds it has.

    `day` has the events by source and type.
    """
    rules = fetch(AlertRules, {"limit": 500}).items
    outcomes: dict[str, dict[str, Any]] = {}
    for slug in slugs:
        counts = {
            measure: sum(sum(day.get(f"{slug}/{type_}", ())) for type_ in types) for measure, types in _COUNTED.items()
        }
        ended = {Rate.BOUNCE: counts["delivered"] + counts["bounced"], Rate.COMPLAINT: counts["delivered"]}
        outcomes[slug] = {"delivered": counts["delivered"]} | {
            measure: _judge(counts[measure], ended[rate], _find_rule(rules, rate, slug))
            for rate, measure in _RATES.items()
        }
    return outcomes


def _find_rule(rules: Sequence[Mapping[str, Any]], rate: Rate, slug: str) -> Mapping[str, Any] | None:
    """Return the strictest rule in force about this rate of this source; None if there is none."""
    found = [
        rule
        for rule in rules
        if rule["in_force"]
        and rule["kind"] == AlertKind.RATE
        and rule["rate"] == rate
        and (not rule.get("sources") or slug in rule["sources"])
        and rule.get("warning") is not None
    ]
    return min(found, key=lambda rule: float(rule["warning"]), default=None)


def _judge(count: int, volume: int, rule: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a number of events with its percentage, the thresholds of its rule, and how it compares."""
    percent = 100 * count / volume if volume else None
    warning = rule.get("warning") if rule else None
    critical = rule.get("critical") if rule else None
    tone = ""
    if percent is not None and warning is not None:
        is_critical = critical is not None and percent >= critical
        tone = "bad" if is_critical else "warn" if percent >= warning else "good"
    return {
        "count": count,
        "percent": percent,
        "warning": warning,
        "rule": rule["name"] if rule else None,
        "tone": tone,
    }
