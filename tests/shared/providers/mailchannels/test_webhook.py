"""MailChannels: RFC 9421 to the letter, and arrays of events."""

import json
from base64 import b64decode
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import http_sf
import msgspec
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from shared.errors import CredentialsError, PayloadError, VerificationError
from shared.events.event import Event
from shared.providers.registry import PROVIDERS
from shared.providers.webhooks.base import SourceSettings, WebhookRequest
from shared.providers.webhooks.elliptic import read_ed25519
from shared.providers.webhooks.payload import LONGEST_IDENTIFIER
from shared.vocabulary import Classification, EventType, RefusalReason
from tests.support.signed_requests import (
    DIRECTORY,
    GIVEN,
    NOW,
    SECONDS,
    digest,
    ed25519_key,
    ed25519_public,
    make_request,
    read_payloads,
    sign_mailchannels,
    sign_message,
    to_base64,
)

mailchannels = PROVIDERS["mailchannels"]

BODY = b'[{"event":"delivered","customer_handle":"acmeco","timestamp":1767225600}]'
CREDENTIALS = mailchannels.read_credentials(GIVEN["mailchannels"], {}, SourceSettings())


def verify(request: WebhookRequest, now: datetime = NOW) -> None:
    mailchannels.verify(request, CREDENTIALS, now)


def refusal(request: WebhookRequest, now: datetime = NOW) -> VerificationError:
    with pytest.raises(VerificationError) as caught:
        verify(request, now)
    return caught.value


def join(*requests: WebhookRequest) -> WebhookRequest:
    """One request with the signatures of several over the same body."""
    headers = {
        name: ", ".join(request.headers[name] for request in requests) for name in ("signature-input", "signature")
    }
    return replace(requests[0], headers={**requests[0].headers, **headers})


@pytest.mark.parametrize(("age", "accepted"), [(-31, False), (-30, True), (0, True), (300, True), (301, False)])
def test_a_signature_holds_for_five_minutes_and_a_clock_may_be_half_a_minute_ahead(age: int, accepted: bool) -> None:
    request = sign_mailchannels(BODY)
    if accepted:
        verify(request, NOW + timedelta(seconds=age))
    else:
        assert refusal(request, NOW + timedelta(seconds=age)).reason is RefusalReason.STALE


def test_an_unknown_key_is_named_once_all_else_is_in_order() -> None:
    error = refusal(sign_mailchannels(BODY, key="newkey"))
    assert (error.reason, error.key_id) == (RefusalReason.UNKNOWN_KEY, "newkey")


def test_an_unknown_key_is_not_named_for_a_wrong_digest_a_stale_or_a_malformed_signature() -> None:
    request = sign_mailchannels(BODY, key="newkey")
    assert refusal(replace(request, body=b"[]")).reason is RefusalReason.DIGEST_MISMATCH
    assert refusal(sign_mailchannels(BODY, key="newkey", created=SECONDS - 301)).reason is RefusalReason.STALE
    short = replace(request, headers={**request.headers, "signature": "sig_1=:AAAA:"})
    assert refusal(short).reason is RefusalReason.MALFORMED_SIGNATURE


def test_a_key_that_was_fetched_is_used_and_one_that_was_given_outranks_it() -> None:
    fetched = {"mckey": ed25519_public("other"), "newkey": ed25519_public("newkey"), "broken": "no key"}
    credentials = mailchannels.read_credentials(GIVEN["mailchannels"], fetched, SourceSettings())
    mailchannels.verify(sign_mailchannels(BODY, key="newkey"), credentials, NOW)
    mailchannels.verify(sign_mailchannels(BODY), credentials, NOW)
    assert "broken" not in credentials.public_keys


