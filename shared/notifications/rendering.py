"""What a message says: JSON for programs, a title and a text for people."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from shared.alerts.policy import Step
from shared.notifications.policy import Alert, Group, Item, Telling, TellingType
from shared.vocabulary import AlertKind, Severity

MOST_GROUPS = 20
MOST_OF_GROUP = 5
LONGEST_TITLE = 150
LONGEST_SUMMARY = 500
"""Bounds on a message, so that a storm of any size makes one that every service takes."""

NEXT_STEPS: Final[Mapping[str, str]] = {
    AlertKind.RATE: "Look at what was said of the messages concerned (`GET /v1/events`, `tidings trace`): a "
    "classification "
    "or a recipient domain that prevails names the cause. Stop sending to that list or domain until it is known; "
    "providers suspend senders for such rates.",
    AlertKind.EVENT: "Look at the event that is the evidence, and do at the provider what it asks for: mend the DNS "
    "records "
    "of the domain, have the limit raised, or send less.",
    AlertKind.SILENCE: "Ask whether anything was sent. If so, run `tidings sources check` and `tidings reconcile`: the "
    "webhook may have been switched off at the provider, or its posts may not reach the receiver.",
    AlertKind.ANNOUNCED: "Run `tidings diagnose` for one of the messages; if many are missing, run `tidings "
    "reconcile`.",
    AlertKind.VERIFICATION_FAILURES: "Look at the reasons in `GET /v1/refusals` and `GET "
    "/v1/receipts?state=rejected`. If a "
    "secret was rotated, give the new one with `tidings sources rotate`, and until then keep what comes with `tidings "
    "sources quarantine`.",
    AlertKind.PENDING_AGE: "See that workers run and what their log says; if they are busy, start more of them.",
    AlertKind.UNVERIFIED_AGE: "Look at the errors with `GET /v1/receipts?state=unverified` and run `tidings sources "
    "check`: "
    "the provider's keys may not be reachable, or a secret is wrong. Mend it before these requests are rejected; what "
    "was rejected wrongly is let in with `tidings reprocess`.",
    AlertKind.DEAD_RECEIPTS: "Look at their errors with `GET /v1/receipts?state=dead`; once the cause is mended, "
    "have them "
    "done again with `tidings reprocess`.",
    AlertKind.RECONCILED: "Nothing is missing any more; find out why it did not arrive by itself: an outage of the "
    "receiver, its address, or a proxy in front of it.",
    AlertKind.RECONCILIATION_FAILURES: "Mend what the error names: give the source an `api_key` that is valid with "
    "`tidings "
    "sources rotate`, or see that the provider's API can be reached. Then run `tidings reconcile`: providers forget "
    "what they could not deliver after some days.",
    AlertKind.GIVEN_UP: "Look at the reasons with `GET /v1/sources/<source>/failed-deliveries`, mend their cause, "
    "and run "
    "`tidings reconcile --given-up`. What the provider has no more cannot be had that way: ask its support for it.",
    AlertKind.DEAD_DELIVERIES: "Look at the latest attempts with `tidings diagnose --delivery`; once the receiver is "
    "mended, replay the deliveries.",
    AlertKind.SUBSCRIPTION_DISABLED: "Mend the endpoint, resume the subscription, and recover what changed meanwhile.",
    AlertKind.RULES_REFUSED: "Run `tidings rules check`: it names the line that is wrong. Until that is mended the "
    "rules "
    "before it stay in force.",
}
"""What whoever reads of an alert should do now, by the kind of its rule."""

_ANY_NEXT_STEP = "Look at what the alert was judged by, and at the log of the workers."


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What a channel is told. `id` stays the same when it is told again; `is_over` is whether all it tells is past."""

    id: str
    type: TellingType
    at: datetime
    severity: Severity
    is_over: bool
    title: str
    text: str
    data: Mapping[str, Any]

    @property
    def payload(self) -> Mapping[str, Any]:
        """The message for programs, as Standard Webhooks has it."""
        return {"type": self.type, "timestamp": self.at, "data": self.data}


def render(telling: Telling) -> Message:
    """What a telling says."""
    if telling.type is TellingType.DIGEST:
        return _of_digest(telling)
    (item,) = telling.items
    alert = item.last.alert
    return Message(
        id=id_of(telling.id),
        type=telling.type,
        at=telling.at,
        severity=alert.severity,
        is_over=telling.type is TellingType.RESOLVED,
        title=_title(item),
        text="\n".join(_lines(item)),
        data=_data(item),
    )


def trial(channel: str, *, message_id: str, now: datetime) -> Message:
    """What a channel is told to see whether it works."""
    sentence = f"This is a test of the channel {channel}. Alerts will look like this one, and come by this way."
    return Message(
        id=f"test_{message_id}",
        type=TellingType.TEST,
        at=now,
        severity=Severity.WARNING,
        is_over=False,
        title=f"Tidings: test of the channel {channel}",
        text=sentence,
        data={"channel": channel, "summary": sentence},
    )


def id_of(telling: UUID | str) -> str:
    """The id of the message that a telling is."""
    return f"alert_{UUID(str(telling)).hex}"


