"""Sources that a mapping describes: what it may say, what an error says, and what a body becomes."""

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from shared.errors import CredentialsError, PayloadError, VerificationError
from shared.events.event import Event
from shared.providers.generic import PROVIDER
from shared.providers.webhooks.base import SourceSettings, StatusCodes
from shared.vocabulary import Classification, EventType, RefusalReason
from simulator.providers.generic import webhooks
from tests.support.signed_requests import (
    GENERIC_MAPPING,
    NOW,
    SECONDS,
    ed25519_key,
    ed25519_public,
    make_request,
    read_payloads,
    sign_generic,
    to_base64,
)

SECRETS = {"secrets": ["secret-a"]}


def changed(**parts: Any) -> dict[str, Any]:
    """The sample mapping with other parts; `authentication__header` is a part of a part."""
    mapping: dict[str, Any] = copy.deepcopy(dict(GENERIC_MAPPING))
    for name, value in parts.items():
        *outer, last = name.split("__")
        place = mapping
        for part in outer:
            place = place[part]
        if value is None:
            place.pop(last, None)
        else:
            place[last] = value
    return mapping


def read(mapping: object, given: Mapping[str, Any] = SECRETS) -> Any:
    return PROVIDER.read_credentials(given, {}, SourceSettings(generic=mapping))  # type: ignore[arg-type]


def parse(body: bytes, **parts: Any) -> list[Event]:
    return PROVIDER.parse(body, read(changed(**parts)))


def test_a_batch_is_read_by_the_paths_of_its_mapping() -> None:
    body = read_payloads("generic")["batch"]
    delivered, bounced, unknown = parse(body)
    assert (delivered.type, delivered.recipient, delivered.occurred_at) == (
        EventType.DELIVERED,
        "maria@customer.example",
        NOW,
    )
    assert (delivered.identity, delivered.message_key, delivered.tag) == ("e-1", "id:m-1", "invoices")
    assert delivered.subject == "Invoice 7"
    assert (bounced.smtp_status, bounced.enhanced_code) == ("550", "5.1.1")
    assert bounced.classification is Classification.INVALID_RECIPIENT
    assert (unknown.type, unknown.problem) == (EventType.UNKNOWN, "Unknown event kind: 'something new'")
    assert all(event.provider_object in body for event in (delivered, bounced, unknown))


@pytest.mark.parametrize(
    ("parts", "place", "words"),
    [
        ({"fields__recipent": "email"}, "fields.recipent is unknown", "Did you mean 'recipient'?"),
        ({"fields__recipient": "data.[to"}, "fields.recipient is not JMESPath", "at character 9"),
        ({"fields__recipient": "a ="}, "fields.recipient is not JMESPath", "'a ='"),
        ({"fields__recipient": ""}, "fields.recipient must be a JMESPath", "data.recipient"),
        ({"fields__recipient": 5}, "fields.recipient must be a JMESPath", "'5'"),
        ({"fields__type": None}, "fields.type is required", ""),
        ({"fields__tags": "sort_by(tags, &name)"}, "fields.tags", "Did you mean 'sort'?"),
        ({"fields__tags": "to_string(" * 5 + "@" + ")" * 5}, "fields.tags may call 4", "and calls 5"),
        ({"fields__tags": "[@,@][]|[@,@][]"}, "fields.tags may have 1 list", "and has 2"),
        ({"fields__tags": "a." * 200 + "a"}, "fields.tags", "300 characters"),
        ({"types__delivery": "deliverd"}, "types.delivery must be one of", "Did you mean 'delivered'?"),
        ({"types__delivery": []}, "types.delivery must be one of", ""),
        ({"types": {}}, "types must be an object", ""),
        ({"typs": {}}, "typs is unknown", "Did you mean 'types'?"),
        ({"items": "events["}, "items is not JMESPath", ""),
        ({"format": "xml"}, "format must be one of json, form, ndjson", "'xml'"),
        ({"time": "unixms"}, "time must be one of", "Did you mean 'unix_ms'?"),
        ({"authentication": None}, "authentication is required", ""),
        ({"authentication": {}}, "authentication.kind is required", ""),
        ({"authentication__kind": "hmca"}, "authentication.kind must be one of", "Did you mean 'hmac'?"),
        ({"authentication__header": "X Signature"}, "authentication.header must name a header", "'X Signature'"),
        ({"authentication__digest": "md5"}, "authentication.digest must be one of", ""),
        ({"authentication__encoding": "base46"}, "authentication.encoding", "Did you mean 'base64'?"),
        ({"authentication__template": "{timestamp}"}, "authentication.template must contain `{body}` once", ""),
        ({"authentication__template": "{body}{timestamp}{url}"}, "authentication.template may contain", ""),
        ({"authentication__timestamp_header": None}, "authentication.timestamp_header", "belong together"),
        ({"authentication__tolerance_seconds": 0}, "authentication.tolerance_seconds", "'0'"),
        ({"authentication__prefix": "a, b"}, "authentication.prefix", "without commas"),
        ({"status_codes": {"unavailable": 200}}, "status_codes.unavailable must not be a success", ""),
        ({"status_codes": {"bad_signature": 99}}, "status_codes.bad_signature must be an HTTP status", "'99'"),
        ({"status_codes": {"badsignature": 401}}, "status_codes.badsignature is unknown", "'bad_signature'"),
    ],
)
def test_a_mistake_is_named_with_its_place_and_the_nearest_word(parts: dict[str, Any], place: str, words: str) -> None:
    with pytest.raises(CredentialsError) as caught:
        read(changed(**parts))
    assert f"settings.generic.{place}" in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize("mapping", [None, [], "x", {}, 5])
