"""Deliveries: the outcome of every change for every subscription."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row

from api.core import pagination
from api.core.auth import TenantAccess
from api.core.errors import require
from api.core.fields import PageQuery, page_of
from api.core.resource import Resource, answers, takes
from api.resources.delivery_fields import Attempt, Delivery, DeliveryQuery, Replay, WholeDelivery
from api.resources.jobs import Job, queued
from shared.auth.keys import Scope
from shared.broker import DELIVER, JOBS
from shared.deliveries import explain, jobs, queries
from shared.deliveries.queries import DeliveryFilters
from shared.egress import captures
from shared.jobs.store import Job as JobRow


class _Resource(Resource):
    """What resources about deliveries share."""

    def find(self, connection: Connection, delivery_id: UUID) -> Row[Any]:
        """Return a delivery that the caller may see. Raises ProblemError (404)."""
        return require(queries.find(connection, delivery_id, tenant=self.caller.tenant), f"delivery {delivery_id}")


class Deliveries(_Resource):
    """All deliveries."""

    rule = "/v1/deliveries"
    tenancy = TenantAccess.OWN

    @takes(DeliveryQuery, location="query")
    @answers(200, page_of(Delivery, "DeliveryPage"))
    def get(self, query: dict[str, Any]) -> dict[str, Any]:
        """List deliveries, the newest first. Those to one subscription are in the order of their changes."""
        limit, cursor = query.pop("limit"), query.pop("cursor", None)
        filters = DeliveryFilters(**query, tenant=self.caller.tenant)
        after = pagination.decode(cursor, pagination.BY_LOG_POSITION if filters.in_log_order else pagination.BY_ID)
        with self.deps.reading.connect() as connection:
            page = queries.get_page(connection, filters, after=after, limit=limit)
        return {"items": list(map(explain.render, page.items)), "next_cursor": pagination.encode(page.next)}


class Replays(_Resource):
    """Replaying many deliveries."""

    rule = "/v1/deliveries/replay"
    tenancy = TenantAccess.OWN

    @takes(Replay)
    @answers(202, Job)
    def post(self, body: dict[str, Any]) -> tuple[JobRow, int, dict[str, str]]:
        """Replay many deliveries: the dead ones, unless the filter says otherwise. With `dry_run`, only count them.

        Deliveries to disabled or removed subscriptions are left out. The job's report has the number of deliveries.
        """
        filters, dry_run = body["filter"], body["dry_run"]
        with self.deps.engine.begin() as connection:
            job_id = jobs.request_replay(
                connection,
                **filters,
                tenant=self.caller.tenant,
                dry_run=dry_run,
                asked_by=self.caller.name,
                now=datetime.now(UTC),
            )
            self.audit(connection, "job.asked", f"job:{job_id}", **filters, dry_run=dry_run, kind=jobs.REPLAY)
            answer = queued(connection, job_id, self.caller)
        self.deps.notifier.notify(JOBS)
        return answer


class OneDelivery(_Resource):
    """One delivery."""

    rule = "/v1/deliveries/<identifier:delivery_id>"
    tenancy = TenantAccess.OWN

    @answers(200, WholeDelivery)
    def get(self, delivery_id: UUID) -> dict[str, Any]:
        """Show a delivery: its request, the result of its latest attempt, and the next action."""
        with self.deps.reading.connect() as connection:
            return explain.render_whole(connection, self.find(connection, delivery_id))


class Attempts(_Resource):
    """The attempts at a delivery."""

    rule = "/v1/deliveries/<identifier:delivery_id>/attempts"
    tenancy = TenantAccess.OWN

    @takes(PageQuery, location="query")
    @answers(200, page_of(Attempt, "AttemptPage"))
    def get(self, query: dict[str, Any], delivery_id: UUID) -> dict[str, Any]:
        """List the attempts at a delivery, the newest first, with what was sent and what came back.

        Where endpoints may be on internal networks (`TIDINGS_EGRESS_ALLOW`), a key with scope `read` does not see the
        headers and body that came back.
        """
        after = pagination.decode(query.get("cursor"), pagination.BY_ID)
        with self.deps.reading.connect() as connection:
            self.find(connection, delivery_id)
            page = queries.get_attempts(connection, delivery_id, after=after, limit=query["limit"])
        items = [attempt._asdict() for attempt in page.items]
        if self.deps.settings.egress_allow and not self.caller.scope.includes(Scope.WRITE):
            for attempt in items:
                attempt["response_capture"] = {**attempt["response_capture"], "headers": {}, "body": captures.HIDDEN}
        return {"items": items, "next_cursor": pagination.encode(page.next)}


class OneReplay(_Resource):
    """Replaying a delivery."""

    rule = "/v1/deliveries/<identifier:delivery_id>/replay"
    tenancy = TenantAccess.OWN

    @answers(202, Delivery)
    def post(self, delivery_id: UUID) -> tuple[dict[str, Any], int]:
        """Replay a delivery, whatever its status; one that is quarantined is released.

        The request is built from the stored change and the subscription as it is now, with a new signature; its
        `webhook-id` stays the same. It has as many attempts as a new one.
        """
        with self.deps.engine.begin() as connection:
            delivery = self.find(connection, delivery_id)
            explain.replay(connection, delivery, datetime.now(UTC))
            self.audit(connection, "delivery.replayed", f"delivery:{delivery_id}", status=delivery.status)
            shown = explain.render(self.find(connection, delivery_id))
        self.deps.notifier.notify(DELIVER)
        return shown, 202


RESOURCES = (Deliveries, Replays, OneDelivery, Attempts, OneReplay)
