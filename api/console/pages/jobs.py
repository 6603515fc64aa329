"""Pages of jobs: their progress, reports and files."""

from collections.abc import Collection
from typing import Final
from uuid import UUID

from flask import Blueprint, Response, request

from api.console.formatting import Entry
from api.console.site import call, fetch, go, render, resolve_times, visit
from api.core.errors import ProblemError
from api.core.resource import Resource
from api.resources.jobs import JobCancellation, JobFile, Jobs, OneJob
from shared.deliveries.jobs import REPLAY
from shared.receipts.jobs import REPROCESS
from shared.vocabulary import JOB_KINDS, JobState

pages = Blueprint("jobs", __name__)

NAVIGATION = (Entry(path="/console/jobs", label="Jobs", icon="list-checks", resource=Jobs),)

_RUNS: Final = {
    REPLAY: ("/console/deliveries/replay", "Replay these {}", "Replay {} deliveries?"),
    REPROCESS: ("/console/receipts/reprocess", "Process these {} again", "Process {} receipts again?"),
}
"""For each kind of job that may only count: the page that does what was counted, its button, and the question."""


@pages.get("/jobs")
def index() -> Response:
    """List jobs, the newest first."""
    return render("jobs/index.html", listing=fetch(Jobs), states=list(JobState), kinds=JOB_KINDS)


@pages.get("/jobs/<identifier:job_id>")
def show(job_id: UUID) -> Response:
    """Show a job: its progress and its report."""
    job = call(OneJob, job_id=job_id)
    is_count = job.kind in _RUNS and job.parameters["dry_run"] and job.state == JobState.DONE and job.total
    return render("jobs/show.html", job=job, run=_RUNS[job.kind] if is_count else None)


def count_or_run(kind: str, operation: type[Resource], names: Collection[str], *, offer: str, run: str) -> Response:
    """Have a job count all that matches the form's filters; or do what the job that the form names has counted.

    `offer` says what the page of the first job offers, and `run` what the second job does. Raises ProblemError (404,
    409, 422).
    """
    if not (counted := request.form.get("counted")):
        given = {name: value for name, value in request.form.items() if name in names and value}
        job = call(operation, "POST", body={"filter": resolve_times(given), "dry_run": True})
        return go(f"/console/jobs/{job.id}", f"The job counts what matches. Its page then offers to {offer}.")
    try:
        before = call(OneJob, job_id=UUID(counted))
    except ValueError:
        raise ProblemError(422, f"{counted!r} is not the id of a job.") from None
    if before.kind != kind or not before.parameters["dry_run"] or before.state != JobState.DONE:
        raise ProblemError(409, "Count the matches first: this job has not finished counting.")
    wanted = {name: before.parameters[name] for name in names if before.parameters.get(name) is not None}
    job = call(operation, "POST", body={"filter": wanted, "dry_run": False})
    return go(f"/console/jobs/{job.id}", run)


@pages.get("/jobs/<identifier:job_id>/file")
def file(job_id: UUID) -> Response:
    """Download the file of a job."""
    if visit().is_masked:
        raise ProblemError(403, "Personal data is masked for you, so you cannot download lists.")
    response: Response = call(JobFile, job_id=job_id)
    return response


@pages.post("/jobs/<identifier:job_id>/cancel")
def cancel(job_id: UUID) -> Response:
    """Stop a job; what it has done stays done."""
    call(JobCancellation, "POST", job_id=job_id)
    return go(f"/console/jobs/{job_id}", "The job stops within seconds.")