def test_a_source_without_a_mapping_is_refused(mapping: object) -> None:
    with pytest.raises(CredentialsError, match=r"settings\.generic"):
        read(mapping)


def test_credentials_of_another_kind_are_refused_by_name() -> None:
    with pytest.raises(CredentialsError, match=r"`value` does not belong .* It has secrets"):
        read(changed(), {**SECRETS, "value": "x"})


BASIC = {"kind": "basic"}
HEADER = {"kind": "header", "header": "X-Token"}
STANDARD = {"kind": "standard_webhooks"}
ED25519 = {"kind": "ed25519", "header": "X-Sig", "encoding": "base64"}


@pytest.mark.parametrize(
    ("authentication", "given"),
    [
        (BASIC, {}),
        (BASIC, {"username": "a", "password": ""}),
        (HEADER, {}),
        (HEADER, {"value": ""}),
        (HEADER, {"value": []}),
        (STANDARD, {"secrets": []}),
        (STANDARD, {"secrets": ["whsec_"]}),
        (STANDARD, {"secrets": ["whsec_!"]}),
        (ED25519, {}),
        (ED25519, {"public_key": "no key"}),
    ],
)
def test_credentials_that_would_let_anybody_in_are_refused(authentication: dict[str, Any], given: Any) -> None:
    with pytest.raises(CredentialsError):
        read(changed(authentication=authentication), given)


@pytest.mark.parametrize(
    ("authentication", "given", "headers"),
    [
        (BASIC, {"username": "a", "password": "b"}, {"Authorization": f"Basic {to_base64(b'a:b')}"}),
        (HEADER, {"value": ["old", "new"]}, {"X-Token": "new"}),
        (ED25519, {"public_key": ed25519_public()}, {"X-Sig": to_base64(ed25519_key().sign(b"body"))}),
    ],
)
def test_other_kinds_of_authentication(
    authentication: dict[str, Any], given: dict[str, Any], headers: dict[str, str]
) -> None:
    credentials = read(changed(authentication=authentication), given)
    PROVIDER.verify(make_request(b"body", headers), credentials, NOW)
    for name, value in headers.items():
        with pytest.raises(VerificationError):
            PROVIDER.verify(make_request(b"body", {name: f"x{value}"}), credentials, NOW)
    with pytest.raises(VerificationError) as caught:
        PROVIDER.verify(make_request(b"body", {}), credentials, NOW)
    assert caught.value.reason is RefusalReason.MISSING_SIGNATURE


@pytest.mark.parametrize("shift", [-300, 0, 300])
def test_a_signature_holds_for_the_tolerance_both_ways(shift: int) -> None:
    credentials = read(changed())
    PROVIDER.verify(sign_generic(b"{}", signed_at=SECONDS + shift), credentials, NOW)
    with pytest.raises(VerificationError) as caught:
        PROVIDER.verify(sign_generic(b"{}", signed_at=SECONDS + (301 if shift >= 0 else -301)), credentials, NOW)
    assert caught.value.reason is RefusalReason.STALE


