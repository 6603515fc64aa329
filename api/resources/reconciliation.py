"""Failed deliveries of a source's provider, having them resent, and the provider's suppression list."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from marshmallow import Schema, fields

from api.core import pagination
from api.core.auth import TenantAccess
from api.core.errors import require
from api.core.fields import Instant, SpanQuery, Strict, identifier, instant, integer, page_of, text
from api.core.resource import Resource, answers, takes
from api.resources.jobs import Job, queued
from shared.broker import CALL_PROVIDERS, JOBS
from shared.jobs import store as jobs
from shared.jobs.store import Job as JobRow
from shared.providers.api.base import Span
from shared.reconciliation import failed_deliveries
from shared.reconciliation import run as reconciliation
from shared.reconciliation import store as reconciliations
from shared.sources import store as sources
from shared.suppression import provider_sync

_BY_TIME_AND_NAME = tuple[datetime, str]
_ALWAYS = (datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC))
_NEVER_RECONCILED = dict.fromkeys(
    ("reconciled_until", "next_at", "last_started_at", "last_finished_at", "last_error", "enrolled", "validated",
     "checked_at", "validated_at")
)  # fmt: skip


class Webhook(Schema):
    """A webhook that is registered at the provider."""

    url = fields.String()
    enabled = fields.Boolean()
    ours = fields.Boolean(metadata={"description": "Whether it leads to this source."})


class Reconciliation(Schema):
    """How far a source is reconciled, and its provider's webhooks. Null: not known."""

    reconciled_until = instant("Everything that the provider could not deliver before this time has been listed.")
    next_at = instant("When the next run is due.")
    last_started_at = instant()
    last_finished_at = instant()
    last_error = text("Why the last run did not finish.")
    failures = fields.Integer(metadata={"description": "Consecutive runs that could not reach the provider's API."})
    still_open = fields.Integer(metadata={"description": "Failed deliveries that are still to be resent."})
    enrolled = fields.Boolean(
        allow_none=True,
        metadata={"description": "Whether one of our webhooks is registered and enabled at the provider."},
    )
    validated = fields.Boolean(allow_none=True, metadata={"description": "Whether the provider's test reached us."})
    webhooks = fields.List(fields.Nested(Webhook))
    checked_at = instant("When the webhooks were listed.")
    validated_at = instant("When the provider last tested our webhook.")


class FailedDelivery(Schema):
    """A request that a provider could not deliver, and the outcome of having it resent."""

    reference = fields.String(metadata={"description": "The provider's id of the delivery."})
    failed_at = Instant()
    outcome = fields.String(metadata={"examples": ["5xx", "no_response"]})
    status_code = integer()
    events = fields.Integer()
    url = text()
    state = fields.String(metadata={"enum": ["listed", "resent", "recovered", "given_up"]})
    attempts = fields.Integer()
    last_attempt_at = instant()
    next_attempt_at = instant()
    last_error = text()
    receipt_id = identifier("The receipt that arrived; null if it was a duplicate.", allow_none=True)
    new_events = integer("How many of its events we did not have; null until that is known.")
    listed_at = Instant()


class WhatToReconcile(Strict):
    """What to reconcile."""

    since = Instant(metadata={"description": "Only what failed from this time on. Default: since the last run."})
    until = Instant(metadata={"description": "Only what failed before this time."})
    given_up = fields.Boolean(load_default=False, metadata={"description": "Also retry deliveries that were given up."})


class WhatToPull(Strict):
    """How to pull the provider's suppression list."""

    dry_run = fields.Boolean(load_default=False, metadata={"description": "Change nothing; count the differences."})


class WhatToPush(WhatToPull):
    """How to push our suppression list to the provider."""

    delete = fields.Boolean(
        load_default=False, metadata={"description": "Remove entries from the provider's list that are not on ours."}
    )


