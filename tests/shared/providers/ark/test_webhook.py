"""Ark: three forms of a body, and one type that only the shape of the body identifies."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from shared.errors import PayloadError, VerificationError
from shared.events.event import Event
from shared.providers.ark.credentials import Credentials
from shared.providers.registry import PROVIDERS
from shared.providers.webhooks.base import SourceSettings
from shared.vocabulary import Classification, EventType, RefusalReason
from tests.support.signed_requests import BODIES, GIVEN, NOW, jwk, jwks, read_payloads, sign_ark

ark = PROVIDERS["ark"]

PAYLOADS = {name: json.loads(body) for name, body in read_payloads("ark").items()}
ANY_TENANT = ark.read_credentials(GIVEN["ark"], {}, SourceSettings())

NAMES = {
    "sent": ("MessageSent", EventType.DELIVERED),
    "delayed": ("MessageDelayed", EventType.DEFERRED),
    "failed": ("MessageDeliveryFailed", EventType.BOUNCED),
    "held": ("MessageHeld", EventType.HELD),
    "bounced": ("MessageBounced", EventType.BOUNCED),
    "loaded": ("MessageLoaded", EventType.OPENED),
    "clicked": ("MessageLinkClicked", EventType.CLICKED),
    "dns": ("DomainDNSError", EventType.DOMAIN_DNS_ERROR),
    "limit_near": ("SendLimitApproaching", EventType.SEND_LIMIT_APPROACHING),
    "limit_over": ("SendLimitExceeded", EventType.SEND_LIMIT_EXCEEDED),
}


def parse(body: Any, credentials: Credentials = ANY_TENANT) -> Event:
    (event,) = ark.parse(json.dumps(body).encode(), credentials)
    return event


def envelop(name: str, **fields: Any) -> dict[str, Any]:
    return {"event": NAMES[name][0], "timestamp": 1767225610.5, "payload": PAYLOADS[name], **fields}


@pytest.mark.parametrize("name", NAMES)
def test_the_three_forms_of_a_body_mean_the_same(name: str) -> None:
    bare = parse(PAYLOADS[name])
    enveloped = parse(envelop(name, uuid="u-1"))
    platform = parse(envelop(name, tenant_id="t-1"))
    assert [event.type for event in (bare, enveloped, platform)] == [NAMES[name][1]] * 3
    assert (enveloped.identity, platform.tenant) == ("u-1", "t-1")
    assert platform.message_key == (bare.message_key and f"tenant:t-1/{bare.message_key}")
    of_its_own = {
        "provider_object": b"",
        "identity": None,
        "identity_at": None,
        "occurred_at": None,
        "message_key": None,
    }
    same = msgspec.structs.replace(platform, **of_its_own, tenant=None)
    assert msgspec.structs.replace(bare, **of_its_own) == same


@pytest.mark.parametrize(("name", "at"), [("sent", 1767225602.75), ("bounced", 1767229200.5), ("dns", 1767225600.5)])
def test_an_event_has_its_own_time_whenever_it_is_sent(name: str, at: float) -> None:
    expected = datetime.fromtimestamp(at, UTC)
    assert parse(PAYLOADS[name]).occurred_at == parse(envelop(name)).occurred_at == expected


@pytest.mark.parametrize("name", ["loaded", "clicked", "limit_near"])
def test_an_event_without_a_time_has_its_envelopes(name: str) -> None:
    assert parse(PAYLOADS[name]).occurred_at is None
    assert parse(envelop(name)).occurred_at == datetime.fromtimestamp(1767225610.5, UTC)


def test_a_replay_in_a_new_envelope_is_the_same_event_and_two_opens_are_two() -> None:
    first, again = parse(envelop("failed")), parse(envelop("failed", timestamp=1767999999.5))
    assert first.identity == again.identity is not None
    opened, later = parse(envelop("loaded")), parse(envelop("loaded", timestamp=1767999999.5))
    assert opened.identity != later.identity
    assert parse(PAYLOADS["loaded"]).identity is None
    assert parse(PAYLOADS["failed"]).identity == parse(envelop("failed")).identity


def test_all_that_a_failure_says_is_kept() -> None:
    event = parse(PAYLOADS["failed"])
    assert event == msgspec.structs.replace(
        event,
        message_key="smtp:7f3c2a10@rp.shop.example",
        recipient="maria@customer.example",
        sender="billing@shop.example",
        subject="Invoice 2042",
        smtp_id="7f3c2a10@rp.shop.example",
        provider_message_id="481516",
        classification=Classification.INVALID_RECIPIENT,
        smtp_status="550",
        enhanced_code="5.1.1",
        reason="550 5.1.1 User unknown",
        remote_host="mx1.customer.example",
        tag="invoices",
        metadata={"order": "2042"},
        problem=None,
    )
    assert event.details["remote_ip"] == "192.0.2.25"
    assert event.details["spam_status"] == "NotChecked"
    assert event.details["seconds"] == 0.92


def test_the_accepting_server_is_read_from_the_text() -> None:
    event = parse(PAYLOADS["sent"])
    assert (event.remote_host, event.smtp_status, event.enhanced_code) == ("mx1.customer.example", "250", "2.0.0")
    assert event.classification is None


def test_a_bounce_speaks_of_the_original_message() -> None:
    event = parse(PAYLOADS["bounced"])
    assert (event.recipient, event.provider_message_id) == ("maria@customer.example", "481516")
    assert event.message_key == "smtp:7f3c2a10@rp.shop.example"
    assert event.details["bounce"]["message_id"] == "<ndr.77@mx1.customer.example>"


def test_opens_clicks_domains_and_limits_keep_what_they_say() -> None:
    clicked, dns, limit = (parse(PAYLOADS[name]) for name in ("clicked", "dns", "limit_near"))
    assert (clicked.url, clicked.ip, clicked.user_agent) == (
        "https://shop.example/i/2042",
        "203.0.113.45",
        "Mozilla/5.0",
    )
    assert clicked.details["link_token"] == "abc123def456"
    assert (dns.message_key, dns.recipient, dns.details["domain"]) == (None, None, "shop.example")
    assert (dns.details["spf_status"], dns.details["uuid"][:4]) == ("Missing", "a1b2")
    assert (limit.message_key, limit.details["volume"], limit.details["server"]["name"]) == (None, 950, "Main")


@pytest.mark.parametrize("name", ["sent", "delayed", "failed", "held"])
def test_mail_that_came_in_says_nothing_of_a_recipient_and_touches_no_message(name: str) -> None:
    payload = PAYLOADS[name]
    event = parse({**payload, "message": {**payload["message"], "direction": "incoming", "to": "inbox@shop.example"}})
    assert (event.type, event.message_key, event.classification) == (EventType.UNKNOWN, None, None)
    assert (event.recipient, event.details["direction"]) == ("inbox@shop.example", "incoming")
    assert event.problem is not None
    assert event.problem.startswith(f"{event.details['event']} of incoming mail")


def test_a_bounce_that_came_in_is_of_the_message_that_went_out() -> None:
    event = parse(PAYLOADS["bounced"])
    assert PAYLOADS["bounced"]["bounce"]["direction"] == "incoming"
    assert (event.type, event.recipient, event.problem) == (EventType.BOUNCED, "maria@customer.example", None)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"message_id": "<a@b>"}, "tenant:t-1/smtp:a@b"),
        ({"message_id": None}, "tenant:t-1/token:kQ3vT8yLmZ0p"),
        ({"message_id": " ", "token": ""}, "tenant:t-1/id:481516"),
        ({"message_id": None, "token": None, "id": None}, None),
    ],
)
def test_a_message_is_known_by_its_smtp_id_else_its_token_else_its_number(
    change: dict[str, Any], key: str | None
) -> None:
    payload = {**PAYLOADS["sent"], "message": {**PAYLOADS["sent"]["message"], **change}}
    assert parse({"event": "MessageSent", "tenant_id": "t-1", "payload": payload}).message_key == key


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"classification": "spam_block", "smtp_enhanced_code": "5.7.1"}, Classification.SPAM_BLOCK),
        ({"classification": "unclassified", "smtp_enhanced_code": "5.1.1"}, Classification.INVALID_RECIPIENT),
        ({"classification": None, "classification_code": 32}, Classification.POLICY_REJECTION),
        (
            {"classification": "a new one", "classification_code": 99, "output": "550 5.2.2 x"},
            Classification.INVALID_RECIPIENT,
        ),
        (
            {
                "classification": None,
                "classification_code": None,
                "smtp_enhanced_code": None,
                "output": "",
                "details": "Connection error: Could not connect to any mail server for x.example",
            },
            Classification.CONNECTION_ERROR,
        ),
        (
            {
                "classification": None,
                "classification_code": None,
                "smtp_enhanced_code": None,
                "output": None,
                "details": None,
            },
            Classification.UNCLASSIFIED,
        ),
    ],
)
def test_arks_word_outranks_the_codes(fields: dict[str, Any], expected: Classification) -> None:
    assert parse({**PAYLOADS["failed"], **fields}).classification is expected


@pytest.mark.parametrize(
    "body",
    [
        envelop("failed", _test=True),
        envelop("failed") | {"payload": {**PAYLOADS["failed"], "_test": True}},
        {**PAYLOADS["failed"], "_test": True},
        {**PAYLOADS["failed"], "message": {**PAYLOADS["failed"]["message"], "_test": True}},
        {"event": "SomethingNew", "_test": True},
    ],
)
def test_a_test_is_one_wherever_it_says_so_and_touches_no_message(body: Any) -> None:
    event = parse(body)
    assert (event.type, event.message_key) == (EventType.TEST, None)


@pytest.mark.parametrize("value", [False, None, "true", 1])
def test_only_true_makes_a_test(value: Any) -> None:
    assert parse(envelop("failed", _test=value)).type is EventType.BOUNCED


def test_another_tenants_event_touches_nothing() -> None:
    credentials = ark.read_credentials({**GIVEN["ark"], "tenant_id": "t-1"}, {}, SourceSettings())
    assert parse(envelop("failed", tenant_id="t-1"), credentials).type is EventType.BOUNCED
    foreign = parse(envelop("failed", tenant_id="t-2"), credentials)
    assert (foreign.type, foreign.message_key, foreign.recipient) == (EventType.UNKNOWN, None, None)
    assert foreign.tenant == "t-2"
    assert foreign.problem
    assert foreign.smtp_id, "it is found by its ids"


def test_an_event_without_a_tenant_touches_nothing_where_one_tenant_is_accepted_unless_a_setting_allows_it() -> None:
    credentials = ark.read_credentials({**GIVEN["ark"], "tenant_id": "t-1"}, {}, SourceSettings())
    unnamed = parse(PAYLOADS["failed"], credentials)
    assert (unnamed.type, unnamed.message_key, unnamed.tenant) == (EventType.UNKNOWN, None, None)
    assert unnamed.smtp_id
    assert "settings.events_without_tenant" in (unnamed.problem or "")
    allowed = parse(PAYLOADS["failed"], replace(credentials, accepts_without_tenant=True))
    assert (allowed.type, allowed.tenant) == (EventType.BOUNCED, "t-1")
    assert parse({**PAYLOADS["failed"], "_test": True}, credentials).type is EventType.TEST


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"event": "MessageShredded", "payload": PAYLOADS["sent"]},
        {"event": "MessageSent"},
        {"event": "MessageSent", "payload": {}},
        {"event": "MessageSent", "payload": "x"},
        {"event": 5},
        {"message": []},
        {"status": "Sent"},
        {"message": {"id": {}}},
        {"volume": 1},
    ],
    ids=str,
)
def test_an_unknown_item_is_stored_as_unknown(body: Any) -> None:
    event = parse(body)
    assert event.type is EventType.UNKNOWN
    assert event.problem
    assert json.loads(event.provider_object) == body


def test_each_of_several_recipients_has_an_event() -> None:
    message = {**PAYLOADS["sent"]["message"], "to": ["a@x.example", "B@x.example"]}
    events = ark.parse(json.dumps({**PAYLOADS["sent"], "message": message}).encode(), ANY_TENANT)
    assert [event.recipient for event in events] == ["a@x.example", "b@x.example"]


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"null", b"5", b"{", b"\xff", b'{"a":"\xff"}', b'{"a":NaN}', b'{"a":' * 9999]
)
def test_a_body_that_is_no_object_is_a_payload_error(body: bytes) -> None:
    with pytest.raises(PayloadError):
        ark.parse(body, ANY_TENANT)


def test_an_unknown_key_is_named_and_used_once_fetched() -> None:
    request = sign_ark(BODIES["ark"], key="next-key")
    with pytest.raises(VerificationError) as caught:
        ark.verify(request, ANY_TENANT, NOW)
    assert (caught.value.reason, caught.value.key_id) == (RefusalReason.UNKNOWN_KEY, "next-key")
    fetched = ark.read_keys(json.dumps(jwks("rsa-key", "next-key")).encode(), "next-key")
    assert set(fetched) == {"rsa-key", "next-key"}
    ark.verify(request, ark.read_credentials({}, fetched, SourceSettings()), NOW)


def test_a_request_without_the_keys_id_is_not_signed() -> None:
    request = sign_ark(BODIES["ark"])
    headers = {name: value for name, value in request.headers.items() if name != "x-ark-signature-kid"}
    with pytest.raises(VerificationError) as caught:
        ark.verify(replace(request, headers=headers), ANY_TENANT, NOW)
    assert caught.value.reason is RefusalReason.MISSING_SIGNATURE


def test_age_is_no_reason_to_refuse() -> None:
    ark.verify(sign_ark(BODIES["ark"]), ANY_TENANT, datetime(2036, 1, 1, tzinfo=UTC))


def test_keys_of_other_kinds_are_passed_over() -> None:
    others: list[Any] = [
        {"kty": "EC", "kid": "ec", "crv": "P-256", "x": "AA", "y": "AA"},
        {**jwk(), "kid": ""},
        {**jwk(), "kid": "encrypting", "use": "enc"},
        {**jwk(), "kid": "even", "e": "AA"},
        {**jwk(), "kid": "broken", "n": "!"},
        {**jwk(), "kid": "short", "n": "AQAB"},
        {**jwk(), "kid": "é" * 400},
        "x",
        None,
    ]
    document = json.dumps({"keys": [*others, jwk()]}).encode()
    assert set(ark.read_keys(document, "rsa-key")) == {"rsa-key"}
    assert set(ark.read_credentials({"jwks": json.loads(document)}, {"x": "no key"}, SourceSettings()).keys) == {
        "rsa-key"
    }


def test_all_keys_are_in_one_document() -> None:
    lookup = ark.key_lookup("any")
    assert lookup
    assert (lookup.url, lookup.query) == ("https://mail.arkhq.io/.well-known/jwks.json", {})


def test_a_time_that_cannot_be_used_is_kept_among_the_details() -> None:
    event = parse(envelop("sent", payload={**PAYLOADS["sent"], "timestamp": "soon"}, timestamp=None))
    assert (event.type, event.occurred_at) == (EventType.DELIVERED, None)
    assert event.details["timestamp"] == "soon"


def test_fields_of_other_types_are_read_or_named() -> None:
    payload = {
        **PAYLOADS["failed"],
        "output": ["550 5.1.1", {"text": "no such user"}],
        "remote_host": 5,
        "classification": True,
        "smtp_enhanced_code": ["5.1.1"],
    }
    event = parse(envelop("failed", payload=payload))
    assert (event.type, event.reason, event.enhanced_code) == (EventType.BOUNCED, "550 5.1.1 no such user", "5.1.1")
    assert event.remote_host == "5"
    assert event.details["unread"] == ["payload.classification"]
