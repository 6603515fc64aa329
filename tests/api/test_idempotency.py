"""A POST repeated under the same Idempotency-Key gets the same response and has no second effect."""

import threading
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import Mock
from uuid import uuid4

import pytest
from sqlalchemy.exc import OperationalError
from werkzeug.test import TestResponse

from api.app import create_app
from api.core.resource import Deps
from shared.auth import idempotency as idempotent_answers
from shared.auth.keys import Scope, create_key
from shared.jobs import store as jobs
from shared.settings import Settings
from shared.subscriptions import view
from tests.support.system import ADMIN_KEY, System


@pytest.fixture(autouse=True)
def _emptied(system: System) -> Any:
    yield
    system.headers.clear()
    system.execute("DELETE FROM subscriptions")


def post(system: System, key: str | None, path: str = "/v1/keys", body: Any = None) -> TestResponse:
    system.headers.clear()
    if key is not None:
        system.headers["Idempotency-Key"] = key
    return system.call("POST", path, {"name": "billing"} if body is None else body)


def count(system: System) -> int:
    ((number,),) = system.execute("SELECT count(*) FROM api_keys")
    return int(number)


def test_a_repetition_gets_the_same_answer_and_does_nothing(system: System) -> None:
    first, second = post(system, "k-1"), post(system, "k-1")
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.data == second.data
    assert first.content_type == second.content_type
    assert "Idempotent-Replayed" not in first.headers
    assert second.headers["Idempotent-Replayed"] == "true"
    assert count(system) == 1


def test_where_it_was_made_is_said_again(system: System) -> None:
    body = {"slug": "main", "provider": "mailchannels", "credentials": {"customer_handles": ["a"]}}
    first, second = (post(system, "k-1", "/v1/sources", body) for _ in range(2))
    assert first.headers["Location"] == second.headers["Location"]


def test_the_key_may_stand_in_quotation_marks_or_not(system: System) -> None:
    first, second = post(system, '"8e03978e-40d5-43dd"'), post(system, "8e03978e-40d5-43dd")
    assert first.data == second.data


def test_without_a_key_everything_is_done_again(system: System) -> None:
    post(system, None)
    post(system, None)
    assert count(system) == 2


@pytest.mark.parametrize("key", ["", '""', "a b", "ü", "x" * 256, '"open'])
def test_an_invalid_key_is_rejected(system: System, key: str) -> None:
    assert post(system, key).status_code == 400
    assert count(system) == 0


def test_another_request_under_the_same_key_is_refused(system: System) -> None:
    post(system, "k-1")
    answer = post(system, "k-1", body={"name": "other"})
    assert answer.status_code == 422
    assert "different request" in answer.get_json()["detail"]
    assert count(system) == 1


def test_the_same_key_at_another_path_is_another(system: System) -> None:
    assert post(system, "k-1").status_code == 201
    assert post(system, "k-1", "/v1/suppressions", {"address": "a@example.net"}).status_code == 201


def test_the_same_key_of_another_caller_is_another(system: System) -> None:
    with system.engine.begin() as connection:
        secrets = [create_key(connection, "twin", Scope.WRITE, tenant).secret for tenant in ("a", "b")]
    answers = []
    for system.key in secrets:
        answers.append(post(system, "k-1", "/v1/suppressions", {"address": "a@example.net"}).get_json()["tenant"])
    system.key = ADMIN_KEY
    assert answers == ["a", "b"]


def test_a_rejected_request_can_be_corrected_under_the_same_key(system: System) -> None:
    assert post(system, "k-1", body={"name": ""}).status_code == 422
    assert post(system, "k-1").status_code == 201


