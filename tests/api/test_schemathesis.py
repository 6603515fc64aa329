"""The OpenAPI document is true to the code: whatever it allows is answered as it says, and the rest is refused."""

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.generation import GenerationMode

from tests.api import documents
from tests.api.house import ADMIN_KEY, House, happening

OPERATIONS = documents.operations(documents.document())

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
def furnished(still_house: House) -> House:
    """Some of everything, so that lists are not empty."""
    still_house.source()
    still_house.receive(happening("hard-bounced", "a@example.net", status="5.1.1"))
    still_house.keep(b"[]")
    still_house.call("POST", "/v1/suppressions", {"address": "b@example.net"})
    return still_house


@pytest.fixture(scope="module")
def described(furnished: House) -> Any:
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
