"""Erasing an address from everything that is kept."""

from datetime import UTC, datetime
from typing import Any, ClassVar

from api.core.auth import TenantAccess
from api.core.errors import invalid
from api.core.fields import Strict, asked
from api.core.resource import Resource, answers, takes
from api.resources.jobs import Job, queued
from shared.auth.keys import Scope
from shared.domain import erasure
from shared.doorbell import JOBS
from shared.jobs.store import Job as JobRow
from shared.suppression import jobs as suppression_jobs
from shared.targets import TargetError


class Erasure(Strict):
    """What is to be erased."""

    address = asked("One address, in any form; what is kept as one and is odd, exactly as it is shown.", required=True)


class Erasures(Resource):
    """Erasing one recipient."""

    rule = "/v1/erasures"
    tenancy = TenantAccess.CLOSED
    scopes: ClassVar = {"POST": Scope.ADMIN}

    @takes(Erasure)
    @answers(202, Job)
    def post(self, body: dict[str, Any]) -> tuple[JobRow, int, dict[str, str]]:
        """Erase an address: a pseudonym takes its place in everything that is kept, the stored requests included.

        Whether it is suppressed can still be asked, and stays as it is: by a keyed hash, from which the address
        cannot be told. What arrives after the job has begun is not erased.
        """
        try:
            address = erasure.subject(body["address"])
        except TargetError as error:
            raise invalid({"address": [str(error)]}) from None
        with self.deps.engine.begin() as connection:
            job_id = suppression_jobs.ask_erasure(
                connection,
                address,
                self.deps.keys,
                self.deps.vault,
                asked_by=self.caller.name,
                now=datetime.now(UTC),
            )
            self.audit(connection, "job.asked", f"job:{job_id}", kind=suppression_jobs.ERASE)
            answer = queued(connection, job_id)
        self.deps.doorbell.ring(JOBS)
        return answer


RESOURCES = (Erasures,)
