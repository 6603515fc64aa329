"""Logs name what they are about by its id, and contain no personal data and no secrets."""

import json
import logging
from typing import Any

import pytest

from shared import logs
from tests.support.watched_system import ADDRESS, PASSWORD, WatchedSystem

JSON_LOGS = ("worker.log", "deliverer.log")


def lines(watched: WatchedSystem) -> list[dict[str, Any]]:
    """Return the structured lines of workers and deliverers."""
    texts = [watched.earlier_logs[name].rpartition("\n")[0] for name in JSON_LOGS]  # the last line may be unfinished
    found = [line for text in texts for line in text.splitlines() if line.startswith("{")]
    return [json.loads(line) for line in found]


def test_no_log_of_any_process_contains_personal_data_or_secrets(watched: WatchedSystem) -> None:
    found = [
        f"{name} contains {what}: {line[:300]}"
        for name, text in watched.logs.items()
        for line in text.splitlines()
        for what, secret in watched.secrets.items()
        if secret in line or json.dumps(secret)[1:-1] in line
    ]
    assert found == []


def test_the_logs_that_were_searched_are_those_of_every_process(watched: WatchedSystem) -> None:
    assert {"api.log", "beat.log", "deliverer.log", "receiver.log", "worker.log", "postgres.log"} <= watched.logs.keys()
    assert len(lines(watched)) > 5


@pytest.mark.parametrize(
    ("event", "field", "known"),
    [
        ("receipt processed", "receipt", "receipt_ids"),
        ("receipt is dead", "receipt", "receipt_ids"),
        ("delivery failed", "delivery", "delivery_ids"),
        ("delivery failed", "message", "message_ids"),
        ("job ended", "job", "job_ids"),
    ],
)
def test_a_line_names_what_it_is_about(watched: WatchedSystem, event: str, field: str, known: str) -> None:
    found = {line[field] for line in lines(watched) if line["event"] == event and line[field]}
    assert found
    assert found <= getattr(watched, known)


def test_a_processed_receipt_is_logged_with_its_messages(watched: WatchedSystem) -> None:
    found = [line["messages"] for line in lines(watched) if line["event"] == "receipt processed"]
    assert {message for messages in found for message in messages} & watched.message_ids


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        (f"550 5.1.1 <{ADDRESS}>: no such user", "550 5.1.1 <<address>>: no such user"),
        (f"Key (recipient)=({ADDRESS}) exists", "Key (recipient)=(<address>) exists"),
        (f"cannot connect to https://ann:{PASSWORD}@host.example/x", "cannot connect to https://<user>@host.example/x"),
        ("Authorization: Bearer abc.def-1", "Authorization: <secret>"),
        ("secret whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw=", "secret <secret>"),
        ("worker-1@host started, 3 @ 4", "worker-1@host started, 3 @ 4"),
    ],
)
def test_what_others_quote_is_redacted(text: str, redacted: str) -> None:
    assert logs.redact(text) == redacted


def test_every_text_of_a_line_is_redacted() -> None:
    line = {"event": ADDRESS, "errors": [ADDRESS, {"detail": ADDRESS}], "number": 3}
    assert logs.redact_line(logging.getLogger(), "info", line) == {
        "event": "<address>",
        "errors": ["<address>", {"detail": "<address>"}],
        "number": 3,
    }