@pytest.mark.parametrize(
    "parameters",
    [
        f'("content-digest");created={SECONDS};keyid="mckey"',  # without alg
        f'("content-digest");keyid="mckey";alg="ed25519";created={SECONDS}',  # in another order
        f'( "content-digest"  ); created={SECONDS};keyid="mckey"',  # white space that is signed as it stands
        f'("content-digest");created={SECONDS};keyid="mckey";nonce="n";tag="t";expires={SECONDS}',
    ],
)
def test_parameters_are_signed_as_received_whatever_their_order(parameters: str) -> None:
    verify(sign_message(BODY, parameters))


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        (f'("content-digest");created={SECONDS};keyid="mckey";alg="rsa-v1_5-sha256"', "malformed_signature"),
        (f'("content-digest");created={SECONDS};keyid="mckey";alg=ed25519', "malformed_signature"),
        (f'("content-digest");created={SECONDS};keyid=mckey', "malformed_signature"),
        (f'("content-digest");created={SECONDS};keyid=""', "malformed_signature"),
        (f'("content-digest");created={SECONDS}', "malformed_signature"),
        ('("content-digest");keyid="mckey"', "malformed_signature"),
        ('("content-digest");created;keyid="mckey"', "malformed_signature"),
        (f'("content-digest");created="{SECONDS}";keyid="mckey"', "malformed_signature"),
        (f'("content-digest");created={SECONDS}.5;keyid="mckey"', "malformed_signature"),
        (f'("content-digest");created={SECONDS};keyid="mckey";expires=?1', "malformed_signature"),
        (f'("content-digest");created={SECONDS};keyid="mckey";expires={SECONDS - 1}', "stale"),
        (f'("content-digest");created={SECONDS};keyid="mckey";expires=0', "stale"),
        ('("content-digest");created=999999999999999;keyid="mckey"', "stale"),
        ('("content-digest");created=-1;keyid="mckey"', "stale"),
        (f'();created={SECONDS};keyid="mckey"', "malformed_signature"),
        (f'("x-other");created={SECONDS};keyid="mckey"', "malformed_signature"),
        (f'(content-digest);created={SECONDS};keyid="mckey"', "malformed_signature"),
        (f'("content-digest";sf);created={SECONDS};keyid="mckey"', "malformed_signature"),
        (f'("content-digest" "content-digest");created={SECONDS};keyid="mckey"', "malformed_signature"),
        (f'("content-digest" "@method");created={SECONDS};keyid="mckey"', "malformed_signature"),
        (f'("content-digest" "x-absent");created={SECONDS};keyid="mckey"', "malformed_signature"),
        (f'"content-digest";created={SECONDS};keyid="mckey"', "malformed_signature"),
    ],
)
def test_a_signature_that_promises_less_is_refused(parameters: str, reason: str) -> None:
    assert refusal(sign_message(BODY, parameters)).reason == reason


def test_other_headers_may_be_covered_too() -> None:
    parameters = f'("content-digest" "x-account");created={SECONDS};keyid="mckey"'
    request = sign_message(BODY, parameters, lines=('"x-account": acme é',), headers={"X-Account": " acme é\t"})
    verify(request)
    changed = replace(request, headers={**request.headers, "x-account": "other"})
    assert refusal(changed).reason is RefusalReason.BAD_SIGNATURE
    split = replace(request, headers={**request.headers, "x-account": 'a\n"@method": POST'})
    assert refusal(split).reason is RefusalReason.MALFORMED_SIGNATURE
    beyond = replace(request, headers={**request.headers, "x-account": "№"})
    assert refusal(beyond).reason is RefusalReason.MALFORMED_SIGNATURE


def test_of_several_signatures_any_valid_one_suffices() -> None:
    parameters = f'("content-digest");created={SECONDS};keyid="newkey"'
    unknown = sign_message(BODY, parameters, key="newkey", label="sig_2")
    stale = sign_message(BODY, parameters.replace(str(SECONDS), "5"), key="newkey", label="sig_3")
    verify(join(unknown, stale, sign_mailchannels(BODY)))
    verify(join(sign_mailchannels(BODY), unknown))
    assert refusal(join(stale, unknown)).key_id == "newkey"


def test_a_forgery_under_a_known_key_is_one_whatever_else_is_named() -> None:
    forged = sign_mailchannels(BODY, key="other", keyid="mckey")
    unknown = sign_message(BODY, f'("content-digest");created={SECONDS};keyid="x"', key="x", label="sig_2")
    assert refusal(join(unknown, forged)).reason is RefusalReason.BAD_SIGNATURE


