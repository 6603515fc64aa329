"""`tidings classify` explains the judgement on a reply; it needs neither settings nor a database."""

import json
from typing import Any

import pytest
from click.testing import CliRunner

from cli.main import main


def run(*words: str, says: str | None = None, code: int = 0) -> str:
    """Run the command, which must exit with this code; its output."""
    result = CliRunner().invoke(main, ["classify", *words], input=says)
    assert result.exit_code == code, result.output
    return result.output


def explain(*words: str) -> dict[str, Any]:
    """The judgement as JSON."""
    found: dict[str, Any] = json.loads(run(*words, "--json"))
    return found


def test_a_reply_is_explained_by_its_row_and_the_words_that_matched() -> None:
    output = run("552 5.1.1 <maria@x.example>: mailbox is over quota")
    for line in ("codes:          552 5.1.1", "mailbox_full (12)", "text: the mailbox is full", "over quota", "soft: "):
        assert line in output


def test_a_code_is_explained_by_what_the_registry_calls_it_and_by_its_reason() -> None:
    assert "enhanced code: 5.1.1: bad destination mailbox" in run("550 5.1.1 User unknown")
    assert explain("550 5.2.2")["reason"].startswith("as 5 too")
    assert "as 4" not in run("550 5.1.2 no")


def test_a_providers_word_is_explained_with_advice() -> None:
    found = explain("--word", "retries_exhausted")
    assert (found["classification"], found["hardness"], found["decided_by"]) == (
        "transient_failure",
        "soft",
        "provider word",
    )
    assert found["advice"]


def test_codes_may_be_given_beside_the_reply() -> None:
    found = explain("no", "--smtp-status", "554", "--enhanced-code", "5.7.26")
    assert (found["smtp_status"], found["enhanced_code"], found["row"]) == ("554", "5.7.26", "5.7.26")


def test_an_unreadable_reply_says_that_no_row_matches() -> None:
    assert "decided by:     no row matches" in run("550 xyzzy")


def test_many_replies_are_read_from_standard_input() -> None:
    lines = '550 no such user\n\n{"text": "full", "smtp_status": "552"}\n'
    found = [json.loads(line) for line in run("--json", says=lines).splitlines()]
    assert [(one["classification"], one["text"]) for one in found] == [
        ("invalid_recipient", "550 no such user"),
        ("policy_rejection", "full"),
    ]


def test_a_reply_of_several_lines_is_one() -> None:
    lines = (
        "550-5.1.1 The account that you tried to reach does not\r\n550-5.1.1 exist. Please check the address\r\n"
        "550 5.1.1 for typing errors\r\n452-the mailbox\n452 is full\n550-cut off\n421 busy\n550-cut off too\n"
    )
    found = [json.loads(line)["text"].splitlines() for line in run("--json", says=lines).splitlines()]
    assert [len(one) for one in found] == [3, 2, 1, 1, 1]
    assert found[1] == ["452-the mailbox", "452 is full"]
    wrong = '550-no\n550 no\n{"text": 5}\n'
    assert "Error: Line 3 of standard input" in run(says=wrong, code=2)


def test_input_that_is_not_utf_8_is_refused_with_what_to_do() -> None:
    result = CliRunner().invoke(main, ["classify"], input="550 Empfänger unbekannt".encode("latin-1"))
    assert result.exit_code == 2
    assert "not UTF-8: it has the byte 0xE4" in result.output


@pytest.mark.parametrize(
    "text",
    ["\0" * 10, " " * 10_000, "5.1.1 " * 20_000, "<" * 100_000, "ä" * 100_000, "550 \ud800", "550 \u202e\x9b2J no"],
    ids=["nul", "blanks", "codes", "brackets", "letters", "surrogate", "escapes"],
)
def test_odd_texts_have_a_judgement(text: str) -> None:
    shown = run("--", text)
    assert "classification: " in shown
    assert not set(shown) & {"\0", "\u202e", "\x9b"}


@pytest.mark.parametrize(
    ("words", "says", "error"),
    [
        (("--smtp-status", "55"), None, "smtp_status: expected a reply code of three digits, such as 550, found “55”"),
        (("--enhanced-code", "5x"), None, "enhanced_code: expected an enhanced code, such as 5.1.1, found “5x”"),
        ((), '{"code": 5}\n', "Line 1 of standard input: Object contains unknown field `code`"),
        ((), '550 no\n{"text": 5}\n', "Line 2 of standard input: Expected `str | null`, got `int` - at `$.text`"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(words: tuple[str, ...], says: str | None, error: str) -> None:
    assert error in run(*words, says=says, code=2)


def test_a_reply_cannot_control_the_terminal() -> None:
    assert "\x1b" not in run("550 \x1b[2Juser unknown")
