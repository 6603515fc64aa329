"""What no provider's verification may do. Every provider of the registry inherits these cases."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from shared.errors import CredentialsError, PayloadError, VerificationError
from shared.providers.registry import PROVIDERS
from shared.providers.webhooks.base import WebhookRequest, secret_fields
from shared.vocabulary import RefusalReason
from simulator.providers.base import Enveloping, Forgery
from simulator.providers.registry import DIALECTS
from tests.shared.providers.conformance.samples import SAMPLES
from tests.support.signed_requests import (
    NOW,
    SIGN,
    Case,
    body,
    credentials,
    dialect,
    has_cases,
    make_request,
    read_cases,
    settings_of,
    signed,
)

GARBAGE = [
    *("", " ", ",", "=", ";", ":", "::", "=,=", "a", "a=", "é", "\udcff", "\x00", "\n", "Basic", "Basic ", "Basic :"),
    *(
        "Basic é",
        "Basic ////",
        "Bearer x",
        "sig=:é:",
        "sig=()",
        "sig=(",
        "sig=:AA:",
        "t=1,kid=a,v1=!",
        "t=²,kid=a,v1=AA==",
    ),
    *(
        "t=9" * 4000,
        '("content-digest")',
        'sig=("content-digest");created=1;keyid="mckey"',
        "sha-256=::",
        "sha-256=:AA:",
    ),
    *(
        "=" * 9000,
        "A" * 9000,
        "QUJD",
        "QUJD\n",
        "QUI",
        "9" * 5000,
        "(" * 5000,
        '"' * 5000,
        "\u202e",
        "NaN",
        "None",
        "null",
    ),
]
every_provider = pytest.mark.parametrize("name", PROVIDERS)


def verify(name: str, request: WebhookRequest) -> None:
    PROVIDERS[name].verify(request, credentials(name), NOW)


def unsigned(name: str) -> WebhookRequest:
    """The request without its signature, which may be in the body."""
    if name in SIGN:
        return make_request(body(name), {})
    forged = dialect(name).forge(body(name), NOW, Forgery.UNSIGNED)
    return make_request(forged.body, {})


@pytest.mark.parametrize(
    ("name", "case"),
    [pytest.param(n, c, id=f"{n}-{c.name}") for n in PROVIDERS if has_cases(n) for c in read_cases(n)],
)
def test_a_vector_is_accepted_or_refused_for_its_reason(name: str, case: Case) -> None:
    provider = PROVIDERS[name]
    read = provider.read_credentials(case.credentials, {}, settings_of(name))
    if case.expect == "valid":
        provider.verify(case.request, read, case.now)
        assert provider.parse(case.request.body, read)
        return
    with pytest.raises(VerificationError) as caught:
        provider.verify(case.request, read, case.now)
    assert caught.value.reason == case.expect


@every_provider
def test_a_genuine_request_is_accepted(name: str) -> None:
    verify(name, signed(name))


@every_provider
def test_an_unsigned_request_is_refused_as_such(name: str) -> None:
    with pytest.raises(VerificationError) as caught:
        verify(name, unsigned(name))
    assert caught.value.reason is RefusalReason.MISSING_SIGNATURE


@every_provider
def test_a_body_that_was_changed_is_refused(name: str) -> None:
    if not SAMPLES[name].covers_body or (name in DIALECTS and isinstance(dialect(name), Enveloping)):
        pytest.skip("the provider does not sign the body, or a part of it only")
    request = signed(name)
    text = request.body.replace(b"e", b"a", 1)
    with pytest.raises(VerificationError) as caught:
        verify(name, replace(request, body=text))
    assert caught.value.reason in {RefusalReason.BAD_SIGNATURE, RefusalReason.DIGEST_MISMATCH}


@every_provider
def test_a_signed_but_empty_body_is_refused(name: str) -> None:
    with pytest.raises(VerificationError) as caught:
        verify(name, replace(signed(name), body=b"") if name not in SIGN else SIGN[name](b""))
    assert caught.value.reason is RefusalReason.EMPTY_BODY


@every_provider
@pytest.mark.parametrize("garbage", GARBAGE, ids=lambda text: ascii(text[:20]))
def test_a_malformed_header_is_refused_and_nothing_else_escapes(name: str, garbage: str) -> None:
    genuine = signed(name)
    headers = SAMPLES[name].headers
    decisive = headers[:1] if name == "postal" else headers  # its others are not asked, or optional
    for header in decisive:
        with pytest.raises(VerificationError):
            verify(name, replace(genuine, headers={**genuine.headers, header: garbage}))


@every_provider
def test_all_headers_may_be_garbage_together(name: str) -> None:
    for garbage in GARBAGE:
        with pytest.raises(VerificationError):
            verify(name, replace(unsigned(name), headers=dict.fromkeys(SAMPLES[name].headers, garbage)))


@pytest.mark.parametrize(
    ("name", "given"), [(name, given) for name, sample in SAMPLES.items() for given in sample.unset]
)
def test_credentials_that_would_let_anybody_in_are_refused(name: str, given: Mapping[str, Any]) -> None:
    with pytest.raises(CredentialsError):
        PROVIDERS[name].read_credentials(given, {}, settings_of(name))


@every_provider
def test_secret_fields_are_named_so_that_they_are_never_shown(name: str) -> None:
    assert secret_fields(PROVIDERS[name]) == set(SAMPLES[name].secrets)


@every_provider
def test_a_document_without_keys_is_a_payload_error(name: str) -> None:
    for document in (
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"keys":[]}',
        b'{"keys":5}',
        b'{"id":"a","key":"b"}',
        b"\xff",
        b"[" * 9999,
    ):
        with pytest.raises(PayloadError):
            PROVIDERS[name].read_keys(document, "key")
