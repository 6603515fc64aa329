"""Text from outside neither controls a terminal, nor forges a line, nor runs as a formula."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.foreign_text import read_cell, show, show_cell

HOSTILE = "\x1b]0;owned\x07\x1b[2K\r550 ok\n\u202eevil\u202c\x9b31m\u200b\u2028 end\t\x00"


def test_controls_are_shown_and_line_breaks_are_spaces() -> None:
    assert show(HOSTILE) == (r"\x1b]0;owned\x07\x1b[2K 550 ok \u202eevil\u202c\x9b31m\u200b end \x00")


def test_text_of_several_lines_keeps_them_but_no_line_returns_to_its_beginning() -> None:
    assert show("a\r\nb\n\tc\rd\u2028", lines=True) == "a\r\nb\n\tc\\rd\\u2028"


@pytest.mark.parametrize("text", ["", "550 5.1.1 No such user", "Grüße aus 東京 👩\u200d🚀 №", "मराठी\u200cक"])
def test_what_can_be_printed_stays(text: str) -> None:
    assert show(text) == text


@given(st.text(st.characters()))
def test_nothing_that_controls_is_left(text: str) -> None:
    for shown in (show(text), show_cell(text)):
        printed = shown.replace("\r\n", "\n")
        assert not {c for c in printed if unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t"}
        assert not {
            c for c in shown if unicodedata.bidirectional(c) in ("LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI")
        }
    assert not set(show(text)) & set("\n\r\t\x85\u2028\u2029")


@pytest.mark.parametrize(
    "cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", " =1", "\n=1", "'=1", "\uff1d1+1", "' =1", "'\n@x"]
)
def test_a_formula_becomes_text_and_is_read_again(cell: str) -> None:
    assert show_cell(cell) == f"'{cell}"
    assert read_cell(show_cell(cell)) == cell


@pytest.mark.parametrize("cell", ["o'brien", "'quoted'", "a=b", "1-2"])
def test_other_cells_stay(cell: str) -> None:
    assert show_cell(cell) == read_cell(cell) == cell
