"""Providers that are described by a table: vectors, words, answers, tests of URLs, and mappings that say the same."""

import base64
import hmac
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import pytest
from standardwebhooks.webhooks import Webhook

from shared.errors import PayloadError, VerificationError
from shared.events.event import Event
from shared.providers.registry import PROVIDERS
from shared.providers.webhooks.base import QUERY, SourceSettings, StatusCodes
from shared.vocabulary import Classification, EventType, RefusalReason
from simulator.providers.described import DescribedDialect
from tests.support.signed_requests import DESCRIBED, NOW, SECONDS, dialect, given, make_request, read_payloads, signed

every_one = pytest.mark.parametrize("name", DESCRIBED)


def credentials(name: str, other: Mapping[str, Any] | None = None) -> Any:
    return PROVIDERS[name].read_credentials(other or given(name), {}, SourceSettings())


def parse(name: str, body: bytes) -> list[Event]:
    return PROVIDERS[name].parse(body, credentials(name))


def parse_one(name: str, item: object) -> Event:
    (event,) = parse(name, json.dumps(item).encode())
    return event


@pytest.mark.parametrize(
    ("name", "file"), [(name, file) for name in DESCRIBED for file in read_payloads(name) if file != "sample"]
)
def test_every_kind_is_read_with_its_ids_and_recipient(name: str, file: str) -> None:
    (event,) = parse(name, read_payloads(name)[file])
    assert event.type == file
    assert (event.recipient, event.occurred_at) == ("maria@customer.example", NOW)
    assert event.message_key
    assert event.identity
    if file == EventType.BOUNCED:
        assert event.classification is Classification.INVALID_RECIPIENT
    if file == EventType.CLICKED:
        assert event.url == "https://shop.example/i/7"


@pytest.mark.parametrize(
    ("name", "item", "type_", "recipients"),
    [
        (
            "kumomta",
            {
                "type": "Feedback",
                "recipient": "loop@b.example",
                "feedback_report": {"original_rcpt_to": ["a@b.example"]},
            },
            "complained",
            ["a@b.example"],
        ),
        (
            "unisender",
            {"event_name": "transactional_email_status", "event_data": {"status": "spam", "email": "a@b.example"}},
            "complained",
            ["a@b.example"],
        ),
        ("unisender", {"status": "sent", "email": "a@b.example", "job_id": "j"}, "sent", ["a@b.example"]),
        (
            "brevo",
            {"event": "list_addition", "email": ["a@b.example", "c@d.example"]},
            "subscribed",
            ["a@b.example", "c@d.example"],
        ),
        ("brevo", {"items": [{"event": "soft_bounce", "email": "a@b.example"}]}, "bounced", ["a@b.example"]),
        (
            "mailpace",
            {"event": "email.delivered", "payload": {"to": "a@b.example, c@d.example"}},
            "delivered",
            ["a@b.example", "c@d.example"],
        ),
        (
            "azure",
            {
                "type": "Microsoft.Communication.EmailDeliveryReportReceived",
                "data": {"status": "Delivered", "recipient": "a@b.example"},
            },
            "delivered",
            ["a@b.example"],
        ),
        (
            "azure",
            {
                "eventType": "Microsoft.Communication.EmailEngagementTrackingReportReceived",
                "data": {"engagementType": "view"},
            },
            "opened",
            [None],
        ),
        ("mailjet", {"event": "sent", "email": "a@b.example", "MessageID": 1}, "delivered", ["a@b.example"]),
        (
            "sparkpost",
            {"msys": {"unsubscribe_event": {"type": "link_unsubscribe", "raw_rcpt_to": "a@b.example"}}},
            "unsubscribed",
            ["a@b.example"],
        ),
        (
            "sparkpost",
            {"msys": {"message_event": {"type": "bounce", "bounce_class": "60", "raw_rcpt_to": "a@b.example"}}},
            "autoresponded",
            ["a@b.example"],
        ),
        ("sparkpost", {"msys": {"relay_message": {"rcpt_to": "a@b.example"}}}, "unknown", [None]),
        ("smtp2go", {"event": "resubscribe", "rcpt": "a@b.example"}, "subscribed", ["a@b.example"]),
    ],
)
def test_an_item_of_another_shape_is_read(name: str, item: object, type_: str, recipients: list[str | None]) -> None:
    for body in ([item, item], item) if name in ("azure", "mailjet", "sparkpost") else (item,):
        events = parse(name, json.dumps(body).encode())
        assert {event.type for event in events} == {type_}
        assert [event.recipient for event in events] == recipients * (2 if isinstance(body, list) else 1)


