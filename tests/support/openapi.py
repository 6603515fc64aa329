"""The OpenAPI document, for tests that are made from it: of an application without a database."""

import re
from collections.abc import Mapping
from typing import Any

from flask.testing import FlaskClient
from openapi_schema_validator import OAS31Validator, oas31_format_checker
from werkzeug.test import TestResponse

from api.app import create_app
from api.core.resource import Deps
from shared.broker import TaskNotifier
from shared.encryption import Vault, new_key
from shared.postgres import engine
from shared.settings import Settings


def document() -> dict[str, Any]:
    """Return the document of GET /openapi.json."""
    nowhere = engine.create_engine("postgresql://nobody@127.0.0.1:9/none", application="test", pool_size=1)
    deps = Deps(
        settings=Settings(), engine=nowhere, vault=Vault([new_key()]), notifier=TaskNotifier("redis://127.0.0.1:9")
    )
    found: dict[str, Any] = create_app(deps).test_client().get("/openapi.json").get_json()
    return found


class AnswerChecker:
    """Checks that answers are as an application's document says: each field, its type, and those that must be there."""

    def __init__(self, client: FlaskClient) -> None:
        self._urls = client.application.url_map.bind("localhost")
        self._document: dict[str, Any] = client.get("/openapi.json").get_json()
        self._found: dict[tuple[str, str, str], OAS31Validator | None] = {}

    def check(self, method: str, path: str, answer: TestResponse) -> None:
        """Raise AssertionError if an answer to a request that changes something is not as documented."""
        is_json = answer.content_type == "application/json"
        if method not in ("POST", "PUT", "PATCH") or not is_json or not path.startswith("/v1/"):
            return
        rule, _ = self._urls.match(path, method, return_rule=True)
        template = re.sub(r"<(?:[^<>]*:)?([^<>]+)>", r"{\1}", rule.rule)
        key = template, method.lower(), str(answer.status_code)
        if key not in self._found:
            self._found[key] = self._validator(*key)
        validator = self._found[key]
        assert validator is not None, f"{method} {template} has no documented answer {answer.status_code}"
        errors = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(answer.get_json())]
        assert not errors, f"{method} {template}: {errors[:5]}"

    def _validator(self, template: str, method: str, status: str) -> OAS31Validator | None:
        response = self._document["paths"][template][method]["responses"].get(status)
        content = (response or {}).get("content", {}).get("application/json")
        return content and validator(self._document, content["schema"])


def validator(document: Mapping[str, Any], schema: Mapping[str, Any]) -> OAS31Validator:
    """Return a validator of a schema in a document."""
    return OAS31Validator({**schema, "components": document["components"]}, format_checker=oas31_format_checker)


def operations(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Return method, in lower case, and path of every operation of a document."""
    return [(method, path) for path, methods in found["paths"].items() for method in methods if method != "parameters"]
