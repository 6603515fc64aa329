"""`tidings diagnose`: five messages with different fates get five different findings, each with its next step."""

import json
import shlex
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from click.testing import CliRunner

from cli.main import main
from shared import ids
from shared.providers.api.base import FailedDelivery
from shared.receipts.store import Refusal, record_refusals
from shared.reconciliation import failed_deliveries
from shared.suppression import recipient_hashes
from shared.suppression import store as suppressions
from shared.suppression.store import NewEntry
from shared.vocabulary import ALL_MAIL, SuppressionOrigin, SuppressionReason
from tests.support.command_line import Commands, parse_command
from tests.support.system import HANDLE, mailchannels_event

ANN = "ann@example.net"


@pytest.fixture
def populated(commands: Commands) -> Commands:
    system = commands.system
    system.create_source()
    now = datetime.now(UTC)
    system.process_events(
        mailchannels_event("processed", ANN, request_id="delivered"),
        mailchannels_event("delivered", ANN, second=2, request_id="delivered"),
        mailchannels_event("processed", ANN, request_id="bounced"),
        mailchannels_event(
            "hard-bounced", ANN, second=2, request_id="bounced", status="550", reason="5.1.1 no [such] user"
        ),
        mailchannels_event("processed", "sup@example.net", request_id="suppressed", second=3),
        mailchannels_event("dropped", "sup@example.net", request_id="suppressed", second=4),
        mailchannels_event("processed", ANN, request_id="partly"),
        at=now,
    )
    with system.engine.begin() as connection:
        keys = recipient_hashes.load(connection, system.vault)
        entry = NewEntry(
            key=keys.hash_address("sup@example.net"),
            address="sup@example.net",
            domain=None,
            reason=SuppressionReason.MANUAL,
            types=ALL_MAIL,
            origin=SuppressionOrigin.PERSON,
            since=now - timedelta(days=4000),
        )
        suppressions.add(connection, [entry], now)
        record_refusals(connection, [refusal(now)])
    return commands


def refusal(at: datetime) -> Refusal:
    return Refusal(
        id=ids.receipt_id(at - timedelta(minutes=5)),
        source="main",
        refused_at=at - timedelta(minutes=5),
        status_code=401,
        reason="bad_signature",
        detail="Signature verification failed for every key of the source",
        remote_ip=None,
        headers="{}",
        bytes=5,
        count=7,
    )


@pytest.mark.parametrize(
    ("request_id", "verdict", "step"),
    [
        ("delivered", "delivered", "Ask ann@example.net to look in the spam and junk folders"),
        ("bounced", "bounced", "There is no mailbox of"),
        ("suppressed", "suppressed", "tidings suppressions lift sup@example.net"),
        ("partly", "partly seen", "have the provider send them again"),
        ("nothing", "no such message", "have the provider send them again"),
    ],
)
def test_five_lots_get_five_answers(populated: Commands, request_id: str, verdict: str, step: str) -> None:
    output = populated.run("diagnose", "--request-id", request_id, code=1 if request_id == "nothing" else 0)
    assert verdict in output
    assert step in output


def test_what_was_refused_around_the_time_is_said_where_something_is_missing(populated: Commands) -> None:
    assert "7 requests of this source were refused with 401" in populated.run("diagnose", "--request-id", "partly")
    assert "refused with 401" not in populated.run("diagnose", "--request-id", "delivered")


def test_delivered_is_explained_as_acceptance(populated: Commands) -> None:
    assert "does not promise that the message is in the inbox" in populated.run("diagnose", "--request-id", "delivered")


def test_the_report_collects_what_support_asks_for(populated: Commands) -> None:
    output = populated.run("diagnose", "--request-id", "bounced", "--report")
    for line in (
        "Sender: shop@example.com",
        f"Recipients: {ANN}",
        "request_id: bounced",
        "Last event: bounced at 2026-01-01 00:00:02 UTC",
        "Bounces, complaints: bounced at 2026-01-01 00:00:02 UTC ann@example.net 550 5.1.1 no [such] user",
        "2026-01-01 00:00:00  queued (processed)  ann@example.net",
        "Has the recipient checked the junk folder? (ask the recipient)",
    ):
        assert line in output