class OneReconciliation(Resource):
    """The reconciliation of a source."""

    rule = "/v1/sources/<slug>/reconciliation"
    tenancy = TenantAccess.CLOSED

    @answers(200, Reconciliation)
    def get(self, slug: str) -> Mapping[str, Any]:
        """Show how far a source is reconciled, and whether its provider posts to us."""
        with self.deps.engine.begin() as connection:
            source_id = require(sources.id_of(connection, slug), f"source called {slug!r}")
            state = reconciliations.get(connection, source_id)
            still_open = failed_deliveries.count_open(connection, source_id)
        if state is None:
            return {**_NEVER_RECONCILED, "failures": 0, "still_open": 0, "webhooks": []}
        return {**state._asdict(), "still_open": still_open}


class FailedDeliveries(Resource):
    """Failed deliveries of a source's provider."""

    rule = "/v1/sources/<slug>/failed-deliveries"
    tenancy = TenantAccess.CLOSED

    @takes(SpanQuery, location="query")
    @answers(200, page_of(FailedDelivery, "FailedDeliveryPage"))
    def get(self, query: dict[str, Any], slug: str) -> dict[str, Any]:
        """List failed deliveries, the newest first. `since` and `until` limit when they failed."""
        since, until = query.get("since", _ALWAYS[0]), query.get("until", _ALWAYS[1])
        with self.deps.engine.begin() as connection:
            source_id = require(sources.id_of(connection, slug), f"source called {slug!r}")
            page = failed_deliveries.list_page(
                connection,
                source_id,
                span=Span(since=since, until=until),
                after=pagination.decode(query.get("cursor"), _BY_TIME_AND_NAME),
                limit=query["limit"],
            )
        return {"items": page.items, "next_cursor": pagination.encode(page.next)}


class _ProviderJobs(Resource):
    """A resource that creates jobs which call a provider's API."""

    def create_job(self, slug: str, kind: str, parameters: Mapping[str, Any]) -> tuple[JobRow, int, dict[str, str]]:
        """Create a job for a source. Raises ProblemError (404)."""
        parameters, now = {"source": slug, **parameters}, datetime.now(UTC)
        with self.deps.engine.begin() as connection:
            require(sources.id_of(connection, slug), f"source called {slug!r}")
            job_id = jobs.create(connection, kind=kind, parameters=parameters, asked_by=self.caller.name, now=now)
            self.audit(connection, "job.asked", f"job:{job_id}", kind=kind, **parameters)
            answer = queued(connection, job_id, self.caller)
        self.deps.notifier.notify(CALL_PROVIDERS)
        self.deps.notifier.notify(JOBS)
        return answer


class ReconciliationJobs(_ProviderJobs):
    """Jobs that reconcile a source."""

    rule = "/v1/sources/<slug>/reconcile"
    tenancy = TenantAccess.CLOSED

    @takes(WhatToReconcile)
    @answers(202, Job)
    def post(self, body: dict[str, Any], slug: str) -> tuple[JobRow, int, dict[str, str]]:
        """List what the provider could not deliver, and have it resent. Workers also do so every 15 minutes.

        The job's report counts what was found, resent, recovered and given up, and the new events.
        """
        moments: dict[str, Any] = {name: body[name].isoformat() for name in ("since", "until") if name in body}
        return self.create_job(slug, reconciliation.JOB, {**moments, "given_up": body["given_up"]})


class PushJobs(_ProviderJobs):
    """Jobs that push our suppression list to the provider."""

    rule = "/v1/sources/<slug>/suppressions/push"
    tenancy = TenantAccess.CLOSED

    @takes(WhatToPush)
    @answers(202, Job)
    def post(self, body: dict[str, Any], slug: str) -> tuple[JobRow, int, dict[str, str]]:
        """Add our entries to the provider's suppression list. The job's report counts the differences."""
        return self.create_job(slug, provider_sync.PUSH, body)


class PullJobs(_ProviderJobs):
    """Jobs that pull the provider's suppression list."""

    rule = "/v1/sources/<slug>/suppressions/pull"
    tenancy = TenantAccess.CLOSED

    @takes(WhatToPull)
    @answers(202, Job)
    def post(self, body: dict[str, Any], slug: str) -> tuple[JobRow, int, dict[str, str]]:
        """Add the provider's entries to our suppression list. An entry that a person has lifted since stays lifted."""
        return self.create_job(slug, provider_sync.PULL, body)


RESOURCES = (OneReconciliation, FailedDeliveries, ReconciliationJobs, PushJobs, PullJobs)
