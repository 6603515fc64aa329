"""An address is found in every spelling, and no other address matches."""

import json
import re
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.addresses import AddressError, normalize
from shared.erasure.matching import AddressMatcher, parse_address

ANN = "ann+x@xn--bcher-kva.example"
matcher = AddressMatcher(ANN, "PSEUDONYM")

HERS = [
    "ann+x@xn--bcher-kva.example",
    "ANN+X@XN--bcher-KVA.example",
    "ann+x@bücher.example",
    "Ann+x@BÜCHER.EXAMPLE",
    r"ann+x@b\u00fccher.example",
    r"ann\u002bx\u0040b\u00DCcher.example",
    r"\u0061nn+x@bücher.example",
    "ann%2Bx%40b%c3%bccher.example",
    "ann+x@B%C3%9Ccher.example",
    "ann+x@bu\u0308cher.example",
]
AROUND = [
    ("", ""), ("<", ">"), ("mailto:", "?x"), ('"', '"'), ("'", "'"), (r"\"", r"\""), ("to ", "."), ("(", ")"),
    (r"\n", r"\r"), (r"\u003c", r"\u003e"), ("%3C", "%3E"), ("?u=", "&v=1"), ("\\\\", "\\\\"), ("=", " "), ("/", "/"),
    ("ä ", " ä"), ("\udc80", "\udc80"), ("\n", "\n"), (";", ""),
]  # fmt: skip
NOT_HERS = [
    "xann+x@xn--bcher-kva.example",
    "o'ann+x@xn--bcher-kva.example",
    "joe.ann+x@bücher.example",
    "joe-ann+x@bücher.example",
    "joe_ann+x@bücher.example",
    r"\u0061ann+x@bücher.example",
    r"\\nann+x@bücher.example",
    "%61ann+x@bücher.example",
    "ann@bücher.example",
    "ann+x@bücher.example.org",
    "ann+x@bücher.examples",
    "ann+x@bücher.example-x",
    "ann+x@bucher.example",
    "ann+x(at)bücher.example",
    r"ann+x@b\\u00fccher.example",
]


@pytest.mark.parametrize(("before", "after"), AROUND)
@pytest.mark.parametrize("written", HERS)
def test_it_is_found_in_every_spelling_wherever_it_stands(written: str, before: str, after: str) -> None:
    text = f"{before}{written}{after}"
    assert matcher.is_in(text)
    assert matcher.is_in(text.encode("utf-8", "surrogateescape"))
    assert not matcher.is_in(matcher.pseudonymize(text))
    assert "PSEUDONYM" in matcher.pseudonymize(text)


@pytest.mark.parametrize("written", ["ann@faß.de", "Ann@FAẞ.de", r"ann@fa\u00df.de", "ann@xn--fa-hia.de"])
def test_a_domain_is_found_by_the_letters_that_older_rules_replaced(written: str) -> None:
    assert AddressMatcher(normalize("ann@faß.de"), "PSEUDONYM").is_in(f"<{written}>")


@pytest.mark.parametrize(
    "written",
    [
        "mu\N{COMBINING DIAERESIS}ller@example.net", "m\u00adüller@example.net", "\u200bmü\u200bller@example.net",
        '"müller"@example.net', r"\"m\u00fcller\"@example.net", "M\u00dcLLER@exam\u200bple.net",
    ],
)  # fmt: skip
def test_spellings_that_are_stored_as_one_address_are_erased_as_one(written: str) -> None:
    his = AddressMatcher(normalize("müller@example.net"), "PSEUDONYM")
    assert his.is_in(f"<{written}> said")
    assert not his.is_in(his.pseudonymize(f"<{written}> said"))


@pytest.mark.parametrize("written", NOT_HERS)
def test_another_address_is_left_as_it_is(written: str) -> None:
    text = f'["{written}"]'
    assert not matcher.is_in(text)
    assert matcher.pseudonymize(text) == text
    assert matcher.pseudonymize_json(text) == text
    assert matcher.delete_json(text) == text


def test_in_a_sentence_only_the_address_is_replaced() -> None:
    text = f"{HERS[0]},{NOT_HERS[0]};{HERS[3]} <{HERS[2]}>."
    assert matcher.pseudonymize(text) == f"PSEUDONYM,{NOT_HERS[0]};PSEUDONYM <PSEUDONYM>."


