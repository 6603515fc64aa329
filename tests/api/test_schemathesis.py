"""The API behaves as its OpenAPI document says: documented requests are answered as documented, others are refused."""

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.generation import GenerationMode

from tests.support import alerts, openapi
from tests.support.system import ADMIN_KEY, System, mailchannels_event

OPERATIONS = openapi.operations(openapi.document())

load_all_checks()
_CHECKS = CHECKS.get_by_names(
    (
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
        "negative_data_rejection",
    )
)
_EXAMPLES = {GenerationMode.POSITIVE: 8, GenerationMode.NEGATIVE: 8}


@pytest.fixture(scope="module")
def furnished(shared_system: System) -> System:
    """Some of everything, so that lists are not empty."""
    shared_system.create_source()
    shared_system.process_events(mailchannels_event("hard-bounced", "a@example.net", status="5.1.1"))
    shared_system.queue_body(b"[]")
    shared_system.call("POST", "/v1/suppressions", {"address": "b@example.net"})
    shared_system.call("POST", "/v1/suppressions/export", {})
    shared_system.call("POST", "/v1/keys", {"name": "billing"})
    user = shared_system.call("POST", "/v1/users", {"email": "ann@example.com"}).get_json()
    shared_system.call("POST", f"/v1/users/{user['id']}/link")
    shared_system.call("POST", "/v1/alert-rules", {"name": "mine", "kind": "rate", "rate": "bounce", "warning": 3})
    shared_system.call("POST", "/v1/alert-channels", {"name": "ops", "kind": "webhook", "url": "https://192.0.2.1/x"})
    with shared_system.engine.begin() as connection:
        alerts.fire(connection)
    return shared_system


@pytest.fixture(scope="module")
def described(furnished: System) -> Any:
    return schemathesis.openapi.from_wsgi("/openapi.json", furnished.client.application)


@pytest.mark.parametrize("mode", _EXAMPLES, ids=lambda mode: mode.value)
@pytest.mark.parametrize("operation", OPERATIONS, ids=" ".join)
def test_what_the_document_says_holds(described: Any, operation: tuple[str, str], mode: GenerationMode) -> None:
    method, path = operation

    @settings(
        max_examples=_EXAMPLES[mode],
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=described[path][method.upper()].as_strategy(generation_mode=mode))
    def holds(case: Any) -> None:
        case.call_and_validate(headers={"Authorization": f"Bearer {ADMIN_KEY}"}, checks=_CHECKS)

    holds()
