"""Which steps are sent together, and what follows when a channel fails."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.alerts.policy import Step
from shared.notifications import policy, rendering
from shared.notifications.policy import MAX_SEPARATE, Alert, Notice, Notification, NotificationType
from shared.vocabulary import Severity

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
STEPS = st.sampled_from([(Step.FIRED,), (Step.FIRED, Step.ESCALATED), (Step.FIRED, Step.RESOLVED), (Step.RESOLVED,)])


def notice(
    number: int, alert: str, step: Step, severity: Severity = Severity.WARNING, notification: str = ""
) -> Notice:
    at = BEGIN + timedelta(minutes=number)
    facts = Alert(
        id=alert, rule=f"rule {len(alert)}", kind="rate", subject=alert, severity=severity, state="firing", source=None,
        tenant=None, summary="", numbers={}, evidence_event_id=None, started_at=BEGIN, resolved_at=None,
        acknowledged_at=None, acknowledged_by=None,
    )  # fmt: skip
    return Notice(id=number, step=step, at=at, alert=facts, notification=notification or None)


@st.composite
def backlogs(draw: st.DrawFn) -> list[Notice]:
    """Notices of several alerts, each with a run of steps."""
    found: list[Notice] = []
    for alert in range(draw(st.integers(1, 8))):
        severity = draw(st.sampled_from(list(Severity)))
        for step in draw(STEPS):
            found.append(notice(len(found) + 1, "a" * (alert + 1), step, severity))
    return found


@given(backlog=backlogs(), random=st.randoms())
def test_everything_is_sent_once_in_any_order(backlog: list[Notice], random: object) -> None:
    sent = policy.compose(backlog)
    shuffled = list(backlog)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert [message.id for message in policy.compose(shuffled)] == [message.id for message in sent]
    assert sorted(number for message in sent for number in message.notice_ids) == [entry.id for entry in backlog]
    alerts = len({entry.alert.id for entry in backlog})
    assert len(sent) == (1 if alerts > MAX_SEPARATE else alerts)


@given(backlog=backlogs())
def test_a_digest_groups_all_of_it_the_most_urgent_first(backlog: list[Notice]) -> None:
    updates = [update for message in policy.compose(backlog) for update in message.updates]
    groups = Notification(tuple(updates)).groups
    assert sum(len(group.updates) for group in groups) == len(updates)
    urgency = [(group.resolved, -list(Severity).index(group.severity)) for group in groups]
    assert urgency == sorted(urgency)
    assert len({(group.rule, group.severity, group.resolved) for group in groups}) == len(groups)


@given(backlog=backlogs(), later=backlogs())
def test_a_message_that_a_worker_began_is_sent_unchanged(backlog: list[Notice], later: list[Notice]) -> None:
    begun = policy.compose(backlog)
    of = {number: message.id for message in begun for number in message.notice_ids}
    left = [notice(entry.id, entry.alert.id, entry.step, entry.alert.severity, of[entry.id]) for entry in backlog]
    new = [notice(entry.id + 1000, f"later {entry.alert.id}", entry.step) for entry in later]
    assert {message.id for message in policy.compose([*new, *left])} == {message.id for message in begun}


@pytest.mark.parametrize(
    ("steps", "kind"),
    [
        ((Step.FIRED,), NotificationType.FIRING),
        ((Step.ESCALATED,), NotificationType.ESCALATED),
        ((Step.FIRED, Step.ESCALATED), NotificationType.FIRING),
        ((Step.RESOLVED,), NotificationType.RESOLVED),
        ((Step.FIRED, Step.ESCALATED, Step.RESOLVED), NotificationType.RESOLVED),
    ],
)
def test_several_steps_of_one_alert_are_one_message(steps: Sequence[Step], kind: NotificationType) -> None:
    (sent,) = policy.compose([notice(number, "a", step) for number, step in enumerate(steps, 1)])
    assert sent.type is kind


def test_without_steps_nothing_is_sent() -> None:
    assert policy.compose([]) == []


@pytest.mark.parametrize(
    ("failures", "retry", "rest"),
    [(1, 10, 10), (2, 30, 30), (3, 120, 60), (5, 1800, 60), (6, 3600, 60), (999, 3600, 60)],
)
def test_delays_grow_to_an_hour(failures: int, retry: float, rest: float) -> None:
    assert policy.delays_after_failure(failures, retry_after_seconds=None, jitter=0) == (retry, rest)
    for jitter in (-1, 1):
        shifted, _ = policy.delays_after_failure(failures, retry_after_seconds=None, jitter=jitter)
        assert shifted == pytest.approx(retry * (1 + 0.2 * jitter))


@pytest.mark.parametrize(("asked", "given_"), [(-5, 10), (0, 10), (90, 90), (10**9, 3600)])
def test_a_channel_is_left_alone_as_long_as_it_asks_within_bounds(asked: float, given_: float) -> None:
    assert policy.delays_after_failure(1, retry_after_seconds=asked, jitter=1) == (given_, given_)


def test_more_messages_mean_a_longer_rest() -> None:
    one, *more = (notice(number, f"a{number}", Step.FIRED) for number in range(1, 6))
    assert policy.rest_after_success(policy.compose([])) == 0
    assert policy.rest_after_success(policy.compose([one])) == 10
    assert policy.rest_after_success(policy.compose([one, more[0]])) == 20
    assert policy.rest_after_success(policy.compose([one, *more])) == 60


def test_a_message_shows_foreign_text_without_controls() -> None:
    one = notice(1, "a", Step.FIRED)
    hostile = "bounces of evil\x1b[2K\r\nSeverity: none\u202e"
    (found,) = policy.compose([replace(one, alert=replace(one.alert, summary=hostile, source="mc\x9b"))])
    message = rendering.render(found)
    assert message.title.endswith(r"bounces of evil\x1b[2K Severity: none\u202e")
    assert not set(message.title + message.text) & set("\x1b\r\u202e\x9b")
    assert "\nSeverity: none" not in message.text
