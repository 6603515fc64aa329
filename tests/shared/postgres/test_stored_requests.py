"""A stored request takes few bytes, and comes back byte for byte, whatever version stored it."""

import random
from hashlib import sha256

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.request_dictionary import make_samples
from shared.errors import PayloadError, TidingsError
from shared.postgres import stored_requests
from simulator.providers.registry import DIALECTS

DIGESTS = {"requests-1.zdict": "b5463e6551f5df6b287f496bc1553c14192d27b5531472c769603b47a251f6fb"}
"""Of every dictionary in use: stored requests cannot be read with another one."""


@given(st.dictionaries(st.text(), st.text()), st.binary() | st.text().map(str.encode))
def test_every_request_comes_back_byte_for_byte(headers: dict[str, str], body: bytes) -> None:
    text = msgspec.json.encode(headers).decode()
    content = stored_requests.pack(text, body)
    assert content is not None
    assert stored_requests.unpack(content) == (text, body)


@pytest.mark.parametrize("name", sorted(DIALECTS))
def test_a_request_of_every_provider_takes_at_most_two_thirds(name: str) -> None:
    samples = list(make_samples(DIALECTS[name](), random.Random(2), count=20))
    packed = []
    for sample in samples:
        headers, _, body = sample.partition(b"\n")
        content = stored_requests.pack(headers.decode(), body)
        assert content is not None
        packed.append(content)
    assert sum(map(len, packed)) < 2 / 3 * sum(map(len, samples))


def test_a_digest_of_the_body_is_left_out_and_comes_back() -> None:
    body = b'[{"event": "delivered"}]'
    right = '{"content-digest":"sha-256=:g9x/NWqAUkOyxU2yS83VnjveD07/oMCI+3nNI7jibkc=:"}'
    for headers in (right, right.replace("g9x/", "AAAA"), right.replace(":g9", ":\\u0000g9")):
        content = stored_requests.pack(headers, body)
        assert content is not None
        assert stored_requests.unpack(content) == (headers, body)


def test_a_large_body_is_stored_as_it_is() -> None:
    assert stored_requests.pack("{}", b"x" * stored_requests.MAX_BYTES) is not None
    assert stored_requests.pack("{}", b"x" * (stored_requests.MAX_BYTES + 1)) is None
    assert stored_requests.read('{"a":"b"}', b"large", None) == ('{"a":"b"}', b"large")


def test_dictionaries_in_use_do_not_change() -> None:
    files = stored_requests.DICTIONARIES.iterdir()
    assert {path.name: sha256(path.read_bytes()).hexdigest() for path in files} == DIGESTS


def test_a_request_of_a_later_version_says_what_to_do() -> None:
    content = stored_requests.pack("{}", b"[]")
    assert content is not None
    # The byte behind magic number and descriptor is the number of the dictionary.
    later = content[:5] + bytes([200]) + content[6:]
    with pytest.raises(TidingsError, match=r"later version of Tidings .* dictionary 200; update this one"):
        stored_requests.unpack(later)


@pytest.mark.parametrize("content", [b"", b"{}", b"\x28\xb5\x2f\xfd", b"cut"])
def test_a_damaged_request_says_so(content: bytes) -> None:
    if content == b"cut":
        content = (stored_requests.pack("{}", b"[1, 2, 3]") or b"")[:-4]
    with pytest.raises(PayloadError, match="The stored request is damaged"):
        stored_requests.unpack(content)
