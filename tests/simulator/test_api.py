"""The simulator's client of the API."""

import pytest

from simulator.api import Api, ApiError
from tests.support import http_sink


def test_a_request_beyond_the_limit_of_the_key_is_made_again() -> None:
    with http_sink.http_sink() as sink:
        sink.then(http_sink.answer(429, Retry_After="0"), http_sink.answer(429), http_sink.answer(200, b'{"found": 1}'))
        assert Api(sink.url, "key").call("POST", "/v1/sources", {}) == {"found": 1}
    assert len(sink.received) == 3


def test_another_refusal_is_raised_at_once() -> None:
    with http_sink.http_sink() as sink:
        sink.then(http_sink.answer(409, b"taken"))
        with pytest.raises(ApiError, match="was answered with 409: taken"):
            Api(sink.url, "key").call("POST", "/v1/sources", {})
    assert len(sink.received) == 1
