"""Why a delivery failed: each debatable classification has a row here."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli import docs_page
from shared.classification import diagnostic_text
from shared.classification.classify import Hardness, classify, code_of, find_codes, hardness, judge, write_reply
from shared.classification.enhanced_codes import ENHANCED_CODES, HOSTER_CODES, REGISTERED, SUBJECTS
from shared.classification.patterns import ADDRESS_INVALID, PATTERNS
from shared.classification.provider_codes import REPLY_CODES
from shared.vocabulary import Classification, EventType

C = Classification

# How many details of each subject the registry has, counted from 0.
REGISTRY = {0: 1, 1: 11, 2: 5, 3: 7, 4: 8, 5: 7, 6: 11, 7: 31}

# Every code_of of the registry, as 4 and as 5.
EXPECTED = {
    C.INVALID_RECIPIENT: "5.1.0 5.1.1 5.1.3 5.1.4",
    C.INACTIVE_MAILBOX: "5.1.6 5.2.1 5.7.17",
    C.MAILBOX_FULL: "4.2.2 5.2.2",
    C.INVALID_DOMAIN: "5.1.2 5.1.10 5.4.4 5.7.18",
    C.DNS_FAILURE: "4.1.2 4.1.10 4.4.3 5.4.3 4.4.4",
    C.ROUTING_ERROR: "4.2.4 5.2.4 4.3.5 5.3.5 5.4.0 5.4.1 4.4.6 5.4.6",
    C.SPAM_BLOCK: "4.7.28 5.7.28",
    C.POLICY_REJECTION: (
        "4.1.7 5.1.7 4.1.8 5.1.8 4.2.3 5.2.3 4.3.4 5.3.4 5.5.3 4.7.0 5.7.0 5.7.1 4.7.2 5.7.2 4.7.3 5.7.3 4.7.4 5.7.4"
        " 4.7.5 5.7.5 4.7.6 5.7.6 4.7.7 5.7.7 4.7.8 5.7.8 4.7.9 5.7.9 4.7.10 5.7.10 4.7.11 5.7.11 4.7.12 5.7.12 4.7.13"
        " 5.7.13 4.7.14 5.7.14 5.7.15 4.7.16 5.7.16 5.7.19 4.7.20 5.7.20 4.7.21 5.7.21 4.7.22 5.7.22 4.7.23 5.7.23"
        " 4.7.24 5.7.24 4.7.25 5.7.25 4.7.26 5.7.26 4.7.27 5.7.27 4.7.29 5.7.29 4.7.30 5.7.30"
    ),
    C.CONNECTION_ERROR: "4.4.0 4.4.1 4.4.2 5.4.2",
    C.PROTOCOL_ERROR: (
        "5.1.9 4.3.3 5.3.3 4.5.0 5.5.0 4.5.1 5.5.1 4.5.2 5.5.2 4.5.4 5.5.4 4.5.5 5.5.5 4.5.6 5.5.6 4.6.0 5.6.0"
        " 4.6.1 5.6.1 4.6.2 5.6.2 4.6.3 5.6.3 4.6.4 5.6.4 4.6.5 5.6.5 4.6.6 5.6.6 4.6.7 5.6.7 4.6.8 5.6.8 4.6.9 5.6.9"
        " 4.6.10 5.6.10"
    ),
    C.TRANSIENT_FAILURE: (
        "4.0.0 4.1.0 4.1.1 4.1.3 4.1.4 4.1.5 4.1.6 4.1.9 4.2.0 4.2.1 4.3.0 4.3.1 5.3.1 4.3.2 5.3.2 4.3.6 4.4.5 5.4.5"
        " 4.4.7 5.4.7 4.5.3 4.7.1 4.7.15 4.7.17 4.7.18 4.7.19"
    ),
    C.UNCLASSIFIED: "5.0.0 5.1.5 5.2.0 5.3.0 5.3.6",
}


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
        ({"enhanced_code": "5.2.0", "smtp_status": "550"}, C.UNCLASSIFIED),
        ({"enhanced_code": "5.0.0", "smtp_status": "550"}, C.UNCLASSIFIED),
        ({"enhanced_code": "5.3.0", "smtp_status": "554"}, C.POLICY_REJECTION),
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
def test_a_failure_is_classified_by_its_most_specific_sign(known: dict[str, str], expected: Classification) -> None:
    assert classify(**known) is expected


@pytest.mark.parametrize("word", [item for item in Classification if item is not C.UNCLASSIFIED])
def test_every_classification_is_a_word_and_has_its_number(word: Classification) -> None:
    assert classify(word=word) is word
    assert classify(word=str(code_of(word).value)) is word
    assert code_of(word).name == word.name


def test_the_unclassified_have_a_number_too() -> None:
    assert code_of(C.UNCLASSIFIED).value == 99


@pytest.mark.parametrize(
    ("enhanced_code", "expected"), [(key, reason) for reason, keys in EXPECTED.items() for key in keys.split()]
)
def test_every_registered_code_has_its_meaning(enhanced_code: str, expected: Classification) -> None:
    assert classify(enhanced_code=enhanced_code) is expected


def test_the_table_of_codes_is_the_registry() -> None:
    registry = {f"{subject}.{detail}" for subject, details in REGISTRY.items() for detail in range(details)}
    assert set(REGISTERED) == registry
    listed = [key for keys in EXPECTED.values() for key in keys.split()]
    assert sorted(listed) == sorted(f"{kind}.{detail}" for kind in "45" for detail in registry)


def test_the_tables_hold_codes_that_exist() -> None:
    assert all(re.fullmatch(r"[45]\.\d\.\d{1,3}", row) for row in ENHANCED_CODES)
    assert all(re.fullmatch(r"[45]\.\d", row) for row in SUBJECTS)
    assert all(re.fullmatch(r"[45]\d\d", row) for row in REPLY_CODES)


def test_no_hoster_redefines_a_code_of_the_registry() -> None:
    assert not {span.first[2:] for span in HOSTER_CODES} & set(REGISTERED)
    assert len(ENHANCED_CODES) == 2 * len(REGISTERED) + sum(
        s.last - int(s.first.rpartition(".")[2]) + 1 for s in HOSTER_CODES
    )


@pytest.mark.parametrize("enhanced_code", [row for row in ENHANCED_CODES if row.startswith("4")])
def test_no_temporary_code_says_that_an_address_or_a_domain_is_gone(enhanced_code: str) -> None:
    assert classify(enhanced_code=enhanced_code) not in ADDRESS_INVALID


@pytest.mark.parametrize(
    ("enhanced_code", "expected"),
    [
        ("5.1.90", C.POLICY_REJECTION),
        ("5.2.122", C.TRANSIENT_FAILURE),
        ("5.4.310", C.INVALID_DOMAIN),
        ("4.4.312", C.DNS_FAILURE),
        ("4.7.500", C.SPAM_BLOCK),
        ("4.7.650", C.SPAM_BLOCK),
        ("4.7.700", C.POLICY_REJECTION),
        ("5.7.504", C.INVALID_RECIPIENT),
        ("5.7.509", C.POLICY_REJECTION),
        ("5.7.606", C.SPAM_BLOCK),
        ("5.7.649", C.SPAM_BLOCK),
        ("5.7.650", C.POLICY_REJECTION),
        ("4.7.40", C.POLICY_REJECTION),
        ("5.1.351", C.INVALID_RECIPIENT),
        ("5.0.350", C.UNCLASSIFIED),
        ("5.10.1", C.UNCLASSIFIED),
        ("2.0.0", C.UNCLASSIFIED),
    ],
)
def test_codes_beside_the_registry_are_those_of_a_hoster_or_of_their_subject(
    enhanced_code: str, expected: Classification
) -> None:
    assert classify(enhanced_code=enhanced_code) is expected


@given(
    st.none() | st.text(st.characters()),
    st.none() | st.sampled_from([*ENHANCED_CODES, "5.9.9", "x"]) | st.text(),
    st.none() | st.sampled_from([*REPLY_CODES, "499", "250"]) | st.text(),
    st.none()
    | st.text(st.characters())
    | st.lists(st.sampled_from([p for w in PATTERNS for p in w.phrases])).map(" ".join),
)
def test_whatever_is_known_gives_one_classification_and_always_the_same(
    word: str | None, enhanced_code: str | None, smtp_status: str | None, text: str | None
) -> None:
    known = {"word": word, "enhanced_code": enhanced_code, "smtp_status": smtp_status, "text": text}
    found = classify(**known)
    assert isinstance(found, Classification)
    diagnostic_text.find.cache_clear()
    assert classify(**known) is found


GONE = {C.INVALID_RECIPIENT, C.INACTIVE_MAILBOX, C.INVALID_DOMAIN}
SENDERS = {C.SPAM_BLOCK, C.SPAM_CONTENT, C.POLICY_REJECTION}


@pytest.mark.parametrize("reason", C)
@pytest.mark.parametrize("kind", [EventType.BOUNCED, EventType.FAILED])
def test_a_failure_is_hard_if_the_address_is_gone_and_soft_unless_it_is_the_senders_affair(
    kind: EventType, reason: Classification
) -> None:
    expected = Hardness.HARD if reason in GONE else Hardness.NONE if reason in SENDERS else Hardness.SOFT
    assert hardness(kind, reason) is expected


@pytest.mark.parametrize("reason", C)
def test_a_retried_failure_is_never_hard(reason: Classification) -> None:
    assert hardness(EventType.DEFERRED, reason) is (Hardness.NONE if reason in SENDERS else Hardness.SOFT)


@pytest.mark.parametrize("kind", sorted(set(EventType) - {EventType.BOUNCED, EventType.FAILED, EventType.DEFERRED}))
def test_what_no_server_of_the_recipient_said_is_neither_hard_nor_soft(kind: EventType) -> None:
    assert {hardness(kind, reason) for reason in C} == {Hardness.NONE}


@pytest.mark.parametrize("smtp_status", REPLY_CODES)
@pytest.mark.parametrize("text", ["Xyzzy", "gone@x.example: xyzzy", "{} (gone@x.example:xyzzy)"])
def test_no_reply_code_condemns_an_address_beside_an_unknown_text(smtp_status: str, text: str) -> None:
    assert classify(smtp_status=smtp_status, text=text.format(smtp_status)) not in ADDRESS_INVALID


@pytest.mark.parametrize("smtp_status", REPLY_CODES)
@pytest.mark.parametrize("enhanced_code", EXPECTED[C.UNCLASSIFIED].split())
def test_no_reply_code_condemns_an_address_beside_an_enhanced_code_that_says_nothing(
    smtp_status: str, enhanced_code: str
) -> None:
    assert classify(smtp_status=smtp_status, enhanced_code=enhanced_code) not in ADDRESS_INVALID


@pytest.mark.parametrize("text", [None, "", "550", " 550 ", "550 <gone@x.example>", "550-gone@x.example:"])
def test_a_reply_code_that_stands_alone_is_believed(text: str | None) -> None:
    assert classify(smtp_status="550", text=text) is C.INVALID_RECIPIENT


def test_a_failure_without_signs_equals_one_with_an_unknown_text() -> None:
    assert hardness(EventType.BOUNCED, None) is hardness(EventType.BOUNCED, C.UNCLASSIFIED) is Hardness.SOFT


def test_the_page_is_what_the_tables_say() -> None:
    written = docs_page.PAGE.read_text(encoding="utf-8")
    assert written == docs_page.compose(), f"run `{docs_page.REGENERATE}`"


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
        ("550 ESMTP Exim 4.94.2: no such user here", ("550", None)),
        ("5.1.1234", (None, None)),
        ("", (None, None)),
        (None, (None, None)),
        (
            "5.1.0 - Unknown address error '5.7.1 <a@x.example>... Access denied' (delivery attempts: 0)",
            (None, "5.7.1"),
        ),
        ("5.1.0 - Unknown address error 550-'5.2.2 mailbox full'", ("550", "5.2.2")),
        ("Remote Server returned '550 5.1.10 RESOLVER.ADR.RecipientNotFound'", (None, "5.1.10")),
        ("550 5.1.1 it's 5.2.2", ("550", "5.1.1")),
    ],
)
def test_codes_are_found_in_what_servers_write(text: str | None, expected: tuple[str | None, str | None]) -> None:
    assert find_codes(text) == expected


def test_what_one_text_lacks_the_next_may_have() -> None:
    assert find_codes("5.1.1", None, "550 5.7.1 no") == ("550", "5.1.1")


@given(st.text(st.characters()))
def test_any_text_can_be_searched(text: str) -> None:
    find_codes(text, text * 500)


@pytest.mark.parametrize(
    ("known", "table", "row", "expected"),
    [
        ({"word": "no_mailbox"}, "provider word", "no_mailbox", C.INVALID_RECIPIENT),
        ({"word": "retries_exhausted"}, "provider word", "retries_exhausted", C.TRANSIENT_FAILURE),
        ({"enhanced_code": "5.7.26", "text": "user unknown"}, "enhanced code", "5.7.26", C.POLICY_REJECTION),
        ({"enhanced_code": "5.1.351"}, "subject of the enhanced code", "5.1.351", C.INVALID_RECIPIENT),
        ({"smtp_status": "550", "text": "over quota"}, "text", "the mailbox is full", C.MAILBOX_FULL),
        ({"smtp_status": "554", "text": "xyzzy"}, "reply code", "554", C.POLICY_REJECTION),
        ({"smtp_status": "499"}, "reply code", "499", C.TRANSIENT_FAILURE),
        ({"text": "xyzzy"}, "no row matches", "", C.UNCLASSIFIED),
    ],
)
def test_a_judgement_names_the_row_that_decided(
    known: dict[str, str], table: str, row: str, expected: Classification
) -> None:
    found = judge(known.get("word"), known.get("enhanced_code"), known.get("smtp_status"), known.get("text"))
    assert (found.table, found.row, found.classification) == (table, row, expected)


@pytest.mark.parametrize(
    ("word", "status", "text", "expected"),
    [
        ("hard-bounced", None, None, C.INVALID_RECIPIENT),
        ("hard-bounced", "250", None, C.INVALID_RECIPIENT),
        ("hard-bounced", "250", "2.0.0 OK, queued", C.INVALID_RECIPIENT),
        ("hard-bounced", "550", "xyzzy", C.UNCLASSIFIED),
        ("hard-bounced", "550", "spam detected", C.SPAM_CONTENT),
        ("hard-bounced", "552", "mailbox full", C.MAILBOX_FULL),
        ("bounce", None, None, C.INVALID_RECIPIENT),
        ("bounce", None, "xyzzy", C.UNCLASSIFIED),
        ("bounce", "554", None, C.POLICY_REJECTION),
        ("error", None, None, C.POLICY_REJECTION),
        ("suppressed", None, None, C.POLICY_REJECTION),
        ("rate_limit", None, None, C.POLICY_REJECTION),
        ("retries_exhausted", None, None, C.TRANSIENT_FAILURE),
        ("auto_reply", None, None, C.UNCLASSIFIED),
    ],
)
def test_a_providers_word_decides_where_the_server_said_nothing(
    word: str, status: str | None, text: str | None, expected: Classification
) -> None:
    assert classify(word=word, smtp_status=status, text=text) is expected


@pytest.mark.parametrize(
    ("status", "enhanced_code", "text", "expected"),
    [
        # The text has a reason that is not the address's.
        ("552", "5.1.1", "mailbox is over quota", C.MAILBOX_FULL),
        ("550", "5.1.1", "your host has sent to too many recipients this hour", C.POLICY_REJECTION),
        ("553", "5.1.3", "blocked, see spamhaus.org", C.SPAM_BLOCK),
        ("553", "5.1.1", "Domain of sender address does not exist", C.POLICY_REJECTION),
        ("550", "5.1.2", "Host not found, try again", C.DNS_FAILURE),
        # General words do not contradict a code, nor does what was said of later commands.
        ("550", "5.1.1", "access denied", C.INVALID_RECIPIENT),
        ("550", "5.1.1", "no. 503 Bad sequence of commands", C.INVALID_RECIPIENT),
        ("550", "5.1.1", "User unknown. This server uses a block list", C.INVALID_RECIPIENT),
        # The text blames the sender, and the code the conversation.
        ("550", "5.5.1", "poor reputation", C.SPAM_BLOCK),
        ("451", "4.4.5", "Excessive unknown recipients - possible open relay", C.SPAM_BLOCK),
        ("550", "5.5.0", "xyzzy", C.POLICY_REJECTION),
        ("550", "5.5.1", "xyzzy", C.PROTOCOL_ERROR),
        ("553", None, "the gateway refuses the sender", C.POLICY_REJECTION),
        # A code about the sender stands, whatever the text.
        ("550", "5.7.26", "mailbox full", C.POLICY_REJECTION),
    ],
)
def test_a_text_that_speaks_for_the_address_outranks_a_code_against_it(
    status: str, enhanced_code: str, text: str, expected: Classification
) -> None:
    assert classify(smtp_status=status, enhanced_code=enhanced_code, text=text) is expected


@pytest.mark.parametrize("status", ["500", "501", "502", "503", "504", "552", "555"])
def test_an_unreadable_refusal_of_the_dialogue_is_no_soft_bounce(status: str) -> None:
    assert hardness(EventType.BOUNCED, classify(smtp_status=status, text="xyzzy")) is Hardness.NONE
    assert hardness(EventType.BOUNCED, classify(smtp_status=status)) is Hardness.SOFT


@pytest.mark.parametrize(
    ("codes", "text", "expected"),
    [
        (("550", "5.1.1"), "User unknown", "550 5.1.1 User unknown"),
        (("550", "5.1.1"), "550 5.1.1 User unknown", "550 5.1.1 User unknown"),
        (("554", "5.7.1"), "smtp; 554-5.7.1 Refused.", "smtp; 554-5.7.1 Refused."),
        (("550", "5.1.1"), "5.1.1 User unknown", "550 5.1.1 User unknown"),
        (("550", "5.1.1"), "550 5.1.10 Null MX", "5.1.1 550 5.1.10 Null MX"),
        (("550", None), "user 1550 unknown", "550 user 1550 unknown"),
        (("452", "4.2.2"), None, "452 4.2.2"),
        ((None, None), None, ""),
    ],
)
def test_a_reply_is_written_with_each_code_once(codes: tuple[str | None, ...], text: str | None, expected: str) -> None:
    assert write_reply(codes, text) == expected
