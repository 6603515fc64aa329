"""What no provider's verification may do. Every provider of the registry inherits these cases."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from shared.errors import CredentialsError, PayloadError, VerificationError
from shared.providers.registry import PROVIDERS
from shared.providers.webhooks.base import WebhookRequest, secret_fields
from shared.vocabulary import RefusalReason
from tests.support.signed_requests import BODIES, GIVEN, HEADERS, NOW, SIGN, Case, make_request, read_cases

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
UNSET: Mapping[str, list[Mapping[str, Any]]] = {
    "mailchannels": [
        {},
        {"customer_handles": []},
        {"customer_handles": [""]},
        {"customer_handles": "acmeco"},
        {"customer_handles": ["a"], "public_keys": {"k": ""}},
        {"customer_handles": ["a"], "public_keys": {"k": "not a key"}},
        {"customer_handles": ["a"], "public_keys": ["k"]},
        {"customer_handles": ["a"], "api_key": 5},
    ],
    "ark": [
        {"jwks": {}},
        {"jwks": {"keys": []}},
        {"jwks": "x"},
        {"jwks": {"keys": [{"kty": "RSA"}]}},
        {"tenant_id": ""},
    ],
    "postal": [{}, {"jwks": None}, {"jwks": {"keys": []}}, {"jwks": []}],
    "cloudmailin": [
        {},
        {"username": "a"},
        {"password": "b"},
        {"username": "", "password": ""},
        {"username": "a", "password": ""},
        {"username": None, "password": None},
        {"username": "a:b", "password": "c"},
        {"username": "a", "password": "b", "previous": ["x"]},
        {"username": "a", "password": "b", "previous": [{"username": "a", "password": ""}]},
    ],
    "mailwebhook": [
        {},
        {"signing_secrets": {}},
        {"signing_secrets": {"a": ""}},
        {"signing_secrets": {"": "x"}},
        {"signing_secrets": {"a": "base64:"}},
        {"signing_secrets": {"a": "base64:%"}},
        {"signing_secrets": {"a": "hex:0"}},
        {"signing_secrets": ["x"]},
    ],
}

every_provider = pytest.mark.parametrize("name", PROVIDERS)


def verify(name: str, request: WebhookRequest, given: Mapping[str, Any] | None = None) -> None:
    provider = PROVIDERS[name]
    provider.verify(request, provider.read_credentials(given or GIVEN[name], {}), NOW)


@pytest.mark.parametrize(
    ("name", "case"),
    [pytest.param(n, c, id=f"{n}-{c.name}") for n in PROVIDERS if n != "cloudmailin" for c in read_cases(n)],
)
def test_a_vector_is_accepted_or_refused_for_its_reason(name: str, case: Case) -> None:
    provider = PROVIDERS[name]
    credentials = provider.read_credentials(case.credentials, {})
    if case.expect == "valid":
        provider.verify(case.request, credentials, case.now)
        assert provider.parse(case.request.body, credentials)
        return
    with pytest.raises(VerificationError) as caught:
        provider.verify(case.request, credentials, case.now)
    assert caught.value.reason == case.expect


@every_provider
def test_a_genuine_request_is_accepted(name: str) -> None:
    verify(name, SIGN[name](BODIES[name]))


@every_provider
def test_an_unsigned_request_is_refused_as_such(name: str) -> None:
    with pytest.raises(VerificationError) as caught:
        verify(name, make_request(BODIES[name], {}))
    assert caught.value.reason is RefusalReason.MISSING_SIGNATURE


@every_provider
def test_a_body_that_was_changed_is_refused(name: str) -> None:
    if name == "cloudmailin":
        pytest.skip("basic authentication does not cover the body")
    request = SIGN[name](BODIES[name])
    with pytest.raises(VerificationError) as caught:
        verify(name, replace(request, body=request.body + b" "))
    assert caught.value.reason in {RefusalReason.BAD_SIGNATURE, RefusalReason.DIGEST_MISMATCH}


@every_provider
def test_a_signed_but_empty_body_is_refused(name: str) -> None:
    with pytest.raises(VerificationError) as caught:
        verify(name, SIGN[name](b""))
    assert caught.value.reason is RefusalReason.EMPTY_BODY


@every_provider
@pytest.mark.parametrize("garbage", GARBAGE, ids=lambda text: ascii(text[:20]))
def test_a_malformed_header_is_refused_and_nothing_else_escapes(name: str, garbage: str) -> None:
    genuine = SIGN[name](BODIES[name])
    decisive = HEADERS[name][:1] if name == "postal" else HEADERS[name]  # its others are not asked, or optional
    for header in decisive:
        with pytest.raises(VerificationError):
            verify(name, replace(genuine, headers={**genuine.headers, header: garbage}))


@every_provider
def test_all_headers_may_be_garbage_together(name: str) -> None:
    for garbage in GARBAGE:
        with pytest.raises(VerificationError):
            verify(name, make_request(BODIES[name], dict.fromkeys(HEADERS[name], garbage)))


@pytest.mark.parametrize(("name", "given"), [(name, given) for name, cases in UNSET.items() for given in cases])
def test_credentials_that_would_let_anybody_in_are_refused(name: str, given: Mapping[str, Any]) -> None:
    with pytest.raises(CredentialsError):
        PROVIDERS[name].read_credentials(given, {})


@every_provider
def test_secret_fields_are_named_so_that_they_are_never_shown(name: str) -> None:
    secret = {"cloudmailin": "password", "mailwebhook": "signing_secrets", "postal": None}.get(name, "api_key")
    assert secret is None or secret in secret_fields(PROVIDERS[name])


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
            PROVIDERS[name].read_keys(document)
