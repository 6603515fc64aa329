"""What providers could not deliver to a source, having it sent again, and their own suppression lists."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from marshmallow import Schema, fields

from api.core import pagination
from api.core.auth import TenantAccess
from api.core.errors import not_found
from api.core.fields import Instant, SpanQuery, Strict, identifier, instant, number, page_of, text
from api.core.resource import Resource, answers, takes
from api.resources.jobs import Job, queued
from shared.broker import ASK_PROVIDERS, JOBS
from shared.jobs import store as jobs
from shared.jobs.store import Job as JobRow
from shared.providers.api.base import Span
from shared.reconciliation import failed_deliveries
from shared.reconciliation import run as reconciliation
from shared.reconciliation import store as reconciliations
from shared.sources import names as source_names
from shared.suppression import provider_sync

_BY_TIME_AND_NAME = tuple[datetime, str]
_ALWAYS = (datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC))
_FACTS_OF_NOBODY = dict.fromkeys(
    ("reconciled_until", "next_at", "last_started_at", "last_finished_at", "last_error", "enrolled", "validated",
     "checked_at", "validated_at")
)  # fmt: skip


class Webhook(Schema):
    """A place that the provider posts to."""

    url = fields.String()
    enabled = fields.Boolean()
    ours = fields.Boolean(metadata={"description": "Whether it leads to this source."})


class Reconciliation(Schema):
    """How far a source is reconciled, and what its provider tells of its webhooks. Null: not known."""

    reconciled_until = instant("Everything that the provider could not deliver before has been listed.")
    next_at = instant()
    last_started_at = instant()
    last_finished_at = instant()
    last_error = text("Why the last run did not get to its end.")
    failures = fields.Integer(metadata={"description": "Runs in a row in which the provider could not be asked."})
    still_open = fields.Integer(metadata={"description": "Failed deliveries that are still to be sent again."})
    enrolled = fields.Boolean(allow_none=True, metadata={"description": "Whether the provider posts to us."})
    validated = fields.Boolean(allow_none=True, metadata={"description": "Whether its test reached us."})
    webhooks = fields.List(fields.Nested(Webhook))
    checked_at = instant("When the webhooks were listed.")
    validated_at = instant("When the test was made.")


class FailedDelivery(Schema):
    """What a provider could not deliver, and what came of having it sent again."""

    reference = fields.String(metadata={"description": "The provider's id of it."})
    failed_at = Instant()
    outcome = fields.String(metadata={"examples": ["5xx", "no_response"]})
    status_code = number()
    events = fields.Integer()
    url = text()
    state = fields.String(metadata={"enum": ["listed", "resent", "recovered", "given_up"]})
    attempts = fields.Integer()
    last_attempt_at = instant()
    next_attempt_at = instant()
    last_error = text()
    receipt_id = identifier("What arrived; null if it was a repetition.", allow_none=True)
    new_events = number("How many of its events had been missing; null while that is not known.")
    listed_at = Instant()


class WhatToReconcile(Strict):
    """What is to be asked for."""

    since = Instant(metadata={"description": "What failed from this time on, instead of since the last time."})
    until = Instant(metadata={"description": "What failed before this time."})
    given_up = fields.Boolean(load_default=False, metadata={"description": "Try those again that were given up."})


class WhatToPull(Strict):
    """How to learn from the provider's list."""

    dry_run = fields.Boolean(load_default=False, metadata={"description": "Only count how the lists differ."})


class WhatToPush(WhatToPull):
    """How to teach the provider our list."""

    delete = fields.Boolean(
        load_default=False, metadata={"description": "Take off the provider's list what is not on ours."}
    )


class OneReconciliation(Resource):
    """The reconciliation of a source."""

    rule = "/v1/sources/<slug>/reconciliation"
    tenancy = TenantAccess.CLOSED

    @answers(200, Reconciliation)
    def get(self, slug: str) -> Mapping[str, Any]:
        """Show how far a source is reconciled, and whether its provider posts to us."""
        with self.deps.engine.begin() as connection:
            source_id = source_names.id_of(connection, slug)
            if source_id is None:
                raise not_found(f"source called {slug!r}")
            standing = reconciliations.find(connection, source_id)
            still_open = failed_deliveries.count_open(connection, source_id)
        if standing is None:
            return {**_FACTS_OF_NOBODY, "failures": 0, "still_open": 0, "webhooks": []}
        return {**asdict(standing), "still_open": still_open}


