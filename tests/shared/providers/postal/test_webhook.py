"""Postal: two generations of signatures over the same body."""

import json
from collections.abc import Collection
from dataclasses import replace

import pytest

from shared.errors import VerificationError
from shared.providers.registry import PROVIDERS
from shared.providers.webhooks.base import SourceSettings, WebhookRequest
from shared.vocabulary import Classification, EventType, RefusalReason
from tests.support.signed_requests import BODIES, GIVEN, NOW, jwks, read_payloads, sign_postal, to_base64

postal = PROVIDERS["postal"]

CREDENTIALS = postal.read_credentials(GIVEN["postal"], {}, SourceSettings())
GENUINE = sign_postal(BODIES["postal"])
NEW, OLD, KEY_ID = "x-postal-signature-256", "x-postal-signature", "x-postal-signature-kid"

KINDS = {
    "sent": EventType.DELIVERED,
    "delayed": EventType.DEFERRED,
    "failed": EventType.BOUNCED,
    "held": EventType.HELD,
    "bounced": EventType.BOUNCED,
    "loaded": EventType.OPENED,
    "clicked": EventType.CLICKED,
    "dns": EventType.DOMAIN_DNS_ERROR,
    "limit_near": EventType.SEND_LIMIT_APPROACHING,
    "limit_over": EventType.SEND_LIMIT_EXCEEDED,
}


def without(*names: str, request: WebhookRequest = GENUINE) -> WebhookRequest:
    return replace(request, headers={name: value for name, value in request.headers.items() if name not in names})


@pytest.mark.parametrize("dropped", [(), (OLD,), (NEW,), (KEY_ID,), (NEW, KEY_ID), (OLD, KEY_ID)])
def test_either_signature_suffices_with_or_without_the_keys_id(dropped: Collection[str]) -> None:
    postal.verify(without(*dropped), CREDENTIALS, NOW)


@pytest.mark.parametrize("value", ["", "!", to_base64(b"x" * 128)])
def test_a_good_sha1_never_makes_up_for_a_bad_sha256(value: str) -> None:
    with pytest.raises(VerificationError):
        postal.verify(replace(GENUINE, headers={**GENUINE.headers, NEW: value}), CREDENTIALS, NOW)


def test_one_signature_is_not_taken_for_the_other() -> None:
    swapped = {**GENUINE.headers, NEW: GENUINE.headers[OLD]}
    with pytest.raises(VerificationError):
        postal.verify(replace(GENUINE, headers=swapped), CREDENTIALS, NOW)


def test_without_the_keys_id_all_keys_are_tried_and_no_other_is_accepted() -> None:
    credentials = postal.read_credentials({"jwks": jwks("next-key", "rsa-key")}, {}, SourceSettings())
    postal.verify(without(KEY_ID), credentials, NOW)
    with pytest.raises(VerificationError) as caught:
        postal.verify(without(KEY_ID, request=sign_postal(b"{}", key="third-key")), credentials, NOW)
    assert caught.value.reason is RefusalReason.BAD_SIGNATURE


def test_an_unknown_key_is_named() -> None:
    with pytest.raises(VerificationError) as caught:
        postal.verify(sign_postal(b"{}", key="next-key"), CREDENTIALS, NOW)
    assert (caught.value.reason, caught.value.key_id) == (RefusalReason.UNKNOWN_KEY, "next-key")


def test_only_the_sources_settings_know_the_operators_server() -> None:
    lookup = postal.key_lookup("any")
    assert lookup
    assert (lookup.url, lookup.api_path) == ("", ".well-known/jwks.json")


@pytest.mark.parametrize(("name", "kind"), KINDS.items())
def test_every_event_has_its_type_and_its_uuid(name: str, kind: EventType) -> None:
    body = read_payloads("postal")[name]
    (event,) = postal.parse(body, CREDENTIALS)
    assert (event.type, event.identity) == (kind, json.loads(body)["uuid"])
    assert event.problem is None
    assert event.occurred_at is not None
    assert event.provider_object == body


def test_codes_are_read_from_the_servers_answer() -> None:
    (event,) = postal.parse(read_payloads("postal")["delayed"], CREDENTIALS)
    assert (event.smtp_status, event.enhanced_code, event.remote_host) == ("452", "4.2.2", "mx1.customer.example")
    assert event.classification is Classification.MAILBOX_FULL