@pytest.mark.parametrize(
    "change",
    [
        {"type": "blacklist", "action": "add", "reject": {"email": "a@b.example", "reason": "hard-bounce"}},
        {"type": "whitelist", "action": "remove", "entry": {"email": "a@b.example"}},
    ],
)
def test_a_change_of_mandrills_lists_is_unknown_and_names_the_address(change: dict[str, Any]) -> None:
    (event,) = parse("mandrill", urlencode({"mandrill_events": json.dumps([change])}).encode())
    assert (event.type, event.recipient) == (EventType.UNKNOWN, "a@b.example")
    assert event.problem == f"Unknown event kind: '{change['type']} {change['action']}'"


@every_one
def test_an_unknown_kind_is_kept_and_says_so(name: str) -> None:
    described = dialect(name)
    assert isinstance(described, DescribedDialect)
    word = next(iter(described.WORDS[EventType.BOUNCED]))
    body = read_payloads(name)["sample"].replace(word.encode(), b"newly_invented")
    (event,) = parse(name, body)
    assert event.type is EventType.UNKNOWN
    assert "newly_invented" in (event.problem or "")


VECTORS = [
    (
        "mailtrap",
        {"signing_secret": "8d9a3c0e7f5b2d4a6c1e9f8b3a7d5c2e"},
        (
            b'{"event":"delivery","sending_stream":"transactional","category":"welcome",'
            b'"message_id":"a8b1d8f6-1f8d-4a3c-9b2e-1a2b3c4d5e6f","email":"recipient@example.com",'
            b'"event_id":"f1e2d3c4-b5a6-7890-1234-567890abcdef","timestamp":1716070000}'
        ),
        {"Mailtrap-Signature": "6d262e2611cd09be1f948382b5c611d63b0e585c4c9c5e40139d6ac3876d5433"},
    ),
    (
        "mailersend",
        {"signing_secret": "TEST_SECRET"},
        (
            b'{"type":"activity.sent","url":"https:\\/\\/example.com\\/hook",'
            b'"data":{"id":"5fc0d006b42c3e16e1774882","type":"sent"}}'
        ),
        {"Signature": "2dbd11e2c0f03819eb4f34afbe1b8c51f87330a5a4b95c53b4ae6320c20e7609"},
    ),
    (
        "mandrill",
        {"webhook_key": "TEST_KEY", "webhook_url": "https://user:pass@example.com/hooks/mandrill?x=1"},
        urlencode(
            {
                "mandrill_events": '[{"event":"send","_id":"abc123","ts":1461095246,'
                '"msg":{"email":"to@example.com","_id":"abc123"}}]'
            }
        ).encode(),
        {"X-Mandrill-Signature": "NdtH/nN0347g+kf82m6t15JCdSs="},
    ),
    (
        "unisender",
        {"api_key": "TEST_API_KEY"},
        b'{"auth":"b8d0e375910fb0776d10d7a00afaf656","events_by_user":[{"user_id":456,"events":[]}]}',
        {},
    ),
]
"""Of the vendors' documents and SDKs: provider, credentials, body, headers."""


