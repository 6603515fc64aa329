"""Lookups delay no other call, and the address check applies to the address that is dialled."""

import queue
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from ipaddress import ip_network
from uuid import uuid4

import pytest

from shared.egress import dns, ssrf
from shared.egress.client import EgressClient
from shared.egress.dns import Lookup, LookupResult, Resolver
from shared.egress.types import Call
from shared.errors import InvalidFieldError
from tests.support import http_sink
from tests.support.egress import collect_outcomes
from tests.support.http_sink import HttpSink

LOOPBACK = [ip_network("127.0.0.0/8")]
HERE = ["127.0.0.1"]


class Names:
    """A name server: `dead…` hangs until it is closed, `unknown…` is not there, all else is where it is said to be."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.places: Callable[[str], Sequence[str]] = lambda _name: HERE
        self.closing = threading.Event()

    def __call__(self, name: str) -> Sequence[str]:
        self.asked.append(name)
        if name.startswith("dead"):
            self.closing.wait()
        if name.startswith("unknown"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return self.places(name)


@pytest.fixture
def names() -> Iterator[Names]:
    names = Names()
    yield names
    names.closing.set()


@pytest.fixture
def sink() -> Iterator[HttpSink]:
    with http_sink.http_sink() as sink:
        yield sink


@contextmanager
def sender_with(lookup: Lookup) -> Iterator[EgressClient]:
    with closing(EgressClient(LOOPBACK, lookup)) as sender:
        yield sender


def call(sink: HttpSink, name: str, timeout_seconds: float = 60) -> Call:
    url = f"http://{name}:{port_of(sink)}/"
    return Call(key=uuid4(), url=url, headers=(), body=b"{}", timeout_seconds=timeout_seconds)


def port_of(sink: HttpSink) -> int:
    return int(sink.url.rpartition(":")[2].strip("/"))


def test_a_hanging_lookup_delays_no_other(names: Names, sink: HttpSink) -> None:
    with sender_with(names) as sender:
        sender.submit([call(sink, "dead.example") for _ in range(50)])
        healthy = [call(sink, f"good{number % 40}.example") for number in range(200)]
        assert {outcome.http_status for outcome in collect_outcomes(sender, healthy)} == {200}


def test_names_that_hang_do_so_without_each_other(names: Names, sink: HttpSink) -> None:
    with sender_with(names) as sender:
        sender.submit([call(sink, f"dead{number}.example") for number in range(100)])
        assert {outcome.http_status for outcome in collect_outcomes(sender, [call(sink, "good.example")])} == {200}


def test_a_call_whose_name_is_not_found_in_time_ends_at_its_deadline(names: Names, sink: HttpSink) -> None:
    with sender_with(names) as sender:
        for outcome in collect_outcomes(sender, [call(sink, "dead.example", timeout_seconds=0.5) for _ in range(5)]):
            assert outcome.http_status == 0
            assert outcome.network_error == "the name dead.example could not be resolved within 0.5 s"
            assert outcome.latency_ms >= 500
    assert names.asked == ["dead.example"]


def test_a_name_that_does_not_exist_is_reported_as_such(names: Names, sink: HttpSink) -> None:
    with sender_with(names) as sender:
        (outcome,) = collect_outcomes(sender, [call(sink, "unknown.example")])
    assert outcome.http_status == 0
    assert outcome.network_error == "the name unknown.example could not be resolved: Name or service not known"


def test_any_error_of_a_lookup_is_reported(names: Names, sink: HttpSink) -> None:
    def places(name: str) -> Sequence[str]:
        raise ValueError(f"no idea of {name}")

    names.places = places
    with sender_with(names) as sender:
        (outcome,) = collect_outcomes(sender, [call(sink, "odd.example")])
    assert outcome.network_error == "the name odd.example could not be resolved: no idea of odd.example"


@pytest.mark.parametrize("addresses", [[], ["fe80::1%eth0"]])
def test_a_name_without_an_allowed_address_is_reported_as_such(
    names: Names, sink: HttpSink, addresses: Sequence[str]
) -> None:
    names.places = lambda _name: addresses
    with sender_with(names) as sender:
        (outcome,) = collect_outcomes(sender, [call(sink, "empty.example")])
    assert "could not be resolved" in (outcome.network_error or "")


def test_a_name_is_looked_up_once_for_many_calls_and_its_connections_are_kept(names: Names, sink: HttpSink) -> None:
    with sender_with(names) as sender:
        collect_outcomes(sender, [call(sink, "good.example") for _ in range(20)])
        collect_outcomes(sender, [call(sink, "GOOD.example") for _ in range(20)])
    assert names.asked == ["good.example"]
    assert {received.headers["host"].lower() for received in sink.received} == {f"good.example:{port_of(sink)}"}


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "hooks.localhost"])
def test_addresses_and_what_is_local_need_no_lookup(names: Names, sink: HttpSink, host: str) -> None:
    with sender_with(names) as sender:
        assert collect_outcomes(sender, [call(sink, host)])[0].http_status == 200
    assert names.asked == []


def test_an_address_that_does_not_answer_is_followed_by_the_next(names: Names, sink: HttpSink) -> None:
    names.places = lambda _name: ["127.0.0.2", "127.0.0.1"]
    with sender_with(names) as sender:
        assert collect_outcomes(sender, [call(sink, "two.example")])[0].http_status == 200


def test_a_changed_address_is_taken_up(names: Names, sink: HttpSink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns, "RESOLVED_TTL_SECONDS", 0)
    with sender_with(names) as sender:
        for place, reached in (("127.0.0.2", False), ("127.0.0.1", True)):
            names.places = lambda _name, place=place: [place]  # type: ignore[misc]
            (outcome,) = collect_outcomes(sender, [call(sink, "moves.example")])
            assert (outcome.http_status == 200) is reached


def test_a_name_that_was_public_at_registration_is_refused_where_it_leads_inside_at_delivery(
    names: Names, sink: HttpSink
) -> None:
    """DNS rebinding."""
    one = call(sink, "rebinds.example")
    names.places = lambda _name: ["1.1.1.1"]
    ssrf.check_url(one.url, lookup=names)
    names.places = lambda _name: ["127.0.0.1", "::1", "::ffff:127.0.0.1"]
    with closing(EgressClient((), names)) as sender:
        (outcome,) = collect_outcomes(sender, [one])
    assert outcome.http_status == 0
    assert "is not a public address" in (outcome.network_error or "")
    assert sink.received == []
    with pytest.raises(InvalidFieldError, match="not a public address"):
        ssrf.check_url(one.url, lookup=names)


def test_registration_does_not_wait_for_a_name_for_long(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssrf, "LOOKUP_SECONDS", 0.1)
    with pytest.raises(InvalidFieldError, match=r"dead\.example cannot be resolved: no answer within 0\.1 s"):
        ssrf.check_url("https://dead.example/", lookup=names)


def test_a_certificate_is_asked_for_by_name(names: Names) -> None:
    asked: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sni_callback = lambda _socket, name, _context: asked.put(name)
    with socket.create_server(("127.0.0.1", 0)) as listening, sender_with(names) as sender:
        url = f"https://hooks.example:{listening.getsockname()[1]}/"
        sender.submit([Call(key=uuid4(), url=url, headers=(), body=b"", timeout_seconds=10)])
        accepted, _ = listening.accept()
        with accepted, pytest.raises(ssl.SSLError):
            context.wrap_socket(accepted, server_side=True)
    assert asked.get_nowait() == "hooks.example"


def test_a_call_abandoned_during_its_lookup_has_no_outcome(names: Names, sink: HttpSink) -> None:
    with sender_with(names) as sender:
        sender.submit([call(sink, "dead.example", timeout_seconds=0.2)])
        sender.abandon()
        collect_outcomes(sender, [call(sink, "good.example")])
        assert sender.collect(0.5) == []


def test_a_lookup_that_ends_after_its_client_was_closed_is_dropped(names: Names, sink: HttpSink) -> None:
    with sender_with(names) as sender:
        sender.submit([call(sink, "dead.example")])
        collect_outcomes(sender, [call(sink, "good.example")])
    names.closing.set()
    for thread in threading.enumerate():
        if thread.name == "lookup":
            thread.join(60)


class TestAResolver:
    def test_leaves_room_for_names_that_have_answered_before(
        self, names: Names, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(dns, "RESOLVED_TTL_SECONDS", 0)
        received: queue.SimpleQueue[LookupResult] = queue.SimpleQueue()
        resolving = Resolver(received.put, names)
        assert resolving.find("good.example") is None
        assert received.get(timeout=60).addresses == HERE
        for number in range(1000):
            resolving.find(f"dead{number}.example")
        assert resolving.find("good.example") is None
        assert received.get(timeout=60).name == "good.example"
        assert len(names.asked) <= 2 + dns.MAX_COLD_THREADS
        resolving.close()

    def test_comes_to_all_in_the_end(self, names: Names) -> None:
        received: queue.SimpleQueue[LookupResult] = queue.SimpleQueue()
        resolving = Resolver(received.put, names)
        wanted = {f"good{number}.example" for number in range(1000)}
        waited_for = {name for name in wanted if resolving.find(name) is None}
        assert {received.get(timeout=60).name for _ in waited_for} == waited_for == wanted
        assert all(resolving.find(name) for name in wanted)

    def test_forgets_the_oldest(self, names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(dns, "MAX_CACHED", 2)
        received: queue.SimpleQueue[LookupResult] = queue.SimpleQueue()
        resolving = Resolver(received.put, names)
        for name in ("a.example", "b.example", "c.example"):
            resolving.find(name)
            received.get(timeout=60)
        assert resolving.find("c.example")
        assert resolving.find("a.example") is None

    def test_reports_that_no_thread_could_be_started(self, names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
        def start(_thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        received: queue.SimpleQueue[LookupResult] = queue.SimpleQueue()
        resolving = Resolver(received.put, names)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", start)
            resolving.find("good.example")
        assert received.get(timeout=60).error == "can't start new thread"
        assert resolving.find("good.example") is None
        assert received.get(timeout=60).addresses == HERE
