"""Nothing is sent to a private address, in any notation and whatever name resolves to it."""

import socket
from collections.abc import Iterator
from ipaddress import ip_network
from uuid import uuid4

import pycurl
import pytest

from shared.egress import ssrf
from shared.egress.client import EgressClient
from shared.egress.handle import CurlHandle
from shared.egress.types import Call, Outcome
from shared.errors import InvalidFieldError

PRIVATE_ADDRESSES = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.100.100.200", "100.127.255.255",
    "127.0.0.1", "127.1.2.3", "168.63.129.16", "169.254.0.1", "169.254.169.254", "169.254.170.2", "172.16.0.1",
    "172.31.255.255", "192.0.0.1", "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.0.1", "198.18.0.1",
    "198.19.255.255", "198.51.100.7", "203.0.113.9", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "100::1", "2001::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:2::1", "2001:10::1", "2001:20::1", "2001:db8::1", "2002:7f00:1::", "2002:a9fe:a9fe::1", "3fff::1", "5f00::1",
    "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "ff0e::1", "4000::1", "::ffff:0.0.0.0",
]  # fmt: skip
PUBLIC_ADDRESSES = [
    "1.1.1.1",
    "8.8.8.8",
    "100.63.255.255",
    "172.32.0.1",
    "192.169.0.1",
    "2606:4700::1111",
    "2a00:1450::1",
]

ODD_URLS = [
    "http://2130706433/", "http://017700000001/", "http://0x7f000001/", "http://0x7f.1/", "http://0177.0.0.1/",
    "http://127.1/", "http://127.0.1/", "http://0/", "http://00.0.0.0/", "http://127.0.0.1./", "http://localhost./",
    "http://127.0.0.0x1/", "http://1.0.0.127.0x7f/", "http://4294967295/", "http://[::1%25lo]/", "http://[::1%lo]/",
    "http://%31%32%37.0.0.1/", "http://127.0.0.1%00.example.com/", "http://127%2e0.0.1/", "http://\u2460\u2461\u2466.\u24ea.\u24ea.\u2460/",
    "http://\uff11\uff12\uff17.0.0.1/", "http://127\u30020\u30020\u30021/", "http://\uff4cocalhost/", "http://user@127.0.0.1/",
    "http://example.com@127.0.0.1/", "http://example.com:80@127.0.0.1/", "http://127.0.0.1\\@example.com/",
    "http://example.com#@127.0.0.1/ ", "http://127.0.0.1 /", "http://\t127.0.0.1/", "http://127.0.0.1\r\nHost: x/",
    "http:///127.0.0.1/", "http://", "//127.0.0.1/", "http:127.0.0.1", "file:///etc/passwd", "gopher://127.0.0.1:6379/_",
    "ftp://127.0.0.1/", "dict://127.0.0.1:11211/", "ldap://127.0.0.1/", "unix:///var/run/docker.sock", "data:,x",
    "javascript:alert(1)", "http+unix://%2Fvar%2Frun%2Fdocker.sock/", "HTTP://[::ffff:7f00:1]/", "http://[::ffff:127.0.0.1]/",
    "http://[0:0:0:0:0:0:0:1]/", "http://[::]/", "http://[127.0.0.1]/", "http://example.com:0/", "http://example.com:99999/",
    "http://example.com:port/", "http://-example.com/", "http://example..com/", "http://" + "a" * 64 + ".com/",
    "http://example.com/" + "a" * 2048, "http://localhost/", "http://LOCALHOST:5432/", "http://ip6-localhost/",
    "http://user:password@example.com/", "http://1.1.1.1.1/", "http://256.256.256.256/", "http://1.2.3.4.08/",
]  # fmt: skip


def in_url(address: str) -> str:
    return f"http://[{address}]:81/" if ":" in address else f"http://{address}:81/"


@pytest.mark.parametrize("address", PRIVATE_ADDRESSES)
def test_an_address_that_is_not_public_is_refused_before_and_while_dialling(address: str) -> None:
    assert not ssrf.is_allowed(address)
    with pytest.raises(InvalidFieldError):
        ssrf.check_url(in_url(address))


@pytest.mark.parametrize("address", PUBLIC_ADDRESSES)
def test_an_address_that_is_public_is_allowed(address: str) -> None:
    assert ssrf.is_allowed(address)
    ssrf.check_url(in_url(address))