class FailedDeliveries(Resource):
    """What the provider of a source could not deliver."""

    rule = "/v1/sources/<slug>/failed-deliveries"
    tenancy = TenantAccess.CLOSED

    @takes(SpanQuery, location="query")
    @answers(200, page_of(FailedDelivery, "FailedDeliveryPage"))
    def get(self, query: dict[str, Any], slug: str) -> dict[str, Any]:
        """List failed deliveries, those that failed last first; `since` and `until` are about when they did."""
        since, until = query.get("since", _ALWAYS[0]), query.get("until", _ALWAYS[1])
        with self.deps.engine.begin() as connection:
            source_id = source_names.id_of(connection, slug)
            if source_id is None:
                raise not_found(f"source called {slug!r}")
            page = failed_deliveries.page(
                connection,
                source_id,
                span=Span(since=since, until=until),
                after=pagination.decode(query.get("cursor"), _BY_TIME_AND_NAME),
                limit=query["limit"],
            )
        return {"items": page.items, "next_cursor": pagination.encode(page.next)}


class _Asking(Resource):
    """What has workers ask a provider."""

    def ask(self, slug: str, kind: str, wishes: Mapping[str, Any]) -> tuple[JobRow, int, dict[str, str]]:
        """Ask for a job about a source. Raises ProblemError (404)."""
        parameters, now = {"source": slug, **wishes}, datetime.now(UTC)
        with self.deps.engine.begin() as connection:
            if source_names.id_of(connection, slug) is None:
                raise not_found(f"source called {slug!r}")
            job_id = jobs.create(connection, kind=kind, parameters=parameters, asked_by=self.caller.name, now=now)
            self.audit(connection, "job.asked", f"job:{job_id}", kind=kind, **parameters)
            answer = queued(connection, job_id)
        self.deps.notifier.notify(ASK_PROVIDERS)
        self.deps.notifier.notify(JOBS)
        return answer


class ReconciliationJobs(_Asking):
    """Having a source reconciled."""

    rule = "/v1/sources/<slug>/reconcile"
    tenancy = TenantAccess.CLOSED

    @takes(WhatToReconcile)
    @answers(202, Job)
    def post(self, body: dict[str, Any], slug: str) -> tuple[JobRow, int, dict[str, str]]:
        """Ask the provider what it could not deliver, and have it sent again; workers do so every 15 minutes.

        The job's report tells how many were found, resent, recovered and given up, and how many events were new.
        """
        moments: dict[str, Any] = {name: body[name].isoformat() for name in ("since", "until") if name in body}
        return self.ask(slug, reconciliation.JOB, {**moments, "given_up": body["given_up"]})


class PushJobs(_Asking):
    """Teaching the provider our suppression list."""

    rule = "/v1/sources/<slug>/suppressions/push"
    tenancy = TenantAccess.CLOSED

    @takes(WhatToPush)
    @answers(202, Job)
    def post(self, body: dict[str, Any], slug: str) -> tuple[JobRow, int, dict[str, str]]:
        """Put on the provider's list what is on ours and not there. The job's report tells how the lists differ."""
        return self.ask(slug, provider_sync.PUSH, body)


class PullJobs(_Asking):
    """Learning from the provider's suppression list."""

    rule = "/v1/sources/<slug>/suppressions/pull"
    tenancy = TenantAccess.CLOSED

    @takes(WhatToPull)
    @answers(202, Job)
    def post(self, body: dict[str, Any], slug: str) -> tuple[JobRow, int, dict[str, str]]:
        """Put on our list what is on the provider's and not here. What a person has lifted since stays lifted."""
        return self.ask(slug, provider_sync.PULL, body)


RESOURCES = (OneReconciliation, FailedDeliveries, ReconciliationJobs, PushJobs, PullJobs)
