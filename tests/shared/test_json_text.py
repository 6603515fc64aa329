"""Every valid JSON text can be read, whatever strict parsers say of it."""

import pytest

from shared import json_text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r'"\ud800"', "\ufffd"),
        (r'"\uDFFF\ud83d"', "\ufffd\ufffd"),
        (r'"\ud83d\ude00"', "\U0001f600"),
        (r'"\\ud800"', r"\ud800"),
        (r'{"\udc00": 1}', {"\ufffd": 1}),
        (r'"\u0000"', "\ufffd"),
        ("9" * 5000, "9" * 5000),
        ("-17", -17),
        ("[1e400, -1.5E+999, 1e308]", ["1e400", "-1.5E+999", 1e308]),
        ('{"a": 1, "a": 2}', {"a": 2}),
    ],
)
def test_what_strict_parsers_refuse_is_read(text: str, value: object) -> None:
    assert json_text.read(text) == value


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, r'"\ud8"'])
def test_other_texts_are_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"JSON|Expecting|Invalid"):
        json_text.read(text)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('{"a": 1, "b": {"a": 1}}', []),
        ('[{"a": 1}, {"a": 1}]', []),
        ('{"a": 1, "a": 1}', ["a"]),
        (r'[{"b": {"\u0061": 9, "a": 1}}]', ["a"]),
        ('{"a": {"b": 1, "c": 2, "b": 3}, "a": 4}', ["b", "a"]),
        ('{"a": ' + "9" * 5000 + "}", []),
    ],
)
def test_names_that_are_given_twice_are_listed(text: str, names: list[str]) -> None:
    assert json_text.list_repeated(text, limit=2) == names


def test_no_more_is_read_once_enough_repeated_names_are_found() -> None:
    text = '[{"a": 1, "b": 1, "a": 2, "b": 2}, {"c": 1, "c": 2}, not JSON'
    assert json_text.list_repeated(text, limit=1) == ["a"]
    assert json_text.list_repeated(text, limit=3) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"a": 1, "a": 2}', "^gives the name 'a' twice"),
        ("[" * 100_000, "nested too deep"),
        ("{", "^is not valid JSON: Expecting property name"),
    ],
)
def test_what_a_person_wrote_is_read_strictly(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        json_text.read_of_person(text)
    assert json_text.read_of_person('{"a": 1}') == {"a": 1}
