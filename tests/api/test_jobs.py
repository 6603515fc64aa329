"""Jobs over the API: shown, cancelled, and their files."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from api.resources.jobs import MAX_OPEN_OF_KEY
from shared.auth.keys import Scope, create_key
from shared.jobs import files as job_files
from shared.jobs import store as jobs
from shared.vocabulary import JobState
from tests.api.test_openapi import agrees
from tests.support.system import System


def ask(system: System, kind: str = "erase", second: int = 0, **parameters: Any) -> UUID:
    now = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=second)
    with system.engine.begin() as connection:
        return jobs.create(connection, kind=kind, parameters=parameters, asked_by="ann", now=now)


def finish(system: System, state: JobState, **more: Any) -> None:
    """The job that has waited longest is worked on, and ends so."""
    token = uuid4()
    with system.engine.begin() as connection:
        job = jobs.claim(connection, kinds=["erase", "replay"], token=token, lease_seconds=60)
        assert job is not None
        job_files.write(connection, job.id, job_files.OUTPUT, 0, "käse\r\n".encode())
        job_files.write(connection, job.id, job_files.OUTPUT, 1, b"two\r\n")
        assert jobs.finish(connection, job.id, token, state, **more)


def test_a_job_is_shown_without_its_encrypted_fields(system: System) -> None:
    job_id = ask(system, key="k", sealed="secret")
    answer = system.call("GET", f"/v1/jobs/{job_id}")
    assert "secret" not in answer.text
    job = answer.get_json()
    assert job["parameters"] == {"key": "k"}
    assert (job["state"], job["done"], job["total"], job["has_file"]) == ("queued", 0, None, False)
    assert job["started_at"] is job["finished_at"] is None


def test_jobs_are_listed_the_newest_first_by_kind_and_state(system: System) -> None:
    asked = [str(ask(system, second=second)) for second in range(3)] + [str(ask(system, kind="replay", second=3))]
    finish(system, JobState.DONE)
    assert [job["id"] for job in system.list_items("/v1/jobs", limit=2)] == asked[::-1]
    assert [job["id"] for job in system.list_items("/v1/jobs", kind="replay")] == asked[3:]
    assert [job["id"] for job in system.list_items("/v1/jobs", state="done")] == asked[:1]
    assert system.call("GET", "/v1/jobs", state="asleep").status_code == 422
    refused = system.call("GET", "/v1/jobs", kind="replays")
    assert (refused.status_code, "Did you mean 'replay'?" in refused.text) == (422, True)


def test_a_job_has_exactly_the_documented_fields(system: System) -> None:
    ask(system)
    finish(system, JobState.FAILED, error="it could not be done", report={"bad": 3})
    schemas = system.client.get("/openapi.json").get_json()["components"]["schemas"]
    (job,) = system.list_items("/v1/jobs")
    assert (job["error"], job["report"]) == ("it could not be done", {"bad": 3})
    agrees(job, schemas["Job"], schemas)


def test_a_queued_job_is_cancelled_at_once(system: System) -> None:
    job_id = ask(system)
    answer = system.call("POST", f"/v1/jobs/{job_id}/cancel")
    assert (answer.status_code, answer.get_json()["state"]) == (200, "cancelled")
    assert system.call("POST", f"/v1/jobs/{job_id}/cancel").status_code == 200


def test_a_job_that_is_worked_on_is_asked_to_stop(system: System) -> None:
    job_id = ask(system)
    with system.engine.begin() as connection:
        jobs.claim(connection, kinds=["erase"], token=uuid4(), lease_seconds=60)
    answer = system.call("POST", f"/v1/jobs/{job_id}/cancel")
    assert (answer.status_code, answer.get_json()["cancel_asked"]) == (202, True)


def test_a_job_that_is_over_cannot_be_cancelled(system: System) -> None:
    job_id = ask(system)
    finish(system, JobState.DONE)
    assert system.call("POST", f"/v1/jobs/{job_id}/cancel").status_code == 409


def test_a_file_is_there_when_the_job_is_over(system: System) -> None:
    job_id = ask(system)
    assert system.call("GET", f"/v1/jobs/{job_id}/file").status_code == 409
    finish(system, JobState.DONE)
    answer = system.call("GET", f"/v1/jobs/{job_id}/file")
    assert answer.text == "käse\r\ntwo\r\n"
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert system.get(f"/v1/jobs/{job_id}")["has_file"]


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("GET", "/file"), ("POST", "/cancel")])
def test_an_unknown_job_is_not_found(system: System, method: str, path: str) -> None:
    assert system.call(method, f"/v1/jobs/{uuid4()}{path}").status_code == 404


def test_one_caller_has_only_so_many_jobs_at_once(system: System) -> None:
    for second in range(MAX_OPEN_OF_KEY):
        with system.engine.begin() as connection:
            now = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=second)
            jobs.create(connection, kind="erase", parameters={}, asked_by="TIDINGS_ADMIN_KEY", now=now)
    path = "/v1/deliveries/replay"
    refused = system.call("POST", path, {"filter": {}})
    assert (refused.status_code, "Retry-After" in refused.headers) == (429, True)
    assert "20 jobs that are not over" in refused.get_json()["detail"]
    assert len(system.list_items("/v1/jobs")) == MAX_OPEN_OF_KEY
    with system.engine.begin() as connection:
        system.key = create_key(connection, "other", Scope.WRITE).secret
    assert system.call("POST", path, {"filter": {}}).status_code == 202
