"""Channels: where people are told of alerts."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, ClassVar

from marshmallow import Schema, fields

from api.core import pagination
from api.core.auth import TenantAccess
from api.core.errors import ProblemError, invalid, not_found
from api.core.fields import Instant, PageQuery, Strict, instant, page_of, text
from api.core.resource import Resource, answers, takes
from shared.auth import audit
from shared.auth.keys import Scope
from shared.encryption import SecretsError, Vault
from shared.notifications import channel_store as stored
from shared.notifications import channels
from shared.notifications.channel_store import ChannelRow, NameTakenError
from shared.notifications.channels import ChannelError, ChannelFacts, Kind, NewSecret, Tried
from shared.vocabulary import Severity

_URL = (
    "webhook: an HTTP address, which may be private, since only administrators set it. apprise: one of apprise's URLs, "
    "for mail, Slack, PagerDuty and many more; needs `pip install 'tidings[apprise]'`."
)


class ChannelPatch(Strict):
    """What is to be changed of a channel."""

    url = fields.String(metadata={"description": _URL})
    least_severity = fields.Enum(
        Severity, by_value=True, metadata={"description": "`critical`: only what is critical is told here."}
    )


class NewChannel(ChannelPatch):
    """A channel to be made."""

    name = fields.String(required=True, metadata={"description": "`[a-z0-9][a-z0-9-]{0,62}`.", "examples": ["on-call"]})
    kind = fields.Enum(Kind, by_value=True, required=True)
    url = fields.String(required=True, metadata={"description": _URL})
    least_severity = fields.Enum(
        Severity,
        by_value=True,
        load_default=Severity.WARNING,
        metadata={"description": "`critical`: only what is critical is told here."},
    )
    secret = fields.String(metadata={"description": "Of a webhook: `whsec_…`; made here if not given."})


class Channel(Schema):
    """A channel."""

    name = fields.String()
    kind = fields.String(metadata={"enum": [str(kind) for kind in Kind]})
    url = fields.String(metadata={"description": "With all that may be secret hidden."})
    least_severity = fields.String(metadata={"enum": [str(severity) for severity in Severity]})
    created_at = Instant()
    updated_at = Instant()
    told_at = instant("For the last time.")
    failing_since = instant("Null if it was told, the last time that it was tried.")
    failures = fields.Integer(metadata={"description": "In a row."})
    last_error = text()
    problem = text("Why the channel cannot be used; null if it can.")


class ChannelWithSecret(Channel):
    """A channel whose secret was just made."""

    secret = text("Signs what is posted (Standard Webhooks): `whsec_…`. Shown now and never again; null for apprise.")


class Trial(Schema):
    """What came of a test."""

    ok = fields.Boolean(metadata={"description": "Whether it was taken."})
    detail = fields.String(metadata={"description": "What came back."})


class Channels(Resource):
    """All channels."""

    rule = "/v1/alert-channels"
    tenancy = TenantAccess.CLOSED
    scopes: ClassVar = {"POST": Scope.ADMIN}

    @takes(PageQuery, location="query")
    @answers(200, page_of(Channel, "AlertChannelPage"))
    def get(self, query: dict[str, Any]) -> dict[str, Any]:
        """List the channels, by name."""
        (after,) = pagination.decode(query.get("cursor"), pagination.BY_NAME) or ("",)
        with self.deps.engine.begin() as connection:
            rows = [row for row in stored.listed(connection) if row.name > after]
        shown = [channels.shown(row, self.deps.vault) for row in rows[: query["limit"]]]
        last = (shown[-1].name,) if len(rows) > len(shown) else None
        return {"items": shown, "next_cursor": pagination.encode(last)}

    @takes(NewChannel)
    @answers(201, ChannelWithSecret)
    def post(self, body: dict[str, Any]) -> tuple[dict[str, Any], int, dict[str, str]]:
        """Make a channel. It is told of what happens from now on."""
        try:
            url = channels.checked_url(body["kind"], body["url"])
            with self.deps.engine.begin() as connection:
                made = channels.create(connection, self.deps.vault, **{**body, "url": url})
                self.audit(connection, "alert_channel.created", f"alert_channel:{made.row.name}", kind=made.row.kind)
        except ChannelError as error:
            raise invalid({error.field: [str(error)]}) from None
        except NameTakenError as error:
            raise ProblemError(409, str(error)) from None
        return _with_secret(made, self.deps.vault), 201, {"Location": f"/v1/alert-channels/{made.row.name}"}


class OneChannel(Resource):
    """One channel."""

    rule = "/v1/alert-channels/<name>"
    tenancy = TenantAccess.CLOSED
    scopes: ClassVar = {"PATCH": Scope.ADMIN, "DELETE": Scope.ADMIN}

    @answers(200, Channel)
    def get(self, name: str) -> ChannelFacts:
        """Show a channel."""
        with self.deps.engine.begin() as connection:
            return channels.shown(_known(stored.find(connection, name), name), self.deps.vault)

    @takes(ChannelPatch)
    @answers(200, Channel)
    def patch(self, body: dict[str, Any], name: str) -> ChannelFacts:
        """Change a channel. What it could not be told is told now."""
        try:
            if "url" in body:
                with self.deps.engine.begin() as connection:
                    kind = Kind(_known(stored.find(connection, name), name).kind)
                body["url"] = channels.checked_url(kind, body["url"])
            with self.deps.engine.begin() as connection:
                before = _known(stored.find(connection, name), name)
                row = _known(channels.change(connection, self.deps.vault, name, **body), name)
                self.audit(
                    connection, "alert_channel.changed", f"alert_channel:{name}", **audit.difference(before, row)
                )
        except ChannelError as error:
            raise invalid({error.field: [str(error)]}) from None
        except SecretsError as error:
            raise ProblemError(409, str(error)) from None
        return channels.shown(row, self.deps.vault)

    @answers(204)
    def delete(self, name: str) -> None:
        """Remove a channel. What it has yet to be told is not told."""
        with self.deps.engine.begin() as connection:
            if not stored.delete(connection, name):
                raise _unknown(name)
            self.audit(connection, "alert_channel.removed", f"alert_channel:{name}")


class ChannelTrial(Resource):
    """Trying a channel."""

    rule = "/v1/alert-channels/<name>/test"
    tenancy = TenantAccess.CLOSED
    scopes: ClassVar = {"POST": Scope.ADMIN}

    @answers(200, Trial)
    def post(self, name: str) -> Tried:
        """Send a test now, and tell what came back. If it is taken, what could not be told before is told now."""
        with self.deps.engine.begin() as connection:
            row = _known(stored.find(connection, name), name)
        tried = channels.try_out(row, self.deps.vault, datetime.now(UTC))
        with self.deps.engine.begin() as connection:
            self.audit(connection, "alert_channel.tried", f"alert_channel:{name}", ok=tried.ok)
            if tried.ok:
                stored.wake(connection, name)
        return tried


class ChannelSecret(Resource):
    """The secret of a webhook."""

    rule = "/v1/alert-channels/<name>/rotate-secret"
    tenancy = TenantAccess.CLOSED
    scopes: ClassVar = {"POST": Scope.ADMIN}

    @answers(200, ChannelWithSecret)
    def post(self, name: str) -> dict[str, Any]:
        """Make a new secret. For a day what is posted is signed with the old one, too."""
        try:
            with self.deps.engine.begin() as connection:
                made = channels.rotate_secret(connection, self.deps.vault, name, datetime.now(UTC))
                if made is None:
                    raise _unknown(name)
                self.audit(connection, "alert_channel.secret_rotated", f"alert_channel:{name}")
        except (ChannelError, SecretsError) as error:
            raise ProblemError(409, str(error)) from None
        return _with_secret(made, self.deps.vault)


def _with_secret(made: NewSecret, vault: Vault) -> dict[str, Any]:
    return {**asdict(channels.shown(made.row, vault)), "secret": made.secret}


def _known(row: ChannelRow | None, name: str) -> ChannelRow:
    if row is None:
        raise _unknown(name)
    return row


def _unknown(name: str) -> ProblemError:
    return not_found(f"channel called {name!r}")


RESOURCES = (Channels, OneChannel, ChannelTrial, ChannelSecret)
