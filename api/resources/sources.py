"""Sources: the provider accounts that post webhooks."""

from typing import Any, ClassVar

from marshmallow import Schema, fields

from api.core import pagination
from api.core.auth import TenantAccess
from api.core.errors import not_found, require
from api.core.fields import Instant, PageQuery, Strict, instant, page_of, text
from api.core.resource import Resource, answers, takes
from shared.auth import audit
from shared.auth.keys import Scope
from shared.broker import VERIFY
from shared.providers.registry import PROVIDERS
from shared.providers.webhooks.base import describe_credentials
from shared.receipts import quarantine
from shared.sources import queues
from shared.sources import service as source_service
from shared.sources import store as sources

_CREDENTIALS = "By provider, `?` marking optional fields:\n" + describe_credentials(PROVIDERS.values())
_SETTINGS = (
    "`api_base` and `keys_url` replace the provider's own URLs; `webhook_url` is the public URL that the provider "
    "posts to; until `quarantine_until`, requests that fail verification go to quarantine instead of being refused; "
    "`sub_accounts` (such as `acme-*, other`) are accepted besides the `customer_handles` of MailChannels; "
    "`events_without_tenant`, `set_aside` or `accept`, is for events without a tenant where Ark's `tenant_id` is set; "
    "`pull_suppressions`, `daily` or `never`, is whether the provider's suppression list is pulled by itself; "
    "`queue`, an object, is the queue of Amazon SQS from which events of `ses` are taken: `url`, `region` unless the "
    "URL names it, and `endpoint_url`, which replaces the URL of the service; "
    "`generic`, an object, is the mapping of a source of the provider `generic` (docs/generic.md)."
)
_MERGED = "Merged (RFC 7396): what is given is set, null removes, what is not given stays."


class NewSource(Strict):
    """A source to create."""

    slug = fields.String(
        required=True, metadata={"description": "Its name in URLs: `[a-z0-9][a-z0-9-]{0,62}`.", "examples": ["main"]}
    )
    provider = fields.String(required=True, metadata={"examples": ["mailchannels"]})
    credentials = fields.Dict(required=True, keys=fields.String(), metadata={"description": _CREDENTIALS})
    settings = fields.Dict(load_default=dict, keys=fields.String(), metadata={"description": _SETTINGS})


class SourcePatch(Strict):
    """Changes to a source."""

    credentials = fields.Dict(keys=fields.String(), metadata={"description": f"{_CREDENTIALS}\n\n{_MERGED}"})
    settings = fields.Dict(keys=fields.String(), metadata={"description": f"{_SETTINGS} {_MERGED}"})


class QueueState(Schema):
    """The state of a source's queue."""

    polled_at = instant("When SQS answered last; null if it never did.")
    stored = fields.Integer(metadata={"description": "Messages that were stored, without repetitions."})
    refused = fields.Integer(metadata={"description": "Messages that were refused, counted each time they came."})
    failures = fields.Integer(metadata={"description": "How many times in a row it could not be polled."})
    error = text("Why the last poll failed; null if it succeeded.")
    next_at = instant("When it is polled again after a failure; null if it did not fail.")


class Source(Schema):
    """A source."""

    slug = fields.String()
    provider = fields.String()
    credentials = fields.Dict(keys=fields.String(), metadata={"description": "With every secret masked."})
    fetched_keys = fields.Dict(
        keys=fields.String(), metadata={"description": "Public keys that were fetched from the provider, by id."}
    )
    settings = fields.Dict(keys=fields.String())
    webhook_url = fields.String(metadata={"description": "The path of the receiver that the provider posts to."})
    version = fields.Integer()
    created_at = Instant()
    updated_at = Instant()
    problem = text("Why the source cannot be used; null if it can.")
    queue = fields.Nested(
        QueueState, allow_none=True, metadata={"description": "Null for a source without `settings.queue`."}
    )


class Sources(Resource):
    """All sources."""

    rule = "/v1/sources"
    tenancy = TenantAccess.CLOSED
    scopes: ClassVar = {"POST": Scope.ADMIN}

    @takes(PageQuery, location="query")
    @answers(200, page_of(Source, "SourcePage"))
    def get(self, query: dict[str, Any]) -> dict[str, Any]:
        """List the sources, by name."""
        (after,) = pagination.decode(query.get("cursor"), pagination.BY_NAME) or ("",)
        with self.deps.reading.connect() as connection:
            rows = [row for row in sources.list_sources(connection) if row.slug > after]
            states = queues.read(connection)
        shown = [source_service.describe(row, self.deps.vault, states.get(row.id)) for row in rows[: query["limit"]]]
        last = (shown[-1]["slug"],) if len(rows) > len(shown) else None
        return {"items": shown, "next_cursor": pagination.encode(last)}

    @takes(NewSource)
    @answers(201, Source)
    def post(self, body: dict[str, Any]) -> tuple[dict[str, Any], int, dict[str, str]]:
        """Create a source."""
        with self.deps.engine.begin() as connection:
            row = source_service.create(connection, self.deps.vault, **body)
            self.audit(connection, "source.created", f"source:{row.slug}", provider=row.provider)
        return source_service.describe(row, self.deps.vault), 201, {"Location": f"/v1/sources/{row.slug}"}


class OneSource(Resource):
    """One source."""

    rule = "/v1/sources/<slug>"
    tenancy = TenantAccess.CLOSED
    scopes: ClassVar = {"PATCH": Scope.ADMIN, "DELETE": Scope.ADMIN}

    @answers(200, Source)
    def get(self, slug: str) -> dict[str, Any]:
        """Show a source."""
        with self.deps.reading.connect() as connection:
            row = require(sources.find(connection, slug), f"source called {slug!r}")
            state = queues.read(connection).get(row.id)
        return source_service.describe(row, self.deps.vault, state)

    @takes(SourcePatch)
    @answers(200, Source)
    def patch(self, body: dict[str, Any], slug: str) -> dict[str, Any]:
        """Change credentials or settings of a source.

        By JSON Merge Patch (RFC 7396): what is given is set, null removes, the rest stays. So a new signing
        secret or public key is added while the old ones stay valid, and removed later by giving it as null. The
        source's unverified requests are verified again at once.
        """
        with self.deps.engine.begin() as connection:
            before = sources.find(connection, slug)
            changed = source_service.change(connection, self.deps.vault, slug, **body)
            row = require(changed, f"source called {slug!r}")
            quarantine.make_due(connection, row.id)
            self.audit(connection, "source.changed", f"source:{slug}", **audit.difference(before, row))
            state = queues.read(connection).get(row.id)
        self.deps.notifier.notify(VERIFY)
        return source_service.describe(row, self.deps.vault, state)

    @answers(204)
    def delete(self, slug: str) -> None:
        """Delete a source. What it received stays, and keeps its slug."""
        with self.deps.engine.begin() as connection:
            if not sources.delete(connection, slug):
                raise not_found(f"source called {slug!r}")
            self.audit(connection, "source.removed", f"source:{slug}")


RESOURCES = (Sources, OneSource)
