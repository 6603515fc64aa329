"""The client for single requests."""

import pytest

from shared.http import client
from shared.http.client import OutboundError


@pytest.mark.parametrize("headers", [{"X-Key": "a\r\nX-Injected: 1"}, {"X-Key": "a\nb"}, {"X\r\nY": "1"}, {"X": "\0"}])
def test_a_header_with_a_line_break_is_refused_before_anything_is_sent(headers: dict[str, str]) -> None:
    with pytest.raises(OutboundError, match="line break"):
        client.call("GET", "http://127.0.0.1:1/", headers=headers)
