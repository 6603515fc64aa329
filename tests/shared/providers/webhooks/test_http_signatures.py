"""HTTP Message Signatures: whatever the three headers contain, a request is verified or refused."""

import contextlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import VerificationError
from shared.providers.registry import PROVIDERS
from shared.providers.webhooks.base import SourceSettings, WebhookRequest
from shared.vocabulary import RefusalReason
from tests.support.signed_requests import (
    GIVEN,
    NOW,
    SECONDS,
    digest,
    ed25519_key,
    fuzzed,
    sign_mailchannels,
    sign_message,
    to_base64,
)

mailchannels = PROVIDERS["mailchannels"]

BODY = b'[{"event":"delivered","customer_handle":"acmeco","timestamp":1767225600}]'
CREDENTIALS = mailchannels.read_credentials(GIVEN["mailchannels"], {}, SourceSettings())
HEADERS = ("content-digest", "signature-input", "signature")
PARAMETERS = f'("content-digest");created={SECONDS};keyid="mckey"'

every_header = pytest.mark.parametrize("header", HEADERS)


def verify(request: WebhookRequest) -> None:
    mailchannels.verify(request, CREDENTIALS, NOW)


def with_header(name: str, value: str, request: WebhookRequest | None = None) -> WebhookRequest:
    request = request or sign_mailchannels(BODY)
    return replace(request, headers={**request.headers, name: value})


@every_header
@pytest.mark.parametrize(
    "text",
    [
        "a=", "a=1,", "a=1,,b=2", ",a=1", "A=1", "1=1", "=1", "a=1 b=2", "a =1", "a= 1", "a=1;", "a=1;;b", "a=1; x y",
        "a=1;B", "a=(", "a=(1", 'a=("x""y")', "a=(1,2)", "a=((1))", "a=(1)2", "a=(1\t2)", "a=(1;)", "a=)", 'a="',
        'a="x', 'a="\\x"', 'a="é"', 'a="\n"', "a='x'", "a=:A:", "a=:AA AA:", "a=:AA==AA==:", "a=:====:", "a=:AAAA",
        "a=?2", "a=?", "a=-", "a=--1", "a=1.", "a=.5", "a=1e5", "a=1234567890123456", "a=1.1234", "a=1234567890123.1",
        "a=٣", "a=@1.5", "a=@999999999999999", 'a=%"x', 'a=%"%zz"', 'a=%"%ff"', "a=%x",
    ],
)  # fmt: skip
def test_a_header_that_is_not_a_structured_field_is_refused(header: str, text: str) -> None:
    request = sign_mailchannels(BODY)
    for value in (text, f"{request.headers[header]}, {text}"):
        with pytest.raises(VerificationError) as caught:
            verify(with_header(header, value))
        assert caught.value.reason is RefusalReason.MALFORMED_SIGNATURE


@every_header
@pytest.mark.parametrize(
    "text",
    [
        ", ".join(f"k{number}=({'a ' * 5});p" for number in range(5000)),
        "a=" + "(" * 50_000,
        'a="' + "\\\\" * 50_000,
        "a=:" + "A" * 50_000,
        "a=1" + " " * 50_000 + "b",
        "a" + ";b" * 50_000 + "!",
        "€" * 50_000,
    ],
)  # fmt: skip
def test_a_long_header_is_refused_and_the_error_quotes_little_of_it(header: str, text: str) -> None:
    for value in (text, text[:8000]):
        with pytest.raises(VerificationError) as caught:
            verify(with_header(header, value))
        assert caught.value.reason is RefusalReason.MALFORMED_SIGNATURE
        assert len(str(caught.value)) < 300


@pytest.mark.parametrize("more", [";seen=@1767225600", ';tag=%"f%c3%bc\\"', ";padding=:AAE:", ";n=1.5;f=?0;t=tok/en:*"])
def test_types_of_the_newer_standard_may_be_parameters(more: str) -> None:
    verify(sign_message(BODY, PARAMETERS + more))


@pytest.mark.parametrize("member", ["seen=@1767225600", 'name=%"f%c3%bc\\"', "list=(1 2);p", "flag"])
def test_members_of_any_type_may_stand_beside(member: str) -> None:
    request = sign_mailchannels(BODY)
    verify(with_header("signature", f"{request.headers['signature']} ,\t{member}", request))
    value = f"{digest(BODY)}, {member}"
    base = f'"content-digest": {value}\n"@signature-params": {PARAMETERS}'.encode()
    signature = f"sig_1=:{to_base64(ed25519_key().sign(base))}:"
    headers = {"content-digest": value, "signature-input": f"sig_1={PARAMETERS}", "signature": signature}
    verify(replace(request, headers=headers))


