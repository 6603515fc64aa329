"""Values that providers write in more ways than they document."""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import PayloadError
from shared.providers.webhooks import payload
from tests.support.signed_requests import fuzzed


@pytest.mark.parametrize(
    ("body", "items"),
    [
        (b'{"a":1}', [b'{"a":1}']),
        (b' {"a":\n1}\n', [b' {"a":\n1}\n']),
        (b'[{"a":1}, 2]', [b'{"a":1}', b"2"]),
        (b"[]", []),
        (b'{"a":1}\n{"b":2}\r\n\n{"c"\n', [b'{"a":1}', b'{"b":2}', b'{"c"']),
        (b'{"a":1e999}', [b'{"a":1e999}']),
    ],
)
def test_a_body_of_items_may_be_an_array_or_lines_or_one_object(body: bytes, items: list[bytes]) -> None:
    assert [item.exact for item in payload.split_any(body)] == items


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"a=1\nb=2", b'{"a":1} {"b":2}'])
def test_what_is_no_json_in_any_of_these_forms_is_refused(body: bytes) -> None:
    with pytest.raises(PayloadError):
        payload.split_any(body)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1767225600123, datetime(2026, 1, 1, 0, 0, 0, 123000, tzinfo=UTC)),
        ("1767225600123456", datetime(2026, 1, 1, 0, 0, 0, 123456, tzinfo=UTC)),
        (1767225600000000000, datetime(2026, 1, 1, tzinfo=UTC)),
        ([1767225600], datetime(2026, 1, 1, tzinfo=UTC)),
        ("2026-01-01 00:00:00 UTC", datetime(2026, 1, 1, tzinfo=UTC)),
        ("2026-01-01 02:00:00 +0200", datetime(2026, 1, 1, tzinfo=UTC)),
        ("2026/01/01 00:00", datetime(2026, 1, 1, tzinfo=UTC)),
        ("2026-01-01", datetime(2026, 1, 1, tzinfo=UTC)),
        ("Thu, 01 Jan 2026 02:00:00 +0200", datetime(2026, 1, 1, tzinfo=UTC)),
        ("Thu, 01 Jan 2026 00:00:00 GMT", datetime(2026, 1, 1, tzinfo=UTC)),
        (1767225600.123456, datetime(2026, 1, 1, 0, 0, 0, 123456, tzinfo=UTC)),
        ("1767225600.5", datetime(2026, 1, 1, 0, 0, 0, 500000, tzinfo=UTC)),
        (" 2026-01-01T00:00:00Z ", datetime(2026, 1, 1, tzinfo=UTC)),
        ("2026-01-01T02:00:00+02:00", datetime(2026, 1, 1, tzinfo=UTC)),
        ("2026-01-01 00:00:00", datetime(2026, 1, 1, tzinfo=UTC)),
        ("2026-01-01 02:00:00 +0200 CEST", datetime(2026, 1, 1, tzinfo=UTC)),
        ("2026-01-01 00:00:00.5 +0000 UTC", datetime(2026, 1, 1, 0, 0, 0, 500000, tzinfo=UTC)),
        ("Thu Jan 01 2026 02:00:00 GMT+0200 (Central European Summer Time)", datetime(2026, 1, 1, tzinfo=UTC)),
        ("Thu Jan  1 02:00:00 +0200 2026", datetime(2026, 1, 1, tzinfo=UTC)),
        ("Thu Jan  1 00:00:00 2026", datetime(2026, 1, 1, tzinfo=UTC)),
        ("2026-04-10T03:34:27.511881626Z", datetime(2026, 4, 10, 3, 34, 27, 511881, tzinfo=UTC)),
    ],
)
def test_a_time_is_read_however_it_is_written(value: Any, expected: datetime) -> None:
    assert payload.read_time(value) == expected


NO_TIMES: list[Any] = [
    *(
        1,
        86400,
        946684799,
        20260101,
        "1999-12-31T23:59:59Z",
        "9999-12-31T23:59:59Z",
        "31/12/2026",
        "Jan 1, 2026 10:00 PM",
        "1 Jan 2026 10:00 PM",
        [[1767225600]],
    ),
    *(0, -1, 253402300800, 253402300799.9999999, 10**400, 1e308, float("inf"), float("nan")),
    *(True, None, [], {}, "", "x", "nan", "inf", "-5", "9" * 99, "0001-01-01T00:00:00+23:59"),
]