@pytest.mark.parametrize(("name", "given", "body", "headers"), VECTORS, ids=[vector[0] for vector in VECTORS])
def test_a_vector_verifies_and_a_changed_one_does_not(
    name: str, given: dict[str, str], body: bytes, headers: dict[str, str]
) -> None:
    PROVIDERS[name].verify(make_request(body, headers), credentials(name, given), NOW)
    with pytest.raises(VerificationError) as caught:
        PROVIDERS[name].verify(make_request(body.replace(b"a", b"b", 1), headers), credentials(name, given), NOW)
    assert caught.value.reason in {RefusalReason.BAD_SIGNATURE, RefusalReason.MISSING_SIGNATURE}


def test_what_the_library_of_standard_webhooks_signs_is_accepted() -> None:
    body = '[{"type":"cf.email.sending.message.delivered"}]'
    for name, secret, key in (
        ("cloudflare", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        ("ahasend", "aha-whsec-abc", base64.b64encode(b"aha-whsec-abc").decode()),
    ):
        headers = {"webhook-id": "msg_1", "webhook-timestamp": str(SECONDS)}
        headers["webhook-signature"] = Webhook(key).sign("msg_1", NOW, body)
        request = make_request(body.encode(), headers)
        PROVIDERS[name].verify(request, credentials(name, {"secrets": [secret]}), NOW)
        assert PROVIDERS[name].idempotency_key(request) == "msg_1"


STATUS_CODES = {
    "brevo": StatusCodes(bad_signature=429, unavailable=429),
    "mailpace": StatusCodes(bad_signature=200, too_large=200, encoded=200, hang_seconds=60.0),
    "azure": StatusCodes(bad_signature=429, encoded=200),
}


@every_one
def test_the_answers_to_failures_are_those_that_lose_least(name: str) -> None:
    assert PROVIDERS[name].status_codes == STATUS_CODES.get(name, StatusCodes())


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        (name, bad)
        for name in ("brevo", "mailjet", "sparkpost", "emailit", "cloudflare", "azure")
        for bad in ("5", "{}")
    ],
)
def test_a_bad_item_of_a_batch_does_not_hide_the_others(name: str, bad: str) -> None:
    body = read_payloads(name)["sample"].strip()
    assert body.startswith(b"[")
    first, unknown, last = parse(name, b"[%b,%b,%b]" % (body[1:-1], bad.encode(), body[1:-1]))
    assert (first.type, unknown.type, last.type) == (EventType.BOUNCED, EventType.UNKNOWN, EventType.BOUNCED)
    assert unknown.problem
    assert (unknown.message_key, unknown.recipient) == (None, None)


def test_the_test_of_a_new_sparkpost_webhook_has_no_event() -> None:
    assert parse("sparkpost", b'[{"msys":{}}]') == []


@pytest.mark.parametrize(
    ("bounce_class", "type_", "classification"),
    [
        ("10", EventType.BOUNCED, Classification.INVALID_RECIPIENT),
        ("22", EventType.BOUNCED, Classification.MAILBOX_FULL),
        ("51", EventType.BOUNCED, Classification.SPAM_BLOCK),
        ("60", EventType.AUTORESPONDED, None),
        ("80", EventType.SUBSCRIBED, None),
        ("90", EventType.UNSUBSCRIBED, None),
        ("999", EventType.BOUNCED, Classification.UNCLASSIFIED),
    ],
)
def test_sparkposts_classes_of_bounces(
    bounce_class: str, type_: EventType, classification: Classification | None
) -> None:
    item = {"msys": {"message_event": {"type": "bounce", "bounce_class": bounce_class, "rcpt_to": "a@b.example"}}}
    event = parse_one("sparkpost", [item])
    assert (event.type, event.classification) == (type_, classification)