def test_more_signatures_than_a_rollover_needs_are_refused() -> None:
    labels = [sign_message(BODY, '("content-digest")', label=f"s{number}") for number in range(5)]
    assert refusal(join(*labels)).reason is RefusalReason.MALFORMED_SIGNATURE


@pytest.mark.parametrize(
    "header",
    [
        "sha-512=:AAAA:",
        "sha256=:AAAA:",
        "sha-256=abc",
        "sha-256=:%%%%:",
        "sha-256=::",
        "sha-256",
        "not a digest",
        "sha-256=1",
    ],
)
def test_a_digest_of_another_kind_is_refused(header: str) -> None:
    request = sign_mailchannels(BODY)
    error = refusal(replace(request, headers={**request.headers, "content-digest": header}))
    assert error.reason in {RefusalReason.MALFORMED_SIGNATURE, RefusalReason.DIGEST_MISMATCH}


def test_a_digest_of_another_algorithm_may_stand_beside() -> None:
    value = f"sha-512=:AAAA:, {digest(BODY)}"
    parameters = f'("content-digest");created={SECONDS};keyid="mckey"'
    base = f'"content-digest": {value}\n"@signature-params": {parameters}'.encode()
    signature = sign_message(BODY, parameters).headers
    made = f"sig_1=:{to_base64(ed25519_key().sign(base))}:"
    verify(make_request(BODY, {**signature, "content-digest": value, "signature": made}))


def test_the_published_vector_of_the_rfc_has_our_signature_base() -> None:
    vector = json.loads((DIRECTORY / "vectors" / "rfc9421_b26.json").read_text())
    inputs: Any = http_sf.parse(vector["signature_input_header"].encode(), tltype="dictionary")
    signatures: Any = http_sf.parse(vector["signature_header"].encode(), tltype="dictionary")
    signature, _ = signatures["sig-b26"]
    key = read_ed25519(vector["public_key_spki_der_b64"])
    assert key is not None
    assert isinstance(signature, bytes)
    assert vector["signature_base"].endswith(f'"@signature-params": {http_sf.ser(inputs).removeprefix("sig-b26=")}')
    key.verify(vector["signature_base"].encode(), signature)


def test_a_public_key_is_read_in_all_three_encodings() -> None:
    public = ed25519_key().public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    spki = "".join(pem.splitlines()[1:-1])
    for text in (pem, pem.replace("\n", "\r\n"), pem.replace("\n", " "), spki, ed25519_public(), f" {spki}\n"):
        key = read_ed25519(text)
        assert key is not None
        assert bytes(key) == b64decode(ed25519_public())


@pytest.mark.parametrize("text", ["", "AAAA", "é", "MCowBQYDK2VwAyEA", "-----BEGIN PUBLIC KEY-----", "\x00"])
def test_an_invalid_key_is_none(text: str) -> None:
    assert read_ed25519(text) is None


def test_the_key_endpoint_is_asked_by_the_keys_id_and_its_answer_is_read() -> None:
    lookup = mailchannels.key_lookup("k 1&x=y")
    assert lookup
    assert lookup.url == "https://api.mailchannels.net/tx/v1/webhook/public-key"
    assert (lookup.api_path, lookup.query) == ("webhook/public-key", {"id": "k 1&x=y"})
    document = json.dumps({"id": "k", "key": ed25519_public(), "more": 1}).encode()
    assert mailchannels.read_keys(document, "k") == {"k": ed25519_public()}


def test_handles_are_required_and_an_api_key_is_a_text() -> None:
    with pytest.raises(CredentialsError, match="customer_handles"):
        mailchannels.read_credentials({"public_keys": {}}, {}, SourceSettings())
    assert (
        mailchannels.read_credentials({"customer_handles": ["a"], "api_key": "k"}, {}, SourceSettings()).api_key == "k"
    )