@pytest.mark.parametrize(
    "other",
    [
        'a=("x, y");q="1, sig_1=2"',
        'a=("\\", sig_1=(");created=1',
        'a=(1);q=%"b\\";r="c, d"',
        "a=(tok%en);q=:AAE=:",
        "a=();b; c=1",
    ],
)
def test_the_parameters_are_found_as_they_were_written_among_other_members(other: str) -> None:
    request = sign_message(BODY, f'( "content-digest"  ); created={SECONDS};keyid="mckey"')
    written = request.headers["signature-input"]
    for value in (f"{other}, {written}", f"{written}\t,{other}", f"{other} , {written},{other}"):
        verify(with_header("signature-input", value, request))


def test_of_a_label_that_is_repeated_the_last_member_counts() -> None:
    request = sign_mailchannels(BODY)
    written = request.headers["signature-input"]
    verify(with_header("signature-input", f"sig_1=1, {written}", request))
    for last in ("sig_1=1", "sig_1", 'sig_1=("content-digest");created=1;keyid="mckey"'):
        with pytest.raises(VerificationError):
            verify(with_header("signature-input", f"{written}, {last}", request))


keys = st.one_of(st.just("sig_1"), st.from_regex(r"[a-z*][a-z0-9_\-.*]{0,3}", fullmatch=True))
bare_items = st.one_of(
    st.from_regex(r"-?[0-9]{1,17}(\.[0-9]{0,4})?", fullmatch=True),
    st.from_regex(r'%?"([ -~]|\\["\\]){0,5}"', fullmatch=True),
    st.from_regex(r":([A-Za-z0-9+/]{4}){0,3}([A-Za-z0-9+/]{2}==)?:", fullmatch=True),
    st.from_regex(r"[A-Za-z*][!-~]{0,5}", fullmatch=True),
    st.sampled_from(["?0", "?1", "?2", "", "@1", '"content-digest"', str(SECONDS), '"mckey"', "@" + "9" * 15]),
)
parameters = st.lists(
    st.one_of(
        keys.map(";{}".format),
        st.builds(
            "; {}={}".format, st.one_of(keys, st.sampled_from(["created", "keyid", "alg", "expires"])), bare_items
        ),
    ),
    max_size=4,
).map("".join)
items = st.builds("{}{}".format, bare_items, parameters)
inner_lists = st.lists(items, max_size=3).map(lambda found: f"({' '.join(found)})")
members = st.builds("{}={}{}".format, keys, st.one_of(items, inner_lists), parameters)
dictionaries = st.lists(members, max_size=4).map(", ".join)
unlikely = st.text('ab*AZ019-_.=;:, \t()"\\?/+@%é', max_size=30)


@fuzzed
@given(st.sampled_from(HEADERS), st.one_of(dictionaries, unlikely, st.text(max_size=30)))
def test_nothing_but_a_verification_error_escapes(header: str, text: str) -> None:
    with contextlib.suppress(VerificationError):
        verify(with_header(header, text))


@fuzzed
@given(st.sampled_from(HEADERS), st.integers(0, 120), st.characters(max_codepoint=300))
def test_one_wrong_character_is_refused(header: str, position: int, character: str) -> None:
    request = sign_mailchannels(BODY)
    text = request.headers[header]
    changed = text[:position] + character + text[position + 1 :]
    if header == "signature":  # base64 has spare bits
        with contextlib.suppress(VerificationError):
            verify(with_header(header, changed, request))
    elif changed.strip(" \t") != text:
        with pytest.raises(VerificationError):
            verify(with_header(header, changed, request))


@fuzzed
@given(
    st.sampled_from(("content-digest", "signature")),
    st.text("AZaz09+/=:", max_size=9) | st.binary(max_size=70).map(to_base64),
)
def test_a_byte_sequence_means_the_same_with_and_without_a_parameter(header: str, text: str) -> None:
    label = sign_mailchannels(BODY).headers[header].partition("=")[0] if header == "signature" else "sha-256"
    plain, with_parameter = (refusal(with_header(header, f"{label}=:{text}:{more}")) for more in ("", ";more"))
    assert plain == with_parameter


def refusal(request: WebhookRequest) -> RefusalReason | None:
    try:
        verify(request)
    except VerificationError as error:
        return error.reason
    return None
