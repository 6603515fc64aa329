"""Erasing an address from everything that is kept."""

from datetime import UTC, datetime
from typing import Any, ClassVar

from api.fields import Strict, asked
from api.gate import Tenancy
from api.jobs import Job, queued
from api.problems import invalid
from api.resources import Resource, answers, takes
from shared import suppression_jobs
from shared.access import Scope
from shared.db.jobs import Job as JobRow
from shared.domain import erasure
from shared.domain.targets import TargetError
from shared.doorbell import JOBS


class Erasure(Strict):
    """What is to be erased."""

    address = asked("One address, in any form; what is kept as one and is odd, exactly as it is shown.", required=True)


class Erasures(Resource):
    """Erasing one recipient."""

    rule = "/v1/erasures"
    tenancy = Tenancy.CLOSED
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