@pytest.mark.parametrize(
    ("name", "item"),
    [
        ("brevo", {"event": "proxy_open", "email": "a@b.example", "ts_epoch": 1767225600000}),
        ("brevo", {"event": "unique_proxy_open", "email": "a@b.example", "ts_epoch": 1767225600000}),
        (
            "sparkpost",
            [
                {
                    "msys": {
                        "track_event": {"type": "open", "rcpt_to": "a@b", "user_agent_parsed": {"is_prefetched": True}}
                    }
                }
            ],
        ),
        ("ahasend", {"type": "message.opened", "data": {"recipient": "a@b.example", "is_bot": True}}),
    ],
)
def test_opens_by_programs_are_marked_as_their_provider_says(name: str, item: object) -> None:
    event = parse_one(name, item)
    assert event.type is EventType.OPENED
    assert event.automation is not None


def test_a_greylisted_mailjet_bounce_is_a_deferral() -> None:
    item = {"event": "bounce", "error": "greylisted", "hard_bounce": False, "email": "a@b.example", "time": SECONDS}
    assert parse_one("mailjet", item).type is EventType.DEFERRED
    assert parse_one("mailjet", {**item, "hard_bounce": True}).type is EventType.BOUNCED


@pytest.mark.parametrize("shape", ["[%s]", '{"events":[%s]}', '{"items":[%s]}', "%s"])
def test_any_shape_of_a_brevo_batch_is_read(shape: str) -> None:
    item = '{"event":"delivered","email":"a@b.example","message-id":"<m@x>","ts_epoch":1767225600000}'
    (event,) = parse("brevo", (shape % item).encode())
    assert (event.type, event.message_key) == (EventType.DELIVERED, "smtp:m@x")


def test_both_formats_of_mailtrap_are_read() -> None:
    line = b'{"event":"delivery","email":"a@b.example","event_id":"e","timestamp":1767225600}'
    for body, count in ((line, 1), (line + b"\n" + line + b"\n", 2), (b'{"events":[%b]}' % line, 1)):
        assert [event.type for event in parse("mailtrap", body)] == [EventType.DELIVERED] * count
    with pytest.raises(PayloadError):
        parse("mailtrap", b"no json")


def test_smtp2go_posts_forms_too() -> None:
    body = urlencode({"event": "bounce", "bounce": "hard", "rcpt": "a@b.example", "email_id": "m", "time": SECONDS})
    (event,) = parse("smtp2go", body.encode())
    assert (event.type, event.recipient, event.message_key) == (EventType.BOUNCED, "a@b.example", "id:m")
    assert event.classification is Classification.INVALID_RECIPIENT


@pytest.mark.parametrize(
    "body",
    [
        b'{"auth":"b8d0e375910fb0776d10d7a00afaf65","events_by_user":[]}',
        b'{"auth":"B8D0E375910FB0776D10D7A00AFAF656","events_by_user":[]}',
        b'{"auth":"b8d0e375910fb0776d10d7a00afaf656","auth":"b8d0e375910fb0776d10d7a00afaf656"}',
        b'{"auth":"b8d0e375910fb0776d10d7a00afaf656","x":"b8d0e375910fb0776d10d7a00afaf656"}',
        b'{"auth":5}',
    ],
)
def test_the_md5_of_unisender_must_stand_in_the_body_once(body: bytes) -> None:
    with pytest.raises(VerificationError) as caught:
        PROVIDERS["unisender"].verify(make_request(body, {}), credentials("unisender"), NOW)
    assert caught.value.reason is RefusalReason.MALFORMED_SIGNATURE


def test_a_body_of_unisender_without_an_md5_is_unsigned() -> None:
    with pytest.raises(VerificationError) as caught:
        PROVIDERS["unisender"].verify(make_request(b'{"events_by_user":[]}', {}), credentials("unisender"), NOW)
    assert caught.value.reason is RefusalReason.MISSING_SIGNATURE


