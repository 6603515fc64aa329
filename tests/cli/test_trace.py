"""`tidings trace` shows the events of a message, and `tidings reprocess` processes its receipts again."""

import json
from datetime import UTC, datetime

import pytest

from shared import ids
from shared.receipts.store import Refusal, record_refusals
from tests.support.command_line import Commands
from tests.support.system import HANDLE, mailchannels_event

ANN, BOB = "ann@example.net", "bob@example.net"
REASON = "550 5.1.1 no [such] user"


@pytest.fixture
def populated(commands: Commands) -> Commands:
    """A message that reached Ann, who opened it, and bounced for Bob; one refusal and one dead receipt beside it."""
    system = commands.system
    system.create_source()
    system.process_events(
        mailchannels_event("processed", ANN, BOB, smtp_id="<m1@shop.example>"),
        mailchannels_event("delivered", ANN, second=5),
        mailchannels_event("open", ANN, second=9),
        mailchannels_event("hard-bounced", BOB, second=7, status="550", reason=REASON),
        at=datetime.now(UTC),
    )
    with system.engine.begin() as connection:
        record_refusals(connection, [refusal()])
    system.queue_body(b"no JSON")
    system.execute("UPDATE pending_receipts SET last_error = 'the last error'")
    return commands


def refusal() -> Refusal:
    at = datetime.now(UTC)
    return Refusal(
        id=ids.receipt_id(at),
        source="main",
        refused_at=at,
        status_code=401,
        reason="bad_signature",
        detail="Signature verification failed for every key of the source",
        remote_ip=None,
        headers="{}",
        bytes=5,
    )


@pytest.mark.parametrize(
    "words", [("--request-id", "r1"), ("--smtp-id", "<m1@shop.example>"), ("--recipient", BOB.upper())]
)
def test_the_events_are_listed_in_order_with_their_details(populated: Commands, words: tuple[str, str]) -> None:
    output = populated.run("trace", *words)
    places = [output.index(f" {word} ") for word in ("queued", "delivered", "bounced", "opened")]
    assert places == sorted(places)
    assert "invalid_recipient (10)" in output
    assert REASON in output
    assert f"{BOB} is bounced" in output
    assert "because of invalid_recipient" in output
    assert f"{ANN} is delivered" in output
    assert "401" in output
    assert "the last error" in output


def test_foreign_text_controls_no_terminal(commands: Commands) -> None:
    hostile = "550 no\x1b[2K\r\nann@example.net is delivered\u202e\x9b"
    system = commands.system
    system.create_source()
    event = mailchannels_event("hard-bounced", BOB, status="550", reason=hostile)
    system.process_events({**event, "email": "a\x1b[31m@x.example"}, at=datetime.now(UTC))
    for words in (("trace",), ("diagnose", "--report")):
        output = commands.run(*words, "--recipient", BOB)
        assert not set(output) & set("\x1b\r\u202e\x9b")
        assert r"\x1b[2K ann@example.net is delivered\u202e\x9b" in " ".join(output.split())
        assert "\nann@example.net is delivered" not in output
    (story,) = json.loads(commands.run("trace", "--recipient", BOB, "--json"))["messages"]
    assert story["events"][0]["reason"] == hostile


def test_what_is_not_known_is_said_so_with_what_was_refused(populated: Commands) -> None:
    output = populated.run("trace", "--request-id", "nobody", code=1)
    assert "No such message is known" in output
    assert "bad_signature" in output


def test_the_story_comes_as_json_too(populated: Commands) -> None:
    (story,) = json.loads(populated.run("trace", "--request-id", "r1", "--json"))["messages"]
    assert [event["type"] for event in story["events"]] == ["queued", "queued", "delivered", "bounced", "opened"]
    assert story["events"][0]["provider_object"]["event"] == "processed"
    assert {entry["status"] for entry in story["message"]["recipients"]} == {"delivered", "bounced"}
    assert story["neighbours"]["refusals"][0]["reason"] == "bad_signature"
    assert json.loads(populated.run("trace", "--smtp-id", "nobody", "--json", code=1))["messages"] == []


def test_an_announced_message_has_a_story_without_events(commands: Commands) -> None:
    commands.system.create_source()
    body = {"source": "main", "request_id": "r1", "sender": "a@example.com", "recipients": [ANN]}
    commands.system.call("POST", "/v1/messages", body)
    output = commands.run("trace", "--request-id", "r1")
    assert "only been announced" in output
    assert f"{ANN} is submitted" in output