def next_step(kind: str) -> str:
    """What to do about an alert of this kind."""
    return NEXT_STEPS.get(kind, _ANY_NEXT_STEP)


def path_of(alert_id: str) -> str:
    """Where the API tells all of an alert."""
    return f"/v1/alerts/{alert_id}"


def in_words(numbers: Mapping[str, Any]) -> str:
    """Numbers as people read them."""
    return ", ".join(f"{name.replace('_', ' ')} {_number(value)}" for name, value in numbers.items())


def _title(item: Item) -> str:
    alert = item.last.alert
    word = alert.severity.upper() if item.type is not TellingType.RESOLVED else "RESOLVED"
    return _cut(f"{word}: {alert.summary}", LONGEST_TITLE)


def _lines(item: Item) -> Iterator[str]:
    alert, last = item.last.alert, item.last
    yield _cut(alert.summary, LONGEST_SUMMARY)
    yield ""
    yield f"Severity: {alert.severity}" + (", more urgent than before" if item.type is TellingType.ESCALATED else "")
    yield f"Since: {_time(alert.started_at)}"
    if last.step is Step.RESOLVED:
        yield f"Resolved: {_time(last.at)}, after {_length(last.at - alert.started_at)}{_untold(item)}"
    yield f"Rule: {alert.rule}"
    for name, value in (("Source", alert.source), ("Tenant", alert.tenant)):
        if value:
            yield f"{name}: {value}"
    if alert.numbers:
        yield f"Numbers: {in_words(alert.numbers)}"
    if alert.acknowledged_at:
        yield f"Acknowledged: {_time(alert.acknowledged_at)} by {alert.acknowledged_by}"
    yield ""
    if item.type is not TellingType.RESOLVED:
        yield f"What to do: {next_step(alert.kind)}"
    yield f"All of it: {path_of(alert.id)} of the API, or `tidings alerts show {alert.id}`."


def _untold(item: Item) -> str:
    return "; it could not be told while it lasted" if item.notices[0].step is not Step.RESOLVED else ""


def _data(item: Item) -> Mapping[str, Any]:
    alert = item.last.alert
    return {
        **asdict(alert),
        "summary": _cut(alert.summary, LONGEST_SUMMARY),
        "steps": [{"id": notice.id, "step": notice.step, "at": notice.at} for notice in item.notices],
        "next_step": next_step(alert.kind),
        "path": path_of(alert.id),
    }


def _of_digest(telling: Telling) -> Message:
    groups = telling.groups
    over = sum(len(group.items) for group in groups if group.resolved)
    firing = len(telling.items) - over
    severity = next((group.severity for group in groups if not group.resolved), groups[0].severity)
    title = ", ".join(f"{number} alerts {word}" for number, word in ((firing, "firing"), (over, "resolved")) if number)
    return Message(
        id=id_of(telling.id),
        type=TellingType.DIGEST,
        at=telling.at,
        severity=severity,
        is_over=not firing,
        title=f"{severity.upper()}: {title}" if firing else f"RESOLVED: {title}",
        text="\n".join(_digest_lines(groups, title)),
        data={
            "count": len(telling.items),
            "firing": firing,
            "resolved": over,
            "groups": [_group(group) for group in groups[:MOST_GROUPS]],
            "more_groups": max(0, len(groups) - MOST_GROUPS),
        },
    )


def _digest_lines(groups: Sequence[Group], title: str) -> Iterator[str]:
    yield f"{title}:"
    for group in groups[:MOST_GROUPS]:
        yield ""
        yield f"{'resolved' if group.resolved else group.severity}: {group.rule}, {len(group.items)}"
        for item in group.items[:MOST_OF_GROUP]:
            yield f"- {_time(item.notices[0].at)} {_cut(item.last.alert.summary, LONGEST_TITLE)}"
        if len(group.items) > MOST_OF_GROUP:
            yield f"- and {len(group.items) - MOST_OF_GROUP} more"
        if not group.resolved:
            yield f"  What to do: {next_step(group.items[0].last.alert.kind)}"
    if len(groups) > MOST_GROUPS:
        yield ""
        yield f"and {len(groups) - MOST_GROUPS} more rules"
    yield ""
    yield "All of it: /v1/alerts of the API, or `tidings alerts list`."


def _group(group: Group) -> Mapping[str, Any]:
    return {
        "rule": group.rule,
        "severity": group.severity,
        "state": "resolved" if group.resolved else "firing",
        "count": len(group.items),
        "alerts": [_brief(item.last.alert) for item in group.items[:MOST_OF_GROUP]],
    }


def _brief(alert: Alert) -> Mapping[str, Any]:
    return {
        "id": alert.id,
        "source": alert.source,
        "summary": _cut(alert.summary, LONGEST_TITLE),
        "started_at": alert.started_at,
        "resolved_at": alert.resolved_at,
        "path": path_of(alert.id),
    }


def _number(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _cut(text: str, longest: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _time(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _length(span: timedelta) -> str:
    minutes = round(span.total_seconds() / 60)
    if minutes < 120:
        return f"{minutes} min"
    hours = round(minutes / 60)
    return f"{hours} h" if hours < 48 else f"{round(hours / 24)} days"
