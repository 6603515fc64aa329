"""A source's provider: the webhooks registered there, what it could not deliver, and its suppression list."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, ClassVar, Final

from marshmallow import Schema, fields

from api.core import pagination
from api.core.auth import TenantAccess
from api.core.errors import require, too_many
from api.core.fields import Instant, SpanQuery, Strict, identifier, instant, integer, page_of, query_text, text
from api.core.resource import Resource, answers, takes
from api.resources.jobs import Job, queued
from shared.auth.keys import Scope
from shared.broker import CALL_PROVIDERS, JOBS
from shared.jobs import store as jobs
from shared.jobs.store import Job as JobRow
from shared.providers.api.base import WORKER_RETRIES, Span
from shared.reconciliation import failed_deliveries, webhook_registration
from shared.reconciliation import run as reconciliation
from shared.reconciliation import store as reconciliations
from shared.sources import provider_api
from shared.sources import store as sources
from shared.sources.source import open_source
from shared.sources.store import SourceRow
from shared.suppression import provider_sync

_BY_TIME_AND_NAME = tuple[datetime, str]
_ALWAYS = (datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC))
_NEVER_RECONCILED = dict.fromkeys(
    ("reconciled_until", "next_at", "last_started_at", "last_finished_at", "last_error", "enrolled", "validated",
     "checked_at", "validated_at")
)  # fmt: skip
_MAX_CALLS: Final = 4
_calls = threading.BoundedSemaphore(_MAX_CALLS)
"""A call to a provider blocks a thread of the API. A provider that hangs must not block all of them."""


class Webhook(Schema):
    """A webhook that is registered at the provider."""

    url = fields.String()
    enabled = fields.Boolean()
    ours = fields.Boolean(metadata={"description": "Whether it leads to this source."})


class SuppressionList(Schema):
    """How our suppression list and the provider's differ, as of the last pull."""

    pulled_at = instant("When the lists were last compared, and ours completed.")
    job_id = identifier("The last job that pulled the list.")
    error = text("Why the last job failed.")
    failures = fields.Integer(metadata={"description": "Failures in a row, since the source was changed."})
    next_at = instant("When the list is pulled again; null while a job does so.")
    difference = fields.Dict(
        keys=fields.String(),
        allow_none=True,
        metadata={
            "description": "Numbers of entries: `here` and `there`; `only_here` and `only_there`, before the pull; "
            "`added` by the pull; `differing` in the types of mail; `kept_here`, which the provider's list cannot "
            "hold; `removed_there`, which came from the provider's list and are no longer on it; `unreadable`."
        },
    )


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
    suppression_list = fields.Nested(
        SuppressionList, allow_none=True, metadata={"description": "Null: it was never pulled."}
    )


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


class Webhooks(Schema):
    """The webhooks that are registered at the provider."""

    webhooks = fields.List(fields.Nested(Webhook))


class Enrolled(Webhooks):
    """The webhook that was registered, and all that are."""

    url = fields.String()
    is_new = fields.Boolean(metadata={"description": "False: the provider had this webhook already."})


class Unenrolled(Webhooks):
    """The webhooks that were removed, and those that stay."""

    removed = fields.List(fields.String(), metadata={"description": "Their URLs."})


class Validation(Schema):
    """The result of the provider's test of a webhook."""

    url = fields.String()
    passed = fields.Boolean(metadata={"description": "Whether our receiver answered 200."})
    detail = fields.String(metadata={"description": "What the provider was answered."})


class Validations(Schema):
    """The results of the provider's test."""

    results = fields.List(fields.Nested(Validation))


class WhatToEnrol(Strict):
    """What to register."""

    url = query_text(
        "The public URL of the receiver's `/webhooks/{slug}`; stored as the source's `webhook_url`. Default: the one"
        " that is stored."
    )


class WhatToUnenrol(Strict):
    """What to remove."""

    url = query_text("Remove this webhook. Default: those that lead to this source.")


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
        with self.deps.reading.connect() as connection:
            source_id = require(sources.get_id(connection, slug), f"source called {slug!r}")
            state = reconciliations.get(connection, source_id)
            still_open = failed_deliveries.count_open(connection, source_id)
            pulls = provider_sync.describe_pulls(connection, slug)
        if state is None:
            return {**_NEVER_RECONCILED, "failures": 0, "still_open": 0, "webhooks": [], "suppression_list": pulls}
        return {**state._asdict(), "still_open": still_open, "suppression_list": pulls}


class FailedDeliveries(Resource):
    """Failed deliveries of a source's provider."""

    rule = "/v1/sources/<slug>/failed-deliveries"
    tenancy = TenantAccess.CLOSED

    @takes(SpanQuery, location="query")
    @answers(200, page_of(FailedDelivery, "FailedDeliveryPage"))
    def get(self, query: dict[str, Any], slug: str) -> dict[str, Any]:
        """List failed deliveries, the newest first. `since` and `until` limit when they failed."""
        since, until = query.get("since", _ALWAYS[0]), query.get("until", _ALWAYS[1])
        with self.deps.reading.connect() as connection:
            source_id = require(sources.get_id(connection, slug), f"source called {slug!r}")
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
            require(sources.get_id(connection, slug), f"source called {slug!r}")
            job_id = jobs.create(connection, kind=kind, parameters=parameters, asked_by=self.caller.name, now=now)
            self.audit(connection, "job.asked", f"job:{job_id}", kind=kind, **parameters)
            answer = queued(connection, job_id, self.caller)
        self.deps.notifier.notify(CALL_PROVIDERS)
        self.deps.notifier.notify(JOBS)
        return answer