@pytest.mark.parametrize("url", ODD_URLS)
def test_a_url_in_disguise_is_refused_at_registration(url: str) -> None:
    with pytest.raises(InvalidFieldError):
        ssrf.check_url(url)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://Hooks.example.com./a.", "https://Hooks.example.com/a."),
        ("http://hooks.example.com.:8080", "http://hooks.example.com:8080"),
        ("https://hooks.example.com", "https://hooks.example.com"),
        ("https://hooks.example.com.?a=./", "https://hooks.example.com?a=./"),
    ],
)
def test_a_final_dot_of_a_host_is_left_out(url: str, expected: str) -> None:
    assert ssrf.without_final_dot(url) == expected
    ssrf.check_url(url, lookup=lambda _host: ["192.0.2.1"], allow=[ip_network("192.0.2.0/24")])
    assert (ssrf.name_to_resolve(url) or ("",))[0] == "hooks.example.com"


def test_what_the_operator_allows_may_be_reached_in_either_form() -> None:
    allow = [ip_network("10.1.0.0/16"), ip_network("fd00::/8")]
    for address in ("10.1.2.3", "::ffff:10.1.2.3", "fd00::1"):
        assert ssrf.is_allowed(address, allow)
    for address in ("10.2.0.1", "127.0.0.1", "64:ff9b::a01:203", "2002:a01:203::1", "fe80::1"):
        assert not ssrf.is_allowed(address, allow)
    ssrf.check_url("http://10.1.2.3:8080/hooks", allow)


def test_what_cannot_be_resolved_is_refused() -> None:
    with pytest.raises(InvalidFieldError, match="cannot be resolved"):
        ssrf.check_url("https://nothing.invalid/")


def test_nonsense_is_no_address() -> None:
    for text in ("", "127.0.0.1/8", "localhost", "a local socket", "1.1.1.1 "):
        assert not ssrf.is_allowed(text)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Somebody on the loopback who must not be spoken to."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        listening.setblocking(False)
        yield listening


@pytest.fixture
def sender() -> Iterator[EgressClient]:
    sender = EgressClient()
    yield sender
    sender.close()


def outcome_of(sender: EgressClient, url: str) -> Outcome:
    sender.submit([Call(key=uuid4(), url=url, headers=(), body=b"secret", timeout_seconds=5)])
    (outcome,) = sender.collect(60)
    return outcome


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0", "0.0.0.0", "127.0.0.1.",
     "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::]", "[0:0:0:0:0:ffff:127.0.0.1]", "%31%32%37.0.0.1"],
)  # fmt: skip
def test_whatever_resolves_to_a_private_address_is_not_dialled(
    sender: EgressClient, listener: socket.socket, host: str
) -> None:
    outcome = outcome_of(sender, f"http://{host}:{listener.getsockname()[1]}/")
    assert outcome.http_status == 0
    assert outcome.network_error
    with pytest.raises(BlockingIOError):
        listener.accept()


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "gopher://127.0.0.1:6379/_x", "dict://127.0.0.1/", "ftp://127.0.0.1/"]
)
def test_other_schemes_are_not_spoken(sender: EgressClient, url: str) -> None:
    outcome = outcome_of(sender, url)
    assert (outcome.http_status, outcome.body) == (0, b"")


def test_a_name_that_now_resolves_to_a_private_address_is_rejected_at_the_connection(
    listener: socket.socket,
) -> None:
    """DNS rebinding: the name was public when the URL was registered; the address that is connected to is checked."""
    port = listener.getsockname()[1]
    ssrf.check_url("http://1.1.1.1/")
    handle = CurlHandle(())
    url = f"http://rebinds.example:{port}/"
    handle.prepare(Call(key=uuid4(), url=url, headers=(), body=b"secret", timeout_seconds=5))
    handle.curl.setopt(pycurl.RESOLVE, [f"rebinds.example:{port}:127.0.0.1,::1,169.254.169.254"])
    with pytest.raises(pycurl.error) as caught:
        handle.curl.perform()
    outcome = handle.finish((0, str(caught.value)))
    handle.close()
    assert outcome.http_status == 0
    assert outcome.network_error is not None
    assert "is not a public address" in outcome.network_error
    with pytest.raises(BlockingIOError):
        listener.accept()


def test_a_proxy_of_the_environment_is_not_used(
    sender: EgressClient, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = f"http://127.0.0.1:{listener.getsockname()[1]}"
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy)
    assert outcome_of(sender, "http://127.0.0.1:9/").http_status == 0
    with pytest.raises(BlockingIOError):
        listener.accept()


def test_the_corpus_is_large() -> None:
    assert len({*PRIVATE_ADDRESSES, *ODD_URLS}) >= 60