@pytest.mark.parametrize("value", NO_TIMES)
def test_what_is_no_time_is_none(value: Any) -> None:
    assert payload.read_time(value) is None


@fuzzed
@given(st.one_of(st.floats(), st.integers(), st.text(max_size=45), st.datetimes().map(str)))
def test_no_time_raises(value: Any) -> None:
    found = payload.read_time(value)
    assert found is None or found.utcoffset() is not None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a", "a"),
        (" a ", " a "),
        (" ", None),
        ("", None),
        (None, None),
        (5, "5"),
        (1.5, "1.5"),
        (True, None),
        ([], None),
        ({}, None),
        (550.0, "550"),
        (["550 5.1.1 unknown", None, "user"], "550 5.1.1 unknown user"),
        ({"code": 550, "text": {"en": "unknown user"}, "final": True}, "550 unknown user"),
    ],
)
def test_a_text_says_something(value: Any, expected: str | None) -> None:
    assert payload.read_text(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (" a ", "a"),
        ("  ", None),
        (None, None),
        (0, "0"),
        (True, None),
        ("é" * 9999, "é" * payload.LONGEST_IDENTIFIER),
        ([], None),
    ],
)
def test_an_identifier_fits_an_index(value: Any, expected: str | None) -> None:
    assert payload.read_identifier(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("A@b.example", ["a@b.example"]),
        (["a@b.example", "A@b.example", "c@b.example"], ["a@b.example", "c@b.example"]),
        ([], [None]),
        ([""], [None]),
        (["", " "], [None]),
        (None, [None]),
        ("", [None]),
        (["x" * 9999], ["x" * payload.LONGEST_IDENTIFIER]),
        ("a@b.example, C <c@b.example>; a@b.example", ["a@b.example", "c@b.example"]),
        ("Muster, Maria <maria@b.example>", ["maria@b.example"]),
        ('"Muster, Maria" <maria@b.example>', ["maria@b.example"]),
        ('"a,b"@b.example', ['"a,b"@b.example']),
        ("undisclosed; recipients", ["undisclosed; recipients"]),
        ({"email": "A@b.example", "name": "Ann"}, ["a@b.example"]),
        ([{"Address": "a@b.example"}, "c@b.example"], ["a@b.example", "c@b.example"]),
        ([{"name": "Ann"}, 5, "a@b.example", None], ["a@b.example"]),
        ({"emails": None, "email": ["a@b.example"]}, ["a@b.example"]),
    ],
)
def test_addresses_are_each_named_once(value: Any, expected: list[str | None]) -> None:
    assert payload.read_addresses(value) == expected


@pytest.mark.parametrize("value", [{"name": "Ann"}, [{"name": "Ann"}], {}, 5, [True], [[[]] * 30] * 30 + [{"x": 1}]])
def test_what_is_no_recipient_does_not_stand_for_all_of_them(value: Any) -> None:
    with pytest.raises(PayloadError):
        payload.read_addresses(value)


def test_a_long_list_takes_no_long_time() -> None:
    addresses = [f"user{number}@b.example" for number in range(1000)]
    assert payload.read_addresses(", ".join(addresses)) == addresses
    assert payload.read_addresses('"\\' * 500_000 + ",a@b.example") == ["a@b.example"]
    began = time.process_time()
    for text in ('"\\' * 2040, "(" * 4080, "<" * 4080, '\\"(<' * 1020, '<\\"' * 1360):
        for _ in range(100):
            assert payload.read_addresses(f"{text},a@b.example")
    assert time.process_time() - began < 5