def test_mandrills_test_of_a_url_is_answered_before_its_key_is_known() -> None:
    ready = credentials("mandrill", {"webhook_key": "unknown", "webhook_url": "https://example.com/hooks/mandrill"})
    body, header = b"mandrill_events=%5B%5D", "jWoiNB5OCBcQUocCXvoaC1r32kM="
    probe = PROVIDERS["mandrill"].probe
    assert probe(make_request(body, {"X-Mandrill-Signature": header}), ready) == b""
    assert probe(make_request(body, {"X-Mandrill-Signature": header[::-1]}), ready) is None
    assert probe(make_request(body, {}), ready) is None
    assert probe(signed("mandrill"), credentials("mandrill")) is None


def test_mailersends_test_of_a_url_is_answered() -> None:
    body = b'{"type":"webhook.test","data":{}}'
    signature = hmac.new(b"test_Am3L1GuOIc4blLUuHqAPxxwkZaJyEk8G", body, "sha256").hexdigest()
    probe, ready = PROVIDERS["mailersend"].probe, credentials("mailersend")
    assert probe(make_request(body, {"Signature": signature}), ready) == b""
    assert probe(make_request(body, {"Signature": "00" * 32}), ready) is None
    other = b'{"type":"activity.sent","x":"webhook.test"}'
    signature = hmac.new(b"test_Am3L1GuOIc4blLUuHqAPxxwkZaJyEk8G", other, "sha256").hexdigest()
    assert probe(make_request(other, {"Signature": signature}), ready) is None


VALIDATION = [
    {
        "id": "1",
        "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent",
        "data": {"validationCode": "512d38b6-c7b8-40c8-89fe-f46f9e9622b6"},
    }
]


def test_the_validation_of_event_grid_is_answered_with_its_code() -> None:
    ready = credentials("azure", {"secret": "a b"})
    request = make_request(
        json.dumps(VALIDATION).encode(), {"aeg-event-type": "SubscriptionValidation", QUERY: "x=1&secret=a%20b"}
    )
    answer = PROVIDERS["azure"].probe(request, ready)
    assert answer == b'{"validationResponse":"512d38b6-c7b8-40c8-89fe-f46f9e9622b6"}'
    with pytest.raises(VerificationError):
        PROVIDERS["azure"].probe(replace(request, headers={**request.headers, QUERY: "secret=b"}), ready)
    with pytest.raises(VerificationError):
        PROVIDERS["azure"].verify(replace(request, headers={**request.headers, QUERY: "secret="}), ready, NOW)
    PROVIDERS["azure"].verify(request, ready, NOW)
    assert PROVIDERS["azure"].probe(signed("azure"), credentials("azure")) is None


def test_an_engagement_report_of_azure_holds_for_all_recipients() -> None:
    item = {
        "id": "1",
        "eventType": "Microsoft.Communication.EmailEngagementTrackingReportReceived",
        "eventTime": "2026-01-01T00:00:00Z",
        "data": {"messageId": "m", "engagementType": "click", "engagementContext": "https://x.example"},
    }
    event = parse_one("azure", [item])
    assert (event.type, event.recipient, event.url) == (EventType.CLICKED, None, "https://x.example")


@pytest.mark.parametrize("name", ["brevo", "sparkpost", "kumomta"])
def test_a_bearer_token_may_replace_the_password(name: str) -> None:
    ready = credentials(name, {"token": "secret-token"})
    verify = PROVIDERS[name].verify
    verify(make_request(b"{}", {"Authorization": "Bearer secret-token"}), ready, NOW)
    pair = base64.b64encode(b"bearer secret-token").decode()
    for header in ("Bearer other", "Bearer ", f"Basic {pair}"):
        with pytest.raises(VerificationError):
            verify(make_request(b"{}", {"Authorization": header}), ready, NOW)


