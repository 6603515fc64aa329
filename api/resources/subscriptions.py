"""Subscriptions: who is told of which changes, where, and how."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from api.core import pagination
from api.core.auth import TenantAccess
from api.core.errors import ProblemError, invalid, not_found
from api.core.fields import page_of
from api.core.resource import Resource, answers, takes
from api.resources.delivery_fields import Recovery, SubscriptionTrial
from api.resources.jobs import Job, queued
from api.resources.subscription_fields import (
    NewSubscription,
    Rotation,
    Subscription,
    SubscriptionPatch,
    SubscriptionQuery,
    SubscriptionWithSecret,
)
from shared import delivery_jobs, subscription_facts, subscription_trials
from shared import subscription_registrations as registrations
from shared.db import subscriptions
from shared.db.subscriptions import SubscriptionRow
from shared.domain.subscription_checks import SubscriptionError
from shared.domain.subscriptions import SubscriptionState
from shared.doorbell import DELIVER, JOBS
from shared.egress import captures
from shared.encryption import SecretsError
from shared.jobs.store import Job as JobRow
from shared.subscription_facts import SubscriptionFacts
from shared.subscription_registrations import CheckedUrl, NewSecret, StandingError
from shared.subscription_trials import BusyError


class _Resource(Resource):
    """What resources about subscriptions share."""

    def told(self, connection: Connection, row: SubscriptionRow) -> SubscriptionFacts:
        """A subscription as it is answered: read in the transaction of its change, so that nothing fails after it."""
        (facts,) = subscription_facts.told(connection, [row], self.deps.vault, datetime.now(UTC))
        return facts

    def told_with_secret(self, connection: Connection, made: NewSecret) -> dict[str, Any]:
        """The same to whoever may know its secret."""
        return {**asdict(self.told(connection, made.row)), "secret": made.secret, "public_key": made.public_key}

    def audit_of(self, connection: Connection, done: str, row: SubscriptionRow, **details: Any) -> None:
        """Note what was done to a subscription."""
        self.audit(connection, f"subscription.{done}", f"subscription:{row.id}", **details)

    def checked_url(self, body: dict[str, Any]) -> CheckedUrl | None:
        """The URL that is given, taken out of the body; checked outside of any transaction, because that takes time."""
        url = body.pop("url", None)
        return None if url is None else registrations.checked_url(url, self.deps.settings.egress_allow)


class Subscriptions(_Resource):
    """All subscriptions."""

    rule = "/v1/subscriptions"
    tenancy = TenantAccess.OWN

    @takes(SubscriptionQuery, location="query")
    @answers(200, page_of(Subscription, "SubscriptionPage"))
    def get(self, query: dict[str, Any]) -> dict[str, Any]:
        """List the subscriptions, the newest first."""
        with self.deps.engine.begin() as connection:
            page = subscriptions.listed(
                connection,
                tenant=self.caller.tenant,
                state=query.get("state"),
                after=pagination.decode(query.get("cursor"), pagination.BY_ID),
                limit=query["limit"],
            )
            items = subscription_facts.told(connection, page.items, self.deps.vault, datetime.now(UTC))
        return {"items": items, "next_cursor": pagination.encode(page.next)}

    @takes(NewSubscription)
    @answers(201, SubscriptionWithSecret)
    def post(self, body: dict[str, Any]) -> tuple[dict[str, Any], int, dict[str, str]]:
        """Make a subscription. It is told of what changes from now on; `recover` brings what was before."""
        body["tenant"] = self.own_tenant(body.get("tenant"))
        secret, scheme = body.pop("secret", None), body.pop("scheme")
        with _complaints():
            url = registrations.checked_url(body.pop("url"), self.deps.settings.egress_allow)
            with self.deps.engine.begin() as connection:
                made = registrations.create(
                    connection,
                    self.deps.vault,
                    url=url,
                    wishes=body,
                    secret=secret,
                    scheme=scheme,
                    may_know_sources=self.caller.tenant is None,
                    now=datetime.now(UTC),
                )
                self.audit_of(connection, "created", made.row, url=captures.shown(made.row.url), types=made.row.types)
                answer = self.told_with_secret(connection, made)
        return answer, 201, {"Location": f"/v1/subscriptions/{made.row.id}"}


class OneSubscription(_Resource):
    """One subscription."""

    rule = "/v1/subscriptions/<identifier:subscription_id>"
    tenancy = TenantAccess.OWN

    @answers(200, Subscription)
    def get(self, subscription_id: UUID) -> SubscriptionFacts:
        """Show a subscription, and how its endpoint fares."""
        with self.deps.engine.begin() as connection:
            row = subscriptions.find(connection, subscription_id, tenant=self.caller.tenant)
            return self.told(connection, _known(row, subscription_id))

    @takes(SubscriptionPatch)
    @answers(200, Subscription)
    def patch(self, body: dict[str, Any], subscription_id: UUID) -> SubscriptionFacts:
        """Change a subscription. It holds for everything that is sent from now on, retries included."""
        version = body.pop("version", None)
        with _complaints():
            url = self.checked_url(body)
            with self.deps.engine.begin() as connection:
                before = subscriptions.find(connection, subscription_id, tenant=self.caller.tenant)
                row = registrations.change(
                    connection,
                    self.deps.vault,
                    subscription_id,
                    tenant=self.caller.tenant,
                    wishes=body,
                    url=url,
                    version=version,
                    now=datetime.now(UTC),
                )
                self.audit_of(
                    connection, "changed", _known(row, subscription_id), **subscription_facts.difference(before, row)
                )
                return self.told(connection, _known(row, subscription_id))

    @answers(204)
    def delete(self, subscription_id: UUID) -> None:
        """Remove a subscription. What it has yet to be told is not told; what became of the rest can be looked at."""
        now = datetime.now(UTC)
        with self.deps.engine.begin() as connection:
            row = registrations.remove(connection, subscription_id, tenant=self.caller.tenant, now=now)
            self.audit_of(connection, "removed", _known(row, subscription_id))
            delivery_jobs.ask_abandonment(connection, _known(row, subscription_id), asked_by=self.caller.name, now=now)
        self.deps.doorbell.ring(JOBS)


class SecretRotation(_Resource):
    """The secret of a subscription."""

    rule = "/v1/subscriptions/<identifier:subscription_id>/rotate-secret"
    tenancy = TenantAccess.OWN

    @takes(Rotation)
    @answers(200, SubscriptionWithSecret)
    def post(self, body: dict[str, Any], subscription_id: UUID) -> dict[str, Any]:
        """Give a subscription another secret. The ones before sign, too, until the overlap is over."""
        with _complaints(), self.deps.engine.begin() as connection:
            made = registrations.rotate_secret(
                connection,
                self.deps.vault,
                subscription_id,
                tenant=self.caller.tenant,
                secret=body.get("secret"),
                scheme=body["scheme"],
                overlap=timedelta(seconds=body["overlap_s"]),
                now=datetime.now(UTC),
            )
            if made is None:
                raise not_found(f"subscription {subscription_id}")
            self.audit_of(connection, "secret_rotated", made.row)
            return self.told_with_secret(connection, made)


class Pause(_Resource):
    """Pausing a subscription."""

    rule = "/v1/subscriptions/<identifier:subscription_id>/pause"
    tenancy = TenantAccess.OWN

    @answers(200, Subscription)
    def post(self, subscription_id: UUID) -> SubscriptionFacts:
        """Send nothing for now. What comes meanwhile waits, and uses up no attempts. Idempotent."""
        reason = f"paused by {self.caller.name}"
        with _complaints(), self.deps.engine.begin() as connection:
            row = registrations.pause(
                connection, subscription_id, tenant=self.caller.tenant, reason=reason, now=datetime.now(UTC)
            )
            self.audit_of(connection, "paused", _known(row, subscription_id))
            return self.told(connection, _known(row, subscription_id))


class Resumption(_Resource):
    """Resuming a subscription."""

    rule = "/v1/subscriptions/<identifier:subscription_id>/resume"
    tenancy = TenantAccess.OWN

    @answers(200, Subscription)
    def post(self, subscription_id: UUID) -> SubscriptionFacts:
        """Send again, to one that was paused or disabled; its failures are forgotten. Idempotent.

        What came while it was disabled did not wait: `recover` brings it.
        """
        with self.deps.engine.begin() as connection:
            row = registrations.resume(connection, subscription_id, tenant=self.caller.tenant, now=datetime.now(UTC))
            self.audit_of(connection, "resumed", _known(row, subscription_id))
            answer = self.told(connection, _known(row, subscription_id))
        self.deps.doorbell.ring(DELIVER)
        return answer


class Trials(_Resource):
    """Trying a subscription out."""

    rule = "/v1/subscriptions/<identifier:subscription_id>/test"
    tenancy = TenantAccess.OWN

    @answers(200, SubscriptionTrial)
    def post(self, subscription_id: UUID) -> subscription_trials.Trial:
        """Send a `test` event now, signed as everything else, and answer what came back. It is not retried."""
        with self.deps.engine.begin() as connection:
            row = _known(subscriptions.find(connection, subscription_id, tenant=self.caller.tenant), subscription_id)
            self.audit_of(connection, "tried", row)
        try:
            with _complaints():
                return subscription_trials.try_out(
                    row, self.deps.vault, self.deps.settings.egress_allow, datetime.now(UTC)
                )
        except BusyError as error:
            raise ProblemError(429, str(error), headers={"Retry-After": "5"}) from None


class Recoveries(_Resource):
    """Bringing what was missed."""

    rule = "/v1/subscriptions/<identifier:subscription_id>/recover"
    tenancy = TenantAccess.OWN

    @takes(Recovery)
    @answers(202, Job)
    def post(self, body: dict[str, Any], subscription_id: UUID) -> tuple[JobRow, int, dict[str, str]]:
        """Deliver every change since a moment that this subscription, as it is now, should have had and has not.

        Also what changed before it was made, or while it was disabled or wished for less. What was delivered is not
        sent again unless that is asked for. With `dry_run` the job only counts.
        """
        now = datetime.now(UTC)
        with self.deps.engine.begin() as connection:
            row = _known(subscriptions.find(connection, subscription_id, tenant=self.caller.tenant), subscription_id)
            refuse_disabled(row)
            job_id = delivery_jobs.ask_recovery(connection, row, asked_by=self.caller.name, now=now, **body)
            self.audit_of(connection, "recovery_asked", row, job=job_id, **body)
            answer = queued(connection, job_id)
        self.deps.doorbell.ring(JOBS)
        return answer


def refuse_disabled(row: SubscriptionRow) -> None:
    """Raise ProblemError (409) where nothing would be sent."""
    if row.state == SubscriptionState.DISABLED:
        raise ProblemError(
            409, f"The subscription is disabled ({row.state_reason}), so nothing is sent; resume it first."
        )


def _known(row: SubscriptionRow | None, subscription_id: UUID) -> SubscriptionRow:
    if row is None:
        raise not_found(f"subscription {subscription_id}")
    return row


@contextmanager
def _complaints() -> Iterator[None]:
    """What is wrong with a request, as the API says it."""
    try:
        yield
    except SubscriptionError as error:
        raise invalid({error.field: [str(error)]}) from None
    except (StandingError, SecretsError) as error:
        raise ProblemError(409, str(error)) from None


RESOURCES = (Subscriptions, OneSubscription, SecretRotation, Pause, Resumption, Trials, Recoveries)
