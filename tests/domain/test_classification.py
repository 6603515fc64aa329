"""Why a delivery failed: each judgement that could have gone the other way has a row here."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain import classification
from shared.domain.classification import classify, code, find_codes
from shared.domain.vocabulary import Classification

C = Classification


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({"enhanced_code": "5.1.1"}, C.INVALID_RECIPIENT),
        ({"enhanced_code": "5.1.10"}, C.INVALID_DOMAIN),
        ({"enhanced_code": "5.2.1"}, C.INACTIVE_MAILBOX),
        ({"enhanced_code": "4.2.2"}, C.MAILBOX_FULL),
        ({"enhanced_code": "5.4.4"}, C.INVALID_DOMAIN),
        ({"enhanced_code": "4.4.4"}, C.DNS_FAILURE),
        ({"enhanced_code": "4.7.1"}, C.TRANSIENT_FAILURE),
        ({"enhanced_code": "5.7.1"}, C.POLICY_REJECTION),
        ({"enhanced_code": "5.7.26"}, C.POLICY_REJECTION),
        ({"enhanced_code": "5.1.99"}, C.INVALID_RECIPIENT),
        ({"enhanced_code": "5.1.8"}, C.POLICY_REJECTION),
        ({"enhanced_code": "5.4.7"}, C.TRANSIENT_FAILURE),
        ({"enhanced_code": "5.2.0"}, C.UNCLASSIFIED),
        ({"enhanced_code": "5.3.0"}, C.UNCLASSIFIED),
        ({"enhanced_code": "5.2.0", "smtp_status": "550"}, C.INVALID_RECIPIENT),
        ({"enhanced_code": "5.7.1", "smtp_status": "550"}, C.POLICY_REJECTION),
        ({"smtp_status": "550"}, C.INVALID_RECIPIENT),
        ({"smtp_status": "552"}, C.MAILBOX_FULL),
        ({"smtp_status": "452"}, C.TRANSIENT_FAILURE),
        ({"smtp_status": "499"}, C.TRANSIENT_FAILURE),
        ({"smtp_status": "599"}, C.UNCLASSIFIED),
        ({"smtp_status": "250"}, C.UNCLASSIFIED),
        ({"word": "spam_block", "enhanced_code": "5.1.1"}, C.SPAM_BLOCK),
        ({"word": "Mailbox_Full"}, C.MAILBOX_FULL),
        ({"word": "10"}, C.INVALID_RECIPIENT),
        ({"word": "99", "smtp_status": "421"}, C.TRANSIENT_FAILURE),
        ({"word": "unclassified", "enhanced_code": "5.1.1"}, C.INVALID_RECIPIENT),
        ({"word": "never heard of"}, C.UNCLASSIFIED),
        ({}, C.UNCLASSIFIED),
    ],
)
def test_a_failure_is_classified_by_the_most_telling_of_what_is_known(
    known: dict[str, str], expected: Classification
) -> None:
    assert classify(**known) is expected


@pytest.mark.parametrize("word", [item for item in Classification if item is not C.UNCLASSIFIED])
def test_every_classification_is_a_word_and_has_its_number(word: Classification) -> None:
    assert classify(word=word) is word
    assert classify(word=str(code(word).value)) is word
    assert code(word).name == word.name


def test_the_unclassified_have_a_number_too() -> None:
    assert code(C.UNCLASSIFIED).value == 99


def test_the_tables_hold_codes_that_exist() -> None:
    assert all(re.fullmatch(r"[45]\.\d\.\d{1,3}", row) for row in classification.ENHANCED)
    assert all(re.fullmatch(r"[45]\.\d", row) for row in classification.SUBJECTS)
    assert all(re.fullmatch(r"[45]\d\d", row) for row in classification.REPLIES)


@pytest.mark.parametrize(
    "enhanced_code", [row for row, found in classification.ENHANCED.items() if row.startswith("4")]
)
def test_no_temporary_code_says_that_an_address_or_a_domain_is_gone(enhanced_code: str) -> None:
    assert classify(enhanced_code=enhanced_code) not in {C.INVALID_RECIPIENT, C.INACTIVE_MAILBOX, C.INVALID_DOMAIN}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("550 5.1.1 User unknown", ("550", "5.1.1")),
        ("550-5.1.1 User unknown", ("550", "5.1.1")),
        ("550 #5.1.1 User unknown", ("550", "5.1.1")),
        ("5.1.1 User unknown", (None, "5.1.1")),
        ("5.1.1", (None, "5.1.1")),
        ("550", ("550", None)),
        ("  452 mailbox full: Delivery failed", ("452", None)),
        ("421: try later", ("421", None)),
        ("host mx.example said: 554 5.7.1 no", ("554", "5.7.1")),
        ("smtp; 550 5.2.2 <a@b> full.", ("550", "5.2.2")),
        ("see 5.1.1. Then again", (None, "5.1.1")),
        ("250 2.0.0 Ok: queued", ("250", "2.0.0")),
        ("blocked: 5.1.1.2", (None, None)),
        ("192.5.1.1", (None, None)),
        ("version 15.1.1", (None, None)),
        ("in 550 days", (None, None)),
        ("5501 x", (None, None)),
        ("3.1.1 6.1.1 350 x", (None, None)),
        ("5.1.1234", (None, None)),
        ("", (None, None)),
        (None, (None, None)),
    ],
)
def test_codes_are_found_in_what_servers_write(text: str | None, expected: tuple[str | None, str | None]) -> None:
    assert find_codes(text) == expected


def test_what_one_text_lacks_the_next_may_have() -> None:
    assert find_codes("5.1.1", None, "550 5.7.1 no") == ("550", "5.1.1")


@settings(deadline=None)
@given(st.text(st.characters()))
def test_any_text_can_be_searched(text: str) -> None:
    find_codes(text, text * 500)