def parse(*items: Any) -> list[Event]:
    return mailchannels.parse(json.dumps(list(items)).encode(), CREDENTIALS)


def item(**fields: Any) -> dict[str, Any]:
    return {"event": "delivered", "customer_handle": "acmeco", "timestamp": 1767225600, **fields}


KINDS: list[tuple[str, EventType, Classification | None]] = [
    ("processed", EventType.QUEUED, None),
    ("delivered", EventType.DELIVERED, None),
    ("soft-bounced", EventType.DEFERRED, Classification.TRANSIENT_FAILURE),
    ("hard-bounced", EventType.BOUNCED, Classification.INVALID_RECIPIENT),
    ("dropped", EventType.REJECTED, Classification.POLICY_REJECTION),
    ("open", EventType.OPENED, None),
    ("click", EventType.CLICKED, None),
    ("complained", EventType.COMPLAINED, None),
    ("unsubscribed", EventType.UNSUBSCRIBED, None),
    ("test", EventType.TEST, None),
    ("Delivered", EventType.UNKNOWN, None),
    ("constructor", EventType.UNKNOWN, None),
    ("", EventType.UNKNOWN, None),
]


@pytest.mark.parametrize(("word", "kind", "classification"), KINDS)
def test_every_word_has_its_type(word: str, kind: EventType, classification: Classification | None) -> None:
    (event,) = parse(item(event=word))
    assert (event.type, event.classification) == (kind, classification)
    assert (event.problem is not None) == (kind is EventType.UNKNOWN)


def test_all_that_an_event_says_is_kept() -> None:
    body = read_payloads("mailchannels")["batch"]
    events = mailchannels.parse(body, CREDENTIALS)
    bounce, click = events[2], events[3]
    assert bounce == msgspec.structs.replace(
        bounce,
        type=EventType.BOUNCED,
        message_key="request:Zk3yQvXq0mA1pL9-dTnUw7Ce4Hs=",
        recipient="gone@customer.example",
        occurred_at=datetime(2026, 1, 1, 0, 0, 3, tzinfo=UTC),
        sender="billing@shop.example",
        request_id="Zk3yQvXq0mA1pL9-dTnUw7Ce4Hs=",
        smtp_id="20260101.8f3@tx.mailchannels.net",
        tenant="acmeco",
        classification=Classification.INVALID_RECIPIENT,
        smtp_status="550",
        enhanced_code="5.1.1",
        reason="5.1.1 The mailbox does not exist",
        campaign="invoices-01",
        problem=None,
    )
    assert (click.url, click.ip, click.user_agent) == (
        "https://shop.example/i/2042?a=1&b=ü",
        "203.0.113.45",
        "Mozilla/5.0",
    )
    assert click.tenant == "acmeco_sub"
    assert json.loads(b"[" + b",".join(event.provider_object for event in events) + b"]") == json.loads(body)


def test_each_recipient_has_an_event_once() -> None:
    events = parse(item(recipients=["A@x.example", " <b@x.example> ", "a@X.example", "", None]))
    assert [event.recipient for event in events] == ["a@x.example", "b@x.example"]
    assert len({event.identity for event in events}) == 1


@pytest.mark.parametrize("recipients", [[], None, [""], [None]])
def test_an_event_may_name_no_recipient(recipients: Any) -> None:
    (event,) = parse(item(recipients=recipients))
    assert event.recipient is None


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        ({"request_id": "r=", "smtp_id": "<a@b>"}, "request:r="),
        ({"request_id": "  ", "smtp_id": "<a@b>"}, "tenant:acmeco/smtp:a@b"),
        ({"smtp_id": "a@b"}, "tenant:acmeco/smtp:a@b"),
        ({"request_id": None, "smtp_id": " <> "}, None),
    ],
)
def test_a_message_is_known_by_its_request_else_by_its_smtp_id_else_stands_alone(
    fields: dict[str, Any], key: str | None
) -> None:
    (event,) = parse(item(**fields))
    assert event.message_key == (key or f"event:{event.identity}")