HMAC = {"kind": "hmac"}
MAPPINGS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "mailersend": (
        "signing_secret",
        {
            "authentication": {**HMAC, "header": "Signature"},
            "fields": {
                "type": "type",
                "event_id": "data.id",
                "recipient": "data.email.recipient.email",
                "occurred_at": "data.created_at",
                "provider_message_id": "data.email.message.id",
                "url": "data.morph.url",
            },
            "types": {
                f"activity.{word}": type_
                for word, type_ in (
                    ("sent", "sent"),
                    ("delivered", "delivered"),
                    ("hard_bounced", "bounced"),
                    ("opened", "opened"),
                    ("clicked", "clicked"),
                    ("unsubscribed", "unsubscribed"),
                    ("spam_complaint", "complained"),
                )
            },
        },
    ),
    "mailtrap": (
        "signing_secret",
        {
            "authentication": {**HMAC, "header": "Mailtrap-Signature"},
            "items": "events",
            "time": "unix",
            "fields": {
                "type": "event",
                "event_id": "event_id",
                "recipient": "email",
                "occurred_at": "timestamp",
                "provider_message_id": "message_id",
                "url": "url",
            },
            "types": {
                "delivery": "delivered",
                "soft bounce": "deferred",
                "bounce": "bounced",
                "reject": "rejected",
                "spam": "complained",
                "open": "opened",
                "click": "clicked",
                "unsubscribe": "unsubscribed",
            },
        },
    ),
    "emailit": (
        "secrets",
        {
            "authentication": {
                **HMAC,
                "header": "X-Emailit-Signature",
                "template": "{timestamp}.{body}",
                "timestamp_header": "X-Emailit-Timestamp",
            },
            "items": "@",
            "time": "rfc3339",
            "fields": {
                "type": "type",
                "event_id": "event_id",
                "recipient": "data.object.to",
                "occurred_at": "created_at",
                "provider_message_id": "data.object.id",
                "url": "data.object.url",
            },
            "types": {
                "email.accepted": "queued",
                "email.scheduled": "queued",
                "email.delivered": "delivered",
                "email.attempted": "deferred",
                "email.bounced": "bounced",
                "email.failed": "failed",
                "email.rejected": "rejected",
                "email.suppressed": "rejected",
                "email.complained": "complained",
                "email.loaded": "opened",
                "email.clicked": "clicked",
            },
        },
    ),
    "cloudflare": (
        "secrets",
        {
            "authentication": {"kind": "standard_webhooks"},
            "fields": {
                "type": "type",
                "event_id": "payload.eventId",
                "recipient": "payload.recipient",
                "occurred_at": "metadata.eventTimestamp",
                "provider_message_id": "payload.messageId",
            },
            "types": {
                f"cf.email.sending.message.{word}": word
                for word in ("delivered", "deferred", "bounced", "failed", "rejected", "complained")
            },
        },
    ),
}
"""Built-in providers as mappings: the credential that has their secrets, and `settings.generic`."""


@pytest.mark.parametrize("name", MAPPINGS)
def test_a_mapping_says_the_same_as_the_adapter(name: str) -> None:
    field, mapping = MAPPINGS[name]
    generic = PROVIDERS["generic"]
    ours = generic.read_credentials({"secrets": given(name)[field]}, {}, SourceSettings(generic=mapping))
    for body in read_payloads(name).values():
        request = signed(name, body)
        generic.verify(request, ours, NOW)
        for forged in (replace(request, body=body + b" "), make_request(body, {})):
            reasons = []
            for provider, keys in ((generic, ours), (PROVIDERS[name], credentials(name))):
                with pytest.raises(VerificationError) as caught:
                    provider.verify(forged, keys, NOW)
                reasons.append(caught.value.reason)
            assert reasons[0] is reasons[1]
        facts = [
            [
                (e.type, e.identity, e.message_key, e.recipient, e.occurred_at, e.url, e.provider_object)
                for e in provider.parse(body, keys)
            ]
            for provider, keys in ((generic, ours), (PROVIDERS[name], credentials(name)))
        ]
        assert facts[0] == facts[1]