class _ProviderCalls(Resource):
    """A resource that calls a provider's API while the caller waits: twice at most, for ten seconds each."""

    @contextmanager
    def call_provider(self, slug: str) -> Iterator[SourceRow]:
        """Yield the source, as one of the few calls that may be in progress. Raises ProblemError (404, 429)."""
        with self.deps.engine.begin() as connection:
            row = require(sources.find(connection, slug), f"source called {slug!r}")
        if not _calls.acquire(blocking=False):
            raise too_many("Other calls to providers are in progress; try again in a moment.")
        try:
            yield row
        finally:
            _calls.release()


class ProviderWebhooks(_ProviderCalls):
    """The webhooks at a source's provider."""

    rule = "/v1/sources/<slug>/webhooks"
    tenancy = TenantAccess.CLOSED
    scopes: ClassVar = {"GET": Scope.WRITE}  # it uses up the provider's limit of calls

    @answers(200, Webhooks)
    def get(self, slug: str) -> dict[str, Any]:
        """Ask the provider which webhooks are registered, and store what it answers. Needs scope `write`.

        What it answered last is in `/v1/sources/{slug}/reconciliation`.
        """
        with self.call_provider(slug) as row:
            source = open_source(row, self.deps.vault)
            client = provider_api.open_client(source, WORKER_RETRIES)
            found = webhook_registration.list_webhooks(self.deps.engine, source, client)
        return {"webhooks": webhook_registration.describe(source, found)}


class Enrolment(_ProviderCalls):
    """Registering our webhook."""

    rule = "/v1/sources/<slug>/enrol"
    tenancy = TenantAccess.CLOSED
    scopes: ClassVar = {"POST": Scope.ADMIN}

    @takes(WhatToEnrol)
    @answers(200, Enrolled)
    def post(self, body: dict[str, Any], slug: str) -> dict[str, Any]:
        """Register our webhook at the provider. Idempotent. Needs an `api_key` on the source."""
        with self.call_provider(slug) as row:
            source, found, is_new = webhook_registration.enrol(
                self.deps.engine, self.deps.vault, row, body.get("url"), self.audit, retries=WORKER_RETRIES
            )
        shown = webhook_registration.describe(source, found)
        return {"url": source.settings.webhook_url, "is_new": is_new, "webhooks": shown}


class Unenrolment(_ProviderCalls):
    """Removing our webhook."""

    rule = "/v1/sources/<slug>/unenrol"
    tenancy = TenantAccess.CLOSED
    scopes: ClassVar = {"POST": Scope.ADMIN}

    @takes(WhatToUnenrol)
    @answers(200, Unenrolled)
    def post(self, body: dict[str, Any], slug: str) -> dict[str, Any]:
        """Remove our webhook at the provider, or the one of a URL. The source stays.

        MailChannels can only remove all webhooks of the account at once. The others are registered again at once, but
        events in between are not posted to them.
        """
        with self.call_provider(slug) as row:
            source = open_source(row, self.deps.vault)
            client = provider_api.open_client(source, WORKER_RETRIES)
            chosen = webhook_registration.choose(source, client.webhooks(), body.get("url"))
            left = webhook_registration.remove(self.deps.engine, source, chosen, client, self.audit)
        return {"removed": [one.url for one in chosen], "webhooks": webhook_registration.describe(source, left)}


class WebhookValidation(_ProviderCalls):
    """Testing our webhook."""

    rule = "/v1/sources/<slug>/validate"
    tenancy = TenantAccess.CLOSED

    @answers(200, Validations)
    def post(self, slug: str) -> dict[str, Any]:
        """Have the provider post a test to our webhook, and return what it was answered.

        The test of Ark looks like a real event, and creates a message that was never sent. Answers 409 for providers
        whose API sends no test, and where no webhook of ours is registered.
        """
        with self.call_provider(slug) as row:
            source = open_source(row, self.deps.vault)
            client = provider_api.open_client(source, WORKER_RETRIES)
            ours = webhook_registration.choose_testable(self.deps.engine, source, client)
            results = webhook_registration.validate(self.deps.engine, source, client, ours, self.audit)
        return {"results": results}


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
        """Add the provider's entries to our suppression list. Workers also do so daily, and sooner after a failure.

        An entry that a person has lifted since stays lifted.
        """
        return self.create_job(slug, provider_sync.PULL, body)


RESOURCES = (
    OneReconciliation, FailedDeliveries, ProviderWebhooks, Enrolment, Unenrolment, WebhookValidation,
    ReconciliationJobs, PushJobs, PullJobs,
)  # fmt: skip
