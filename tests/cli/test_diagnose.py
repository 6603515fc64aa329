"""`tidings diagnose`: five messages with different fates get five different findings, each with its next step."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from shared import ids
from shared.providers.api.base import FailedDelivery
from shared.receipts.store import Refusal, record_refusals
from shared.reconciliation import failed_deliveries
from shared.suppression import recipient_hashes
from shared.suppression import store as suppressions
from shared.suppression.store import NewEntry
from shared.vocabulary import ALL_MAIL, SuppressionOrigin, SuppressionReason
from tests.support.command_line import Commands
from tests.support.system import mailchannels_event

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
        ("delivered", "delivered", "Ask the recipient to look in spam"),
        ("bounced", "bounced", "There is no such mailbox"),
        ("suppressed", "suppressed", "Nothing is sent to this address until the entry ends or is lifted"),
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
        "Bounces, complaints: bounced at 2026-01-01 00:00:02 UTC 550 5.1.1 5.1.1 no [such] user",
        "Has the recipient checked the spam or junk folder? (ask the recipient)",
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
    source_id = commands.system.create_source()
    commands.system.create_source("other", "cloudmailin", username="a", password="b")
    fail(commands, source_id, datetime.now(UTC) - timedelta(minutes=5))
    output = commands.run("diagnose", "--request-id", "nothing", code=1)
    assert "4711" in output
    assert "tidings sources validate main" in output


def test_json_holds_the_same(populated: Commands) -> None:
    (found,) = json.loads(populated.run("diagnose", "--request-id", "bounced", "--json"))
    assert found["verdict"] == "bounced"
    assert found["findings"]
    assert found["escalation"]["request_id"] == "bounced"


def test_something_must_be_asked_for(commands: Commands) -> None:
    assert "One of these is required" in commands.run("diagnose", code=2)