@pytest.mark.parametrize(
    ("path", "body", "read", "table"),
    [
        ("/v1/deliveries/replay", {"filter": {"status": "delivered"}}, (jobs, "find"), "jobs"),
        ("/v1/suppressions/import", {"rows": [{"address": "ann@example.net"}]}, (jobs, "find"), "jobs"),
        ("/v1/suppressions/export", {}, (jobs, "find"), "jobs"),
        ("/v1/erasures", {"address": "ann@example.net"}, (jobs, "find"), "jobs"),
        (
            "/v1/subscriptions",
            {"url": "http://1.1.1.1/", "types": ["*"]},
            (view, "render"),
            "subscriptions",
        ),
    ],
)
def test_what_could_not_be_answered_was_not_done(
    system: System, monkeypatch: pytest.MonkeyPatch, path: str, body: Any, read: tuple[Any, str], table: str
) -> None:
    module, name = read
    with monkeypatch.context() as patched:
        patched.setattr(module, name, Mock(side_effect=OperationalError("", {}, Exception("connection lost"))))
        assert post(system, "k-1", path, body).status_code == 503
    assert post(system, "k-1", path, body).status_code < 300
    assert system.execute(f"SELECT count(*) FROM {table}") == [(1,)]


def test_a_repetition_is_answered_with_409_while_the_first_is_in_progress(system: System) -> None:
    ready, go = threading.Event(), threading.Event()
    answers: list[TestResponse] = []

    def wait_for_the_table() -> None:
        with system.engine.begin() as connection:
            connection.exec_driver_sql("LOCK TABLE api_keys")
            ready.set()
            go.wait(120)

    def first() -> None:
        deps = Deps(
            settings=Settings(admin_key=ADMIN_KEY), engine=system.engine, vault=system.vault, notifier=system.notifier
        )
        client = create_app(deps).test_client()
        headers = {"Authorization": f"Bearer {ADMIN_KEY}", "Idempotency-Key": "k-1"}
        answers.append(client.post("/v1/keys", json={"name": "billing"}, headers=headers))

    holder, asker = threading.Thread(target=wait_for_the_table), threading.Thread(target=first)
    holder.start()
    ready.wait(120)
    asker.start()
    while not system.execute("SELECT FROM idempotent_answers"):
        pass
    meanwhile = post(system, "k-1")
    go.set()
    asker.join()
    holder.join()
    assert meanwhile.status_code == 409
    assert int(meanwhile.headers["Retry-After"]) > 0
    assert post(system, "k-1").data == answers[0].data
    assert count(system) == 1


def test_a_key_that_a_crash_left_taken_is_free_again_after_a_while(system: System) -> None:
    post(system, "k-1")
    system.execute("UPDATE idempotent_answers SET status_code = NULL, headers = NULL, body = NULL")
    assert post(system, "k-1").status_code == 409
    system.execute("UPDATE idempotent_answers SET created_at = created_at - interval '3 minutes'")
    assert post(system, "k-1").status_code == 201


def test_a_slow_request_does_not_overwrite_the_answer_of_a_later_one(system: System) -> None:
    key, then = uuid4(), datetime.now(UTC)
    later = then + timedelta(minutes=3)
    with system.engine.begin() as connection:
        assert idempotent_answers.begin(connection, key, b"hash", then) is None
        assert idempotent_answers.begin(connection, key, b"hash", later) is None
        idempotent_answers.finish(connection, key, later, 201, [], b"second")
        idempotent_answers.finish(connection, key, then, 201, [], b"first")
        idempotent_answers.release(connection, key, then)
        kept = idempotent_answers.begin(connection, key, b"hash", later)
    assert kept is not None
    assert kept.body == b"second"


def test_after_a_day_an_answer_is_forgotten(system: System) -> None:
    post(system, "k-1")
    with system.engine.begin() as connection:
        assert idempotent_answers.trim(connection, datetime.now(UTC) + timedelta(hours=23)) == 0
        assert idempotent_answers.trim(connection, datetime.now(UTC) + timedelta(hours=25)) == 1
    post(system, "k-1")
    assert count(system) == 2


def test_stored_data_contains_no_readable_secret(system: System) -> None:
    made = post(system, "k-1").get_json()
    ((kept, body),) = system.execute("SELECT a::text, body FROM idempotent_answers AS a")
    assert made["key"] not in kept
    assert made["key"].encode() not in body


def test_every_post_that_starts_something_takes_a_key(system: System) -> None:
    document = system.client.get("/openapi.json").get_json()
    without = {
        path
        for path, methods in document["paths"].items()
        if "post" in methods
        and "Idempotency-Key" not in {entry["name"] for entry in methods["post"].get("parameters", [])}
    }
    assert without == {"/v1/suppressions/check"}
