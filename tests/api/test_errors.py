"""Every error is answered with a problem document that names the cause and reveals nothing internal."""

import time
from base64 import urlsafe_b64encode
from typing import Any
from unittest.mock import patch

import pytest

from api.app import create_app
from api.core.resource import Deps
from shared.postgres import engine
from shared.settings import Settings
from shared.sources import store as stored
from tests.support.system import ADMIN_KEY, System

HEADERS = {"Authorization": f"Bearer {ADMIN_KEY}"}
LISTS = ["sources", "receipts", "refusals", "messages", "events", "changes", "keys"]


def encoded(text: str) -> str:
    return urlsafe_b64encode(text.encode()).decode()


GARBAGE = ["x", "%00", "ä", "AAAA", "", "x" * 1000] + [
    encoded(text)
    for text in (
        "[]",
        "{}",
        "[null]",
        '["x", "y", "z"]',
        '["2026-01-01T00:00:00", "0190"]',
        '["2026-01-01T00:00:00", "00000000-0000-0000-0000-000000000000"]',
        "[-1]",
        "[1e400]",
        "[" * 2000,
    )
]


@pytest.mark.parametrize("cursor", GARBAGE, ids=range(len(GARBAGE)))
@pytest.mark.parametrize("name", LISTS)
def test_a_cursor_that_is_none_is_refused(shared_system: System, name: str, cursor: str) -> None:
    answer = shared_system.call("GET", f"/v1/{name}", cursor=cursor)
    assert answer.status_code == 400
    assert "cursor" in answer.get_json()["detail"]


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("limit", ["0", "501", "-1", "x", "", "1.5", "9" * 30])
def test_a_limit_beyond_the_bounds_is_refused(shared_system: System, name: str, limit: str) -> None:
    answer = shared_system.call("GET", f"/v1/{name}", limit=limit)
    assert answer.status_code == 422
    assert list(answer.get_json()["errors"]) == ["limit"]


@pytest.mark.parametrize("path", [*LISTS, "stats", "sources/x"])
def test_what_is_not_known_in_a_query_is_named(shared_system: System, path: str) -> None:
    answer = shared_system.call("GET", f"/v1/{path}", recipeint="a@example.net")
    assert answer.status_code == 422
    assert list(answer.get_json()["errors"]) == ["recipeint"]


@pytest.mark.parametrize(
    "path",
    [
        "/v1/messages?recipient=%00",
        "/v1/events?source=%00",
        "/v1/stats?%00=1",
        "/v1/sources/%00",
        "/v1/changes?types=%00",
    ],
)
def test_nul_never_reaches_the_database(shared_system: System, path: str) -> None:
    assert shared_system.call("GET", path).status_code in (404, 422)


def test_bytes_that_are_no_text_are_only_not_found(shared_system: System) -> None:
    assert shared_system.get("/v1/messages?recipient=%ff%fe")["items"] == []
    for text, status in (("recipient=\xff", 200), ("recip\xffent=a", 422)):  # unquoted, one byte each
        answer = shared_system.client.get("/v1/messages", environ_overrides={"QUERY_STRING": text}, headers=HEADERS)
        assert answer.status_code == status


