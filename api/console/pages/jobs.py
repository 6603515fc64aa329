"""Pages of jobs: their progress, reports and files."""

from uuid import UUID

from flask import Blueprint, Response

from api.console.formatting import Entry
from api.console.site import call, fetch, go, render, visit
from api.core.errors import ProblemError
from api.resources.jobs import JobCancellation, JobFile, Jobs, OneJob
from shared.deliveries.jobs import REPLAY
from shared.vocabulary import JobState

pages = Blueprint("jobs", __name__)

NAVIGATION = (Entry(path="/console/jobs", label="Jobs", icon="list-checks", resource=Jobs),)


@pages.get("/jobs")
def index() -> Response:
    """List jobs, the newest first."""
    return render("jobs/index.html", listing=fetch(Jobs), states=list(JobState))


@pages.get("/jobs/<identifier:job_id>")
def show(job_id: UUID) -> Response:
    """Show a job: its progress and its report."""
    job = call(OneJob, job_id=job_id)
    return render("jobs/show.html", job=job, counted=job.kind == REPLAY and job.parameters["dry_run"] and job.total)


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
