"""For any input: verification refuses or returns, and parsing refuses or returns events that can be stored."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, urlencode

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from shared.errors import CredentialsError, PayloadError, VerificationError
from shared.events.event import Event, event_key
from shared.providers.registry import PROVIDERS
from shared.vocabulary import Classification, EventType
from tests.shared.providers.conformance.samples import SAMPLES
from tests.support.signed_requests import NOW, credentials, fuzzed, jwk, make_request, samples, settings_of, signed

CREDENTIALS = {name: credentials(name) for name in PROVIDERS}
BODIES = {name: samples(name) for name in PROVIDERS}
# Signed once: an ECDSA signature differs each time, in length too, and Hypothesis draws positions within it.
SIGNED = {name: signed(name) for name in PROVIDERS}

every_provider = pytest.mark.parametrize("name", PROVIDERS)
texts = st.text(st.characters(), max_size=12)
numbers = st.one_of(
    st.integers(), st.integers(-(10**40), 10**40), st.floats(), st.sampled_from([1767225600, 10**400, 0, -1])
)
scalars = st.one_of(
    texts,
    numbers,
    st.booleans(),
    st.none(),
    st.sampled_from(["", " ", "\x00", "\ud800", "<a@b>", "true", "5.1.1", "550"]),
)
words = st.sampled_from(
    [
        "event",
        "payload",
        "message",
        "kind",
        "recipient",
        "timestamp",
        "id",
        "to",
        "status",
        "schema",
        "name",
        "events",
        "details",
        "_test",
    ]
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.one_of(words, texts), inner, max_size=4)),
    max_leaves=8,
)


def find_texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, entry in value.items():
            yield from find_texts(key)
            yield from find_texts(entry)
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from find_texts(entry)


def check(event: Event, body: bytes) -> None:
    """What every event is, whatever it was made from: complete enough to be stored."""
    assert isinstance(event.type, EventType)
    assert event.classification is None or isinstance(event.classification, Classification)
    assert event.occurred_at is None or event.occurred_at.utcoffset() == timedelta(0)
    assert event.identity_at in (None, event.occurred_at)
    stored = json.loads(event.provider_object.decode())
    is_damaged_line = isinstance(stored, str) and event.problem is not None
    is_quoted = not body.lstrip().startswith((b"{", b"[")) or b'"Message"' in body  # in a form, or as a text
    assert event.provider_object in body or is_damaged_line or is_quoted
    for field in msgspec.structs.fields(event):
        value = getattr(event, field.name)
        if field.name == "provider_object":
            continue
        assert (
            value is None
            or field.name in {"type", "occurred_at", "identity_at", "metadata", "details"}
            or isinstance(value, str)
        )
        for text in find_texts(value):
            assert "\x00" not in text
            text.encode()
    assert json.loads(msgspec.json.encode(event.details)) == event.details
    assert json.loads(msgspec.json.encode(event.metadata)) == event.metadata
    for indexed in (
        event.recipient,
        event.sender,
        event.request_id,
        event.smtp_id,
        event.provider_message_id,
        event.tag,
        event.campaign,
    ):
        assert indexed is None or 0 < len(indexed) <= 512
    assert event.message_key is None or event.message_key
    assert event.type is not EventType.UNKNOWN or event.problem
    if event.identity is not None:
        assert event_key(1, event.identity, event.recipient)


def parse(name: str, body: bytes) -> None:
    try:
        events = PROVIDERS[name].parse(body, CREDENTIALS[name])
    except PayloadError:
        return
    for event in events:
        check(event, body)
    assert events == PROVIDERS[name].parse(body, CREDENTIALS[name])


@every_provider
@fuzzed
@given(
    body=st.one_of(
        st.binary(max_size=60), st.text(st.characters(exclude_categories=["Cs"]), max_size=60).map(str.encode)
    )
)
def test_any_bytes_are_parsed_or_refused(name: str, body: bytes) -> None:
    parse(name, body)


@every_provider
@fuzzed
@given(value=values)
def test_any_json_is_parsed_or_refused(name: str, value: Any) -> None:
    body = json.dumps(value).encode()
    parse(name, body)
    parse(name, b"[%s]" % body)
    parse(name, b'{"events":[%s]}' % body)


def places(value: Any) -> Iterator[Callable[[Any], None]]:
    """Every place in a JSON value, as a function that puts something there."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in entries:
        yield partial(value.__setitem__, key)
        yield from places(entry)