def test_a_recipient_asked_for_beside_an_id_is_the_only_one_looked_at(populated: Commands) -> None:
    populated.system.process_events(
        mailchannels_event("processed", ANN, "bob@example.net", request_id="two"),
        mailchannels_event("delivered", ANN, second=1, request_id="two"),
        mailchannels_event("hard-bounced", "bob@example.net", second=1, request_id="two"),
        at=datetime.now(UTC),
    )
    assert "For 1 of 2 recipients" in populated.run("diagnose", "--request-id", "two")
    assert "accepted the message" in populated.run("diagnose", "--request-id", "two", "--recipient", ANN)


def test_a_recipient_without_events_does_not_hide_the_message(commands: Commands) -> None:
    commands.system.create_source()
    commands.system.process_events(
        mailchannels_event("processed", request_id="wide"),
        mailchannels_event("delivered", request_id="wide", second=1),
        mailchannels_event("processed", ANN, request_id="named"),
        mailchannels_event("delivered", ANN, request_id="named", second=1),
        at=datetime.now(UTC),
    )
    assert "No event names a recipient" in commands.run("diagnose", "--request-id", "wide", "--recipient", ANN)
    output = commands.run("diagnose", "--request-id", "named", "--recipient", "anm@example.net")
    assert f"anm@example.net is not among the recipients of this message: {ANN}." in output
    assert "accepted the message" in output


def fail(commands: Commands, source_id: int, at: datetime) -> None:
    failed = FailedDelivery(reference="4711", failed_at=at, outcome="5xx", status_code=503, events=9, url=None)
    with commands.system.engine.begin() as connection:
        failed_deliveries.add(connection, source_id, [failed])


def test_what_failed_long_after_the_last_event_is_said_of_a_message_that_is_partly_seen(commands: Commands) -> None:
    system, now = commands.system, datetime.now(UTC)
    source_id = system.create_source()
    began_at = now - timedelta(hours=6)
    system.process_events(mailchannels_event("processed", ANN, request_id="partly"), at=began_at)
    system.process_events(
        mailchannels_event("processed", ANN, request_id="whole"),
        mailchannels_event("delivered", ANN, request_id="whole", second=1),
        at=began_at,
    )
    fail(commands, source_id, now - timedelta(hours=2))
    assert "4711" in commands.run("diagnose", "--request-id", "partly")
    assert "4711" not in commands.run("diagnose", "--request-id", "whole")


def test_an_unknown_message_is_looked_for_at_all_providers_that_can_be_asked(commands: Commands) -> None:
    source_id = commands.system.create_source(customer_handles=[HANDLE], api_key="k")
    commands.system.create_source("other", "cloudmailin", username="a", password="b")
    fail(commands, source_id, datetime.now(UTC) - timedelta(minutes=5))
    output = commands.run("diagnose", "--request-id", "nothing", code=1)
    assert "4711" in output
    assert "tidings sources validate main" in output


def test_what_needs_an_api_key_is_not_advised_for_a_source_without_one(commands: Commands) -> None:
    fail(commands, commands.system.create_source(), datetime.now(UTC) - timedelta(minutes=5))
    output = commands.run("diagnose", "--request-id", "nothing", code=1)
    assert "The source has no api_key" in output
    assert "Have delivery 4711 sent again, on the provider's dashboard." in output
    assert not [word for word in ("validate", "enrol ", "webhooks", "reconcile") if f"tidings sources {word}" in output]
    assert "tidings reconcile" not in output


def test_json_holds_the_same(populated: Commands) -> None:
    (found,) = json.loads(populated.run("diagnose", "--request-id", "bounced", "--json"))
    assert found["verdict"] == "bounced"
    assert found["findings"]
    assert found["escalation"]["request_id"] == "bounced"


def test_something_must_be_asked_for(commands: Commands) -> None:
    assert "One of these is required" in commands.run("diagnose", code=2)


