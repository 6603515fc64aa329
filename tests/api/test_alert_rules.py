"""The OpenAPI document describes alert rules as the rules file knows them: by kind, with fields and limits."""

from dataclasses import fields
from typing import Any

import pytest
from openapi_schema_validator import OAS31Validator

from shared.alerts.rules import CLASSES
from shared.rules import document
from shared.vocabulary import AlertKind
from tests.support.system import System


@pytest.fixture(scope="module")
def openapi(shared_system: System) -> dict[str, Any]:
    found: dict[str, Any] = shared_system.client.get("/openapi.json").get_json()
    return found


def is_valid(openapi: dict[str, Any], schema: str, value: Any) -> bool:
    """Whether a value fits a schema of the document."""
    whole = {"$ref": f"#/components/schemas/{schema}", "components": openapi["components"]}
    return bool(OAS31Validator(whole).is_valid(value))


def test_every_kind_has_a_schema_with_its_fields_and_a_description(openapi: dict[str, Any]) -> None:
    for name in ("AlertRule", "AlertRuleBody"):
        assert len(openapi["components"]["schemas"][name]["oneOf"]) == len(AlertKind)
    for kind, cls in CLASSES.items():
        schema = openapi["components"]["schemas"][f"{cls.__name__}Body"]
        assert schema["properties"].keys() == {"kind", *(field.name for field in fields(cls))}
        assert schema["properties"]["kind"]["enum"] == [kind]
        assert schema["description"]
        assert all("description" in field for field in schema["properties"].values())


def test_limits_and_defaults_are_in_it(openapi: dict[str, Any]) -> None:
    silence = openapi["components"]["schemas"]["SilenceRule"]["properties"]
    assert {"minimum": 5, "maximum": 10080, "default": 360}.items() <= silence["warning"].items()
    event = openapi["components"]["schemas"]["EventRule"]
    assert set(event["required"]) == {"kind", "types"}
    assert {"minItems": 1, "uniqueItems": True}.items() <= event["properties"]["types"].items()
    assert "complained" in event["properties"]["types"]["items"]["enum"]


def test_every_rule_that_is_shown_fits_it(openapi: dict[str, Any], shared_system: System) -> None:
    shown = shared_system.list_items("/v1/alert-rules", limit=100)
    assert {rule["kind"] for rule in shown} == set(AlertKind)
    for rule in shown:
        assert is_valid(openapi, "AlertRule", rule), rule
        assert not is_valid(openapi, "AlertRule", {**rule, "colour": "red"})


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "rate", "rate": "bounce", "warning": "7 %"},
        {"kind": "rate", "rate": "bounce", "warning": 0.5, "sources": ["main"], "per": "tenant"},
        {"kind": "event", "types": ["held"]},
        {"kind": "verification_failures", "factor": 2.5, "enabled": False},
    ],
)
def test_a_body_that_is_accepted_fits_it(openapi: dict[str, Any], body: dict[str, Any]) -> None:
    document.load_alert_rule({"name": "a", **body})
    assert is_valid(openapi, "AlertRuleBody", body)
    assert is_valid(openapi, "NewAlertRule", {"name": "a", **body})
    assert is_valid(openapi, "AlertRuleChange", {**dict.fromkeys(body), "kind": body["kind"]})
    assert is_valid(openapi, "AlertRuleChange", body)


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "weather"},
        {"kind": "rate"},
        {"kind": "rate", "rate": "bounce", "warning": 101},
        {"kind": "rate", "rate": "bounce", "warning": 0},
        {"kind": "pending_age", "window_minutes": 5},
        {"kind": "event", "types": []},
        {"kind": "event", "types": ["held", "held"]},
        {"kind": "silence", "sources": ["a b"]},
        {"kind": "silence", "enabled": "yes"},
        {"kind": "silence", "warning": "60"},
    ],
)
def test_a_body_that_is_refused_does_not_fit_it(
    openapi: dict[str, Any], shared_system: System, body: dict[str, Any]
) -> None:
    assert shared_system.call("POST", "/v1/alert-rules", {"name": "a", **body}).status_code == 422
    assert not is_valid(openapi, "NewAlertRule", {"name": "a", **body})


def test_only_a_new_rule_must_have_its_name_in_the_body(openapi: dict[str, Any]) -> None:
    paths = openapi["paths"]
    bodies = {
        method: paths[path][method]["requestBody"]["content"]["application/json"]["schema"]["$ref"]
        for method, path in (("post", "/v1/alert-rules"), ("put", "/v1/alert-rules/{name}"))
    }
    assert bodies == {"post": "#/components/schemas/NewAlertRule", "put": "#/components/schemas/AlertRuleBody"}
    assert not is_valid(openapi, "NewAlertRule", {"kind": "silence"})
    assert is_valid(openapi, "AlertRuleBody", {"kind": "silence"})