def open_body(body: bytes) -> tuple[Any, Callable[[str], bytes]]:
    """The JSON in a body, and what puts a JSON text in its place: the whole, the field of a form, or lines."""
    if not body.lstrip().startswith((b"{", b"[")):
        ((field, text),) = parse_qsl(body.decode(), strict_parsing=True)
        return json.loads(text), lambda changed: urlencode({field: changed}, errors="replace").encode()
    lines = body.decode().splitlines()
    try:
        return json.loads(body), lambda changed: changed.encode("utf-8", "replace")
    except ValueError:
        return [json.loads(line) for line in lines], lambda changed: "\n".join(
            json.dumps(entry) for entry in json.loads(changed)
        ).encode()


@every_provider
@fuzzed
@given(data=st.data())
def test_a_real_payload_with_something_else_in_it_is_parsed_or_refused(name: str, data: st.DataObject) -> None:
    document, close = open_body(data.draw(st.sampled_from(BODIES[name])))
    for _ in range(data.draw(st.integers(1, 3))):
        put = list(places(document))
        put[data.draw(st.integers(0, len(put) - 1))](data.draw(values))
    parse(name, close(json.dumps(document, ensure_ascii=data.draw(st.booleans()))))


# A flag that says that the mail came in, or is a test, decides what the event means.
MEANINGFUL = {"_test", "test", "direction"}


def descriptive_fields(value: Any, identifying: frozenset[str]) -> Iterator[Callable[[Any], None]]:
    """Every field of a JSON value that identifies neither event nor recipient nor message."""
    for name, entry in value.items() if isinstance(value, dict) else ():
        if name in identifying:
            yield from descriptive_fields(entry, identifying)
        elif name not in MEANINGFUL:
            yield partial(value.__setitem__, name)
            yield from descriptive_fields(entry, identifying)
    for entry in value if isinstance(value, list) else ():
        yield from descriptive_fields(entry, identifying)


def identified(event: Event) -> tuple[object, ...]:
    """What an event is about; an event that names no message stands alone."""
    key = event.message_key
    return event.type, event.recipient, None if key is None or key.startswith("event:") else key


@every_provider
@fuzzed
@given(data=st.data())
def test_any_value_in_a_field_that_identifies_nothing_keeps_the_event(name: str, data: st.DataObject) -> None:
    sample = data.draw(st.sampled_from([body for body in BODIES[name] if b'"_test"' not in body]))
    before = PROVIDERS[name].parse(sample, CREDENTIALS[name])
    document, close = open_body(sample)
    fields_ = list(descriptive_fields(document, SAMPLES[name].identifying))
    if not fields_ or (name in ("ark", "postal") and "event" not in document):
        return  # without an envelope the fields together say which event it is
    data.draw(st.sampled_from(fields_))(data.draw(values))
    body = close(json.dumps(document)).replace(b"Infinity", b"1e999").replace(b"NaN", b"-1e999")
    after = PROVIDERS[name].parse(body, CREDENTIALS[name])
    assert list(map(identified, after)) == list(map(identified, before))
    for event in after:
        check(event, body)


@every_provider
@fuzzed
@given(data=st.data())
def test_a_real_payload_with_damaged_bytes_is_parsed_or_refused(name: str, data: st.DataObject) -> None:
    body = bytearray(data.draw(st.sampled_from(BODIES[name])))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    parse(name, bytes(body))


