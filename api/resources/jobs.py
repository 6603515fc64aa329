"""Jobs: work that takes longer than a response may; their progress, cancellation and files."""

from collections.abc import Iterator
from typing import Any, ClassVar
from uuid import UUID

from flask import Response
from marshmallow import Schema, fields
from sqlalchemy import Connection

from api.core import pagination
from api.core.auth import TenantAccess
from api.core.errors import ProblemError, not_found, require, too_many
from api.core.fields import (
    Instant,
    PageQuery,
    identifier,
    instant,
    integer,
    page_of,
    query_text,
    require_known,
    text,
    word,
)
from api.core.resource import Resource, also_answers, answers, takes
from shared.auth.keys import Caller, Scope
from shared.deliveries import jobs as delivery_jobs
from shared.jobs import files as job_files
from shared.jobs import store as jobs
from shared.jobs.store import Job as JobRow
from shared.vocabulary import JOB_KINDS, JobState

MAX_OPEN_OF_KEY = 20
MAX_OPEN_OF_TENANT = 40
"""Jobs that are not over. Workers give every job its turn, so that one caller's many jobs delay those of others."""


class JobQuery(PageQuery):
    """Filters of jobs."""

    kind = query_text("Of this kind, such as `import_suppressions`.", checks=[require_known(JOB_KINDS)])
    state = fields.Enum(JobState, by_value=True)


class Job(Schema):
    """A job."""

    id = identifier()
    kind = word(JOB_KINDS)
    state = fields.String(metadata={"enum": [str(state) for state in JobState]})
    parameters = fields.Dict(
        keys=fields.String(), attribute="shown_parameters", metadata={"description": "The parameters of the request."}
    )
    done = fields.Integer(metadata={"description": "How much of `total` is done."})
    total = integer("Null until it is known.")
    report = fields.Dict(keys=fields.String(), metadata={"description": "Its results; the fields depend on the kind."})
    error = text("Why it failed, or why its last attempt did.")
    waits_for = text("What it waits for, or what the deliveries that it queued wait for; null if nothing.")
    waits_until = instant("Until when it waits, if that is known.")
    asked_by = fields.String(metadata={"description": "The name of the key that requested it."})
    cancel_asked = fields.Boolean()
    created_at = Instant()
    started_at = instant()
    finished_at = instant()
    has_file = fields.Boolean(metadata={"description": "Whether `/v1/jobs/{id}/file` has something when it is over."})


class Jobs(Resource):
    """All jobs."""

    rule = "/v1/jobs"
    tenancy = TenantAccess.OWN

    @takes(JobQuery, location="query")
    @answers(200, page_of(Job, "JobPage"))
    def get(self, query: dict[str, Any]) -> dict[str, Any]:
        """List jobs, the newest first."""
        with self.deps.reading.connect() as connection:
            page = jobs.list_jobs(
                connection,
                kind=query.get("kind"),
                state=query.get("state"),
                tenant=self.caller.tenant,
                after=pagination.decode(query.get("cursor"), pagination.BY_ID),
                limit=query["limit"],
            )
        return {"items": page.items, "next_cursor": pagination.encode(page.next)}


class OneJob(Resource):
    """One job."""

    rule = "/v1/jobs/<identifier:job_id>"
    tenancy = TenantAccess.OWN

    @answers(200, Job)
    def get(self, job_id: UUID) -> JobRow:
        """Show a job: its progress and its report."""
        with self.deps.reading.connect() as connection:
            return require(jobs.find(connection, job_id, tenant=self.caller.tenant), f"job {job_id}")


class JobCancellation(Resource):
    """Cancelling a job."""

    rule = "/v1/jobs/<identifier:job_id>/cancel"
    tenancy = TenantAccess.OWN
    scopes: ClassVar = {"POST": Scope.WRITE}

    @answers(202, Job)
    @also_answers(200, schema=Job, description="It is cancelled")
    def post(self, job_id: UUID) -> tuple[JobRow, int]:
        """Stop a job: at once if no worker runs it, otherwise within seconds. What it has done stays done."""
        with self.deps.engine.begin() as connection:
            before = require(jobs.find(connection, job_id, tenant=self.caller.tenant), f"job {job_id}")
            if before.kind == delivery_jobs.ABANDON:
                raise ProblemError(409, delivery_jobs.NOT_CANCELLABLE)
            job = require(jobs.cancel(connection, job_id), f"job {job_id}")
            if job.state.is_over and job.state is not JobState.CANCELLED:
                raise ProblemError(409, f"The job is over: it is {job.state}.")
            if not before.is_cancelled:
                self.audit(connection, "job.cancelled", f"job:{job_id}", kind=job.kind, state=job.state)
        return job, 200 if job.state.is_over else 202


class JobFile(Resource):
    """The file of a job."""

    rule = "/v1/jobs/<identifier:job_id>/file"
    tenancy = TenantAccess.OWN

    @answers(200, {"type": "string"}, content_type="text/csv")
    def get(self, job_id: UUID) -> Response:
        """Return the file of a job: the exported lines, or the lines that could not be imported."""
        with self.deps.reading.connect() as connection:
            job = require(jobs.find(connection, job_id, tenant=self.caller.tenant), f"job {job_id}")
        if not job.state.is_over:
            raise ProblemError(409, "The job is not over yet.")
        if not job.has_file:
            raise not_found(f"file of job {job_id}")

        def parts() -> Iterator[bytes]:
            part = 0
            while True:
                with self.deps.reading.connect() as connection:  # one for each part: a slow client must not hold one
                    content = job_files.read(connection, job_id, job_files.OUTPUT, part)
                if content is None:
                    return
                yield content
                part += 1

        return Response(
            parts(),
            content_type="text/csv; charset=utf-8",
            headers={"Content-Disposition": f'attachment; filename="{job.kind}-{job_id}.csv"'},
        )


def queued(connection: Connection, job_id: UUID, caller: Caller) -> tuple[JobRow, int, dict[str, str]]:
    """Return the response to a request for a job, read in the same transaction so that nothing fails after it.

    The caller notifies the workers after the commit. Raises ProblemError (429) if these jobs are too many.
    """
    if jobs.count_open(connection, tenant=caller.tenant, asked_by=caller.name) > MAX_OPEN_OF_KEY:
        raise too_many(f"Your key has {MAX_OPEN_OF_KEY} jobs that are not over; wait for one, or cancel one.")
    if caller.tenant is not None and jobs.count_open(connection, tenant=caller.tenant) > MAX_OPEN_OF_TENANT:
        raise too_many(f"Your tenant has {MAX_OPEN_OF_TENANT} jobs that are not over; wait for one, or cancel one.")
    return require(jobs.find(connection, job_id), f"job {job_id}"), 202, {"Location": f"/v1/jobs/{job_id}"}


RESOURCES = (Jobs, OneJob, JobCancellation, JobFile)
