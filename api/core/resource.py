"""What every resource stands on: who may call it, how its requests are read, how it is documented."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import Any, ClassVar
from uuid import UUID

import msgspec
from flask import Request, request
from flask.typing import ResponseReturnValue
from flask.views import MethodView
from flask_smorest import Blueprint
from marshmallow import EXCLUDE, RAISE, Schema
from sqlalchemy import Connection, Engine
from webargs import core
from webargs.flaskparser import FlaskParser
from werkzeug.routing import BaseConverter, ValidationError

from api.core import idempotency
from api.core.auth import Authenticator, TenantAccess
from api.core.errors import ProblemError, invalid, not_found
from shared.auth import audit
from shared.auth.keys import Caller, Scope
from shared.broker import TaskNotifier
from shared.encryption import Vault
from shared.settings import Settings
from shared.suppression import recipient_hashes
from shared.suppression.recipient_hashes import RecipientHasher

_NEEDED = {"GET": Scope.READ, "HEAD": Scope.READ}
"""What a method needs; the others change something."""


@dataclass(frozen=True, kw_only=True)
class Deps:
    """Everything the API works with."""

    settings: Settings
    engine: Engine
    vault: Vault
    notifier: TaskNotifier

    @cached_property
    def reading(self) -> Engine:
        """For what one statement answers: without a transaction it is one trip to the database instead of three."""
        return self.engine.execution_options(isolation_level="AUTOCOMMIT")

    @property
    def hasher(self) -> RecipientHasher:
        """Return the hasher of recipients. Loaded when first needed: the API starts without a database."""
        return _load_hasher(self.engine, self.vault)


@cache
def _load_hasher(engine: Engine, vault: Vault) -> RecipientHasher:
    with engine.begin() as connection:
        return recipient_hashes.load(connection, vault)


class Resource(MethodView):
    """One path. Its methods open a transaction, call a function, and return what is to be shown.

    `deps` and `gate` are set when the application is made. `tenancy` has no default: without it there is no
    application. `tenancies` are for methods that are something else to a tenant's key than the resource, `scopes` for
    those that need more than reading or writing, `most_bytes` for those that take a longer body than usual.
    """

    rule: ClassVar[str]
    deps: ClassVar[Deps]
    gate: ClassVar[Authenticator]
    tenancy: ClassVar[TenantAccess]
    tenancies: ClassVar[Mapping[str, TenantAccess]] = {}
    scopes: ClassVar[Mapping[str, Scope]] = {}
    most_bytes: ClassVar[Mapping[str, int]] = {}
    caller: Caller

    def dispatch_request(self, **path: Any) -> ResponseReturnValue:
        """Let the caller in, if it may; then do what it asks."""
        self.caller = self.gate.admit(self.scope_of(request.method), self.tenancy_of(request.method))
        if request.method in self.most_bytes:
            request.max_content_length = self.most_bytes[request.method]
        self._refuse_what_cannot_be_stored()
        answer = partial(super().dispatch_request, **path)
        if self.starts_something(request.method):
            return idempotency.once(self.deps.engine, self.deps.vault, self.caller, answer)
        return answer()

    @classmethod
    def scope_of(cls, method: str) -> Scope:
        """What a method needs."""
        return cls.scopes.get(method) or _NEEDED.get(method, Scope.WRITE)

    @classmethod
    def tenancy_of(cls, method: str) -> TenantAccess:
        """What a method is to a tenant's key."""
        return cls.tenancies.get(method) or cls.tenancy

    @classmethod
    def starts_something(cls, method: str) -> bool:
        """Whether doing it twice could be more than doing it once."""
        return method == "POST" and cls.scope_of(method) is not Scope.READ

    def audit(self, connection: Connection, action: str, about: str, **details: Any) -> None:
        """Note in the transaction of a change that the caller made it. `details` hold no secrets."""
        audit.record(
            connection,
            actor=self.caller.actor,
            tenant=self.caller.tenant,
            action=action,
            object=about,
            details=details,
        )

    def own_tenant(self, asked: str | None) -> str | None:
        """The tenant that a request is about, given what it asks for: by a tenant's key always that tenant.

        Raises ProblemError (403) where such a key asks for another's.
        """
        own = self.caller.tenant
        if own is None:
            return asked
        if asked and asked != own:
            raise ProblemError(403, f"Your key is for tenant {own!r} only.")
        return own

    def _refuse_what_cannot_be_stored(self) -> None:
        if "\0" in request.path:
            raise not_found("such path")
        method = getattr(self, "get" if request.method == "HEAD" else request.method.lower(), None)
        takes_query = any(part["in"] == "query" for part in _parameters(method))
        wrong = {
            name: ["Unknown field." if not takes_query else "Must not contain NUL."]
            for name, value in request.args.items(multi=True)
            if not takes_query or "\0" in name + value
        }
        if wrong:
            raise invalid(wrong)