PERSON = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7)"
TWELVE = {
    "delivered": ("--request-id", "delivered"),
    "bounced": ("--request-id", "bounced"),
    "suppressed": ("--request-id", "suppressed"),
    "partly seen": ("--request-id", "partly"),
    "never seen": ("--request-id", "nothing"),
    "inbound": ("--smtp-id", "wanted@customer.example"),
    "quarantined": ("--smtp-id", "spam@customer.example"),
    "seen": ("--request-id", "opened"),
    "set aside": ("--request-id", "new-kind"),
    "foreign account": ("--request-id", "foreign"),
    "announced": ("--request-id", "announced"),
    "partly rejected": ("--request-id", "partial"),
}


def receive_mail(commands: Commands, smtp_id: str, score: float) -> None:
    system = commands.system
    mail = {
        "schema": {"name": "mailwebhook.generic", "version": "1"},
        "event": {"id": smtp_id},
        "message": {
            "message_id": smtp_id,
            "subject": "Where is my order?",
            "from": [{"email": "maria@customer.example"}],
            "to": [{"email": "help@shop.example"}],
        },
        "meta": {"received_at": "2026-01-01T00:00:00Z", "spam": {"score": score}},
    }
    system.process_receipt(system.queue_body(json.dumps(mail).encode(), "inbox"))


@pytest.fixture
def twelve(populated: Commands) -> Commands:
    """Twelve messages with different fates: those of `populated`, received mail, and what is not a usual send."""
    system, now = populated.system, datetime.now(UTC)
    system.add_source("inbox", "mailwebhook", {"signing_secrets": {"k1": "whsec_" + "A" * 43 + "="}})
    system.insert_subscription(name="helpdesk")
    receive_mail(populated, "wanted@customer.example", 0.2)
    receive_mail(populated, "spam@customer.example", 9.5)
    system.process_events(
        mailchannels_event("processed", ANN, request_id="opened"),
        mailchannels_event("delivered", ANN, second=1, request_id="opened"),
        mailchannels_event("open", ANN, second=30, request_id="opened", user_agent=PERSON, ip="203.0.113.45"),
        mailchannels_event("teleported", ANN, request_id="new-kind"),
        mailchannels_event("delivered", ANN, request_id="foreign") | {"customer_handle": "other"},
        mailchannels_event("processed", ANN, "bob@example.net", request_id="partial"),
        mailchannels_event("delivered", ANN, second=1, request_id="partial"),
        mailchannels_event("hard-bounced", "bob@example.net", second=2, request_id="partial", status="250"),
        at=now,
    )
    announced = {"source": "main", "request_id": "announced", "sender": "shop@example.com", "recipients": [ANN]}
    submitted_at = (now - timedelta(hours=2)).isoformat()
    assert system.call("POST", "/v1/messages", {**announced, "submitted_at": submitted_at}).status_code == 201
    system.fan_out()
    return populated


def find_diagnosis(commands: Commands, *options: str) -> dict[str, Any]:
    words = ("diagnose", *options, "--json")
    (found,) = json.loads(CliRunner().invoke(main, words, env=commands.settings).output)
    return cast("dict[str, Any]", found)


def test_twelve_messages_get_twelve_different_diagnoses(twelve: Commands) -> None:
    found = {name: find_diagnosis(twelve, *options) for name, options in TWELVE.items()}
    expected = {name: name.replace(" ", "_") for name in TWELVE} | {"announced": "never_seen"}
    assert {name: one["verdict"] for name, one in found.items()} == expected
    assert len({one["headline"] for one in found.values()}) == len(TWELVE)
    assert len({tuple(one["next_steps"]) for one in found.values()}) == len(TWELVE)
    texts = [one["headline"] + finding["text"] for one in found.values() for finding in one["findings"]]
    assert not any("None" in text for text in texts)
    for name, words in {
        "inbound": "received for this address",
        "quarantined": "held back from 1 subscription because of its spam score of 9.5",
        "seen": "a person opened it at 2026-01-01 00:00:30 UTC",
        "set aside": "An event of a new kind: 'teleported'",
        "foreign account": "Of another account: 'other'",
        "announced": "No event has arrived since",
        "partly rejected": "For 1 of 2 recipients: The recipient's mail system took the message for other recipients",
    }.items():
        assert words in found[name]["headline"], name


