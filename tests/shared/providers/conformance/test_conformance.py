"""What holds for every provider of the registry, from the request to the event. A new one inherits these cases."""

import json
from dataclasses import replace
from typing import Any

import pytest

from cli import docs_page
from shared.errors import PayloadError, VerificationError
from shared.events.bots import Automation
from shared.providers.registry import PROVIDERS
from shared.providers.webhooks.base import SourceSettings, StatusCodes, WebhookRequest
from shared.vocabulary import EventType
from simulator.providers.base import Forgery, make_request
from simulator.providers.registry import DIALECTS
from simulator.scenarios import SCENARIOS
from simulator.staging import stage
from tests.shared.providers.conformance.samples import SAMPLES
from tests.support.signed_requests import NOW, body, credentials, dialect, keys, play, settings_of, signed

every_provider = pytest.mark.parametrize("name", PROVIDERS)
every_dialect = pytest.mark.parametrize("name", DIALECTS)
FORGERIES = [(name, forgery) for name, made in DIALECTS.items() for forgery in sorted(made.TRAITS.forgeries)]
_LARGE = 2_000_000


def accepting(name: str) -> SourceSettings:
    """The settings of a source that accepts events without a tenant."""
    return settings_of(name, events_without_tenant="accept")


def test_every_provider_has_its_dialect_and_its_row() -> None:
    assert list(PROVIDERS) == list(SAMPLES)
    assert set(PROVIDERS) == set(DIALECTS)


@every_dialect
def test_what_the_provider_sends_is_verified_and_parsed(name: str) -> None:
    of_dialect = PROVIDERS[name].read_credentials(dialect(name).credentials(), _dialect_keys(name), accepting(name))
    for posting in play(name).postings:
        made = posting.request(dialect(name), NOW)
        request = WebhookRequest(headers={key.lower(): value for key, value in made.headers.items()}, body=made.body)
        PROVIDERS[name].verify(request, of_dialect, NOW)
        for event in PROVIDERS[name].parse(request.body, of_dialect):
            assert event.type is not EventType.UNKNOWN
            assert event.recipient
            assert event.message_key
            if dialect(name).TRAITS.timed and name != "ark":  # whose bare opens have no time
                assert event.occurred_at


@pytest.mark.parametrize(("name", "forgery"), [case for case in FORGERIES if case[1] is not Forgery.FOREIGN])
def test_no_forged_request_is_verified(name: str, forgery: Forgery) -> None:
    of_dialect = PROVIDERS[name].read_credentials(dialect(name).credentials(), _dialect_keys(name), accepting(name))
    for posting in play(name).postings:
        made = dialect(name).forge(posting.body, NOW, forgery)
        request = WebhookRequest(headers={key.lower(): value for key, value in made.headers.items()}, body=made.body)
        with pytest.raises(VerificationError):
            PROVIDERS[name].verify(request, of_dialect, NOW)


@pytest.mark.parametrize("name", [name for name, made in DIALECTS.items() if made.TRAITS.rotates])
def test_both_keys_are_accepted_during_a_rotation(name: str) -> None:
    rotated = DIALECTS[name]()
    old = rotated.key_id
    new = rotated.rotate()
    text = stage(SCENARIOS["happy"], rotated, count=1, seed=1, now=NOW).postings[0].body
    found: dict[str, str] = {}
    for key_id in (old, new):
        document = rotated.key_document({"id": key_id})
        found |= PROVIDERS[name].read_keys(document, key_id) if document else {}
    read = PROVIDERS[name].read_credentials(rotated.credentials(), found, settings_of(name))
    for key_id in (old, new):
        made = make_request(rotated, text, NOW, key_id)
        request = WebhookRequest(headers={key.lower(): value for key, value in made.headers.items()}, body=made.body)
        PROVIDERS[name].verify(request, read, NOW)


@every_provider
@pytest.mark.parametrize("text", [b"", b"\xff\xfe", b"<xml/>", b"null", b"5", b'"text"', b"{", b"[" * 600])
def test_a_body_that_is_not_the_providers_is_refused_whole_or_as_unknown(name: str, text: bytes) -> None:
    try:
        events = PROVIDERS[name].parse(text, credentials(name))
    except PayloadError:
        return
    assert {event.type for event in events} <= {EventType.UNKNOWN, EventType.INBOUND}


