"""Subscriptions: who is notified of which changes, where, and how."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row

from api.core import pagination
from api.core.auth import TenantAccess
from api.core.errors import ProblemError, require
from api.core.fields import page_of
from api.core.resource import Resource, answers, takes
from api.resources.delivery_fields import Recovery, SubscriptionTrial, WhatToTest
from api.resources.jobs import Job, queued
from api.resources.subscription_fields import (
    NewSubscription,
    Rotation,
    Subscription,
    SubscriptionPatch,
    SubscriptionQuery,
    SubscriptionWithSecret,
)
from shared.broker import DELIVER, JOBS
from shared.deliveries import jobs, sample_delivery
from shared.egress import captures
from shared.errors import ConflictError
from shared.jobs.store import Job as JobRow
from shared.subscriptions import service, store, view
from shared.subscriptions.service import SubscriptionAndSecret
from shared.vocabulary import SubscriptionState


class _Resource(Resource):
    """What resources about subscriptions share."""

    def find(self, connection: Connection, subscription_id: UUID) -> Row[Any]:
        """Return a subscription that the caller may see. Raises ProblemError (404)."""
        found = store.find(connection, subscription_id, tenant=self.caller.tenant)
        return require(found, f"subscription {subscription_id}")

    def render(self, connection: Connection, row: Row[Any]) -> dict[str, Any]:
        """Return a subscription as it is shown: in the transaction of its change, so that nothing fails after it."""
        (shown,) = view.render(connection, [row], self.deps.vault, datetime.now(UTC))
        return shown

    def render_with_secret(self, connection: Connection, new: SubscriptionAndSecret) -> dict[str, Any]:
        """Return a subscription as it is shown, with its new secret."""
        return {**self.render(connection, new.row), "secret": new.secret, "public_key": new.public_key}

    def audit_change(self, connection: Connection, done: str, row: Row[Any], **details: Any) -> None:
        """Record in the audit log what was done to a subscription."""
        self.audit(connection, f"subscription.{done}", f"subscription:{row.id}", **details)


class Subscriptions(_Resource):
    """All subscriptions."""

    rule = "/v1/subscriptions"
    tenancy = TenantAccess.OWN

    @takes(SubscriptionQuery, location="query")
    @answers(200, page_of(Subscription, "SubscriptionPage"))
    def get(self, query: dict[str, Any]) -> dict[str, Any]:
        """List the subscriptions, the newest first."""
        with self.deps.reading.connect() as connection:
            page = store.get_page(
                connection,
                tenant=self.caller.tenant,
                state=query.get("state"),
                after=pagination.decode(query.get("cursor"), pagination.BY_ID),
                limit=query["limit"],
            )
            items = view.render(connection, page.items, self.deps.vault, datetime.now(UTC))
        return {"items": items, "next_cursor": pagination.encode(page.next)}

    @takes(NewSubscription)
    @answers(201, SubscriptionWithSecret)
    def post(self, body: dict[str, Any]) -> tuple[dict[str, Any], int, dict[str, str]]:
        """Create a subscription. It gets changes from now on; `recover` delivers what came before."""
        body["tenant"] = self.resolve_tenant(body.get("tenant"))
        secret, scheme = body.pop("secret", None), body.pop("scheme")
        url = service.check_url(body.pop("url"), self.deps.settings.egress_allow)
        with self.deps.engine.begin() as connection:
            new = service.create(
                connection,
                self.deps.vault,
                url=url,
                fields=body,
                secret=secret,
                scheme=scheme,
                may_know_sources=self.caller.tenant is None,
                now=datetime.now(UTC),
            )
            self.audit_change(
                connection, "created", new.row, url=captures.redact_query(new.row.url), types=new.row.types
            )
            answer = self.render_with_secret(connection, new)
        return answer, 201, {"Location": f"/v1/subscriptions/{new.row.id}"}


class OneSubscription(_Resource):
    """One subscription."""

    rule = "/v1/subscriptions/<identifier:subscription_id>"
    tenancy = TenantAccess.OWN

    @answers(200, Subscription)
    def get(self, subscription_id: UUID) -> dict[str, Any]:
        """Show a subscription, and the health of its endpoint."""
        with self.deps.reading.connect() as connection:
            return self.render(connection, self.find(connection, subscription_id))

    @takes(SubscriptionPatch)
    @answers(200, Subscription)
    def patch(self, body: dict[str, Any], subscription_id: UUID) -> dict[str, Any]:
        """Change a subscription. The change applies to everything sent from now on, including retries."""
        version, url = body.pop("version", None), body.pop("url", None)
        checked = None if url is None else service.check_url(url, self.deps.settings.egress_allow)
        with self.deps.engine.begin() as connection:
            before = self.find(connection, subscription_id)
            row = service.update(
                connection,
                self.deps.vault,
                subscription_id,
                tenant=self.caller.tenant,
                fields=body,
                url=checked,
                version=version,
                now=datetime.now(UTC),
            )
            row = require(row, f"subscription {subscription_id}")
            self.audit_change(connection, "changed", row, **view.difference(before, row))
            return self.render(connection, row)

    @answers(204)
    def delete(self, subscription_id: UUID) -> None:
        """Remove a subscription. Pending deliveries are given up; the others remain visible."""
        now = datetime.now(UTC)
        with self.deps.engine.begin() as connection:
            row = service.delete(connection, subscription_id, tenant=self.caller.tenant, now=now)
            row = require(row, f"subscription {subscription_id}")
            self.audit_change(connection, "removed", row)
            jobs.request_abandonment(connection, row, asked_by=self.caller.name, now=now)
        self.deps.notifier.notify(JOBS)


class SecretRotation(_Resource):
    """The secret of a subscription."""

    rule = "/v1/subscriptions/<identifier:subscription_id>/rotate-secret"
    tenancy = TenantAccess.OWN

    @takes(Rotation)
    @answers(200, SubscriptionWithSecret)
    def post(self, body: dict[str, Any], subscription_id: UUID) -> dict[str, Any]:
        """Give a subscription another secret. The old ones go on signing until the overlap is over."""
        with self.deps.engine.begin() as connection:
            rotated = service.rotate_secret(
                connection,
                self.deps.vault,
                subscription_id,
                tenant=self.caller.tenant,
                secret=body.get("secret"),
                scheme=body["scheme"],
                overlap=timedelta(seconds=body["overlap_s"]),
                now=datetime.now(UTC),
            )
            new = require(rotated, f"subscription {subscription_id}")
            self.audit_change(connection, "secret_rotated", new.row)
            return self.render_with_secret(connection, new)


class Pause(_Resource):
    """Pausing a subscription."""

    rule = "/v1/subscriptions/<identifier:subscription_id>/pause"
    tenancy = TenantAccess.OWN

    @answers(200, Subscription)
    def post(self, subscription_id: UUID) -> dict[str, Any]:
        """Suspend deliveries. Changes wait meanwhile, and use up no attempts. Idempotent."""
        reason, tenant = f"paused by {self.caller.name}", self.caller.tenant
        with self.deps.engine.begin() as connection:
            row = service.pause(connection, subscription_id, tenant=tenant, reason=reason, now=datetime.now(UTC))
            row = require(row, f"subscription {subscription_id}")
            self.audit_change(connection, "paused", row)
            return self.render(connection, row)


class Resumption(_Resource):
    """Resuming a subscription."""

    rule = "/v1/subscriptions/<identifier:subscription_id>/resume"
    tenancy = TenantAccess.OWN

    @answers(200, Subscription)
    def post(self, subscription_id: UUID) -> dict[str, Any]:
        """Deliver again to a subscription that was paused or disabled; its failures are forgotten. Idempotent.

        Changes did not wait while it was disabled: `recover` delivers them.
        """
        with self.deps.engine.begin() as connection:
            row = service.resume(connection, subscription_id, tenant=self.caller.tenant, now=datetime.now(UTC))
            row = require(row, f"subscription {subscription_id}")
            self.audit_change(connection, "resumed", row)
            answer = self.render(connection, row)
        self.deps.notifier.notify(DELIVER)
        return answer


class Trials(_Resource):
    """Testing a subscription."""

    rule = "/v1/subscriptions/<identifier:subscription_id>/test"
    tenancy = TenantAccess.OWN

    @takes(WhatToTest)
    @answers(200, SubscriptionTrial)
    def post(self, body: dict[str, Any], subscription_id: UUID) -> dict[str, Any]:
        """Send a `test` event now, signed like all others, and return the response. It is not retried.

        With a `type`, send a sample change of that type, with invented content: the example of the type in the
        document's `webhooks`. The `webhook-id` begins with `test-`. The subscription's filters do not matter.
        """
        with self.deps.engine.begin() as connection:
            row = self.find(connection, subscription_id)
            self.audit_change(connection, "tried", row, **body)
        vault, allow = self.deps.vault, self.deps.settings.egress_allow
        try:
            return sample_delivery.send_test(
                row, vault, allow, datetime.now(UTC), body.get("type", sample_delivery.TYPE)
            )
        except ConflictError as error:
            raise ProblemError(429, str(error), headers={"Retry-After": "5"}) from None


class Recoveries(_Resource):
    """Recovering missed changes."""

    rule = "/v1/subscriptions/<identifier:subscription_id>/recover"
    tenancy = TenantAccess.OWN

    @takes(Recovery)
    @answers(202, Job)
    def post(self, body: dict[str, Any], subscription_id: UUID) -> tuple[JobRow, int, dict[str, str]]:
        """Deliver every change since a time that this subscription should have received but did not.

        Its current filters decide. So this includes changes from before it was created, and from while it was disabled
        or had narrower filters. What was delivered is not sent again unless that is requested. With `dry_run` the job
        only counts.
        """
        now = datetime.now(UTC)
        with self.deps.engine.begin() as connection:
            row = self.find(connection, subscription_id)
            if row.state == SubscriptionState.DISABLED:
                raise ProblemError(
                    409, f"The subscription is disabled ({row.state_reason}), so nothing is sent; resume it first."
                )
            job_id = jobs.request_recovery(connection, row, asked_by=self.caller.name, now=now, **body)
            self.audit_change(connection, "recovery_asked", row, job=job_id, **body)
            answer = queued(connection, job_id, self.caller)
        self.deps.notifier.notify(JOBS)
        return answer


RESOURCES = (Subscriptions, OneSubscription, SecretRotation, Pause, Resumption, Trials, Recoveries)
