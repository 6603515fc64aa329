"""Diagnosis: each fate of a message gets its own finding, and each finding names the next step."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from shared.classification.provider_codes import PROVIDER_WORDS
from shared.diagnosis import advice, provider_advice
from shared.diagnosis.diagnose import diagnose
from shared.diagnosis.model import (
    ActiveSuppression,
    Answer,
    DiagnosisInput,
    EventSummary,
    FailedDelivery,
    Identifiers,
    Place,
    RecipientAnswer,
    RecipientState,
    RefusedRequests,
    SourceStatus,
    UnprocessedReceipt,
    WebhookRegistration,
)
from shared.diagnosis.report import format_report
from shared.diagnosis.verdicts import MAX_RETRY_PERIOD, MAX_SILENCE
from shared.messages.state import WITHOUT_MESSAGE
from shared.providers import (
    ahasend,
    azure,
    brevo,
    cloudflare,
    elasticemail,
    emailit,
    kumomta,
    lettermint,
    mailersend,
    mailjet,
    mailpace,
    mailtrap,
    mandrill,
    scaleway,
    smtp2go,
    unisender,
)
from shared.providers.cloudmailin import webhook as cloudmailin
from shared.providers.mailchannels import webhook as mailchannels
from shared.providers.mailgun import webhook as mailgun
from shared.providers.postmark import webhook as postmark
from shared.providers.resend import webhook as resend
from shared.providers.sendgrid import webhook as sendgrid
from shared.providers.ses import webhook as ses
from shared.providers.sparkpost import webhook as sparkpost
from shared.providers.webhooks import postal_events
from shared.vocabulary import Classification, EventType, ReceiptState, Status
from tests.support.command_line import parse_command

EVENTS_OF: Mapping[str, Mapping[str, EventType]] = {
    "mailchannels": mailchannels.EVENTS,
    "ark": postal_events.EVENTS,
    "postal": postal_events.EVENTS,
    "cloudmailin": cloudmailin.EVENTS,
    "mailwebhook": {"inbound": EventType.INBOUND},
    "ses": ses.EVENTS,
    "sendgrid": sendgrid.EVENTS,
    "postmark": postmark.EVENTS,
    "resend": resend.EVENTS,
    "mailgun": mailgun.EVENTS,
    "brevo": {**brevo.EVENTS, **{word.lower(): brevo.EVENTS[same] for word, same in brevo.OTHER_SPELLINGS.items()}},
    "mailjet": mailjet.EVENTS,
    "sparkpost": sparkpost.EVENTS,
    "mailersend": {f"activity.{word}": kind for word, kind in mailersend.EVENTS.items()},
    "mandrill": mandrill.EVENTS,
    "mailtrap": mailtrap.EVENTS,
    "unisender": unisender.EVENTS,
    "lettermint": lettermint.EVENTS,
    "emailit": {f"{prefix}{word}": kind for prefix in ("", "email.") for word, kind in emailit.EVENTS.items()},
    "ahasend": ahasend.EVENTS,
    "mailpace": mailpace.EVENTS,
    "smtp2go": smtp2go.EVENTS,
    "azure": azure.EVENTS,
    "elasticemail": elasticemail.EVENTS,
    "cloudflare": {f"cf.email.sending.message.{word}": kind for word, kind in cloudflare.EVENTS.items()},
    "kumomta": kumomta.EVENTS,
    "scaleway": scaleway.EVENTS,
}

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
    assert found.next_steps[0].startswith(f"Ask {ANN} to look in the spam and junk folders, the quarantine")


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
    assert found.next_steps[0].startswith("There is no mailbox of ann@example.net")


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
    (asked,) = [finding for finding in found.findings if finding.code == "enrolment_unknown"]
    assert asked.commands == ("tidings sources check main",)
    assert not any(word in step for step in found.next_steps for word in ("reconcile", "validate", "webhooks main"))


def test_what_was_refused_or_failed_at_the_time_is_what_is_said_of_a_missing_event() -> None:
    found = diagnose(
        replace(
            NEVER,
            refused=(
                RefusedRequests(at=BEGAN, status_code=401, reason="bad_signature", detail="None of the keys.", count=3),
            ),
            unprocessed=(
                UnprocessedReceipt(id="x", source="main", state=ReceiptState.DEAD, received_at=BEGAN, why="no JSON"),
            ),
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
    assert "Have delivery 7 sent again: `tidings reconcile --source main`" in found.next_steps
    assert [finding.code for finding in found.findings if finding.about_source] == [
        "refused",
        "receipt_dead",
        "set_aside",
        "failed_delivery_listed",
    ]
    assert "nothing_wrong_here" not in [finding.code for finding in found.findings]


def test_receipts_that_are_dead_for_one_reason_are_one_finding_with_one_command() -> None:
    def make(number: int, why: str, state: ReceiptState = ReceiptState.DEAD) -> UnprocessedReceipt:
        at = BEGAN + timedelta(seconds=number)
        return UnprocessedReceipt(id=f"r{number}", source="main", state=state, received_at=at, why=why)

    receipts = (make(1, "no JSON"), make(3, "no JSON"), make(2, "no JSON"), make(4, "no list"))
    found = diagnose(replace(NEVER, unprocessed=receipts))
    several, one = [finding for finding in found.findings if finding.code == "receipt_dead"]
    assert several.text.endswith("could not be processed: no JSON. The same is true of 2 others around that time.")
    assert several.commands == ("tidings reprocess --source main",)
    assert several.evidence == ("r1", "r3", "r2")
    assert one.text.endswith("could not be processed: no list.")
    assert one.commands == ("tidings reprocess --receipt r4",)


def test_what_was_recovered_is_one_finding_and_no_fault() -> None:
    recovered = [replace(FAILED, state="recovered", reference=reference, events=2) for reference in ("8", "9")]
    found = diagnose(replace(NEVER, failed=(*recovered, FAILED)))
    named = [finding for finding in found.findings if finding.code.startswith("failed_delivery")]
    assert [finding.code for finding in named] == ["failed_delivery_recovered", "failed_delivery_listed"]
    assert "was recovered: 4 of its events" in named[0].text
    assert named[0].evidence == ("8", "9")


def test_a_step_at_the_provider_names_the_message_as_the_provider_does() -> None:
    step = advice.fill(provider_advice.POSTAL["MessageHeld"].step, NAMES)
    assert "page of message 17 at the provider of main" in step
    assert "page of the message at" in advice.fill(provider_advice.POSTAL["MessageHeld"].step, {})


def test_where_nothing_is_wrong_here_the_provider_is_asked_with_the_report() -> None:
    found = diagnose(NEVER)
    assert found.findings[-1].code == "nothing_wrong_here"
    assert "escalate" in found.next_steps[-1]


def test_for_an_announced_message_without_events_the_whole_list_of_the_guide_is_given() -> None:
    unchecked = replace(SOURCE, registration=None)
    found = diagnose(replace(NEVER, sources=(unchecked,)))
    assert [finding.commands for finding in found.findings if finding.next_step] == [
        (),
        ("tidings sources webhooks main",),
        ("tidings sources validate main",),
        ("tidings reconcile --source main --dry-run", "tidings reconcile --source main"),
        ("tidings diagnose --request-id r1 --report",),
    ]
    assert "returned the id r1" in found.next_steps[0]


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
    assert [finding.commands[-1] for finding in found.findings if finding.code == "failed_batches"] == [
        "tidings reconcile --source main",
        "tidings reconcile --source other",
    ]


def test_a_source_whose_api_lists_no_failures_and_sends_no_tests_is_not_asked_for_them() -> None:
    source = replace(SOURCE, provider="postmark", lists_failed=False, sends_tests=False)
    found = diagnose(facts(known=False, sources=(source,)))
    (row,) = [finding for finding in found.findings if finding.code == "failed_unlisted"]
    assert row.text == "The API of Postmark does not tell what could not be delivered to main."
    assert not {"failed_batches", "validated", "validation_unknown"} & {finding.code for finding in found.findings}


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


@pytest.mark.parametrize(("provider", "rows"), provider_advice.ROWS.items())
def test_every_kind_of_event_of_a_provider_has_a_row_of_its_own(
    provider: str, rows: Mapping[str, provider_advice.Advice]
) -> None:
    words = {word for word, kind in EVENTS_OF[provider].items() if kind not in WITHOUT_MESSAGE}
    assert words == {key.partition("/")[0] for key in rows}
    assert {key.partition("/")[2] for key in rows} <= {"", *Status}


@pytest.mark.parametrize(
    ("provider", "word", "status", "meaning"),
    [
        ("ses", "Bounce", Status.BOUNCED, "does not try again"),
        ("ses", "Bounce", Status.REJECTED, "did not send"),
        ("postmark", "Bounce", Status.DEFERRED, "tries again"),
        ("mailgun", "failed", Status.DEFERRED, "tries again"),
        ("mailgun", "failed", Status.BOUNCED, "does not try again"),
        ("standardwebhooks", "message.bounced", Status.BOUNCED, "does not try again"),
        ("azure", "FilteredSpam", Status.REJECTED, "taken for spam"),
        ("brevo", "hardBounce", Status.BOUNCED, "blocked contacts"),
        ("kumomta", "AdminBounce", Status.FAILED, "administrator"),
    ],
)
def test_a_word_with_several_meanings_has_that_of_the_status(
    provider: str, word: str, status: Status, meaning: str
) -> None:
    row = advice.find_advice(provider, word, status)
    assert row is not None
    assert meaning in row.meaning


NAMES = {
    "recipient": "o'neil@example.net",
    "domain": "example.net",
    "sender_domain": "example.com",
    "source": "main",
    "api_source": "main",
    "message": "--request-id 'a b'",
    "id": str(UUID(int=7)),
    "their_message": "message 17",
}
ROWS = [row for rows in provider_advice.ROWS.values() for row in rows.values()]


@pytest.mark.parametrize("row", [*ROWS, *advice.BY_STATUS.values()])
def test_every_command_of_a_row_runs_as_it_is_printed(row: provider_advice.Advice) -> None:
    for command in advice.fill_commands(row.commands, NAMES):
        parse_command(command)
    assert "{" not in advice.fill(row.step, NAMES) + advice.fill(row.meaning, NAMES)


WITH_PROVIDER = {word.partition(":")[0] for word in PROVIDER_WORDS if ":" in word}
WORDS = {
    f"{name}:{word.lower()}" if name in WITH_PROVIDER else word.lower()
    for name, rows in provider_advice.ROWS.items()
    for word in rows
}


@pytest.mark.parametrize("word", sorted(WORDS))
def test_a_failure_of_an_unknown_message_has_the_advice_of_the_providers_word(word: str) -> None:
    step = advice.advise(word, Classification.UNCLASSIFIED)
    assert step.endswith(".")
    assert "{" not in step
    assert step != advice.advise(None, Classification.UNCLASSIFIED)


def test_a_word_of_one_provider_gets_no_advice_of_another() -> None:
    of_cause = advice.advise(None, Classification.SPAM_BLOCK)
    for word in ("policy_rejection", "hardbounce", "greylisted", "postmark:rejected", "sparkpost:10", "nobody:bounce"):
        assert advice.advise(word, Classification.SPAM_BLOCK) == of_cause
    assert "SparkPost" in advice.advise("sparkpost:policy_rejection", Classification.SPAM_BLOCK)


@pytest.mark.parametrize("classification", Classification)
def test_a_failure_without_such_a_word_has_the_advice_of_its_cause(classification: Classification) -> None:
    step = advice.advise("unheard of", classification)
    assert step.endswith(".")
    assert "{" not in step


def test_no_command_asks_the_api_of_a_provider_for_a_source_without_a_key() -> None:
    keyless = replace(SOURCE, managed=False, no_api="The source has no api_key.", registration=None)
    dropped = replace(seen(EventType.REJECTED), id="e1", word="dropped")
    needs_key = ("webhooks", "enrol", "validate", "reconcile", "pull", "push")
    for known in (
        replace(NEVER, failed=(FAILED,), sources=(keyless,)),
        facts(known=False, failed=(FAILED,), sources=(keyless,)),
        facts(REJECTED, events=(dropped,), sources=(keyless,)),
    ):
        found = diagnose(known)
        commands = [command for finding in found.findings for command in finding.commands]
        assert commands
        assert not [command for command in commands if set(command.split()) & set(needs_key)]
    (rejected,) = [one for one in diagnose(facts(REJECTED, events=(dropped,))).findings if one.code == "rejected"]
    assert "tidings suppressions pull --source main --dry-run" in rejected.commands


def test_only_what_is_suppressed_here_can_be_lifted_here() -> None:
    bounced = replace(state(Status.BOUNCED), classification="mailbox_full")
    event = replace(seen(EventType.BOUNCED), id="e1", word="hard-bounced")
    (finding,) = [one for one in diagnose(facts(bounced, events=(event,))).findings if one.code == "bounced"]
    assert finding.commands == (f"tidings suppressions why {ANN}",)
    assert "It is not suppressed here now" in (finding.next_step or "")
    found = diagnose(facts(bounced, events=(event,), suppressed=(SUPPRESSED,)))
    commands = [command for one in found.findings for command in one.commands if ANN in command]
    assert commands == [f"tidings suppressions why {ANN}", f"tidings suppressions lift {ANN}"], "each once"


def test_requests_that_were_refused_alike_are_one_finding() -> None:
    other = replace(REFUSED, count=1, at=BEGAN + timedelta(minutes=1))
    found = diagnose(replace(NEVER, refused=(REFUSED, other, replace(REFUSED, detail="Another.", count=1))))
    texts = [one.text for one in found.findings if one.code == "refused"]
    assert texts[0].startswith(
        f"4 requests of this source were refused with 401, the last at {other.at:%Y-%m-%d %H:%M}"
    )
    assert texts[1].startswith("1 request of this source was refused")


def test_a_command_that_needs_an_unknown_name_is_not_given() -> None:
    row = provider_advice.MAILCHANNELS["delivered"]
    assert advice.fill_commands(row.commands, {**NAMES, "recipient": None}) == ()
    assert advice.fill(row.step, {**NAMES, "recipient": None}).startswith("Ask the recipient to look")


def opened(minute: int, automated: str | None = None, event_type: EventType = EventType.OPENED) -> EventSummary:
    return replace(seen(event_type, minute=minute), automated=automated, by="Mozilla/5.0 (Macintosh)")


@pytest.mark.parametrize(
    ("event", "verdict", "text"),
    [
        (opened(9), "seen", "Opened at 2026-03-01 06:09:00 UTC, by a person (Mozilla/5.0 (Macintosh))."),
        (opened(9, "scanner"), "delivered", "by a scanner, which opens mail before anybody sees it"),
        (opened(9, "privacy_proxy"), "delivered", "does not show whether a person looked"),
        (opened(9, None, EventType.CLICKED), "seen", "A link was followed at"),
        (opened(9, None, EventType.REPLIED), "seen", "Replied to by ann@example.net at"),
        (opened(9, None, EventType.AUTORESPONDED), "delivered", "Answered automatically at"),
    ],
)
def test_opens_clicks_and_replies_are_evidence(event: EventSummary, verdict: str, text: str) -> None:
    found = diagnose(facts(state(Status.DELIVERED), events=(seen(EventType.QUEUED), event)))
    assert found.verdict == verdict
    assert any(text in finding.text for finding in found.findings)


def test_an_open_by_a_person_outweighs_a_missing_delivery() -> None:
    sent = state(Status.SENT, at=BEGAN)
    assert diagnose(facts(sent, events=(opened(9),))).verdict == "seen"
    assert diagnose(facts(sent, events=(opened(9, "scanner"),))).verdict == "partly_seen"
    of_another = replace(opened(9), recipient=BOB)
    assert [one.verdict for one in diagnose(facts(sent, state(Status.SENT, BOB), events=(of_another,))).recipients] == [
        "partly_seen",
        "seen",
    ]


def test_a_bounce_with_a_code_of_success_is_a_partial_reject() -> None:
    rejected = replace(state(Status.BOUNCED), codes="250")
    found = diagnose(facts(rejected))
    assert found.verdict == "partly_rejected"
    assert "took the message for other recipients" in found.headline
    assert diagnose(facts(replace(rejected, codes="550"))).verdict == "bounced"


ANSWERED = RecipientAnswer(
    recipient=ANN, place=Place.SPAM, answer=Answer.NOT_FOUND, answered_at=NOW, recorded_by="support"
)


def test_answers_of_the_recipient_are_in_the_findings_and_in_the_report() -> None:
    found = diagnose(facts(state(Status.DELIVERED), answers=(ANSWERED,)))
    assert "answer_not_found" in [finding.code for finding in found.findings]
    text = format_report(found.escalation)
    assert "Has the recipient checked the spam folder? yes, the message is not there (ann@example.net" in text
    assert "Has the recipient checked the junk folder? (ask the recipient)" in text
    assert "spam" not in " ".join(found.escalation.to_ask)


def test_the_report_is_one_block_with_the_timeline() -> None:
    bounced = replace(seen(EventType.BOUNCED, minute=5), codes="550 5.1.1", reason="no | such `user`")
    report = diagnose(facts(state(Status.BOUNCED), events=(seen(EventType.QUEUED), bounced))).escalation
    assert "  2026-03-01 06:05:00  bounced  ann@example.net  550 5.1.1 no | such `user`" in format_report(report)
    markdown = format_report(report, markdown=True)
    assert "| 2026-03-01 06:05:00 | bounced | ann@example.net | 550 5.1.1 no \\| such \\`user\\` |" in markdown
    assert markdown.startswith("# Message not received (MailChannels)\n")


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