def test_a_test_touches_no_message() -> None:
    (event,) = parse(item(event="test", request_id="deploy"))
    assert (event.message_key, event.request_id) == (None, "deploy")


def test_an_event_of_another_account_touches_nothing() -> None:
    foreign, ours = parse(item(customer_handle="other", request_id="r", recipients=["a@b.example"]), item())
    assert (foreign.type, foreign.message_key, foreign.recipient) == (EventType.UNKNOWN, None, None)
    assert foreign.tenant == "other"
    assert foreign.problem is not None
    assert foreign.request_id == "r", "it is found by its ids"
    assert ours.type is EventType.DELIVERED


def test_an_event_without_a_required_field_keeps_its_ids() -> None:
    (event,) = parse(item(customer_handle=None, request_id="r", smtp_id="<m@x>"))
    assert (event.type, event.message_key) == (EventType.UNKNOWN, None)
    assert (event.request_id, event.smtp_id) == ("r", "m@x")
    assert "customer_handle" in (event.problem or "")


@pytest.mark.parametrize(
    ("accounts", "accepted"),
    [((), False), (("other",), True), (("oth*",), True), (("*",), True), (("othe",), False), (("another",), False)],
)
def test_an_event_of_a_sub_account_is_accepted_if_a_setting_names_it(accounts: tuple[str, ...], accepted: bool) -> None:
    credentials = replace(
        mailchannels.read_credentials(GIVEN["mailchannels"], {}, SourceSettings()), sub_accounts=accounts
    )
    (event,) = mailchannels.parse(json.dumps([item(customer_handle="other")]).encode(), credentials)
    assert (event.type is EventType.DELIVERED) is accepted
    assert event.tenant == "other"


def test_the_handle_of_a_sub_account_fits_an_index() -> None:
    credentials = replace(
        mailchannels.read_credentials(GIVEN["mailchannels"], {}, SourceSettings()), sub_accounts=("*",)
    )
    (event,) = mailchannels.parse(json.dumps([item(customer_handle="x" * 9999)]).encode(), credentials)
    assert event.tenant == "x" * LONGEST_IDENTIFIER


@pytest.mark.parametrize(
    "bad",
    [
        5,
        None,
        "x",
        [],
        {},
        item(customer_handle=None),
        item(event=["open", "click"]),
        item(request_id={"id": 1}),
        item(recipients=[5]),
    ],
    ids=repr,
)
def test_a_bad_item_becomes_unknown_and_the_other_items_are_parsed(bad: Any) -> None:
    before, event, after = parse(item(), bad, item(event="open"))
    assert (event.type, event.message_key, event.recipient) == (EventType.UNKNOWN, None, None)
    assert event.problem
    assert json.loads(event.provider_object) == bad
    assert (before.type, after.type) == (EventType.DELIVERED, EventType.OPENED)


@pytest.mark.parametrize("bad", [b"1e400", b"9" * 5000, b'"\\ud800"', b'"\\u0000"', b"1" * 60])
def test_a_number_out_of_range_or_half_a_character_spoils_no_other_item(bad: bytes) -> None:
    body = (
        b'[{"event":"open","customer_handle":"acmeco"},{"event":"open","customer_handle":"acmeco","timestamp":%s},5]'
        % bad
    )
    first, second, third = mailchannels.parse(body, CREDENTIALS)
    assert first.type is EventType.OPENED
    assert second.occurred_at is None
    assert second.provider_object == body[body.index(b',{"event"') + 1 : -3]
    assert third.problem


@pytest.mark.parametrize("timestamp", [0, -5, 10**20, 1e300, "soon", "", 253402300800])
def test_a_time_that_is_none_is_left_out_and_the_event_counts(timestamp: Any) -> None:
    (event,) = parse(item(timestamp=timestamp))
    assert (event.type, event.occurred_at) == (EventType.DELIVERED, None)