@every_provider
def test_a_huge_body_is_parsed_or_refused(name: str) -> None:
    for text in (b"[" + b"{}," * (_LARGE // 3) + b"{}]", b'{"a":"' + b"x" * _LARGE + b'"}', b"a=" + b"b&" * 500_000):
        try:
            PROVIDERS[name].parse(text, credentials(name))
        except PayloadError:
            continue


@pytest.mark.parametrize("name", [name for name, sample in SAMPLES.items() if sample.batch])
def test_a_bad_item_of_a_batch_leaves_the_others(name: str) -> None:
    first, bad, last = PROVIDERS[name].parse(SAMPLES[name].batch or b"", credentials(name))
    assert EventType.UNKNOWN not in (first.type, last.type)
    assert bad.type is EventType.UNKNOWN
    assert bad.problem


@every_provider
def test_a_kind_that_does_not_exist_becomes_unknown_and_says_so(name: str) -> None:
    (event,) = PROVIDERS[name].parse(SAMPLES[name].unknown, credentials(name))
    assert event.type is EventType.UNKNOWN
    assert event.problem


@pytest.mark.parametrize("name", [name for name, sample in SAMPLES.items() if sample.automated])
def test_what_the_provider_calls_a_programs_act_is_flagged(name: str) -> None:
    (event,) = PROVIDERS[name].parse(SAMPLES[name].automated or b"", credentials(name))
    assert event.automation is Automation.SCANNER


@every_dialect
def test_a_repetition_has_the_same_identity_and_other_events_have_others(name: str) -> None:
    def identify(texts: list[bytes]) -> list[Any]:
        events = [event for text in texts for event in PROVIDERS[name].parse(text, of_dialect)]
        return [(event.identity, event.recipient) for event in events if event.identity]

    of_dialect = PROVIDERS[name].read_credentials(dialect(name).credentials(), {}, settings_of(name))
    bodies = [make_request(dialect(name), posting.body, NOW).body for posting in play(name).postings]
    once, again = identify(bodies), identify(bodies)
    assert once == again
    assert len(set(once)) == len(once)


@every_provider
def test_the_id_of_a_request_is_its_headers(name: str) -> None:
    request = signed(name)
    header = SAMPLES[name].key_header
    assert PROVIDERS[name].idempotency_key(replace(request, headers={})) is None
    if header is not None:
        given = replace(request, headers={**request.headers, header: " an-id "})
        assert PROVIDERS[name].idempotency_key(given) == "an-id"


@every_provider
def test_a_signature_that_covers_no_body_is_used_once_or_is_a_password(name: str) -> None:
    provider = PROVIDERS[name]
    if SAMPLES[name].covers_body:
        assert provider.single_use_token(signed(name)) is None
    elif not SAMPLES[name].headers:
        assert provider.single_use_token(signed(name))


@every_provider
def test_the_status_codes_are_answers_that_exist(name: str) -> None:
    codes = PROVIDERS[name].status_codes
    assert isinstance(codes, StatusCodes)
    for code in (codes.bad_signature, codes.too_large, codes.encoded):
        assert code == 200 or 400 <= code < 500
    assert codes.unavailable in (200, 429, *range(500, 600))
    assert 0 <= codes.hang_seconds <= 120


@every_provider
def test_no_webhook_with_an_event_is_taken_for_a_probe(name: str) -> None:
    assert PROVIDERS[name].probe(signed(name), credentials(name)) is None
    assert PROVIDERS[name].confirmation_url(signed(name), SourceSettings()) is None


@every_provider
def test_the_setup_and_the_help_are_complete(name: str) -> None:
    provider = PROVIDERS[name]
    assert provider.setup.format(slug="shop", path="/webhooks/shop")
    assert provider.no_api is None or provider.no_api.endswith(".")
    for field in provider.credential_fields:
        assert field.help.endswith((".", ")"))
    assert json.dumps([field.name for field in provider.credential_fields])


def test_the_documentation_has_the_present_table_of_the_providers() -> None:
    page = docs_page.PROVIDERS_PAGE.read_text(encoding="utf-8")
    assert page == docs_page.insert_providers(page), f"run `{docs_page.REGENERATE}`"
    for name in PROVIDERS:
        assert f"| `{name}` |" in page


def _dialect_keys(name: str) -> dict[str, str]:
    document = dialect(name).key_document({"id": dialect(name).key_id})
    return dict(PROVIDERS[name].read_keys(document, dialect(name).key_id)) if document else {}


def test_the_shared_sample_is_the_dialects_where_there_is_no_other() -> None:
    assert body("resend") == play("resend").postings[0].body
    assert keys("ses")
