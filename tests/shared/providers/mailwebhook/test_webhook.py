"""MailWebhook: secrets selected by their ids, and any body that a pipeline makes."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from shared.errors import PayloadError, VerificationError
from shared.events.event import Event
from shared.providers.mailwebhook import payloads
from shared.providers.registry import PROVIDERS
from shared.providers.webhooks.base import SourceSettings
from shared.vocabulary import EventType, RefusalReason
from tests.support.signed_requests import (
    BODIES,
    GIVEN,
    NOW,
    SECONDS,
    make_request,
    read_payloads,
    sign_mailwebhook,
    to_base64,
)

mailwebhook = PROVIDERS["mailwebhook"]

BODY = BODIES["mailwebhook"]
CREDENTIALS = mailwebhook.read_credentials(GIVEN["mailwebhook"], {}, SourceSettings())
PAYLOADS = read_payloads("mailwebhook")
GENERIC = json.loads(PAYLOADS["generic"])


def refusal(header: str) -> VerificationError:
    with pytest.raises(VerificationError) as caught:
        mailwebhook.verify(make_request(BODY, {"X-MailWebhook-Signature": header}), CREDENTIALS, NOW)
    return caught.value


@pytest.mark.parametrize(("age", "accepted"), [(-301, False), (-300, True), (300, True), (301, False)])
def test_a_signature_holds_for_five_minutes_both_ways(age: int, accepted: bool) -> None:
    request, now = sign_mailwebhook(BODY), NOW + timedelta(seconds=age)
    if accepted:
        mailwebhook.verify(request, CREDENTIALS, now)
        return
    with pytest.raises(VerificationError) as caught:
        mailwebhook.verify(request, CREDENTIALS, now)
    assert caught.value.reason is RefusalReason.STALE


def test_the_order_of_the_parts_and_spaces_do_not_matter_and_others_may_come() -> None:
    parts = sign_mailwebhook(BODY).headers["x-mailwebhook-signature"].split(", ")
    for header in (",".join(reversed(parts)), "v2=x=y , " + " ,\t".join(parts)):
        mailwebhook.verify(make_request(BODY, {"X-MailWebhook-Signature": header}), CREDENTIALS, NOW)


@pytest.mark.parametrize(
    "header",
    [
        "t={t}, kid=route-a",
        "t={t}, v1={v1}",
        "kid=route-a, v1={v1}",
        "t=, kid=route-a, v1={v1}",
        "t={t}, kid=, v1={v1}",
        "t={t}, t={t}, kid=route-a, v1={v1}",
        "t={t}, kid=route-a, v1={v1}, v1={v1}",
        "t={t}.0, kid=route-a, v1={v1}",
        "t=-{t}, kid=route-a, v1={v1}",
        "t=+{t}, kid=route-a, v1={v1}",
        "t=0x1, kid=route-a, v1={v1}",
        "t=1_000, kid=route-a, v1={v1}",
        "t=1767225600000000000000, kid=route-a, v1={v1}",
        "t=١٧٦٧٢٢٥٦٠٠, kid=route-a, v1={v1}",
        "t={t}, kid=route-a, v1={v1}=",
        "t={t}, kid=route-a, v1= {v1}",
        "t={t}, kid=route-a, v1=AAAA",
    ],
)
def test_a_header_that_lacks_doubles_or_garbles_a_part_is_malformed(header: str) -> None:
    v1 = sign_mailwebhook(BODY).headers["x-mailwebhook-signature"].partition("v1=")[2]
    assert refusal(header.format(t=SECONDS, v1=v1)).reason is RefusalReason.MALFORMED_SIGNATURE


def test_an_unknown_secret_is_refused_and_not_named() -> None:
    request = sign_mailwebhook(BODY, kid="route-b")
    error = refusal(request.headers["x-mailwebhook-signature"])
    assert (error.reason, error.key_id) == (RefusalReason.UNKNOWN_KEY, None)
    assert mailwebhook.key_lookup("route-b") is None


def test_the_digest_of_another_secret_is_refused() -> None:
    request = sign_mailwebhook(BODY, secret=b"secret-b")
    assert refusal(request.headers["x-mailwebhook-signature"]).reason is RefusalReason.BAD_SIGNATURE


def test_old_and_new_secret_hold_during_a_rotation() -> None:
    credentials = mailwebhook.read_credentials(
        {"signing_secrets": {"route-a": "secret-a", "route-b": "secret-b"}}, {}, SourceSettings()
    )
    mailwebhook.verify(sign_mailwebhook(BODY), credentials, NOW)
    mailwebhook.verify(sign_mailwebhook(BODY, kid="route-b", secret=b"secret-b"), credentials, NOW)


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("é", "é".encode()),
        ("base64:" + to_base64(b"\x00\xff"), b"\x00\xff"),
        ("hex:00fF", b"\x00\xff"),
        ("AAAA", b"AAAA"),
    ],
)
def test_a_secret_is_its_text_unless_it_says_how_it_is_encoded(text: str, secret: bytes) -> None:
    credentials = mailwebhook.read_credentials({"signing_secrets": {"route-a": text}}, {}, SourceSettings())
    mailwebhook.verify(sign_mailwebhook(BODY, secret=secret), credentials, NOW)


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ({"X-Idempotency-Key": "a", "Idempotency-Key": "b"}, "a"),
        ({"Idempotency-Key": "b"}, "b"),
        ({"X-Idempotency-Key": "  ", "Idempotency-Key": "b"}, "b"),
        ({}, None),
    ],
)
def test_a_message_on_a_route_has_one_idempotency_key(headers: dict[str, str], key: str | None) -> None:
    assert mailwebhook.idempotency_key(make_request(BODY, headers)) == key


def parse(body: Any) -> list[Event]:
    return mailwebhook.parse(json.dumps(body).encode(), CREDENTIALS)


def change(path: str, value: Any) -> Any:
    body = json.loads(PAYLOADS["generic"])
    room, _, name = path.partition(".")
    (body[room] if name else body)[name or room] = value
    return body


def test_a_generic_body_is_an_event_for_each_recipient_of_the_envelope() -> None:
    first, second = mailwebhook.parse(PAYLOADS["generic"], CREDENTIALS)
    assert (first.recipient, second.recipient) == ("orders@acme.in.example", "sales@acme.in.example")
    assert first == msgspec.structs.replace(
        second,
        recipient="orders@acme.in.example",
        type=EventType.INBOUND,
        identity="b1a7c7de-2f64-4f0a-8a55-6f1f0f0c9e21",
        message_key="tenant:0d9f2d0e/smtp:CAF9x7@mail.sender.example",
        smtp_id="CAF9x7@mail.sender.example",
        occurred_at=datetime(2026, 3, 2, 8, 15, 2, tzinfo=UTC),
        sender="zoe@sender.example",
        subject="Order № 77",
        tenant="0d9f2d0e",
        problem=None,
    )
    assert first.provider_object == PAYLOADS["generic"]
    details = first.details
    assert (details["route_id"], details["project_id"], details["source"]) == ("5e0c1b7a", "0d9f2d0e", "hosted")
    assert (details["has_text"], details["has_html"], details["date"]) == (True, True, "2026-03-02T08:15:00Z")
    assert details["attachments"][0]["filename"] == "order.pdf"
    assert details["headers"] == {"mime-version": "1.0"}
    assert (details["spam"]["score"], details["mail_from"]) == (0.4, "bounces@sender.example")
    assert "see attachment" not in json.dumps(dict(details))


@pytest.mark.parametrize(
    ("path", "value", "recipients"),
    [
        ("envelope", None, ["orders@acme.in.example"]),
        ("envelope.rcpt_to", [], ["orders@acme.in.example"]),
        ("envelope.rcpt_to", "a@x.example", ["a@x.example"]),
        ("envelope.rcpt_to", [{"email": "a@x.example"}, 5, None], ["a@x.example"]),
        ("envelope", 5, ["orders@acme.in.example"]),
    ],
)
def test_without_an_envelope_the_header_names_the_recipients(path: str, value: Any, recipients: list[str]) -> None:
    assert [event.recipient for event in parse(change(path, value))] == recipients


def test_a_generic_body_may_lack_anything_but_its_message() -> None:
    (event,) = parse({"schema": {"name": "mailwebhook.generic"}, "message": {}})
    assert (event.type, event.recipient, event.message_key, event.identity) == (EventType.INBOUND, None, None, None)
    (event,) = parse({"schema": {"name": "mailwebhook.generic"}, "message": []})
    assert event.type is EventType.UNKNOWN
    assert event.problem


@pytest.mark.parametrize(
    ("path", "value"), [("event", []), ("body", 5), ("meta", "x"), ("message.from", 5), ("meta.received_at", "soon")]
)
def test_a_part_of_another_shape_hides_no_other(path: str, value: Any) -> None:
    events = parse(change(path, value))
    assert [event.type for event in events] == [EventType.INBOUND] * 2
    assert events[0].subject == "Order № 77"


@pytest.mark.parametrize("name", ["slack", "telegram"])
def test_a_chat_text_is_inbound_with_what_it_carries(name: str) -> None:
    (event,) = mailwebhook.parse(PAYLOADS[name], CREDENTIALS)
    assert (event.type, event.identity, event.message_key) == (EventType.INBOUND, None, None)
    assert event.details == json.loads(PAYLOADS[name])


def test_a_custom_body_is_read_where_it_names_things_as_mail_does() -> None:
    (event,) = mailwebhook.parse(PAYLOADS["custom"], CREDENTIALS)
    assert (event.sender, event.recipient) == ("zoe@sender.example", "orders@acme.in.example")
    assert (event.message_key, event.subject) == ("smtp:CAF9x7@mail.sender.example", "Order № 77")
    assert event.details["total"] == "12.50"


@pytest.mark.parametrize("body", [None, 5, True, "text", [], [1, {"a": 2}], {}, {"schema": 5}, {"text": "x" * 5000}])
def test_any_other_json_is_one_inbound_event(body: Any) -> None:
    (event,) = parse(body)
    assert event.type is EventType.INBOUND
    assert json.loads(event.provider_object) == body


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff", b"NaN", b"[" * 9999, b"[" * 501 + b"]" * 501, b'{"a":"\xff"}', b"text"]
)
def test_a_body_that_is_no_json_is_a_payload_error(body: bytes) -> None:
    with pytest.raises(PayloadError):
        mailwebhook.parse(body, CREDENTIALS)


@pytest.mark.parametrize("depth", [30, 400])
def test_a_body_that_is_nested_deeply_is_an_event_without_what_is_deep(depth: int) -> None:
    body = b'{"subject":"hello","custom":' + b"[" * depth + b"]" * depth + b"}"
    (event,) = payloads.parse(body)
    assert (event.type, event.subject, event.provider_object) == (EventType.INBOUND, "hello", body)


@pytest.mark.parametrize(
    "large",
    [
        {"message": {"html": "x" * 4_000_000}},
        {"parts": ["x" * 2000] * 2000},
        {f"field {n}": "x" * 900 for n in range(90)},
    ],
    ids=["nested", "many parts", "many fields"],
)
def test_what_every_subscriber_is_sent_is_small_whatever_came_in(large: dict[str, Any]) -> None:
    body = json.dumps({**large, "spam": {"score": 7.5}}).encode()
    (event,) = payloads.parse(body)
    assert event.provider_object == body
    assert len(json.dumps(event.details)) < 40_000
    assert event.details["spam"] == {"score": 7.5}