def test_the_pseudonym_replaces_all_of_a_text_that_has_the_address_in_escapes() -> None:
    assert matcher.pseudonymize("https://x.example/?u=ann%2Bx%40b%C3%BCcher.example&v=1") == "PSEUDONYM"


def test_in_json_only_the_strings_that_hold_the_address_change() -> None:
    text = r'{"ann\u002bx@b\u00fccher.example" :  1.50, "to":["Ann <ann+x@B\u00fccher.example>","joe"],"n": 1e999}'
    assert matcher.pseudonymize_json(text) == '{"PSEUDONYM" :  1.50, "to":["Ann <PSEUDONYM>","joe"],"n": 1e999}'
    assert matcher.delete_json(text) == "{}"


texts = st.text(st.sampled_from("ann+x@büchr.e \\u0061%40\"'<>n\udc80"), max_size=40)


@given(texts, st.sampled_from(HERS), texts)
def test_what_is_pseudonymized_does_not_hold_the_address_any_more(before: str, written: str, after: str) -> None:
    text = f"{before} {written} {after}"
    assert matcher.is_in(text)
    assert not matcher.is_in(matcher.pseudonymize(text))


@given(texts)
def test_a_text_without_it_stays_as_it_is(text: str) -> None:
    if "PSEUDONYM" not in (replaced := matcher.pseudonymize(text)):
        assert replaced == text
        assert not matcher.is_in(text)


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_it_is_found_among_any_bytes(before: bytes, after: bytes) -> None:
    assert matcher.is_in(before + b" " + ANN.encode() + b" " + after)


ENCODED = ["a%40b@example.net", "Ann@Example.net", "a.b+c_d@Sub.example.net", "ünder@example.net", "x@bücher.example"]


@pytest.mark.parametrize("written", ENCODED)
def test_what_encoders_make_of_it_is_found(written: str) -> None:
    his = AddressMatcher(normalize(written), "PSEUDONYM")
    forms = [
        written,
        json.dumps(written),
        json.dumps(written, ensure_ascii=False),
        quote(written),
        quote(written, safe="@"),
    ]
    assert all(map(his.is_in, forms))


@pytest.mark.parametrize(
    "written",
    [
        "Ann <ann@example.net>",
        "ann@example.net (Ann)",
        " ANN@example.net ",
        "Ann ann@example.net",
        "ann (x) @example.net",
    ],
)
def test_a_string_that_normalizes_to_the_address_does_not_keep_it(written: str) -> None:
    his = AddressMatcher("ann@example.net", "PSEUDONYM")
    replaced = his.pseudonymize(written)
    assert "PSEUDONYM" in replaced
    assert "@" not in replaced
    assert his.pseudonymize_json(json.dumps({"to": written, "cc": "joann@example.net"})) == (
        json.dumps({"to": replaced, "cc": "joann@example.net"})
    )


ODD = '"ann lee"@x.example'


@pytest.mark.parametrize(
    "text",
    [
        ODD,
        '"Ann Lee"@X.example',
        r"\"ann lee\"@x.example",
        r"\u0022ann\u0020lee\u0022\u0040x.example",
        "%22ann%20lee%22%40x.example",
    ],
)
def test_an_address_with_quotation_marks_and_spaces_is_found_too(text: str) -> None:
    odd = AddressMatcher(ODD, "PSEUDONYM")
    assert odd.is_in(f'"to": "{text}", and <{text}>')
    assert not odd.is_in(f"{text}.org")


CANDIDATES = [*HERS, json.dumps({"to": ODD}), f"to {ODD}", f"to {ODD.replace('@', '%40')}"]


@pytest.mark.parametrize("text", CANDIDATES)
def test_the_database_leaves_out_no_text_that_holds_it(text: str) -> None:
    odd = AddressMatcher(ODD, "PSEUDONYM")
    assert any(re.search(one.sql_pattern, text, re.IGNORECASE) for one in (matcher, odd) if one.is_in(text))
    assert not re.search(matcher.sql_pattern, "to somebody@else.example")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (" Ann <ANN@x.example> ", "ann@x.example"),
        ('"Ann Lee"@x.example', '"ann lee"@x.example'),
        ("ann@[192.0.2.1]", "ann@[192.0.2.1]"),
    ],
)
def test_every_address_that_is_kept_can_be_erased(text: str, address: str) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["", "ann", "@x.example", "ann@", "a@x.example, b@x.example", '"a\0"@x.example'])
def test_no_address_is_erased_by_a_guess(text: str) -> None:
    with pytest.raises(AddressError):
        parse_address(text)
