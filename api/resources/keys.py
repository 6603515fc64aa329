"""API keys."""

from typing import Any, ClassVar

from marshmallow import Schema, fields, validate

from api.core import pagination
from api.core.auth import TenantAccess
from api.core.errors import not_found
from api.core.fields import Instant, PageQuery, Strict, instant, page_of, text
from api.core.resource import Resource, answers, takes
from shared.auth import keys
from shared.auth.keys import Scope
from shared.suppression.csv_files import MAX_TENANT_LENGTH


class NewKey(Strict):
    """A key to create."""

    name = fields.String(
        required=True,
        validate=validate.Length(1, keys.MAX_NAME_LENGTH),
        metadata={"description": "The purpose of the key."},
    )
    scope = fields.Enum(
        Scope,
        by_value=True,
        load_default=Scope.READ,
        metadata={"description": "What the key allows; each scope includes those before it."},
    )
    tenant = fields.String(
        load_default=None,
        allow_none=True,
        validate=validate.Length(1, MAX_TENANT_LENGTH),
        metadata={"description": "The only tenant whose objects the key may access; null: all."},
    )


class Key(Schema):
    """A key, without its secret."""

    id = fields.Integer()
    name = fields.String()
    prefix = fields.String(metadata={"description": "The first characters of the key."})
    scope = fields.String(metadata={"enum": [str(scope) for scope in Scope]})
    tenant = text("The only tenant whose objects the key may access; null: all.")
    created_at = Instant()
    last_used_at = instant("To the minute.")
    revoked_at = instant()


class CreatedKey(Key):
    """A new key."""

    key = fields.String(metadata={"description": "The key itself, shown only in this response: it is not stored."})


class Keys(Resource):
    """All keys."""

    rule = "/v1/keys"
    tenancy = TenantAccess.CLOSED
    scopes: ClassVar = {"GET": Scope.ADMIN, "POST": Scope.ADMIN}

    @takes(PageQuery, location="query")
    @answers(200, page_of(Key, "KeyPage"))
    def get(self, query: dict[str, Any]) -> dict[str, Any]:
        """List the keys, the newest first."""
        limit = query["limit"]
        (before,) = pagination.decode(query.get("cursor"), pagination.BY_NUMBER) or (None,)
        with self.deps.reading.connect() as connection:
            rows = keys.list_keys(connection, before=before, limit=limit + 1)
        last = (rows[limit - 1].id,) if len(rows) > limit else None
        return {"items": rows[:limit], "next_cursor": pagination.encode(last)}

    @takes(NewKey)
    @answers(201, CreatedKey)
    def post(self, body: dict[str, Any]) -> dict[str, Any]:
        """Create a key."""
        with self.deps.engine.begin() as connection:
            made = keys.create_key(connection, body["name"], body["scope"], body["tenant"])
            self.audit(connection, "key.created", f"key:{made.row.id}", **body)
        return {**made.row._asdict(), "key": made.secret}


class OneKey(Resource):
    """One key."""

    rule = f"/v1/keys/<int(max={2**63 - 1}):key_id>"
    tenancy = TenantAccess.CLOSED
    scopes: ClassVar = {"DELETE": Scope.ADMIN}

    @answers(204)
    def delete(self, key_id: int) -> None:
        """Revoke a key."""
        with self.deps.engine.begin() as connection:
            if not keys.revoke_key(connection, key_id):
                raise not_found(f"valid key {key_id}")
            self.audit(connection, "key.revoked", f"key:{key_id}")


RESOURCES = (Keys, OneKey)
