"""Jobs over the API: watched, cancelled, and what they made."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from shared.jobs import files as job_files
from shared.jobs import store as jobs
from shared.vocabulary import JobState
from tests.api.house import House
from tests.api.test_openapi import agrees


def ask(house: House, kind: str = "erase", second: int = 0, **parameters: Any) -> UUID:
    now = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=second)
    with house.engine.begin() as connection:
        return jobs.create(connection, kind=kind, parameters=parameters, asked_by="ann", now=now)


def finish(house: House, state: JobState, **more: Any) -> None:
    """The job that has waited longest is worked on, and ends so."""
    token = uuid4()
    with house.engine.begin() as connection:
        job = jobs.claim(connection, kinds=["erase", "other"], token=token, lease_seconds=60)
        assert job is not None
        job_files.write(connection, job.id, job_files.OUTPUT, 0, "käse\r\n".encode())
        job_files.write(connection, job.id, job_files.OUTPUT, 1, b"two\r\n")
        assert jobs.finish(connection, job.id, token, state, **more)


def test_a_job_is_shown_without_what_is_sealed(house: House) -> None:
    job_id = ask(house, key="k", sealed="secret")
    answer = house.call("GET", f"/v1/jobs/{job_id}")
    assert "secret" not in answer.text
    job = answer.get_json()
    assert job["parameters"] == {"key": "k"}
    assert (job["state"], job["done"], job["total"], job["has_file"]) == ("queued", 0, None, False)
    assert job["started_at"] is job["finished_at"] is None


def test_jobs_are_listed_the_newest_first_by_kind_and_state(house: House) -> None:
    asked = [str(ask(house, second=second)) for second in range(3)] + [str(ask(house, kind="other", second=3))]
    finish(house, JobState.DONE)
    assert [job["id"] for job in house.items("/v1/jobs", limit=2)] == asked[::-1]
    assert [job["id"] for job in house.items("/v1/jobs", kind="other")] == asked[3:]
    assert [job["id"] for job in house.items("/v1/jobs", state="done")] == asked[:1]
    assert house.call("GET", "/v1/jobs", state="asleep").status_code == 422


def test_a_job_has_exactly_the_documented_fields(house: House) -> None:
    ask(house)
    finish(house, JobState.FAILED, error="it could not be done", report={"bad": 3})
    schemas = house.client.get("/openapi.json").get_json()["components"]["schemas"]
    (job,) = house.items("/v1/jobs")
    assert (job["error"], job["report"]) == ("it could not be done", {"bad": 3})
    agrees(job, schemas["Job"], schemas)


def test_a_job_that_nobody_works_on_is_cancelled_at_once(house: House) -> None:
    job_id = ask(house)
    answer = house.call("POST", f"/v1/jobs/{job_id}/cancel")
    assert (answer.status_code, answer.get_json()["state"]) == (200, "cancelled")
    assert house.call("POST", f"/v1/jobs/{job_id}/cancel").status_code == 200


def test_a_job_that_is_worked_on_is_asked_to_stop(house: House) -> None:
    job_id = ask(house)
    with house.engine.begin() as connection:
        jobs.claim(connection, kinds=["erase"], token=uuid4(), lease_seconds=60)
    answer = house.call("POST", f"/v1/jobs/{job_id}/cancel")
    assert (answer.status_code, answer.get_json()["cancel_asked"]) == (202, True)


def test_a_job_that_is_over_cannot_be_cancelled(house: House) -> None:
    job_id = ask(house)
    finish(house, JobState.DONE)
    assert house.call("POST", f"/v1/jobs/{job_id}/cancel").status_code == 409


def test_a_file_is_there_when_the_job_is_over(house: House) -> None:
    job_id = ask(house)
    assert house.call("GET", f"/v1/jobs/{job_id}/file").status_code == 409
    finish(house, JobState.DONE)
    answer = house.call("GET", f"/v1/jobs/{job_id}/file")
    assert answer.text == "käse\r\ntwo\r\n"
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert house.get(f"/v1/jobs/{job_id}")["has_file"]


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("GET", "/file"), ("POST", "/cancel")])
def test_an_unknown_job_is_not_found(house: House, method: str, path: str) -> None:
    assert house.call(method, f"/v1/jobs/{uuid4()}{path}").status_code == 404