def test_every_command_that_a_diagnosis_prints_can_be_run(twelve: Commands) -> None:
    local = (
        "tidings suppressions why",
        "tidings suppressions lift",
        "tidings deliveries",
        "tidings trace",
        "tidings diagnose",
        "tidings sources show",
    )
    ran = set()
    for options in TWELVE.values():
        for finding in find_diagnosis(twelve, *options)["findings"]:
            for command in finding["commands"]:
                parse_command(command)
                if command.startswith(local):
                    code = CliRunner().invoke(main, shlex.split(command)[1:], env=twelve.settings).exit_code
                    assert code in (0, 1), command
                    ran.add(" ".join(command.split()[1:3]))
    assert {"suppressions why", "suppressions lift", "deliveries replay", "deliveries list", "sources show"} <= ran


def test_what_is_not_of_the_message_stands_below_a_line(populated: Commands) -> None:
    output = populated.run("diagnose", "--request-id", "partly")
    own, _, around = output.partition("around that time at main, perhaps of other messages")
    assert "tidings diagnose --request-id partly --report" in own
    assert "7 requests of this source were refused" not in own
    assert "7 requests of this source were refused" in around


def test_ids_and_commands_are_not_cut_at_80_columns(twelve: Commands) -> None:
    narrow = Commands(twelve.system, twelve.settings | {"COLUMNS": "80"})
    held = find_diagnosis(twelve, *TWELVE["quarantined"])
    output = narrow.run("diagnose", *TWELVE["quarantined"])
    (command,) = held["findings"][-1]["commands"]
    assert f" {command}\n" in output
    lines = [line for line in output.splitlines() if not line.startswith("      tidings")]
    assert max(map(len, lines)) <= 80


def test_the_recipient_s_answers_are_recorded_and_appear_in_the_report(populated: Commands) -> None:
    answered = ("diagnose", "--request-id", "delivered", "--answer", "spam=not_found", "--answer", "rules=found")
    output = populated.run(*answered)
    assert "ann@example.net did not find the message in the spam folder" in output
    assert "ann@example.net found the message in the mailbox rules" in output
    report = populated.run("diagnose", "--request-id", "delivered", "--report")
    assert "Has the recipient checked the spam folder? yes, the message is not there (ann@example.net" in report
    assert populated.run("diagnose", "--request-id", "delivered", "--markdown").startswith(
        "# Message not received (MailChannels)"
    )
    populated.run(*answered[:3], "--answer", "spam=found")
    assert "the spam folder? yes, and found" in populated.run("diagnose", "--request-id", "delivered", "--report")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--request-id", "delivered", "--answer", "loft=found"), "such as spam=not_found; it is 'loft=found'"),
        (("--request-id", "delivered", "--answer", "spam"), "such as spam=not_found; it is 'spam'"),
        (("--request-id", "nothing", "--answer", "spam=found"), "no message matched"),
        (("--recipient", ANN, "--answer", "spam=found"), "3 messages matched"),
        (
            ("--request-id", "delivered", "--recipient", "bob@example.net", "--answer", "spam=found"),
            "'bob@example.net' is not a recipient of message",
        ),
    ],
)
def test_an_answer_that_cannot_be_recorded_is_refused(
    populated: Commands, options: tuple[str, ...], message: str
) -> None:
    assert message in populated.run("diagnose", *options, code=2)


def test_the_message_that_was_sent_last_comes_first_even_if_it_became_known_first(commands: Commands) -> None:
    commands.system.create_source()
    for request_id, second in (("sent-last", 900), ("sent-first", 0)):  # the provider resent the event of the old one
        commands.system.process_events(
            mailchannels_event("delivered", "eve@example.net", second=second, request_id=request_id)
        )
    found = json.loads(commands.run("diagnose", "--recipient", "eve@example.net", "--json"))
    assert [one["escalation"]["request_id"] for one in found] == ["sent-last", "sent-first"]