@every_provider
@fuzzed
@given(data=st.data())
def test_any_headers_are_refused(name: str, data: st.DataObject) -> None:
    if not SAMPLES[name].headers:
        pytest.skip("no header authenticates")
    # A forger knows the form: his headers are the genuine ones of another body, cut and joined at will.
    parts = list(SIGNED[name].headers.values())
    pieces = st.one_of(
        st.text(st.characters(), max_size=20),
        st.sampled_from(parts),
        st.sampled_from([p[: len(p) // 2] for p in parts]),
    )
    header = st.lists(pieces, min_size=1, max_size=3).map("".join)
    headers = data.draw(st.dictionaries(st.sampled_from(SAMPLES[name].headers), header))
    provider = PROVIDERS[name]
    try:
        provider.verify(make_request(data.draw(st.binary(max_size=20)), headers), CREDENTIALS[name], NOW)
    except VerificationError:
        pass
    else:
        assert not SAMPLES[name].covers_body  # so that a genuine header is good for any body
        assert any(part in given for part in parts for given in headers.values())
    provider.idempotency_key(make_request(b"", headers))


@every_provider
@fuzzed
@given(data=st.data())
def test_one_changed_character_of_a_signature_is_refused(name: str, data: st.DataObject) -> None:
    if not SAMPLES[name].headers:
        pytest.skip("no header authenticates")
    genuine = SIGNED[name]
    header = data.draw(st.sampled_from(SAMPLES[name].headers[:1] if name == "postal" else SAMPLES[name].headers))
    value = genuine.headers[header]
    position = data.draw(st.integers(0, len(value) - 1))
    changed = value[:position] + data.draw(st.characters(max_codepoint=255)) + value[position + 1 :]
    # Blanks at either end, the case of a scheme and the unused bits of base64 may change without a change of meaning.
    try:
        PROVIDERS[name].verify(replace(genuine, headers={**genuine.headers, header: changed}), CREDENTIALS[name], NOW)
    except VerificationError:
        return
    assert changed.strip().lower() == value.lower() or len(changed.strip()) == len(value)


@every_provider
@fuzzed
@given(
    raw=st.dictionaries(
        st.sampled_from(
            [
                "public_keys",
                "customer_handles",
                "jwks",
                "username",
                "password",
                "previous",
                "signing_secrets",
                "api_key",
                "tenant_id",
                "topic_arns",
                "public_key",
                "secrets",
                "headers",
                "signing_key",
            ]
        ),
        values,
    ),
    fetched=st.dictionaries(texts, texts, max_size=2),
)
def test_any_credentials_are_read_or_refused(name: str, raw: dict[str, Any], fetched: dict[str, str]) -> None:
    try:
        read = PROVIDERS[name].read_credentials(raw, fetched, settings_of(name))
    except CredentialsError:
        return
    with pytest.raises(VerificationError):
        PROVIDERS[name].verify(make_request(BODIES[name][0], {}), read, NOW)


@every_provider
@fuzzed
@given(document=st.one_of(st.binary(max_size=30), values.map(lambda value: json.dumps(value).encode())))
def test_any_key_document_is_read_or_refused(name: str, document: bytes) -> None:
    with pytest.raises(PayloadError):
        PROVIDERS[name].read_keys(document, "key")


@fuzzed
@given(
    name=st.sampled_from(["use", "alg", "key_ops", "x5c", "new"]),
    value=values,
    bom=st.sampled_from([b"", b"\xef\xbb\xbf"]),
)
def test_any_value_in_a_field_that_identifies_no_key_keeps_the_key(name: str, value: Any, bom: bytes) -> None:
    assume(name != "use" or not isinstance(value, str))  # "enc" is for another purpose
    document = json.dumps({"keys": [{**jwk("one"), name: value}, jwk("two")]}).replace("Infinity", "1e999")
    assert PROVIDERS["ark"].read_keys(bom + document.replace("NaN", "null").encode(), "one").keys() == {"one", "two"}
