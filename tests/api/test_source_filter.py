"""A filter by a source that does not exist is refused. A tenant's key does not learn which sources exist."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import http_sink, openapi
from tests.support.databases import DatabasePool
from tests.support.system import ADMIN_KEY, BEGIN, LOOPBACK, System, open_system
from tests.support.tenants import ALPHA, BRAVO, Tenant, create_tenants

_FILTERED = [
    (path, parameter["name"])
    for path, operations in openapi.document()["paths"].items()
    for parameter in operations.get("get", {}).get("parameters", ())
    if parameter["name"] in ("source", "sources") and path != "/v1/refusals"
]
_OF_TENANTS = [(path, name) for path, name in _FILTERED if path not in ("/v1/receipts", "/v1/alerts")]


@pytest.fixture(scope="module")
def system(databases: DatabasePool) -> Iterator[System]:
    with databases.database() as url, open_system(url, begin=BEGIN, egress_allow=LOOPBACK) as system:
        yield system


@pytest.fixture(scope="module")
def tenants(system: System) -> Iterator[dict[str, Tenant]]:
    with http_sink.http_sink() as sink:
        yield create_tenants(system, sink.url)


@pytest.fixture(autouse=True)
def _as_administrator(system: System) -> Iterator[None]:
    yield
    system.key = ADMIN_KEY


def ask(system: System, path: str, **query: str) -> Any:
    if path == "/v1/diagnosis":
        query["recipient"] = "ann@example.net"
    return system.call("GET" if path != "/v1/changes/stream" else "HEAD", path, **query)


def test_there_are_filters() -> None:
    assert {"/v1/messages", "/v1/events", "/v1/changes", "/v1/changes/stream"} <= dict(_FILTERED).keys()


@pytest.mark.parametrize(("path", "name"), _FILTERED)
def test_an_unknown_source_is_refused_with_the_nearest(
    system: System, tenants: dict[str, Tenant], path: str, name: str
) -> None:
    answer = ask(system, path, **{name: "mian"})
    assert answer.status_code == 422
    if path != "/v1/changes/stream":
        assert answer.get_json()["errors"] == {name: ["There is no source called 'mian'. Did you mean 'main'?"]}
    assert ask(system, path, **{name: "main"}).status_code == 200


@pytest.mark.parametrize(("path", "name"), _OF_TENANTS)
def test_to_a_tenant_the_source_of_another_and_one_that_does_not_exist_are_alike_empty(
    system: System, tenants: dict[str, Tenant], path: str, name: str
) -> None:
    system.key = tenants[ALPHA].key
    foreign, missing = (ask(system, path, **{name: slug}) for slug in (f"s-{BRAVO}", "mian"))
    assert (foreign.status_code, missing.status_code) == (200, 200)
    if path == "/v1/changes/stream":
        return  # it has no end
    assert foreign.text == missing.text
    if foreign.is_json and path != "/v1/diagnosis":
        assert foreign.get_json()["items"] == []


def test_an_export_of_suppressions_names_a_source_too(system: System, tenants: dict[str, Tenant]) -> None:
    answer = system.call("POST", "/v1/suppressions/export", {"source": "mian"})
    assert (answer.status_code, list(answer.get_json()["errors"])) == (422, ["source"])


def test_a_deleted_source_may_be_named(system: System, tenants: dict[str, Tenant]) -> None:
    system.execute("UPDATE sources SET deleted_at = now() WHERE slug = 'main'")
    try:
        assert system.get("/v1/messages", source="main")["items"]
    finally:
        system.execute("UPDATE sources SET deleted_at = NULL WHERE slug = 'main'")
