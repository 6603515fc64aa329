"""Addresses are normalized, so that the same recipient is found again."""

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.addresses import normalize, strip_brackets


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("maria@customer.example", "maria@customer.example"),
        (" Maria@Customer.EXAMPLE\n", "maria@customer.example"),
        ("<maria@customer.example>", "maria@customer.example"),
        ("Maria <Maria@customer.example>", "maria@customer.example"),
        ('"Maria, <M.>" <maria@customer.example>', "maria@customer.example"),
        ("maria@customer.example (Maria)", "maria@customer.example"),
        ("maria+tag@customer.example", "maria+tag@customer.example"),
        ("m.a.r.i.a@customer.example", "m.a.r.i.a@customer.example"),
        ("maria@bücher.example", "maria@xn--bcher-kva.example"),
        ("maria@BÜCHER.example", "maria@xn--bcher-kva.example"),
        ("märia@bücher.example", "märia@xn--bcher-kva.example"),
        ("u@faß.de", "u@xn--fa-hia.de"),
        ("u@FAẞ.de", "u@xn--fa-hia.de"),
        ("u@xn--fa-hia.de", "u@xn--fa-hia.de"),
        ("u@fass.de", "u@fass.de"),
        ("u@Fußbücher.example", "u@xn--fubcher-1va6x.example"),
        ("u@βόλος.com", "u@xn--nxasmm1c.com"),
        ("u@ΒΌΛΟΣ.com", "u@xn--nxasmq6b.com"),
        ("u@نامه\N{ZERO WIDTH NON-JOINER}ای.com", "u@xn--mgba3gch31f060k.com"),
        ("u@custo\N{ZERO WIDTH JOINER}mer.example", "u@customer.example"),
        ("u@bücher\N{IDEOGRAPHIC FULL STOP}example", "u@xn--bcher-kva.example"),
        ("u@\N{FULLWIDTH LATIN CAPITAL LETTER B}ÜCHER\N{FULLWIDTH FULL STOP}example", "u@xn--bcher-kva.example"),
        ("u@bu\N{COMBINING DIAERESIS}cher.example", "u@xn--bcher-kva.example"),
        ("u@bü\N{SOFT HYPHEN}cher.example", "u@xn--bcher-kva.example"),
        ("u@_mx.bücher.example", "u@_mx.xn--bcher-kva.example"),
        ("u@💩.la", "u@xn--ls8h.la"),
        ("u@a\N{FULLWIDTH COMMERCIAL AT}bü.example", "u@a\N{FULLWIDTH COMMERCIAL AT}bü.example"),
        ("u@bü\N{ZERO WIDTH SPACE}\N{REPLACEMENT CHARACTER}.example", "u@bü\ufffd.example"),
        ("mu\N{COMBINING DIAERESIS}ller@customer.example", "müller@customer.example"),
        ("MU\N{COMBINING DIAERESIS}LLER@customer.example", "müller@customer.example"),
        ("\N{KELVIN SIGN}ate@customer.example", "kate@customer.example"),
        ("\N{ANGSTROM SIGN}sa@customer.example", "åsa@customer.example"),
        ("\ufeffmaria@customer.example", "maria@customer.example"),
        ("maria@customer.example \u200b\u2060 ", "maria@customer.example"),
        ("<\u200bmaria@customer.example>", "maria@customer.example"),
        ("ma\u00adria@customer.example", "maria@customer.example"),
        ("ma\u200b\U000e0041ria@customer.example", "maria@customer.example"),
        ("\u202emaria\u202c@customer.example", "maria@customer.example"),
        ("maria@custo\u202emer.exa\u200bmple", "maria@customer.example"),
        ('"maria"@customer.example', "maria@customer.example"),
        ('"Maria"@Customer.example', "maria@customer.example"),
        (r'"ma\ria"@customer.example', "maria@customer.example"),
        ('"maria..m"@customer.example', "maria..m@customer.example"),
        (r'"ma\ria m"@customer.example', '"maria m"@customer.example'),
        (r'"ma\"r<i>a\\"@customer.example', r'"ma\"r<i>a\\"@customer.example'),
        ('Maria <"maria"@customer.example>', "maria@customer.example"),
        ("maria@customer.example(home)", "maria@customer.example"),
        ("(work) maria(x (y))@customer.example", "maria@customer.example"),
        ("mailto:Maria@customer.example", "maria@customer.example"),
        ("<mailto:maria%40customer.example?subject=Hello>", "maria@customer.example"),
        ("mailto:maria%00@customer.example", "maria\ufffd@customer.example"),
        ("SMTP:maria@customer.example", "maria@customer.example"),
        ("<smtp:'mailto:smtp:maria@customer.example'>", "maria@customer.example"),
        ("rfc822; maria@customer.example", "maria@customer.example"),
        ("<@relay.example,@hub.example:maria@customer.example>", "maria@customer.example"),
        ("'maria@customer.example'", "maria@customer.example"),
        ("o'maria@customer.example", "o'maria@customer.example"),
        ("u@ß" + "ü" * 60 + ".example", "u@ß" + "ü" * 60 + ".example"),
        ("u@example.com.", "u@example.com"),
        ("u@BÜCHER.example.", "u@xn--bcher-kva.example"),
        ("u@.", "u@."),
        ("none.", "none."),
        ("debug@smtp", "debug@smtp"),
        ("undisclosed", "undisclosed"),
        ("undisclosed recipients", "undisclosed recipients"),
        ("<>", "<>"),
        ("", ""),
        ("é@" + "ü" * 70 + ".example", "é@" + "ü" * 70 + ".example"),
        ("é@..example", "é@..example"),
    ],
)
def test_an_address_is_written_one_way(written: str, expected: str) -> None:
    assert normalize(written) == expected


@pytest.mark.parametrize(
    "text", ["(" * 9000 + " <", "(" * 9000 + " x", "<" * 9000 + " ", '"' * 9000 + " <a", "é@" + "ü." * 9000]
)
def test_what_is_far_too_long_is_kept_and_exhausts_nothing(text: str) -> None:
    assert normalize(text)


@pytest.mark.parametrize("text", ["smtp:" * 400 + "é", "mailto:smtp:" * 160 + "é"])
def test_layers_without_end_cost_little(text: str) -> None:
    began = time.process_time()
    for _ in range(1000):
        normalize(text)
    assert time.process_time() - began < 1
    assert normalize(normalize(text)) == normalize(text)


@given(st.text(st.characters()))
def test_any_text_is_normalized_and_a_normalized_one_stays(text: str) -> None:
    assert normalize(normalize(text)) == normalize(text)
    normalize(strip_brackets(text))


@given(st.emails())
def test_a_normalized_address_is_its_own_form(address: str) -> None:
    assert normalize(normalize(address)) == normalize(address)


@given(
    st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"], exclude_characters="@<>()\"'\\"), min_size=1)
)
def test_composed_and_decomposed_letters_are_one_address(local: str) -> None:
    spellings = {f"{unicodedata.normalize(form, local)}@customer.example" for form in ("NFC", "NFD")}
    assert len(set(map(normalize, spellings))) == 1


@pytest.mark.parametrize(
    ("written", "expected"), [("<a@b>", "a@b"), (" <a@b> ", "a@b"), ("a@b", "a@b"), ("<>", ""), ("", "")]
)
def test_a_message_id_loses_its_brackets(written: str, expected: str) -> None:
    assert strip_brackets(written) == expected
