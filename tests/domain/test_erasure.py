"""An address is found in whatever form it is written, and nobody else's is taken for it."""

import json
import re
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.addresses import normalize
from shared.domain import erasure
from shared.domain.erasure import Eraser, Understood
from shared.targets import TargetError

KEY = "0123456789abcdef" * 2
ANN = "ann+x@xn--bcher-kva.example"
eraser = Eraser(ANN, "PSEUDONYM")

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
def test_it_is_replaced_in_every_form_wherever_it_stands(written: str, before: str, after: str) -> None:
    assert eraser.erase(f"{before}{written}{after}") == f"{before}PSEUDONYM{after}"


@pytest.mark.parametrize("written", ["ann@faß.de", "Ann@FAẞ.de", r"ann@fa\u00df.de", "ann@xn--fa-hia.de"])
def test_a_domain_is_found_by_the_letters_that_older_rules_replaced(written: str) -> None:
    assert Eraser(normalize("ann@faß.de"), "PSEUDONYM").erase(f"<{written}>") == "<PSEUDONYM>"


@pytest.mark.parametrize("written", NOT_HERS)
def test_another_address_is_left_as_it_is(written: str) -> None:
    text = f'["{written}"]'
    assert eraser.erase(text) is text


def test_every_occurrence_is_replaced_and_everything_else_stays() -> None:
    text = f"{HERS[0]},{NOT_HERS[0]};{HERS[4]} {HERS[2]}"
    assert eraser.erase(text) == f"PSEUDONYM,{NOT_HERS[0]};PSEUDONYM PSEUDONYM"


texts = st.text(st.sampled_from("ann+x@büchr.e \\u0061%40\"'<>n\udc80"), max_size=40)


@given(texts, st.sampled_from(HERS), texts)
def test_what_is_erased_is_not_there_any_more(before: str, written: str, after: str) -> None:
    erased = eraser.erase(f"{before} {written} {after}")
    assert " PSEUDONYM " in erased
    assert eraser.erase(erased) is erased


@given(texts)
def test_a_text_without_it_comes_back_as_it_is(text: str) -> None:
    if "PSEUDONYM" not in (erased := eraser.erase(text)):
        assert erased is text


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_bytes_around_it_stay_whatever_they_are(before: bytes, after: bytes) -> None:
    body = before + b" " + ANN.encode() + b" " + after
    assert eraser.erase_bytes(body) == before + b" PSEUDONYM " + after


@given(
    st.sampled_from(
        ["a%40b@example.net", "Ann@Example.net", "a.b+c_d@Sub.example.net", "ünder@example.net", "x@bücher.example"]
    )
)
def test_what_encoders_make_of_it_is_found(written: str) -> None:
    his = Eraser(normalize(written), "PSEUDONYM")
    forms = [
        written,
        json.dumps(written),
        json.dumps(written, ensure_ascii=False),
        quote(written),
        quote(written, safe="@"),
    ]
    assert all("PSEUDONYM" in his.erase(form) for form in forms)


@pytest.mark.parametrize(
    "written", ["Ann <ann@example.net>", "ann@example.net (Ann)", " ANN@example.net ", "Ann ann@example.net"]
)
def test_a_string_that_is_understood_as_it_is_replaced_as_a_whole_if_that_is_wanted(written: str) -> None:
    his = Understood("ann@example.net", "PSEUDONYM")
    assert "ann@" not in his.erase(json.dumps({"to": written})).lower()
    assert his.erase('{"to": "ann (x) @example.net", "cc": "joann@example.net"}') == (
        '{"to": "PSEUDONYM", "cc": "joann@example.net"}'
    )
    assert his.erase_bytes(b'{"to": "\xff"}') == b'{"to": "\xff"}'


def test_a_pseudonym_tells_its_key_and_nothing_else_does() -> None:
    assert erasure.key_of(erasure.pseudonym(KEY)) == KEY
    for other in ("ann@erased.invalid", f"{KEY}@erased.invalid.org", f"x{KEY}@erased.invalid", KEY, ""):
        assert erasure.key_of(other) is None


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
def test_an_address_with_quotation_marks_and_spaces_is_replaced_too(text: str) -> None:
    odd = Eraser(ODD, "PSEUDONYM")
    assert odd.erase(f'"to": "{text}", and <{text}>') == '"to": "PSEUDONYM", and <PSEUDONYM>'
    assert odd.erase(f"{text}.org") == f"{text}.org"


@pytest.mark.parametrize("text", [json.dumps({"to": ODD}), f"to {ODD}", f"to {ODD.replace('@', '%40')}"])
def test_the_database_finds_texts_with_an_odd_address(text: str) -> None:
    patterns = [re.sub(r"\\(.)", r"\1", pattern)[1:-1] for pattern in Eraser(ODD, "PSEUDONYM").patterns]
    assert any(pattern in text for pattern in patterns)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (" Ann <ANN@x.example> ", "ann@x.example"),
        ('"Ann Lee"@x.example', '"ann lee"@x.example'),
        ("ann@[192.0.2.1]", "ann@[192.0.2.1]"),
    ],
)
def test_whoever_is_kept_can_be_erased(text: str, address: str) -> None:
    assert erasure.subject(text) == address


@pytest.mark.parametrize("text", ["", "ann", "@x.example", "ann@", "a@x.example, b@x.example", '"a\0"@x.example'])
def test_nobody_is_erased_by_a_guess(text: str) -> None:
    with pytest.raises(TargetError):
        erasure.subject(text)
