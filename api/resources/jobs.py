"""Jobs: work that takes longer than an answer may. Watched, cancelled, and what they made."""

from collections.abc import Iterator
from typing import Any, ClassVar
from uuid import UUID

from flask import Response
from marshmallow import Schema, fields
from sqlalchemy import Connection

from api.core import pagination
from api.core.auth import TenantAccess
from api.core.errors import ProblemError, not_found
from api.core.fields import Instant, PageQuery, identifier, instant, integer, page_of, query_text, text
from api.core.resource import Resource, also_answers, answers, takes
from shared.auth.keys import Scope
from shared.deliveries import jobs as delivery_jobs
from shared.errors import ConflictError
from shared.jobs import files as job_files
from shared.jobs import store as jobs
from shared.jobs.store import Job as JobRow
from shared.vocabulary import JobState


class JobQuery(PageQuery):
    """Which jobs."""

    kind = query_text("Of this kind, such as `import_suppressions`.")
    state = fields.Enum(JobState, by_value=True)


class Job(Schema):
    """A job."""

    id = identifier()
    kind = fields.String(metadata={"examples": ["import_suppressions"]})
    state = fields.String(metadata={"enum": [str(state) for state in JobState]})
    parameters = fields.Dict(
        keys=fields.String(), attribute="shown_parameters", metadata={"description": "What was asked for."}
    )
    done = fields.Integer(metadata={"description": "How much of `total` is done."})
    total = integer("Null until it is known.")
    report = fields.Dict(keys=fields.String(), metadata={"description": "What it says of itself, by its kind."})
    error = text("Why it failed, or why its last try did.")
    asked_by = fields.String(metadata={"description": "The name of the key that asked for it."})
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
        with self.deps.engine.begin() as connection:
            page = jobs.listed(
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
        """Show a job: how far it has got, and what it says of itself."""
        with self.deps.engine.begin() as connection:
            return _known(jobs.find(connection, job_id, tenant=self.caller.tenant), job_id)


class JobCancellation(Resource):
    """Cancelling a job."""

    rule = "/v1/jobs/<identifier:job_id>/cancel"
    tenancy = TenantAccess.OWN
    scopes: ClassVar = {"POST": Scope.WRITE}

    @answers(202, Job)
    @also_answers(200, schema=Job, description="It is cancelled")
    def post(self, job_id: UUID) -> tuple[JobRow, int]:
        """Have a job stop: at once if nobody works on it, else within seconds. What it did before stays done."""
        try:
            with self.deps.engine.begin() as connection:
                before = _known(jobs.find(connection, job_id, tenant=self.caller.tenant), job_id)
                if before.kind == delivery_jobs.ABANDON:
                    raise ProblemError(409, delivery_jobs.NOT_CANCELLABLE)
                job = _known(jobs.cancel(connection, job_id), job_id)
                if job.state.is_over and job.state is not JobState.CANCELLED:
                    raise ProblemError(409, f"The job is over: it is {job.state}.")
                if not before.is_cancelled:
                    self.audit(connection, "job.cancelled", f"job:{job_id}", kind=job.kind, state=job.state)
        except ConflictError as error:
            raise ProblemError(409, str(error)) from None
        return job, 200 if job.state.is_over else 202


class JobFile(Resource):
    """What a job made."""

    rule = "/v1/jobs/<identifier:job_id>/file"
    tenancy = TenantAccess.OWN

    @answers(200, {"type": "string"}, content_type="text/csv")
    def get(self, job_id: UUID) -> Response:
        """The file that a job made: the exported lines, or the lines that could not be imported."""
        with self.deps.engine.begin() as connection:
            job = _known(jobs.find(connection, job_id, tenant=self.caller.tenant), job_id)
        if not job.state.is_over:
            raise ProblemError(409, "The job is not over yet.")
        if not job.has_file:
            raise not_found(f"file of job {job_id}")
        return Response(
            self._parts(job_id),
            content_type="text/csv; charset=utf-8",
            headers={"Content-Disposition": f'attachment; filename="{job.kind}-{job_id}.csv"'},
        )

    def _parts(self, job_id: UUID) -> Iterator[bytes]:
        part = 0
        while True:
            with self.deps.engine.begin() as connection:  # for each: whoever reads slowly holds no connection
                content = job_files.read(connection, job_id, job_files.OUTPUT, part)
            if content is None:
                return
            yield content
            part += 1


def queued(connection: Connection, job_id: UUID) -> tuple[JobRow, int, dict[str, str]]:
    """The answer to whoever has asked for a job: read in the same transaction, so that nothing fails after it.

    Who asked for it rings for the workers, after the commit.
    """
    return _known(jobs.find(connection, job_id), job_id), 202, {"Location": f"/v1/jobs/{job_id}"}


def _known(job: JobRow | None, job_id: UUID) -> JobRow:
    if job is None:
        raise not_found(f"job {job_id}")
    return job


RESOURCES = (Jobs, OneJob, JobCancellation, JobFile)
