"""Settings that people write as YAML or JSON."""

import pytest

from shared.errors import InvalidFieldError
from shared.sources.service import read_document


@pytest.mark.parametrize(
    "document",
    [
        '{"queue": {"url": "a", "url": "b"}}',
        "queue:\n  url: a\n  url: b\n",
        "{queue: {url: a, url: b}}",
        "queue: {url: a, 'url': b}",
    ],
)
def test_a_document_that_gives_a_name_twice_is_refused(document: str) -> None:
    with pytest.raises(InvalidFieldError, match=r"^settings gives the name 'url' twice"):
        read_document("settings", document)


@pytest.mark.parametrize("document", ["true: 1\nyes: 2\n", "1: a\n'1': b\n", "0x10: a\n16: b\n", "~: a\nnull: b\n"])
def test_two_spellings_of_a_name_are_one_name(document: str) -> None:
    with pytest.raises(InvalidFieldError, match=r"^settings gives the name '.*' twice"):
        read_document("settings", document)


def test_a_name_that_is_merged_in_may_be_given_again() -> None:
    document = """
        one: &one {a: 1, b: 1}
        two: &two {c: 2}
        both: {<<: *one, <<: *two, b: 3}
        deep: {in: {here: &here {<<: *one, a: 4}}}
        early: {<<: *here}
    """
    found = read_document("settings", document)
    assert found["both"] == {"a": 1, "b": 3, "c": 2}
    assert found["deep"]["in"]["here"] == found["early"] == {"a": 4, "b": 1}


@pytest.mark.parametrize("document", ["? [a]\n: 1\n", "!!int x: 1", "2026-13-45: 1", "!!bool x: 1", "a: !!timestamp x"])
def test_a_name_that_cannot_be_read_is_refused(document: str) -> None:
    with pytest.raises(InvalidFieldError, match=r"^settings is neither YAML nor JSON"):
        read_document("settings", document)


def test_a_document_is_json_or_yaml() -> None:
    assert read_document("settings", '{"a":\t"\\ud83d\\ude00"}') == {"a": "\U0001f600"}
    assert read_document("settings", "a: &x {b: 1}\nc: {<<: *x, d: 2}\n") == {"a": {"b": 1}, "c": {"b": 1, "d": 2}}
