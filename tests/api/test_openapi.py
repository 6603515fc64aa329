"""The OpenAPI document is valid, complete and accurate."""

import re
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.support import openapi
from tests.support.system import System, mailchannels_event


@pytest.fixture(scope="module")
def document(shared_system: System) -> dict[str, Any]:
    """What GET /openapi.json answers, without a key."""
    found: dict[str, Any] = shared_system.client.get("/openapi.json").get_json()
    return found


def test_the_document_is_valid(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    OpenAPIV31SpecValidator(document).validate()


def test_every_path_is_in_it(shared_system: System, document: dict[str, Any]) -> None:
    for rule in shared_system.client.application.url_map.iter_rules():
        if rule.rule.startswith("/v1/"):
            path = re.sub(r"<(?:[^<>]*:)?([^<>]+)>", r"{\1}", rule.rule)
            documented = {method.upper() for method in document["paths"][path]}
            assert (rule.methods or set()) - {"HEAD", "OPTIONS"} <= documented


def test_every_operation_says_what_it_does_and_needs_a_key(document: dict[str, Any]) -> None:
    assert document["security"] == [{"key": []}]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if method != "parameters":
                assert operation["summary"].endswith("."), (method, path)
                assert "application/problem+json" in str(operation["responses"]) + str(document["components"])


def test_every_operation_has_a_name_of_its_own(document: dict[str, Any]) -> None:
    names = [document["paths"][path][method]["operationId"] for method, path in openapi.operations(document)]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"[a-z]+([A-Z][a-z]+)+", name) for name in names)
    assert {"listMessages", "createSource"} < set(names)


def test_fields_of_answers_are_required_and_those_of_requests_only_if_they_are(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for name in ("Message", "MessagePage", "Event", "Delivery", "Change", "ChangeData", "Suppression", "Status"):
        optional = {"body_text"} if name == "ChangeData" else set()
        assert set(schemas[name]["required"]) == set(schemas[name]["properties"]) - optional
    assert set(schemas["Announcement"]["required"]) == {"source", "sender", "recipients"}


def test_answers_have_exactly_the_documented_fields(system: System) -> None:
    system.create_source()
    system.process_events(mailchannels_event("hard-bounced", "a@example.net", status="5.1.1"))
    system.queue_body(b"[]")
    system.call("POST", "/v1/keys", {"name": "k"})
    user = system.call("POST", "/v1/users", {"email": "ann@example.com"}).get_json()
    system.call("POST", f"/v1/users/{user['id']}/link")
    document = system.client.get("/openapi.json").get_json()
    schemas = document["components"]["schemas"]
    for path in ("sources", "receipts", "messages", "events", "changes", "keys", "users", "sessions"):
        operation = document["paths"][f"/v1/{path}"]["get"]
        page = operation["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        item = schemas[page]["properties"]["items"]["items"]["$ref"].rpartition("/")[2]
        found = system.get(f"/v1/{path}")["items"]
        assert found, path
        for entry in found:
            agrees(entry, schemas[item], schemas)


def agrees(value: Any, schema: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Whether a value has the types and, where it is an object of known fields, exactly these."""
    options = schema.get("anyOf", [schema])
    if value is None:
        assert any(option.get("type") == "null" or "null" in option.get("type", ["null"]) for option in options)
        return
    schema = next((option for option in options if option.get("type") != "null"), schema)
    if "$ref" in schema:
        schema = schemas[schema["$ref"].rpartition("/")[2]]
    if "properties" in schema:
        assert set(schema.get("required", ())) <= value.keys() <= schema["properties"].keys()
        for name in value:
            agrees(value[name], schema["properties"][name], schemas)
    elif schema.get("type") == "array":
        for entry in value:
            agrees(entry, schema["items"], schemas)
    elif "type" in schema:
        kinds: dict[str, Any] = {"string": str, "integer": int, "boolean": bool, "number": float | int, "object": dict}
        names = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        assert isinstance(value, tuple(kinds[name] for name in names if name != "null"))


@pytest.mark.parametrize("path", ["/v1/changes", "/v1/changes/stream"])
def test_it_says_where_reading_can_begin_again(document: dict[str, Any], path: str) -> None:
    (kind, content), *others = document["paths"][path]["get"]["responses"]["410"]["content"].items()
    assert (kind, others) == ("application/problem+json", [])
    schema = document["components"]["schemas"][content["schema"]["$ref"].rpartition("/")[2]]
    assert {"detail", "oldest_cursor"} < schema["properties"].keys()


def test_the_page_for_people_lists_every_path_and_loads_nothing(
    shared_system: System, document: dict[str, Any]
) -> None:
    answer = shared_system.client.get("/docs")
    assert answer.content_type.startswith("text/html")
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    for path in document["paths"]:
        assert path in answer.text
    assert "<script" not in answer.text
    assert "//" not in re.sub(r"https?://\S*example\S*|https://&lt;\S*", "", answer.text)
