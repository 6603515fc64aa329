"""Erasure of an address."""

from datetime import UTC, datetime
from typing import Any, ClassVar

from api.core.auth import TenantAccess
from api.core.errors import invalid
from api.core.fields import Strict, query_text
from api.core.resource import Resource, answers, takes
from api.resources.jobs import Job, queued
from shared.addresses import AddressError
from shared.auth.keys import Scope
from shared.broker import JOBS
from shared.erasure.matching import parse_address
from shared.jobs.store import Job as JobRow
from shared.suppression import jobs as suppression_jobs


class Erasure(Strict):
    """The address to erase."""

    address = query_text(
        "One address, in any form. Write an unusual one (a quoted local part) exactly as it is shown.", required=True
    )


class Erasures(Resource):
    """Erasures of recipients."""

    rule = "/v1/erasures"
    tenancy = TenantAccess.CLOSED
    scopes: ClassVar = {"POST": Scope.ADMIN}

    @takes(Erasure)
    @answers(202, Job)
    def post(self, body: dict[str, Any]) -> tuple[JobRow, int, dict[str, str]]:
        """Erase an address from everything that is kept.

        Stored requests, captures of delivery attempts and files of jobs that contain the address are deleted.
        Others who are named in the same request lose it, too, but keep their events and states.
        States, events and list entries keep a pseudonym: a keyed hash, from which the address cannot be derived.
        So the address stays suppressed if it is, and `POST /v1/suppressions/check` still answers for it.
        Requests that are received after the job has begun are not erased.
        """
        try:
            address = parse_address(body["address"])
        except AddressError as error:
            raise invalid({"address": [str(error)]}) from None
        with self.deps.engine.begin() as connection:
            job_id = suppression_jobs.create_erasure(
                connection,
                address,
                self.deps.hasher,
                self.deps.vault,
                asked_by=self.caller.name,
                now=datetime.now(UTC),
            )
            self.audit(connection, "job.asked", f"job:{job_id}", kind=suppression_jobs.ERASE)
            answer = queued(connection, job_id, self.caller)
        self.deps.notifier.notify(JOBS)
        return answer


RESOURCES = (Erasures,)
