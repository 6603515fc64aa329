"""Which steps are sent together, and what follows when a channel fails."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.alerts.policy import Step
from shared.notifications import policy as telling
from shared.notifications.policy import MOST_ALONE, Alert, Notice, Telling, TellingType
from shared.vocabulary import Severity

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
STEPS = st.sampled_from([(Step.FIRED,), (Step.FIRED, Step.ESCALATED), (Step.FIRED, Step.RESOLVED), (Step.RESOLVED,)])


def notice(number: int, alert: str, step: Step, severity: Severity = Severity.WARNING, telling: str = "") -> Notice:
    at = BEGIN + timedelta(minutes=number)
    facts = Alert(
        id=alert, rule=f"rule {len(alert)}", kind="rate", subject=alert, severity=severity, state="firing", source=None,
        tenant=None, summary="", numbers={}, evidence_event_id=None, started_at=BEGIN, resolved_at=None,
        acknowledged_at=None, acknowledged_by=None,
    )  # fmt: skip
    return Notice(id=number, step=step, at=at, alert=facts, telling=telling or None)


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
    told = telling.compose(backlog)
    shuffled = list(backlog)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert [message.id for message in telling.compose(shuffled)] == [message.id for message in told]
    assert sorted(number for message in told for number in message.notice_ids) == [entry.id for entry in backlog]
    alerts = len({entry.alert.id for entry in backlog})
    assert len(told) == (1 if alerts > MOST_ALONE else alerts)


@given(backlog=backlogs())
def test_a_digest_groups_all_of_it_the_most_urgent_first(backlog: list[Notice]) -> None:
    items = [item for message in telling.compose(backlog) for item in message.items]
    groups = Telling(tuple(items)).groups
    assert sum(len(group.items) for group in groups) == len(items)
    urgency = [(group.resolved, -list(Severity).index(group.severity)) for group in groups]
    assert urgency == sorted(urgency)
    assert len({(group.rule, group.severity, group.resolved) for group in groups}) == len(groups)


@given(backlog=backlogs(), later=backlogs())
def test_a_message_that_a_worker_began_is_sent_unchanged(backlog: list[Notice], later: list[Notice]) -> None:
    begun = telling.compose(backlog)
    of = {number: message.id for message in begun for number in message.notice_ids}
    left = [notice(entry.id, entry.alert.id, entry.step, entry.alert.severity, of[entry.id]) for entry in backlog]
    new = [notice(entry.id + 1000, f"later {entry.alert.id}", entry.step) for entry in later]
    assert {message.id for message in telling.compose([*new, *left])} == {message.id for message in begun}


@pytest.mark.parametrize(
    ("steps", "kind"),
    [
        ((Step.FIRED,), TellingType.FIRING),
        ((Step.ESCALATED,), TellingType.ESCALATED),
        ((Step.FIRED, Step.ESCALATED), TellingType.FIRING),
        ((Step.RESOLVED,), TellingType.RESOLVED),
        ((Step.FIRED, Step.ESCALATED, Step.RESOLVED), TellingType.RESOLVED),
    ],
)
def test_several_steps_of_one_alert_are_one_message(steps: Sequence[Step], kind: TellingType) -> None:
    (told,) = telling.compose([notice(number, "a", step) for number, step in enumerate(steps, 1)])
    assert told.type is kind


def test_without_steps_nothing_is_sent() -> None:
    assert telling.compose([]) == []


@pytest.mark.parametrize(
    ("failures", "retry", "rest"),
    [(1, 10, 10), (2, 30, 30), (3, 120, 60), (5, 1800, 60), (6, 3600, 60), (999, 3600, 60)],
)
def test_delays_grow_to_an_hour(failures: int, retry: float, rest: float) -> None:
    pause = telling.after_failure(failures, retry_after_seconds=None, jitter=0)
    assert (pause.retry_seconds, pause.rest_seconds) == (retry, rest)
    for jitter in (-1, 1):
        shifted = telling.after_failure(failures, retry_after_seconds=None, jitter=jitter).retry_seconds
        assert shifted == pytest.approx(retry * (1 + 0.2 * jitter))


@pytest.mark.parametrize(("asked", "given_"), [(-5, 10), (0, 10), (90, 90), (10**9, 3600)])
def test_a_channel_is_left_alone_as_long_as_it_asks_within_bounds(asked: float, given_: float) -> None:
    pause = telling.after_failure(1, retry_after_seconds=asked, jitter=1)
    assert (pause.retry_seconds, pause.rest_seconds) == (given_, given_)


def test_more_messages_mean_a_longer_rest() -> None:
    one, *more = (notice(number, f"a{number}", Step.FIRED) for number in range(1, 6))
    assert telling.after_success(telling.compose([])) == 0
    assert telling.after_success(telling.compose([one])) == 10
    assert telling.after_success(telling.compose([one, more[0]])) == 20
    assert telling.after_success(telling.compose([one, *more])) == 60