@pytest.mark.parametrize(
    ("fields", "attribute", "expected"),
    [
        ({"status": 550.0}, "smtp_status", "550"),
        ({"reason": ["550 5.1.1", "no such user"]}, "reason", "550 5.1.1 no such user"),
        ({"reason": {"code": 550, "text": "no such user"}}, "smtp_status", "550"),
        ({"user_agent": 5}, "user_agent", "5"),
        ({"url": True}, "details", {"unread": ["url"]}),
        ({"campaign_id": [], "ip": {}}, "details", {"unread": ["campaign_id", "ip"]}),
        ({"email": {"email": "Shop@example.com", "name": "Shop"}}, "sender", "shop@example.com"),
        ({"recipients": "a@x.example, B <b@x.example>"}, "recipient", "a@x.example"),
        ({"recipients": [{"email": "a@x.example"}]}, "recipient", "a@x.example"),
        ({"request_id": 12.0}, "request_id", "12"),
        ({"timestamp": 1767225600000}, "occurred_at", datetime(2026, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_field_of_another_type_keeps_the_event(fields: dict[str, Any], attribute: str, expected: object) -> None:
    event = parse(item(event="hard-bounced", **fields))[0]
    assert event.type is EventType.BOUNCED
    assert getattr(event, attribute) == expected


@pytest.mark.parametrize(
    "timestamp", [1767225600, 1767225600.0, "1767225600", "2026-01-01T00:00:00Z", "2026-01-01T01:00:00+01:00"]
)
def test_a_time_may_be_written_in_several_ways(timestamp: Any) -> None:
    (event,) = parse(item(timestamp=timestamp))
    assert event.occurred_at == NOW


@pytest.mark.parametrize(
    ("status", "reason", "expected"),
    [
        ("550", "5.1.1 no such user", ("550", "5.1.1")),
        ("5.1.1", "", (None, "5.1.1")),
        (550, None, ("550", None)),
        ("452 4.2.2 full", "", ("452", "4.2.2")),
        ("", "host mx said: 550-5.7.1 blocked", ("550", "5.7.1")),
        ("250", "some were accepted", ("250", None)),
    ],
)
def test_status_may_be_a_reply_or_an_enhanced_code(
    status: Any, reason: Any, expected: tuple[str | None, str | None]
) -> None:
    (event,) = parse(item(event="hard-bounced", status=status, reason=reason))
    assert (event.smtp_status, event.enhanced_code) == expected


def test_a_hard_bounce_counts_as_at_mailchannels_unless_the_server_gave_another_reason() -> None:
    def classify(**fields: Any) -> Classification | None:
        return parse(item(event="hard-bounced", **fields))[0].classification

    assert classify() is classify(status="250") is Classification.INVALID_RECIPIENT
    assert classify(status="250", reason="2.0.0 OK") is Classification.INVALID_RECIPIENT
    assert classify(status="554", reason="rejected as spam") is Classification.SPAM_CONTENT
    assert classify(status="550", reason="xyzzy") is Classification.UNCLASSIFIED


def test_identity_does_not_depend_on_how_the_json_is_written() -> None:
    first = parse(item(request_id="r", recipients=["a@b.example"]))[0]
    pretty = json.dumps([dict(reversed(item(request_id="r", recipients=["a@b.example"]).items()))], indent=3).encode()
    assert mailchannels.parse(pretty, CREDENTIALS)[0].identity == first.identity
    assert parse(item(request_id="r", recipients=["a@b.example"], extra=1))[0].identity != first.identity


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"null", b"[", b"[1,]", b"\xff", b'["\xff"]', b"[NaN]", b"[" * 100_000, b'{"event":"open"}']
)
def test_a_body_that_is_no_array_is_a_payload_error(body: bytes) -> None:
    with pytest.raises(PayloadError):
        mailchannels.parse(body, CREDENTIALS)


def test_nul_halves_of_characters_and_a_byte_order_mark_are_read_past() -> None:
    body = b'\xef\xbb\xbf[{"event":"click","customer_handle":"acmeco","url":"a\\u0000b\\ud800\\ud83d\\ude00\\\\u0000"}]'
    (event,) = mailchannels.parse(body, CREDENTIALS)
    assert event.url == "a\ufffdb\ufffd😀\\u0000"
    assert event.provider_object == body[4:-1]
