"""CloudMailin: basic authentication, and events without id or time."""

import json
from base64 import b64encode
from typing import Any

import pytest

from shared.errors import PayloadError, VerificationError
from shared.events.event import Event
from shared.providers.registry import PROVIDERS
from shared.providers.webhooks.base import SourceSettings
from shared.vocabulary import Classification, EventType, RefusalReason
from tests.support.signed_requests import BODIES, GIVEN, NOW, make_request, read_payloads, sign_cloudmailin

cloudmailin = PROVIDERS["cloudmailin"]

BODY = BODIES["cloudmailin"]
CREDENTIALS = cloudmailin.read_credentials(GIVEN["cloudmailin"], {}, SourceSettings())

KINDS: list[tuple[str, EventType, bool]] = [
    ("registration", EventType.QUEUED, True),
    ("process", EventType.QUEUED, True),
    ("dispatch", EventType.SENT, True),
    ("rate_limit", EventType.RATE_LIMITED, False),
    ("rate_limited", EventType.RATE_LIMITED, False),
    ("delivery", EventType.DELIVERED, True),
    ("bounce", EventType.BOUNCED, True),
    ("dispatch_bounce", EventType.BOUNCED, True),
    ("soft_bounce", EventType.DEFERRED, False),
    ("dispatch_soft_bounce", EventType.DEFERRED, False),
    ("error", EventType.FAILED, True),
    ("retries_exhausted", EventType.FAILED, True),
    ("open", EventType.OPENED, False),
    ("read", EventType.READ, False),
    ("click", EventType.CLICKED, False),
    ("auto_reply", EventType.AUTORESPONDED, False),
    ("bounce_reply", EventType.REPLIED, False),
    ("suppressed", EventType.REJECTED, True),
    ("blocked", EventType.REJECTED, True),
    ("spamd", EventType.REJECTED, True),
    ("complaint", EventType.COMPLAINED, True),
    ("something_new", EventType.UNKNOWN, False),
]


def parse(*items: Any) -> list[Event]:
    return cloudmailin.parse(json.dumps({"events": list(items)}).encode(), CREDENTIALS)


def item(**fields: Any) -> dict[str, Any]:
    return {"kind": "delivery", "recipient": "maria@customer.example", "message_id": "m-1", **fields}


@pytest.mark.parametrize(("word", "kind", "once"), KINDS)
def test_every_kind_has_its_type_and_only_what_happens_once_has_an_identity(
    word: str, kind: EventType, once: bool
) -> None:
    (event,) = parse(item(kind=word))
    assert event.type is kind
    assert event.identity == (f"{word}:m-1" if once else None)
    assert (event.problem is not None) == (kind is EventType.UNKNOWN)
    assert (event.message_key, event.provider_message_id, event.occurred_at) == ("id:m-1", "m-1", None)


def test_a_kind_that_happens_once_is_identified_by_its_message() -> None:
    (event,) = parse(item(message_id=None))
    assert (event.identity, event.message_key) == (None, None)


def test_a_time_distinguishes_events_where_there_is_one() -> None:
    first, second, same = parse(*(item(kind="open", timestamp=at) for at in (1767225600, 1767225601, 1767225600)))
    assert first.occurred_at == NOW
    assert first.identity == same.identity != second.identity


@pytest.mark.parametrize("given", ["yesterday", {"at": 1767225600}, -5, True])
def test_a_time_that_cannot_be_read_is_kept_as_it_was(given: Any) -> None:
    beside, inside = parse(
        item(kind="open", timestamp=given, details={"ip": "203.0.113.45"}),
        item(kind="open", details={"ip": "203.0.113.45", "timestamp": given}),
    )
    assert beside.occurred_at is inside.occurred_at is None
    assert beside.details == inside.details == {"ip": "203.0.113.45", "timestamp": given}


def test_a_batch_keeps_what_its_details_say() -> None:
    body = read_payloads("cloudmailin")["batch"]
    dispatch, soft, delivery, bounce, click = cloudmailin.parse(body, CREDENTIALS)
    assert (dispatch.details, delivery.details, delivery.recipient) == ({}, {}, "maria@customer.example")
    assert (soft.smtp_status, soft.enhanced_code, soft.remote_host) == ("452", "4.2.2", "mx1.customer.example")
    assert soft.classification is Classification.MAILBOX_FULL
    assert (bounce.reason, bounce.classification) == ("550 5.1.1 No such user", Classification.INVALID_RECIPIENT)
    assert (click.url, click.ip, click.user_agent) == ("https://shop.example/i", "203.0.113.45", "Mozilla/5.0")
    assert click.details["extra"] == {"n": 1}
    assert json.loads(soft.provider_object) == json.loads(body)["events"][1]


