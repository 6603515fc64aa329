"""Notification channels: where notifications of alerts are sent."""

from datetime import UTC, datetime
from typing import Any, ClassVar

from marshmallow import Schema, fields, validate

from api.core import pagination
from api.core.auth import TenantAccess
from api.core.fields import MAX_TEXT_LENGTH, Instant, PageQuery, Strict, instant, page_of, text
from api.core.resource import Resource, answers, takes
from shared.auth import audit
from shared.auth.keys import Scope
from shared.notifications import channels, store
from shared.notifications.channels import Kind
from shared.vocabulary import Severity

_URL = (
    "webhook: an HTTP URL. It may be private, since only administrators set it. apprise: a URL of apprise, for mail, "
    "Slack, PagerDuty and many more; needs `pip install 'tidings[apprise]'`."
)


_MAX_LIMITS = 100

_MIN_SEVERITY: dict[str, Any] = {
    "by_value": True,
    "data_key": "least_severity",
    "metadata": {"description": "`critical`: only critical alerts are sent to this channel."},
}


def limit(what: str) -> Any:
    """Return a field that limits the alerts of a channel."""
    return fields.List(
        fields.String(validate=validate.Length(1, MAX_TEXT_LENGTH)),
        allow_none=True,
        validate=validate.Length(max=_MAX_LIMITS),
        metadata={"description": f"Only alerts {what} one of these; null for all."},
    )


class ChannelPatch(Strict):
    """Changes of a channel."""

    url = fields.String(metadata={"description": _URL})
    min_severity = fields.Enum(Severity, **_MIN_SEVERITY)
    sources = limit("about")
    tenants = limit("about")
    rules = limit("of")


class NewChannel(ChannelPatch):
    """A channel to create."""

    name = fields.String(required=True, metadata={"description": "`[a-z0-9][a-z0-9-]{0,62}`.", "examples": ["on-call"]})
    kind = fields.Enum(Kind, by_value=True, required=True)
    url = fields.String(required=True, metadata={"description": _URL})
    min_severity = fields.Enum(Severity, load_default=Severity.WARNING, **_MIN_SEVERITY)
    secret = fields.String(
        metadata={"description": "The secret of a webhook: `whsec_…`. Generated if it is not given."}
    )


class Channel(Schema):
    """A channel."""

    name = fields.String()
    kind = fields.String(metadata={"enum": [str(kind) for kind in Kind]})
    url = fields.String(metadata={"description": "Without its secret parts."})
    least_severity = fields.String(metadata={"enum": [str(severity) for severity in Severity]})
    sources = limit("about")
    tenants = limit("about")
    rules = limit("of")
    created_at = Instant()
    updated_at = Instant()
    told_at = instant("When the last notification was sent.")
    failing_since = instant("Null if the last attempt succeeded.")
    failures = fields.Integer(metadata={"description": "Failures in a row."})
    last_error = text()
    problem = text("Why the channel cannot be used; null if it can.")


class ChannelWithSecret(Channel):
    """A channel with its new secret."""

    secret = text("Signs the webhooks (Standard Webhooks): `whsec_…`. Shown only in this response; null for apprise.")


class Trial(Schema):
    """The result of a test."""

    ok = fields.Boolean(metadata={"description": "Whether the channel took the message."})
    detail = fields.String(metadata={"description": "The response, or the error."})