def nested(levels: int) -> bytes:
    return b'{"a":[' * (levels // 2) + b'"]]}}[[{{\\""' + b"]}" * (levels // 2)


def call_deep(frames: int, call: Callable[[], Any]) -> Any:
    """Call with this number of additional frames on the stack."""
    return call_deep(frames - 1, call) if frames else call()


@pytest.mark.parametrize("frames", [0, 300])
def test_the_limit_of_nesting_does_not_depend_on_the_stack_of_the_caller(frames: int) -> None:
    allowed = nested(payload.MAX_DEPTH)
    assert call_deep(frames, lambda: payload.decode_any(payload.read(allowed).clean))
    assert call_deep(frames, lambda: payload.fingerprint(allowed)) == payload.fingerprint(allowed.replace(b":", b": "))
    with pytest.raises(PayloadError, match="more than 500 levels deep"):
        call_deep(frames, lambda: payload.read(nested(payload.MAX_DEPTH + 2)))


def test_many_values_side_by_side_are_not_deep() -> None:
    body = b"[" + b",".join([b'{"a": ["[[[{{{", {}]}'] * 1000) + b"]"
    assert payload.read(body).clean == body


def test_values_nested_too_deeply_are_omitted() -> None:
    deep: Any = "bottom"
    for _ in range(400):
        deep = {"a": [deep]}
    assert "bottom" not in json.dumps(payload.plain(deep))
    assert payload.plain({"a": [1, {"b": "c"}]}) == {"a": [1, {"b": "c"}]}


def test_only_values_that_say_something_are_present() -> None:
    assert payload.present(a=None, b="", c=0, d=False, e="x") == {"c": 0, "d": False, "e": "x"}


@pytest.mark.parametrize(
    ("escaped", "clean"),
    [
        ("\\u0000", "\ufffd"),
        ("\\ud800", "\ufffd"),
        ("\\uDFFF\\uD800", "\ufffd\ufffd"),
        ("\\ud83d\\ude00", "😀"),
        ("\\ud83d\\ud83d\\ude00", "\ufffd😀"),
        ("\\\\u0000", "\\u0000"),
        ("\\\\\\u0000", "\\\ufffd"),
        ("\\\\ud800\\n", "\\ud800\n"),
        ("\\ud83dx\\ude00", "\ufffdx\ufffd"),
    ],
)
def test_what_cannot_be_stored_is_replaced_where_it_stands(escaped: str, clean: str) -> None:
    text = f'["{escaped}"]'.encode()
    item = payload.read(text)
    assert payload.decode_any(item.clean) == [clean]
    assert item.exact == text
    assert len(item.clean) == len(text)


@fuzzed
@given(st.lists(st.one_of(st.text(st.characters()), st.integers(), st.none(), st.lists(st.text(st.characters())))))
def test_items_are_the_exact_slices_of_their_body(values: list[Any]) -> None:
    body = json.dumps(values, separators=(" , ", ":")).encode()
    items = payload.split(body)
    assert [json.loads(item.exact) for item in items] == values
    assert b" , ".join(item.exact for item in items) == body[1:-1]


@fuzzed
@given(
    st.recursive(
        st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(), st.booleans(), st.none()),
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    )
)
def test_a_fingerprint_does_not_depend_on_white_space_and_order(value: Any) -> None:
    compact = json.dumps(value, separators=(",", ":"), sort_keys=True).encode()
    loose = json.dumps(value, indent=2, ensure_ascii=False, sort_keys=False).encode()
    assert payload.fingerprint(compact) == payload.fingerprint(loose)


@pytest.mark.parametrize("text", [b"1e400", b"9" * 9999, b"[" * 9999, b"\xff", b""])
def test_a_fingerprint_is_made_of_anything(text: bytes) -> None:
    assert len(payload.fingerprint(text)) == 32


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
def test_another_encoding_is_a_payload_error(encoding: str) -> None:
    body = json.dumps({"event": "MessageSent", "text": "ascii"}).encode(encoding)
    with pytest.raises(PayloadError):
        payload.decode_any(payload.read(body).clean)


def test_a_value_of_any_depth_can_be_quoted() -> None:
    deep: Any = "bottom"
    for _ in range(5000):
        deep = {"a": [deep]}
    assert len(payload.quote(deep)) < 70


def test_a_body_that_is_not_utf8_is_a_payload_error() -> None:
    with pytest.raises(PayloadError, match="UTF-8"):
        payload.read(b'{"a":"\xff"}')
