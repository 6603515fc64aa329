"""Failed deliveries of the providers, as the API shows them and recovers them."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from api.core import pagination
from shared.providers.api.base import FailedDelivery
from shared.reconciliation import failed_deliveries
from shared.reconciliation import store as reconciliations
from simulator.providers.ark.webhooks import Ark
from simulator.providers.postmark.api import PostmarkAccount
from simulator.providers.postmark.webhooks import Postmark
from simulator.server import ProviderServer
from tests.support import http_sink
from tests.support.system import System

NOW = datetime(2026, 1, 5, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _emptied(system: System) -> Any:
    yield
    for table in ("reconciliations", "failed_deliveries", "reconciled_receipts"):
        system.execute(f"DELETE FROM {table}")


def fail(system: System, source_id: int, hours_ago: Sequence[int]) -> None:
    found = [
        FailedDelivery(
            reference=str(hours),
            failed_at=NOW - timedelta(hours=hours),
            outcome="5xx",
            status_code=503,
            events=2,
            url="https://hooks.example/webhooks/main",
        )
        for hours in hours_ago
    ]
    with system.engine.begin() as connection:
        failed_deliveries.add(connection, source_id, found)


def test_a_source_that_was_never_looked_at_says_so(system: System) -> None:
    system.create_source()
    found = system.get("/v1/sources/main/reconciliation")
    assert (found["enrolled"], found["reconciled_until"], found["still_open"], found["webhooks"]) == (None, None, 0, [])
    assert system.call("GET", "/v1/sources/nobody/reconciliation").status_code == 404


def test_a_source_shows_its_progress_and_the_webhooks_of_its_provider(system: System) -> None:
    source_id = system.create_source()
    fail(system, source_id, [1, 2, 3])
    webhook = {"url": "https://hooks.example/webhooks/main", "enabled": True, "ours": True}
    with system.engine.begin() as connection:
        reconciliations.ensure(connection, [source_id])
        reconciliations.record_webhooks(connection, source_id, [webhook], enrolled=True)
        reconciliations.advance(connection, source_id, NOW)
        failed_deliveries.give_up(connection, source_id, "3", reason="the provider has it no more")
    found = system.get("/v1/sources/main/reconciliation")
    assert (found["enrolled"], found["validated"], found["still_open"]) == (True, None, 2)
    assert found["webhooks"] == [webhook]
    assert found["reconciled_until"] == "2026-01-05T00:00:00Z"


def test_failed_deliveries_are_listed_by_when_they_failed(system: System) -> None:
    source_id = system.create_source()
    fail(system, source_id, range(1, 8))
    found = system.list_items("/v1/sources/main/failed-deliveries", limit=3)
    assert [one["reference"] for one in found] == [str(hours) for hours in range(1, 8)]
    assert (found[0]["state"], found[0]["events"], found[0]["status_code"]) == ("listed", 2, 503)
    since, until = ((NOW - timedelta(hours=hours)).isoformat() for hours in (5, 2))
    some = system.list_items("/v1/sources/main/failed-deliveries", since=since, until=until)
    assert [one["reference"] for one in some] == ["3", "4", "5"]
    assert system.call("GET", "/v1/sources/nobody/failed-deliveries").status_code == 404
    assert system.call("GET", "/v1/sources/main/failed-deliveries", cursor="nonsense").status_code == 400
    with_nul = pagination.encode((datetime(2026, 1, 1, tzinfo=UTC), "\0"))
    assert system.call("GET", "/v1/sources/main/failed-deliveries", cursor=with_nul).status_code == 400


@pytest.mark.parametrize(
    ("path", "body", "kind", "parameters"),
    [
        ("reconcile", {}, "reconcile", {"source": "main", "given_up": False}),
        (
            "reconcile",
            {"since": "2026-01-01T00:00:00Z", "given_up": True},
            "reconcile",
            {"source": "main", "since": "2026-01-01T00:00:00+00:00", "given_up": True},
        ),
        (
            "suppressions/push",
            {"delete": True},
            "push_suppressions",
            {"source": "main", "delete": True, "dry_run": False},
        ),
        ("suppressions/pull", {"dry_run": True}, "pull_suppressions", {"source": "main", "dry_run": True}),
    ],
)  # fmt: skip
def test_what_takes_long_is_asked_for_as_a_job(
    system: System, path: str, body: dict[str, Any], kind: str, parameters: dict[str, Any]
) -> None:
    system.create_source()
    answer = system.call("POST", f"/v1/sources/main/{path}", body)
    assert answer.status_code == 202, answer.text
    job = system.get(answer.headers["Location"])
    assert (job["kind"], job["parameters"], job["state"]) == (kind, parameters, "queued")
    assert system.notifier.tasks
    assert system.call("POST", f"/v1/sources/nobody/{path}", body).status_code == 404


def test_an_invalid_time_or_field_is_rejected_by_name(system: System) -> None:
    system.create_source()
    answer = system.call("POST", "/v1/sources/main/reconcile", {"since": "yesterday", "force": True})
    assert answer.status_code == 422
    assert answer.get_json()["errors"].keys() == {"since", "force"}


def test_webhooks_are_registered_listed_and_removed_at_the_provider(system: System) -> None:
    dialect, url = Postmark(), "https://hooks.example/webhooks/pm"
    with ProviderServer({"pm": dialect}) as server:
        system.add_source("pm", "postmark", dialect.credentials(), **server.settings("pm"))
        account = server.account("pm", PostmarkAccount)
        assert "public URL of pm is unknown" in system.call("POST", "/v1/sources/pm/enrol", {}).get_json()["detail"]

        made = system.call("POST", "/v1/sources/pm/enrol", {"url": url}).get_json()
        ours = {"url": url, "enabled": True, "ours": True}
        assert made == {"url": url, "is_new": True, "webhooks": [ours]}
        assert system.get("/v1/sources/pm")["settings"]["webhook_url"] == url
        assert system.call("POST", "/v1/sources/pm/enrol", {}).get_json()["is_new"] is False
        assert system.get("/v1/sources/pm/webhooks") == {"webhooks": [ours]}
        assert system.get("/v1/sources/pm/reconciliation")["enrolled"] is True

        gone = system.call("POST", "/v1/sources/pm/unenrol", {})
        assert gone.get_json() == {"removed": [url], "webhooks": []}
        assert account.webhooks == {}
        again = system.call("POST", "/v1/sources/pm/unenrol", {})
        assert (again.status_code, again.get_json()["detail"]) == (409, "The provider does not post to pm.")
    refused = system.call("GET", "/v1/sources/pm/webhooks")
    assert refused.status_code == 502
    assert "Postmark did not answer" in refused.get_json()["detail"]


def test_the_provider_tests_our_webhook_and_its_result_is_kept(system: System) -> None:
    dialect = Ark()
    with http_sink.http_sink() as sink, ProviderServer({"bills": dialect}) as server:
        system.add_source("bills", "ark", dialect.credentials(), **server.settings("bills"))
        refused = system.call("POST", "/v1/sources/bills/validate")
        assert refused.status_code == 409
        assert "does not post to bills" in refused.get_json()["detail"]

        url = f"{sink.url}/webhooks/bills"
        system.call("POST", "/v1/sources/bills/enrol", {"url": url})
        (arrived,) = system.call("POST", "/v1/sources/bills/validate").get_json()["results"]
        assert (arrived["url"], arrived["passed"]) == (url, True)
        assert system.get("/v1/sources/bills/reconciliation")["validated"] is True
        sink.always = http_sink.answer(401)
        (failed,) = system.call("POST", "/v1/sources/bills/validate").get_json()["results"]
        assert failed["passed"] is False
        assert "401" in failed["detail"]
        assert system.get("/v1/sources/bills/reconciliation")["validated"] is False
    entries = system.list_items("/v1/audit", object="source:bills")
    assert [one["details"]["passed"] for one in entries if one["action"] == "source.validated"] == [False, True]


def test_a_provider_whose_api_sends_no_test_is_not_asked(system: System) -> None:
    dialect = Postmark()
    with ProviderServer({"pm": dialect}) as server:
        system.add_source("pm", "postmark", dialect.credentials(), **server.settings("pm"))
        refused = system.call("POST", "/v1/sources/pm/validate")
    assert "sends no test" in refused.get_json()["detail"]


@pytest.mark.parametrize(
    ("method", "action"), [("GET", "webhooks"), ("POST", "enrol"), ("POST", "unenrol"), ("POST", "validate")]
)
def test_a_source_that_cannot_ask_its_provider_says_why(system: System, method: str, action: str) -> None:
    system.create_source()
    body = {"url": "https://hooks.example/webhooks/main"} if action == "enrol" else {}
    takes_body = method == "POST" and action != "validate"
    answer = system.call(method, f"/v1/sources/main/{action}", body if takes_body else None)
    assert answer.status_code == 409
    assert "has no `api_key`" in answer.get_json()["detail"]
