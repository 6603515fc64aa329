"""Diagnosis: each fate of a message gets its own finding, and each finding names the next step."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from shared.diagnosis.diagnose import diagnose
from shared.diagnosis.model import (
    ActiveSuppression,
    DiagnosisInput,
    EventSummary,
    FailedDelivery,
    Identifiers,
    RecipientState,
    RefusedRequests,
    SourceStatus,
    UnprocessedReceipt,
    WebhookRegistration,
)
from shared.diagnosis.verdicts import MAX_RETRY_PERIOD, MAX_SILENCE
from shared.vocabulary import Classification, EventType, ReceiptState, Status

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
BEGAN = NOW - timedelta(hours=6)
ANN, BOB = "ann@example.net", "bob@example.net"
SOURCE = SourceStatus(
    slug="main",
    provider="mailchannels",
    managed=True,
    last_event_at=NOW,
    registration=WebhookRegistration(checked_at=NOW, registered=True, validated_at=NOW, validated=True),
)


def seen(event_type: EventType, recipient: str | None = ANN, minute: int = 0) -> EventSummary:
    at = BEGAN + timedelta(minutes=minute)
    return EventSummary(
        id=f"{event_type}-{minute}", type=event_type, recipient=recipient, occurred_at=at, received_at=at
    )


def state(status: Status | None, recipient: str = ANN, at: datetime | None = BEGAN, reason: str = "") -> RecipientState:
    return RecipientState(recipient=recipient, status=status, status_at=at, event_id="e1", reason=reason or None)


def facts(*states: RecipientState, **given: object) -> DiagnosisInput:
    made = DiagnosisInput(now=NOW, names=Identifiers(request_id="r1"), known=True, sender="shop@example.com")
    around = {"operator_view": True, "sources": (SOURCE,)}
    events = (seen(EventType.QUEUED),) if states else ()
    return replace(made, states=states, **{"events": events, **around, **given})  # type: ignore[arg-type]


SUPPRESSED = ActiveSuppression(
    recipient=ANN,
    reason="hard_bounce",
    since=BEGAN - timedelta(days=3),
    until=None,
    types=("transactional", "non_transactional"),
    origin="event",
)
UNSUBSCRIBED = replace(SUPPRESSED, reason="unsubscribe", types=("non_transactional",))
FAILED = FailedDelivery(source="main", reference="7", failed_at=BEGAN, outcome="5xx", events=12, state="listed")
REFUSED = RefusedRequests(at=BEGAN, status_code=401, reason="bad_signature", detail="None of the keys.", count=3)
TOO_LARGE = state(Status.REJECTED, reason="552 5.3.4 message too large")
REJECTED = state(Status.REJECTED, reason="550 5.7.1 not accepted")


@pytest.mark.parametrize(
    ("known", "verdict"),
    [
        (facts(state(Status.DELIVERED)), "delivered"),
        (facts(state(Status.BOUNCED)), "bounced"),
        (facts(state(Status.FAILED)), "failed"),
        (facts(state(Status.HELD)), "held"),
        (facts(REJECTED), "rejected"),
        (facts(REJECTED, suppressed=(SUPPRESSED,)), "suppressed"),
        (facts(state(Status.REJECTED, reason="recipient is suppressed")), "suppressed"),
        (facts(REJECTED, suppressed=(replace(SUPPRESSED, recipient=BOB),)), "rejected"),
        (facts(REJECTED, suppressed=(replace(SUPPRESSED, since=NOW),)), "rejected"),
        (facts(state(Status.DEFERRED)), "deferred"),
        (facts(state(Status.DEFERRED, at=NOW - MAX_RETRY_PERIOD)), "partly_seen"),
        (facts(state(Status.QUEUED, at=NOW - MAX_SILENCE / 2)), "underway"),
        (facts(state(Status.QUEUED, at=NOW - MAX_SILENCE)), "partly_seen"),
        (facts(state(Status.SUBMITTED), events=(), submitted_at=BEGAN), "never_seen"),
        (facts(state(Status.SUBMITTED, BOB), submitted_at=BEGAN), "partly_seen"),
        (facts(known=False), "never_seen"),
        (facts(TOO_LARGE, suppressed=(UNSUBSCRIBED,)), "rejected"),
        (facts(state(Status.REJECTED), suppressed=(UNSUBSCRIBED,)), "suppressed"),
        (facts(state(Status.REJECTED, reason="unsubscribed"), suppressed=(UNSUBSCRIBED,)), "suppressed"),
        (facts(known=False, suppressed=(SUPPRESSED,)), "never_seen"),
        (facts(known=False, suppressed=(SUPPRESSED,), names=Identifiers(recipient=ANN)), "suppressed"),
    ],
)
def test_each_lot_has_its_own_verdict(known: DiagnosisInput, verdict: str) -> None:
    assert diagnose(known).verdict == verdict


def test_of_several_recipients_the_one_who_fared_worst_is_the_headline() -> None:
    found = diagnose(facts(state(Status.DELIVERED), state(Status.BOUNCED, BOB)))
    assert found.verdict == "bounced"
    assert found.headline.startswith(
        "For 1 of 2 recipients: The recipient's mail system permanently refused the message"
    )
    assert [one.verdict for one in found.recipients] == ["delivered", "bounced"]


def test_delivered_is_explained_as_acceptance_and_sends_the_recipient_looking() -> None:
    found = diagnose(facts(state(Status.DELIVERED)))
    assert "does not promise that the message is in the inbox" in found.headline
    assert found.next_steps[0].startswith("Ask the recipient to look in spam, quarantine, forwarding rules")


@pytest.mark.parametrize("classification", [*Classification, None])
def test_every_bounce_has_a_next_step(classification: Classification | None) -> None:
    bounced = replace(state(Status.BOUNCED), classification=classification)
    assert diagnose(facts(bounced)).next_steps


def test_a_bounce_says_what_the_server_said() -> None:
    bounced = replace(
        state(Status.BOUNCED, reason="no such user"), classification="invalid_recipient", codes="550 5.1.1"
    )
    found = diagnose(facts(bounced))
    assert "(invalid recipient: 550 5.1.1 “no such user”)" in found.headline
    assert found.next_steps[0].startswith("There is no such mailbox")


def test_a_rejection_quotes_its_provider_whatever_is_suppressed_here() -> None:
    suppressed = diagnose(facts(REJECTED, suppressed=(UNSUBSCRIBED, SUPPRESSED)))
    assert suppressed.headline.index("“550 5.7.1 not accepted”") < suppressed.headline.index("suppressed here since")
    assert "because of hard bounce" in suppressed.headline
    rejected = diagnose(facts(TOO_LARGE, suppressed=(UNSUBSCRIBED,)))
    assert "“552 5.3.4 message too large”" in rejected.headline
    assert "suppressed_here" in [finding.code for finding in rejected.findings]


def codes(known: DiagnosisInput) -> list[str]:
    return [finding.code for finding in diagnose(known).findings]


NEVER = facts(state(Status.SUBMITTED), events=(), submitted_at=BEGAN)


@pytest.mark.parametrize(
    ("enrolment", "code"),
    [
        (None, "enrolment_unknown"),
        (WebhookRegistration(checked_at=None, registered=None, validated_at=None, validated=None), "enrolment_unknown"),
        (WebhookRegistration(checked_at=NOW, registered=False, validated_at=None, validated=None), "not_enrolled"),
        (WebhookRegistration(checked_at=NOW, registered=True, validated_at=BEGAN, validated=False), "not_validated"),
        (WebhookRegistration(checked_at=NOW, registered=True, validated_at=NOW, validated=True), "enrolled"),
    ],
)
def test_a_missing_event_is_first_looked_for_in_the_enrolment(enrolment: WebhookRegistration | None, code: str) -> None:
    assert code in codes(replace(NEVER, sources=(replace(SOURCE, registration=enrolment),)))


def test_a_provider_without_such_an_interface_is_not_asked_for_its_enrolment() -> None:
    found = diagnose(replace(NEVER, sources=(SourceStatus(slug="main", provider="cloudmailin", last_event_at=NOW),)))
    assert not {"enrolled", "enrolment_unknown"} & {finding.code for finding in found.findings}
    assert not any("reconcile" in step for step in found.next_steps)


def test_what_was_refused_or_failed_at_the_time_is_what_is_said_of_a_missing_event() -> None:
    found = diagnose(
        replace(
            NEVER,
            refused=(
                RefusedRequests(at=BEGAN, status_code=401, reason="bad_signature", detail="None of the keys.", count=3),
            ),
            unprocessed=(UnprocessedReceipt(id="x", state=ReceiptState.DEAD, received_at=BEGAN, why="no JSON"),),
            set_aside={"Of another account: 'x'": "e"},
            failed=(FAILED,),
        )
    )
    assert [finding.code for finding in found.findings if finding.mark == "fault"] == [
        "never_seen",
        "refused",
        "receipt_dead",
        "set_aside",
        "failed_delivery_listed",
    ]
    assert "Have it sent again: tidings reconcile --source main" in found.next_steps
    assert "nothing_wrong_here" not in [finding.code for finding in found.findings]


def test_where_nothing_is_wrong_here_the_provider_is_asked_with_the_report() -> None:
    found = diagnose(NEVER)
    assert found.findings[-1].code == "nothing_wrong_here"
    assert "escalate" in found.next_steps[-1]


def test_of_a_message_that_its_provider_named_is_looked_for_what_is_missing_although_the_address_is_suppressed() -> (
    None
):
    unknown = facts(known=False, suppressed=(UNSUBSCRIBED,), failed=(FAILED,))
    assert {"failed_delivery_listed", "suppressed_here"} <= {*codes(unknown)}


def test_an_unknown_message_lists_every_source_that_may_have_sent_it() -> None:
    found = diagnose(facts(known=False, sources=(SOURCE, replace(SOURCE, slug="other"))))
    assert [finding.text.split(" was ")[0] for finding in found.findings if finding.code == "enrolled"] == [
        "The webhook of main",
        "The webhook of other",
    ]
    assert "tidings reconcile --source main --source other" in found.next_steps[-1]


def test_nothing_is_said_to_be_in_order_that_was_not_looked_at() -> None:
    found = diagnose(replace(NEVER, operator_view=False, sources=()))
    assert not [finding for finding in found.findings if "Nothing was refused" in finding.text]
    assert "Ask the operator" in found.next_steps[-1]


def test_a_test_webhook_that_did_not_arrive_is_reported_with_its_time() -> None:
    enrolment = WebhookRegistration(checked_at=NOW, registered=True, validated_at=BEGAN, validated=False)
    found = diagnose(replace(NEVER, sources=(replace(SOURCE, registration=enrolment),)))
    (text,) = [finding.text for finding in found.findings if finding.code == "not_validated"]
    assert f"{BEGAN:%H:%M:%S}" in text
    assert f"{NOW:%H:%M:%S}" not in text


@pytest.mark.parametrize(
    ("known", "code"),
    [
        (facts(state(Status.DELIVERED)), None),
        (facts(state(Status.DELIVERED, BOB)), "not_a_recipient"),
        (facts(state(Status.DELIVERED, "")), "no_recipient_named"),
    ],
)
def test_a_recipient_without_events_is_reported_as_such(known: DiagnosisInput, code: str | None) -> None:
    found = codes(replace(known, names=replace(known.names, recipient=ANN)))
    assert {"not_a_recipient", "no_recipient_named"} & {*found} == {*filter(None, [code])}


def test_a_delivered_message_whose_beginning_is_missing_is_said_to_have_a_gap() -> None:
    known = facts(state(Status.DELIVERED), events=(seen(EventType.DELIVERED),))
    assert "gap" in codes(known)
    assert diagnose(known).verdict == "delivered"


def test_a_source_that_is_silent_since_before_the_send_is_named() -> None:
    silent = replace(SOURCE, last_event_at=BEGAN - timedelta(days=1))
    assert "source_silent" in codes(replace(NEVER, sources=(silent,)))
    assert "source_silent" in codes(replace(NEVER, sources=(replace(SOURCE, last_event_at=None),)))


def test_the_report_holds_what_support_asks_for_and_names_what_is_missing() -> None:
    bounced = seen(EventType.BOUNCED, minute=5)
    known = facts(state(Status.BOUNCED), events=(seen(EventType.QUEUED), bounced), submitted_at=BEGAN)
    report = diagnose(known).escalation
    assert (report.sender, report.recipients, report.request_id) == ("shop@example.com", (ANN,), "r1")
    assert (report.sent_at, report.sent_at_known_by) == (BEGAN, "the announcement of the send")
    assert report.last_event == bounced
    assert report.bounces_and_complaints == (bounced,)
    assert any("spam" in question for question in report.to_ask)
    assert not report.missing
    assert diagnose(facts(known=False, sender=None, names=Identifiers())).escalation.missing == (
        "the sender's address",
        "the recipient's address",
        "the approximate time of sending, with its zone",
        "the request_id that the provider returned",
        "the last event",
    )
