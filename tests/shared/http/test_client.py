"""The client for single requests."""

import pycurl
import pytest

from shared.http import client
from shared.http.client import OutboundError
from simulator.serving import Call, Response, Server


class Slow(Server):
    """Answers a GET at once, and a POST never."""

    def answer(self, call: Call) -> Response:
        if call.method == "POST":
            self.closing.wait()
        return Response(status=200, content=call.path.encode())


@pytest.mark.parametrize("headers", [{"X-Key": "a\r\nX-Injected: 1"}, {"X-Key": "a\nb"}, {"X\r\nY": "1"}, {"X": "\0"}])
def test_a_header_with_a_line_break_is_refused_before_anything_is_sent(headers: dict[str, str]) -> None:
    with pytest.raises(OutboundError, match="line break"):
        client.call("GET", "http://127.0.0.1:1/", headers=headers)


def test_a_handle_keeps_its_connection_and_nothing_else_of_a_request() -> None:
    handle = pycurl.Curl()
    with Slow() as server:
        first = client.call("PUT", f"{server.url}/first", headers={"X-First": "1"}, body=b"one", handle=handle)
        assert (first.status, handle.getinfo(pycurl.NUM_CONNECTS)) == (200, 1)
        second = client.call("GET", f"{server.url}/second", handle=handle)
        assert (second.body, handle.getinfo(pycurl.NUM_CONNECTS)) == (b"/second", 0)
        handle.close()


def test_a_request_that_is_abandoned_ends() -> None:
    with Slow() as server, pytest.raises(OutboundError, match="abort"):
        client.call("POST", server.url, body=b"", timeout_seconds=3600, is_abandoned=lambda: True)