def _parameters(method: Any) -> list[dict[str, Any]]:
    documented: list[dict[str, Any]] = getattr(method, "_apidoc", {}).get("arguments", {}).get("parameters", [])
    return documented


class Parser(FlaskParser):
    """Reads requests: what is not known is refused, and so is what is no JSON or could not be stored."""

    DEFAULT_UNKNOWN_BY_LOCATION: dict[str, str | None] = {  # noqa: RUF012 - as its parent declares it
        "query": RAISE,
        "json": RAISE,
        "headers": EXCLUDE,
    }

    def _raw_load_json(self, req: Request) -> Any:
        body = req.get_data()
        if not body:
            return core.missing
        if not req.is_json:
            raise ProblemError(415, "Send the body as JSON, with Content-Type: application/json.")
        try:
            value = msgspec.json.decode(body)
            storable = b"\\u0000" not in body or not _has_nul(value)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise ProblemError(400, f"The body is no JSON: {error}.") from None
        if not isinstance(value, dict):
            raise ProblemError(422, "The body must be a JSON object.", errors={"body": ["Must be an object."]})
        if not storable:
            raise ProblemError(422, "Texts must not contain NUL.", errors={"body": ["Must not contain NUL."]})
        return value


def _has_nul(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_has_nul(part) for pair in value.items() for part in pair)
    if isinstance(value, list):
        return any(_has_nul(entry) for entry in value)
    return isinstance(value, str) and "\0" in value


class Resources(Blueprint):  # type: ignore[misc]
    """The resources of one kind, and how they are documented."""

    ARGUMENTS_PARSER = Parser()

    def arguments(self, schema: type[Schema], **options: Any) -> Any:
        """Have a method take what the schema says. The schema is made once, not for every request."""
        return super().arguments(schema(), **options)


_documentation = Resources("documentation", __name__)
takes = _documentation.arguments
answers = _documentation.response
also_answers = _documentation.alt_response
describes = _documentation.doc


def blueprint(
    name: str, description: str, resources: tuple[type[Resource], ...], deps: Deps, gate: Authenticator
) -> Resources:
    """These resources with everything they need. Each says what it is to a tenant's key, or there is none of them."""
    made = Resources(name, __name__, description=description)
    for resource in resources:
        resource.tenancy  # noqa: B018 - AttributeError
        own = {"deps": deps, "gate": gate, "__module__": resource.__module__}
        if resource.starts_something("POST") and (post := getattr(resource, "post", None)):
            own["post"] = describes(**{idempotency.MARK: True})(post)
        made.add_url_rule(resource.rule, resource.__name__, type(resource.__name__, (resource,), own))
    return made


class IdentifierConverter(BaseConverter):
    """An id in a path, with or without its dashes. What is none leads nowhere: 404."""

    def to_python(self, value: str) -> UUID:
        """The id."""
        try:
            return UUID(value)
        except ValueError:
            raise ValidationError from None
