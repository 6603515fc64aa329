"""Captures of requests and responses show what went wrong and none of the subscriber's secrets."""

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from shared.egress import captures
from shared.egress.types import Call, Outcome

HEADERS = {"Authorization": "Bearer s3cr3t-t0k3n", "X-Key": "hunter2", "X-Version": "1"}


def shown(outcome: Outcome, headers: Mapping[str, str] = HEADERS) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(captures.of_response(outcome, headers))
    return found


def response(body: bytes, **headers: str) -> Outcome:
    return Outcome(key=uuid4(), http_status=400, latency_ms=1, headers=headers, body=body)


@pytest.mark.parametrize(
    "body", [b"Bearer s3cr3t-t0k3n", b'{"token": "s3cr3t-t0k3n"}', b"X-Key: hunter2\nAuthorization:Bearer s3cr3t-t0k3n"]
)
def test_an_endpoint_that_says_back_what_it_was_sent_gives_no_secret_away(body: bytes) -> None:
    capture = str(shown(response(body, x_echo=body.decode().replace("\n", " "))))
    assert captures.HIDDEN in capture
    assert "s3cr3t" not in capture
    assert "hunter2" not in capture


def test_a_secret_at_the_cut_is_not_shown_by_half() -> None:
    body = shown(response(b"x" * (captures.MAX_BODY_BYTES - 9) + b"Bearer s3cr3t-t0k3n" * 3))["body"]
    assert "Bearer s3" not in body


def test_what_is_too_short_to_be_a_secret_is_left_in_its_place() -> None:
    assert shown(response(b"1 error: no Bearer"))["body"] == "1 error: no Bearer"


def test_a_response_without_secrets_is_shown_unchanged() -> None:
    capture = shown(response(b"hunter2 \xff", x_name="\xff"), {})
    assert (capture["body"], capture["headers"]) == ("hunter2 \ufffd", {"x_name": "\xff"})


@pytest.mark.parametrize(("size", "truncated"), [(10, False), (3000, True)])
def test_a_request_whose_headers_were_cut_says_so(size: int, truncated: bool) -> None:
    call = Call(key=uuid4(), url="https://a.example/", headers=(("x-a", "a" * size),), body=b"", timeout_seconds=1)
    assert msgspec.json.decode(captures.of_request(call, ()))["truncated"] is truncated
