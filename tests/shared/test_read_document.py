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
    ],
)
def test_a_document_that_gives_a_name_twice_is_refused(document: str) -> None:
    with pytest.raises(InvalidFieldError, match=r"'url'.* twice"):
        read_document("settings", document)


def test_a_document_is_json_or_yaml() -> None:
    assert read_document("settings", '{"a":\t"\\ud83d\\ude00"}') == {"a": "\U0001f600"}
    assert read_document("settings", "a: &x {b: 1}\nc: {<<: *x, d: 2}\n") == {"a": {"b": 1}, "c": {"b": 1, "d": 2}}
