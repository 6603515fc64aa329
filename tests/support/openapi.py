"""The OpenAPI document, for tests that are made from it: of an application without a database."""

from typing import Any

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


def operations(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Return method, in lower case, and path of every operation of a document."""
    return [(method, path) for path, methods in found["paths"].items() for method in methods if method != "parameters"]
