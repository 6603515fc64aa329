"""Forms and queries: every way of writing one is read, and anything else is a PayloadError."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import PayloadError
from shared.providers.webhooks import forms
from shared.providers.webhooks.base import QUERY, WebhookRequest
from tests.support.signed_requests import fuzzed

MULTIPART = (
    b'--x1\r\nContent-Disposition: form-data; name="timestamp"\r\n\r\n1529006854\r\n'
    b'--x1\r\nContent-Disposition: form-data; name="subject"\r\nContent-Type: text/plain\r\n\r\nZ\xc3\xbc\r\n'
    b'--x1\r\nContent-Disposition: form-data; name="file"; filename="a.eml"\r\n\r\nraw\r\n--x1--\r\n'
)


def test_a_urlencoded_form_is_read_with_the_last_value_of_each_name() -> None:
    assert forms.read(b"event=open&tag=a+b&tag=c%C3%BC&empty=") == {"event": "open", "tag": "cü", "empty": ""}


def test_a_multipart_form_is_read_without_its_files() -> None:
    assert forms.read(MULTIPART) == {"timestamp": "1529006854", "subject": "Zü"}


@pytest.mark.parametrize("body", [b"", b"{}", b"--", b"--x\r\n", b"a", b"\xff=1", b"&".join([b"a=1"] * 2000)])
def test_what_is_no_form_is_a_payload_error(body: bytes) -> None:
    with pytest.raises(PayloadError):
        forms.read(body)


@fuzzed
@given(body=st.one_of(st.binary(max_size=80), st.binary(max_size=60).map(lambda rest: MULTIPART[:60] + rest)))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    try:
        found = forms.read(body)
    except PayloadError:
        return
    assert found
    assert "\0" not in "".join([*found, *found.values()])


def test_a_value_of_the_query_is_found() -> None:
    request = WebhookRequest(headers={QUERY: "a=1&secret=x%2By"}, body=b"")
    assert forms.query_value(request, "secret") == "x+y"
    assert forms.query_value(request, "other") == ""
    assert forms.query_value(WebhookRequest(headers={}, body=b""), "secret") == ""