class Channels(Resource):
    """All channels."""

    rule = "/v1/alert-channels"
    tenancy = TenantAccess.CLOSED
    scopes: ClassVar = {"POST": Scope.ADMIN}

    @takes(PageQuery, location="query")
    @answers(200, page_of(Channel, "AlertChannelPage"))
    def get(self, query: dict[str, Any]) -> dict[str, Any]:
        """List channels, by name."""
        (after,) = pagination.decode(query.get("cursor"), pagination.BY_NAME) or ("",)
        with self.deps.reading.connect() as connection:
            rows = [row for row in store.list_channels(connection) if row.name > after]
        items = [channels.describe(row, self.deps.vault) for row in rows[: query["limit"]]]
        last = (items[-1]["name"],) if len(rows) > len(items) else None
        return {"items": items, "next_cursor": pagination.encode(last)}

    @takes(NewChannel)
    @answers(201, ChannelWithSecret)
    def post(self, body: dict[str, Any]) -> tuple[dict[str, Any], int, dict[str, str]]:
        """Create a channel. It is notified of alerts from now on."""
        url = channels.validate_url(body["kind"], body["url"])
        with self.deps.engine.begin() as connection:
            row, secret = channels.create(connection, self.deps.vault, **{**body, "url": url})
            self.audit(connection, "alert_channel.created", f"alert_channel:{row.name}", kind=row.kind)
        created = {**channels.describe(row, self.deps.vault), "secret": secret}
        return created, 201, {"Location": f"/v1/alert-channels/{row.name}"}


class OneChannel(Resource):
    """One channel."""

    rule = "/v1/alert-channels/<name>"
    tenancy = TenantAccess.CLOSED
    scopes: ClassVar = {"PATCH": Scope.ADMIN, "DELETE": Scope.ADMIN}

    @answers(200, Channel)
    def get(self, name: str) -> dict[str, Any]:
        """Get a channel."""
        with self.deps.reading.connect() as connection:
            return channels.describe(channels.get(connection, name), self.deps.vault)

    @takes(ChannelPatch)
    @answers(200, Channel)
    def patch(self, body: dict[str, Any], name: str) -> dict[str, Any]:
        """Change a channel. Its pending notifications are sent now."""
        if "url" in body:
            with self.deps.engine.begin() as connection:
                kind = Kind(channels.get(connection, name).kind)
            body["url"] = channels.validate_url(kind, body["url"])
        with self.deps.engine.begin() as connection:
            before = channels.get(connection, name)
            row = channels.change(connection, self.deps.vault, name, **body)
            self.audit(connection, "alert_channel.changed", f"alert_channel:{name}", **audit.difference(before, row))
        return channels.describe(row, self.deps.vault)

    @answers(204)
    def delete(self, name: str) -> None:
        """Delete a channel. Its pending notifications are not sent."""
        with self.deps.engine.begin() as connection:
            channels.get(connection, name, lock=True)
            store.delete_channel(connection, name)
            self.audit(connection, "alert_channel.removed", f"alert_channel:{name}")


class ChannelTest(Resource):
    """Testing a channel."""

    rule = "/v1/alert-channels/<name>/test"
    tenancy = TenantAccess.CLOSED
    scopes: ClassVar = {"POST": Scope.ADMIN}

    @answers(200, Trial)
    def post(self, name: str) -> dict[str, Any]:
        """Send a test message now, and return the response. If it succeeds, pending notifications are sent now."""
        with self.deps.engine.begin() as connection:
            row = channels.get(connection, name)
        result = channels.send_test(row, self.deps.vault, datetime.now(UTC))
        with self.deps.engine.begin() as connection:
            self.audit(connection, "alert_channel.tried", f"alert_channel:{name}", ok=result["ok"])
            if result["ok"]:
                store.end_rest(connection, name)
        return result


class ChannelSecret(Resource):
    """The secret of a webhook."""

    rule = "/v1/alert-channels/<name>/rotate-secret"
    tenancy = TenantAccess.CLOSED
    scopes: ClassVar = {"POST": Scope.ADMIN}

    @answers(200, ChannelWithSecret)
    def post(self, name: str) -> dict[str, Any]:
        """Generate a new secret. For a day, webhooks are signed by the old one, too."""
        with self.deps.engine.begin() as connection:
            row, secret = channels.rotate_secret(connection, self.deps.vault, name, datetime.now(UTC))
            self.audit(connection, "alert_channel.secret_rotated", f"alert_channel:{name}")
        return {**channels.describe(row, self.deps.vault), "secret": secret}


RESOURCES = (Channels, OneChannel, ChannelTest, ChannelSecret)