def test_a_trace_of_nothing_in_particular_is_a_mistake(commands: Commands) -> None:
    assert "--request-id" in commands.run("trace", code=2)


def test_dead_receipts_are_tried_then_queued_again(populated: Commands) -> None:
    system = populated.system
    body = json.dumps([{"customer_handle": HANDLE, **mailchannels_event("click", ANN, second=20)}]).encode()
    receipt_id = system.queue_body(body)
    system.execute(
        "WITH gone AS (DELETE FROM pending_receipts RETURNING *) INSERT INTO parked_receipts (receipt_id, source_id,"
        " state, reason, detail, bytes, available_at, parked_at)"
        " SELECT receipt_id, source_id, 'dead', 'why', 'in detail', bytes, now(), now() FROM gone"
    )
    output = populated.run("reprocess", "--source", "main", "--dry-run")
    assert "would give 1" in output
    assert "JSON" in output  # the other one still cannot be read
    compared = [
        json.loads(line) for line in populated.run("reprocess", "--source", "main", "--dry-run", "--json").splitlines()
    ]
    assert [one["difference"] and one["difference"]["events_after"] for one in compared] == [None, 1]
    assert "JSON" in compared[0]["problem"]
    assert system.get("/v1/stats")["receipts"]["dead"] == 2
    assert "Aborted" in populated.run("reprocess", "--source", "main", says="n\n", code=1)
    assert "2 of 2" in populated.run("reprocess", "--source", "main", "--yes")
    assert system.get(f"/v1/receipts/{receipt_id}")["state"] == "pending"
    assert system.get("/v1/stats")["receipts"] == {"pending": 2, "unverified": 0, "rejected": 0, "dead": 0}
    assert "No matching receipts" in populated.run("reprocess", "--source", "main", "--yes")


def test_what_was_never_verified_is_not_let_in_with_all_the_others(populated: Commands) -> None:
    populated.system.execute(
        "WITH gone AS (DELETE FROM pending_receipts RETURNING *) INSERT INTO parked_receipts (receipt_id, source_id,"
        " state, reason, detail, bytes, available_at, parked_at)"
        " SELECT receipt_id, source_id, 'rejected', 'why', 'a forgery', bytes, now(), now() FROM gone"
    )
    assert "1 of 1" in populated.run("reprocess", "--state", "all", "--source", "main", "--yes")
    assert populated.system.get("/v1/stats")["receipts"]["rejected"] == 1
    assert "1 of 1" in populated.run("reprocess", "--state", "rejected", "--source", "main", "--yes")


def test_a_named_receipt_is_queued_again(populated: Commands) -> None:
    (receipt,) = populated.system.get("/v1/receipts", state="processed")["items"]
    assert "No state would change" in populated.run("reprocess", "--receipt", receipt["id"], "--dry-run")
    assert "no receipt '0000'" in populated.run("reprocess", "--receipt", "0000", "--yes", code=2)
    queued = json.loads(populated.run("reprocess", "--receipt", receipt["id"][:23], "--yes", "--json").splitlines()[-1])
    assert queued == {"asked": 1, "queued": 1, "waiting": 1, "erased": 0}
    assert populated.system.get(f"/v1/receipts/{receipt['id']}")["state"] == "pending"


def test_everything_in_a_state_is_queued_again_if_the_state_is_given(populated: Commands) -> None:
    assert "No matching receipts" in populated.run("reprocess", "--state", "dead")
    # The other receipt waits for its first processing.
    assert "Reprocess 1 receipt" in populated.run("reprocess", "--state", "all", says="n\n", code=1)
    assert "1 of 1" in populated.run("reprocess", "--state", "all", "--yes")


def test_everything_of_a_time_is_queued_again(populated: Commands) -> None:
    assert "1 of 1" in populated.run("reprocess", "--state", "all", "--since", "2020-01-01", "--yes")
    assert "No matching receipts" in populated.run("reprocess", "--state", "all", "--until", "2020-01-01", "--yes")
    assert "Give at least one of" in populated.run("reprocess", "--yes", code=2)
    assert "no source called" in populated.run("reprocess", "--source", "nobody", "--yes", code=2)
