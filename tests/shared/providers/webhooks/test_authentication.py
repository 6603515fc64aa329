"""What authenticates a webhook: nothing malformed passes, and every error names the field or the reason."""

import hmac
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import CredentialsError, VerificationError
from shared.providers.webhooks import authentication
from shared.vocabulary import RefusalReason
from tests.support.signed_requests import NOW, SECONDS, fuzzed, make_request, to_base64


def refused(call: Any, *args: Any) -> RefusalReason:
    with pytest.raises(VerificationError) as caught:
        call(*args)
    return caught.value.reason


@pytest.mark.parametrize("value", [None, "", [], [""], ["a", ""], ["a", 1], {"a": "b"}, 5])
def test_secrets_that_would_let_anybody_in_are_refused(value: object) -> None:
    with pytest.raises(CredentialsError, match="`secrets`"):
        authentication.read_secrets({"secrets": value}, "secrets")


def test_one_secret_may_be_a_text() -> None:
    assert authentication.read_secrets({"secrets": "a"}, "secrets") == ["a"]
    assert authentication.read_secrets({"secrets": ["a", "b"]}, "secrets") == ["a", "b"]


def test_any_of_the_secrets_may_have_made_any_of_the_signatures() -> None:
    good = hmac.digest(b"new", b"text", "sha256")
    authentication.verify_hmac([b"old", b"new"], b"text", [b"\0" * 32, good])
    assert refused(authentication.verify_hmac, [b"old"], b"text", [good]) is RefusalReason.BAD_SIGNATURE
    assert refused(authentication.verify_hmac, [b"new"], b"text", []) is RefusalReason.BAD_SIGNATURE
    assert refused(authentication.verify_hmac, [b"new"], b"text", [b""]) is RefusalReason.BAD_SIGNATURE


@pytest.mark.parametrize("text", ["", "-1", "1.5", " 1", "²", "9" * 16, "1e9", "١"])  # noqa: RUF001
def test_a_time_that_is_not_written_in_digits_is_malformed(text: str) -> None:
    reason = refused(authentication.check_age, NOW, text, "t", 300)
    assert reason is RefusalReason.MALFORMED_SIGNATURE


def test_a_time_too_far_in_either_direction_is_stale() -> None:
    for seconds in (SECONDS - 300, SECONDS + 300):
        authentication.check_age(NOW, str(seconds), "t", 300)
    for seconds in (SECONDS - 301, SECONDS + 301):
        assert refused(authentication.check_age, NOW, str(seconds), "t", 300) is RefusalReason.STALE
    authentication.check_age(NOW + timedelta(microseconds=999_999), str(SECONDS - 300), "t", 300)


def test_a_token_in_clear_is_compared_with_every_accepted_one() -> None:
    accepted = [authentication.digest("old"), authentication.digest("new")]
    authentication.verify_token("old", accepted, "X-Token")
    assert refused(authentication.verify_token, "guess", accepted, "X-Token") is RefusalReason.BAD_CREDENTIALS
    assert refused(authentication.verify_token, "", accepted, "X-Token") is RefusalReason.MISSING_SIGNATURE
    assert refused(authentication.verify_token, "old", [], "X-Token") is RefusalReason.BAD_CREDENTIALS


@fuzzed
@given(header=st.text(st.characters(), max_size=30))
def test_any_header_is_parsed_or_malformed(header: str) -> None:
    try:
        found = authentication.read_pairs(header, "t", "v1")
    except VerificationError:
        return
    assert found["t"]
    assert found["v1"]


@fuzzed
@given(text=st.text(st.characters(), max_size=30))
def test_any_basic_authentication_is_refused(text: str) -> None:
    accepted = authentication.read_basic({"username": "user", "password": "pass"})
    header = f"Basic {text}"
    request = make_request(b"{}", {"Authorization": header})
    if text.strip() != to_base64(b"user:pass"):
        refused(authentication.verify_basic, request, accepted)