@pytest.mark.parametrize(
    ("data", "content_type", "status"),
    [
        (b"{", "application/json", 400),
        (b"\xff", "application/json", 400),
        (b'{"a": NaN}', "application/json", 400),
        (b'{"a": "\\ud800"}', "application/json", 400),
        (b"[" * 100_000, "application/json", 422),
        (
            b'{"slug": "a", "provider": "mailchannels", "settings": ' + b'{"a":' * 300 + b"1" + b"}" * 301,
            "application/json",
            422,
        ),
        (b'{"slug": ' + b"[" * 33 + b"]" * 33 + b"}", "application/json", 422),
        (b"[]", "application/json", 422),
        (b"5", "application/json", 422),
        (b"null", "application/json", 422),
        (b'{"slug": "\\u0000"}', "application/json", 422),
        (b'{"slug": "a", "settings": {"a\\u0000": 1}}', "application/json", 422),
        (b"", "application/json", 422),
        (b"{}", "text/plain", 415),
        (b"a=b", "application/x-www-form-urlencoded", 415),
        (b'"' + b"x" * (1024 * 1024) + b'"', "application/json", 413),
    ],
    ids=range(16),
)
def test_a_body_that_cannot_be_used_is_refused(
    shared_system: System, data: bytes, content_type: str, status: int
) -> None:
    answer = shared_system.client.post("/v1/sources", data=data, content_type=content_type, headers=HEADERS)
    assert answer.status_code == status
    assert answer.content_type == "application/problem+json"
    assert answer.get_json().keys() >= {"type", "title", "status", "detail"}


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (rb'{"rows": [{"address": "\ud800"}]}', r"half of a surrogate pair, such as \ud800"),
        (b'{"rows": [{"address": "a"', "truncated"),
        (rb'{"rows": [{"address": "\ud800"', "truncated"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/sources", "/v1/suppressions/import"])
def test_a_body_that_is_no_json_says_why(shared_system: System, path: str, data: bytes, sentence: str) -> None:
    answer = shared_system.client.post(path, data=data, content_type="application/json", headers=HEADERS)
    assert answer.status_code == 400
    assert sentence in answer.get_json()["detail"]


@pytest.mark.parametrize(
    ("path", "data", "names"),
    [
        ("/v1/sources", b'{"slug": "a", "provider": "ark", "slug": "b"}', ["slug"]),
        ("/v1/sources", b'{"slug": "a", "settings": {"x": {"y": 1, "y": 1}, "x": 2}}', ["y", "x"]),
        ("/v1/messages/bulk", b'{"messages": [{"sender": "a@x.example", "s\\u0065nder": "b@x.example"}]}', ["sender"]),
        ("/v1/sources", b"{" + b",".join(b'"%d": 1' % (number // 2) for number in range(10_000)) + b"}", None),
    ],
    ids=["of the body", "nested", "escaped", "many"],
)
def test_a_name_that_an_object_gives_twice_is_refused(
    shared_system: System, path: str, data: bytes, names: list[str] | None
) -> None:
    answer = shared_system.client.post(path, data=data, content_type="application/json", headers=HEADERS)
    assert answer.status_code == 422
    errors = answer.get_json()["errors"]
    assert len(errors) == 100 if names is None else list(errors) == names


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v1/nothing", 404), ("PUT", "/v1/sources", 405), ("POST", "/healthz", 405)],
)
def test_a_path_or_method_that_is_none_is_a_problem_too(
    shared_system: System, method: str, path: str, status: int
) -> None:
    answer = shared_system.call(method, path)
    assert (answer.status_code, answer.content_type) == (status, "application/problem+json")
    assert ("Allow" in answer.headers) == (status == 405)


def test_a_fault_of_ours_says_nothing_of_the_inside(shared_system: System) -> None:
    with patch.object(stored, "list_sources", side_effect=RuntimeError("the inside")):
        answer = shared_system.call("GET", "/v1/sources")
    assert (answer.status_code, answer.content_type) == (500, "application/problem+json")
    assert "the inside" not in answer.text


def test_a_database_that_is_away_is_said_so(shared_system: System) -> None:
    away = engine.create_engine("postgresql://nobody@127.0.0.1:1/nothing", application="test")
    settings = Settings(admin_key=ADMIN_KEY)
    deps = Deps(settings=settings, engine=away, vault=shared_system.vault, notifier=shared_system.notifier)
    client = create_app(deps).test_client()
    answer: Any = client.get("/v1/sources", headers=HEADERS)
    assert (answer.status_code, answer.content_type) == (503, "application/problem+json")
    assert "Retry-After" in answer.headers
    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").status_code == 503


@pytest.mark.parametrize(
    ("query", "name", "sentence"),
    [
        ("limit=5&limit=6", "limit", "Must be given once."),
        ("source=a&source=b", "source", "Must be given once."),
        ("sorce=a", "sorce", "Did you mean 'source'?"),
        ("source=a", "source", "There is no source called 'a'."),
    ],
)
def test_a_query_parameter_that_was_mistyped_or_repeated_is_refused_by_name(
    system: System, query: str, name: str, sentence: str
) -> None:
    answer = system.call("GET", f"/v1/receipts?{query}")
    assert answer.status_code == 422
    assert sentence in answer.get_json()["errors"][name][0]


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"url": "http://a.example/", "types": [1] * 20_000}, "19900 more values are invalid."),
        ({f"field{number}": 1 for number in range(20_000)}, "more values are invalid."),
        ({"url": "http://a.example/", "types": [1] * 20_001}, "at most 20000 entries"),
        ({"headers": {str(number): [] for number in range(20_001)}}, "at most 20000 entries"),
    ],
)
def test_many_invalid_values_cost_a_short_answer(shared_system: System, body: dict[str, Any], detail: str) -> None:
    begun = time.thread_time()
    answer = shared_system.call("POST", "/v1/subscriptions", body)
    assert answer.status_code == 422
    assert detail in answer.get_json()["detail"]
    assert len(answer.data) < 20_000
    assert time.thread_time() - begun < 5