def test_a_registration_may_be_for_what_is_no_address() -> None:
    (event,) = cloudmailin.parse(read_payloads("cloudmailin")["registration"], CREDENTIALS)
    assert (event.type, event.recipient) == (EventType.QUEUED, "debug@smtp")


@pytest.mark.parametrize("name", ["url", "link", "href", "target"])
def test_a_link_is_found_under_several_names_there_and_beside(name: str) -> None:
    inside, beside = parse(item(kind="click", details={name: "https://x"}), item(kind="click", **{name: "https://x"}))
    assert inside.url == beside.url == "https://x"


@pytest.mark.parametrize(
    ("kind", "classification"),
    [
        ("bounce", Classification.INVALID_RECIPIENT),
        ("soft_bounce", Classification.TRANSIENT_FAILURE),
        ("error", Classification.POLICY_REJECTION),
        ("suppressed", Classification.POLICY_REJECTION),
        ("rate_limit", None),
        ("auto_reply", None),
        ("blocked", Classification.SPAM_BLOCK),
        ("spamd", Classification.SPAM_CONTENT),
        ("retries_exhausted", Classification.TRANSIENT_FAILURE),
        ("open", None),
    ],
)
def test_a_kind_may_be_a_reason_in_itself(kind: str, classification: Classification | None) -> None:
    (event,) = parse(item(kind=kind))
    assert event.classification is classification


@pytest.mark.parametrize(
    "details", [None, [], "text", 5, {"a": [1, {"b": None}]}, {"timestamp": {"x": 1}, "url": [[]]}]
)
def test_details_may_be_anything(details: Any) -> None:
    (event,) = parse(item(details=details))
    assert event.type is EventType.DELIVERED


@pytest.mark.parametrize(
    "bad", [5, None, [], {}, {"kind": None}, item(kind=[]), item(recipient={}), item(message_id=[])], ids=repr
)
def test_a_bad_item_becomes_unknown_and_the_other_items_are_parsed(bad: Any) -> None:
    before, event, after = parse(item(), bad, item(kind="bounce"))
    assert (event.type, event.message_key, event.recipient) == (EventType.UNKNOWN, None, None)
    assert event.problem
    assert (before.type, after.type) == (EventType.DELIVERED, EventType.BOUNCED)


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"events":{}}', b'{"events":null}', b'{"events":[}', b"\xff", b'{"events":' + b"[" * 9999],
)
def test_a_body_without_a_list_of_events_is_a_payload_error(body: bytes) -> None:
    with pytest.raises(PayloadError):
        cloudmailin.parse(body, CREDENTIALS)


@pytest.mark.parametrize(
    ("username", "password"),
    [
        ("events", "wrong"),
        ("Events", "s3cret:ü"),
        ("events", ""),
        ("", ""),
        ("events", "s3cret"),
        ("events:s3cret", "ü "),
    ],
)
def test_another_pair_is_refused(username: str, password: str) -> None:
    with pytest.raises(VerificationError) as caught:
        cloudmailin.verify(sign_cloudmailin(BODY, username=username, password=password), CREDENTIALS, NOW)
    assert caught.value.reason is RefusalReason.BAD_CREDENTIALS


@pytest.mark.parametrize("form", ["basic {}", "BASIC {}", "Basic  {} "])
def test_the_schemes_case_does_not_matter(form: str) -> None:
    pair = b64encode("events:s3cret:ü".encode()).decode()
    cloudmailin.verify(make_request(BODY, {"Authorization": form.format(pair)}), CREDENTIALS, NOW)


def test_the_previous_credentials_are_accepted_during_a_rotation() -> None:
    given = {"username": "events", "password": "new", "previous": [GIVEN["cloudmailin"]]}
    credentials = cloudmailin.read_credentials(given, {}, SourceSettings())
    cloudmailin.verify(sign_cloudmailin(BODY, password="new"), credentials, NOW)
    cloudmailin.verify(sign_cloudmailin(BODY), credentials, NOW)


def test_an_identical_body_counts_as_a_repetition_only_for_a_minute() -> None:
    assert cloudmailin.dedupe_window_seconds == 60
    assert cloudmailin.idempotency_key(sign_cloudmailin(BODY)) is None
    assert cloudmailin.key_lookup("any") is None
