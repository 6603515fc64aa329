"""Deliveries: what became of every change for every subscriber."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from api.core import pagination
from api.core.auth import TenantAccess
from api.core.errors import ProblemError, not_found
from api.core.fields import PageQuery, page_of
from api.core.resource import Resource, answers, takes
from api.resources.delivery_fields import Attempt, Delivery, DeliveryQuery, Replay, WholeDelivery
from api.resources.jobs import Job, queued
from shared import delivery_cases, delivery_jobs
from shared.db import delivery_lists
from shared.db.delivery_lists import DeliveryFacts, Wanted
from shared.delivery_cases import ReplayError
from shared.doorbell import DELIVER, JOBS
from shared.jobs.store import Job as JobRow
from shared.postgres.pagination import Span


class Deliveries(Resource):
    """All deliveries."""

    rule = "/v1/deliveries"
    tenancy = TenantAccess.OWN

    @takes(DeliveryQuery, location="query")
    @answers(200, page_of(Delivery, "DeliveryPage"))
    def get(self, query: dict[str, Any]) -> dict[str, Any]:
        """List deliveries, the last first: those made last, or, to one subscription, those of what changed last."""
        wanted = Wanted(
            subscription=query.get("subscription"),
            status=query.get("status"),
            type=query.get("type"),
            message_id=query.get("message_id"),
            tenant=self.caller.tenant,
            span=Span(since=query.get("since"), until=query.get("until")),
        )
        kind = pagination.BY_PLACE if delivery_lists.goes_by_place(wanted) else pagination.BY_ID
        after = pagination.decode(query.get("cursor"), kind)
        with self.deps.engine.begin() as connection:
            page = delivery_lists.listed(connection, wanted, after=after, limit=query["limit"])
        return {"items": [_told(delivery) for delivery in page.items], "next_cursor": pagination.encode(page.next)}


class Replays(Resource):
    """Delivering many again."""

    rule = "/v1/deliveries/replay"
    tenancy = TenantAccess.OWN

    @takes(Replay)
    @answers(202, Job)
    def post(self, body: dict[str, Any]) -> tuple[JobRow, int, dict[str, str]]:
        """Make many deliveries again: the dead ones, unless the filter says otherwise. With `dry_run`, only count them.

        Those of subscriptions that are disabled or were removed are left out. The job's report tells how many it was.
        """
        with self.deps.engine.begin() as connection:
            job_id = delivery_jobs.ask_replay(
                connection,
                **body["filter"],
                tenant=self.caller.tenant,
                dry_run=body["dry_run"],
                asked_by=self.caller.name,
                now=datetime.now(UTC),
            )
            wishes = {**body["filter"], "dry_run": body["dry_run"]}
            self.audit(connection, "job.asked", f"job:{job_id}", **wishes, kind=delivery_jobs.REPLAY)
            answer = queued(connection, job_id)
        self.deps.doorbell.ring(JOBS)
        return answer


class OneDelivery(Resource):
    """One delivery."""

    rule = "/v1/deliveries/<identifier:delivery_id>"
    tenancy = TenantAccess.OWN

    @answers(200, WholeDelivery)
    def get(self, delivery_id: UUID) -> dict[str, Any]:
        """Show a delivery: what it tells, how its latest attempt ended, and what to do about it."""
        with self.deps.engine.begin() as connection:
            delivery = _known(delivery_lists.find(connection, delivery_id, tenant=self.caller.tenant), delivery_id)
            case = delivery_cases.of(connection, delivery)
        return {
            **_told(delivery),
            "change": case.change,
            "latest_attempt_shows": case.advice.shows,
            "usually_means": case.advice.meaning,
            "next_action": case.advice.action,
        }


class Attempts(Resource):
    """The attempts at a delivery."""

    rule = "/v1/deliveries/<identifier:delivery_id>/attempts"
    tenancy = TenantAccess.OWN

    @takes(PageQuery, location="query")
    @answers(200, page_of(Attempt, "AttemptPage"))
    def get(self, query: dict[str, Any], delivery_id: UUID) -> dict[str, Any]:
        """List the attempts at a delivery, the newest first, with what was sent and what came back."""
        after = pagination.decode(query.get("cursor"), pagination.BY_ID)
        with self.deps.engine.begin() as connection:
            _known(delivery_lists.find(connection, delivery_id, tenant=self.caller.tenant), delivery_id)
            page = delivery_lists.attempts(connection, delivery_id, after=after, limit=query["limit"])
        return {"items": page.items, "next_cursor": pagination.encode(page.next)}


class OneReplay(Resource):
    """Delivering again."""

    rule = "/v1/deliveries/<identifier:delivery_id>/replay"
    tenancy = TenantAccess.OWN

    @answers(202, Delivery)
    def post(self, delivery_id: UUID) -> tuple[dict[str, Any], int]:
        """Make a delivery again, whatever became of it; one that is quarantined is released.

        The request is built afresh, of the stored change and the subscription as it is now, and signed anew; its
        `webhook-id` stays the same. It has as many attempts as a new one.
        """
        tenant = self.caller.tenant
        with self.deps.engine.begin() as connection:
            delivery = _known(delivery_lists.find(connection, delivery_id, tenant=tenant), delivery_id)
            try:
                delivery_cases.replay(connection, delivery, datetime.now(UTC))
            except ReplayError as error:
                raise ProblemError(410 if error.for_good else 409, str(error)) from None
            self.audit(connection, "delivery.replayed", f"delivery:{delivery_id}", status=delivery.status)
            delivery = _known(delivery_lists.find(connection, delivery_id, tenant=tenant), delivery_id)
        self.deps.doorbell.ring(DELIVER)
        return _told(delivery), 202


def _told(delivery: DeliveryFacts) -> dict[str, Any]:
    return {**asdict(delivery), "webhook_id": delivery_cases.webhook_id(delivery)}


def _known(delivery: DeliveryFacts | None, delivery_id: UUID) -> DeliveryFacts:
    if delivery is None:
        raise not_found(f"delivery {delivery_id}")
    return delivery


RESOURCES = (Deliveries, Replays, OneDelivery, Attempts, OneReplay)