def test_any_of_the_secrets_and_any_of_the_signatures_will_do() -> None:
    credentials = read(changed(), {"secrets": ["secret-b", "secret-a"]})
    request = sign_generic(b"{}")
    header = f"v0=00, v1={'00' * 32} {request.headers['x-acme-signature']}"
    PROVIDER.verify(make_request(b"{}", {**request.headers, "X-Acme-Signature": header}), credentials, NOW)


def test_status_codes_are_those_of_the_mapping() -> None:
    codes = PROVIDER.status_codes_of(read(changed(status_codes={"bad_signature": 200, "unavailable": 429})))
    assert codes == StatusCodes(bad_signature=200, unavailable=429)


def test_a_form_is_one_item() -> None:
    body = urlencode({"event": "bounce", "email": "a@b.example", "ts": "1767225600", "id": "e"}).encode()
    (event,) = parse(body, format="form", items="@")
    assert (event.type, event.recipient, event.occurred_at) == (EventType.BOUNCED, "a@b.example", NOW)
    with pytest.raises(PayloadError):
        parse(b"{}", format="form", items="@")


def test_lines_are_items_and_a_bad_one_does_not_hide_the_others() -> None:
    body = b'{"event":"bounce","email":"a@b.example"}\n\nno json\r\n{"event":"delivery","email":"c@b.example"}\n'
    first, bad, last = parse(body, format="ndjson", items="@")
    assert (first.type, bad.type, last.type) == (EventType.BOUNCED, EventType.UNKNOWN, EventType.DELIVERED)
    assert json.loads(bad.provider_object) == "no json\r"
    with pytest.raises(PayloadError):
        parse(b"no json\nat all", format="ndjson", items="@")


def test_items_may_be_chosen_by_an_expression() -> None:
    body = read_payloads("generic")["batch"]
    (event,) = parse(body, items="events[?event=='bounce']")
    assert event.type is EventType.BOUNCED
    with pytest.raises(PayloadError, match="is not a list"):
        parse(body, items="length(events)")
    with pytest.raises(PayloadError, match="cannot be applied"):
        parse(body, items="join(',', @)")
    with pytest.raises(PayloadError, match="has no 'event'"):
        parse(body, items="event")


@pytest.mark.parametrize(
    ("time", "value", "is_read"),
    [
        ("unix", 1767225600, True),
        ("unix", "1767225600", True),
        ("unix", 1767225600000, False),
        ("unix", "2026-01-01T00:00:00Z", False),
        ("unix_ms", 1767225600000, True),
        ("unix_ms", 1767225600, False),
        ("rfc3339", "2026-01-01T00:00:00Z", True),
        ("rfc3339", "1767225600", False),
        ("rfc3339", {}, False),
        (None, 1767225600000, True),
    ],
)
def test_a_time_in_another_form_counts_as_missing(time: str | None, value: Any, is_read: bool) -> None:
    item = {"event": "delivery", "email": "a@b.example", "ts": value}
    (event,) = parse(json.dumps(item).encode(), items="@", time=time)
    assert event.occurred_at == (NOW if is_read else None)
    assert (event.details.get("unread") == ["occurred_at"]) is not is_read


def test_an_expression_that_cannot_be_applied_loses_only_its_field() -> None:
    item = {"event": "delivery", "email": "a@b.example", "message": {"id": "m"}, "tags": 5, "id": "e"}
    (event,) = parse(json.dumps(item).encode(), items="@", fields__tags="join(',', tags)")
    assert (event.type, event.message_key, event.details["unread"]) == (EventType.DELIVERED, "id:m", ["tags"])
    (event,) = parse(json.dumps(item).encode(), items="@", fields__recipient="join(',', tags)")
    assert (event.type, event.recipient) == (EventType.UNKNOWN, None)
    assert "fields.recipient cannot be applied" in (event.problem or "")


def test_the_example_of_the_documentation_is_the_mapping_that_is_simulated() -> None:
    mapping = Path(webhooks.__file__).with_name("mapping.yaml").read_text()
    page = Path(__file__).parents[4] / "docs" / "generic.md"
    assert f"```yaml\n{mapping}```" in page.read_text()
