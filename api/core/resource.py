"""Base of all resources: authentication, request parsing, JSON, documentation."""

from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import Any, ClassVar
from uuid import UUID

import msgspec
from flask import Request, request
from flask.json.provider import JSONProvider
from flask.typing import ResponseReturnValue
from flask.views import MethodView
from flask.wrappers import Response
from flask_smorest import Blueprint
from marshmallow import EXCLUDE, RAISE, Schema
from sqlalchemy import Connection, Engine
from webargs import core
from webargs.flaskparser import FlaskParser
from werkzeug.routing import BaseConverter

from api.core import idempotency
from api.core.auth import Authenticator, TenantAccess
from api.core.errors import ProblemError, invalid, not_found
from shared import json_text
from shared.auth import audit
from shared.auth.keys import Caller, Scope
from shared.broker import TaskNotifier
from shared.encryption import Vault
from shared.settings import Settings
from shared.suppression import recipient_hashes
from shared.suppression.recipient_hashes import RecipientHasher

_DEEPEST = 32
"""The levels of a JSON body: deeper ones would exhaust the stack of what reads them."""
_MAX_ENTRIES = 20_000
"""Of a list or object of a JSON body, twice what any field takes: each wrong one costs an error message."""
_MAX_REPEATED = 100


@dataclass(frozen=True, kw_only=True)
class Deps:
    """The dependencies of the API."""

    settings: Settings
    engine: Engine
    vault: Vault
    notifier: TaskNotifier

    @cached_property
    def reading(self) -> Engine:
        """Return an engine in autocommit mode, which saves two round trips for a request."""
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
    """One path. A method opens a transaction, calls one function and returns the response.

    `blueprint` sets `deps` and `authenticator`. Every resource must set `tenancy`, the access of keys restricted to a
    tenant. `tenancies`, `scopes` and `max_body_bytes` override, per method, that access, the scope (read or write) and
    the size limit of the body.
    """

    rule: ClassVar[str]
    deps: ClassVar[Deps]
    authenticator: ClassVar[Authenticator]
    tenancy: ClassVar[TenantAccess]
    tenancies: ClassVar[Mapping[str, TenantAccess]] = {}
    scopes: ClassVar[Mapping[str, Scope]] = {}
    max_body_bytes: ClassVar[Mapping[str, int]] = {}
    caller: Caller

    def dispatch_request(self, **path: Any) -> ResponseReturnValue:
        """Authenticate the caller, then call the method."""
        self.caller = self.authenticator.admit(self.scope_of(request.method), self.tenant_access_of(request.method))
        self._check_path_and_query()
        call = partial(super().dispatch_request, **path)
        with ExitStack() as stack:
            if request.method in self.max_body_bytes:
                request.max_content_length = self.max_body_bytes[request.method]
                stack.enter_context(self.authenticator.share_uploads(self.caller))
            if self.is_deduplicated(request.method):
                return idempotency.once(self.deps.engine, self.deps.vault, self.caller, call)
            return call()

    @classmethod
    def scope_of(cls, method: str) -> Scope:
        """Return the scope that a method needs. HEAD needs what GET needs, because it does the same."""
        method = "GET" if method == "HEAD" else method
        return cls.scopes.get(method) or (Scope.READ if method == "GET" else Scope.WRITE)

    @classmethod
    def tenant_access_of(cls, method: str) -> TenantAccess:
        """Return the access of keys restricted to a tenant."""
        return cls.tenancies.get("GET" if method == "HEAD" else method) or cls.tenancy

    @classmethod
    def is_deduplicated(cls, method: str) -> bool:
        """Return whether an Idempotency-Key applies: repeating the request could repeat its effect."""
        return method == "POST" and cls.scope_of(method) is not Scope.READ

    def audit(self, connection: Connection, action: str, about: str, **details: Any) -> None:
        """Record in the transaction of a change that the caller made it. `details` contain no secrets."""
        audit.record(
            connection,
            actor=self.caller.actor,
            tenant=self.caller.tenant,
            action=action,
            object=about,
            details=details,
        )

    def resolve_tenant(self, requested: str | None) -> str | None:
        """Return the tenant of a request: the requested one, or the tenant to which the key is restricted.

        Raises ProblemError (403) if such a key requests another tenant.
        """
        own = self.caller.tenant
        if own is None:
            return requested
        if requested and requested != own:
            raise ProblemError(403, f"This key is restricted to tenant {own!r}.")
        return own

    def _check_path_and_query(self) -> None:
        if "\0" in request.path:
            raise not_found("such path")
        method = getattr(self, "get" if request.method == "HEAD" else request.method.lower(), None)
        parameters = getattr(method, "_apidoc", {}).get("arguments", {}).get("parameters", [])
        takes_query = any(part["in"] == "query" for part in parameters)
        problems = {
            name: ["Unknown field." if not takes_query else "Must not contain NUL."]
            for name, value in request.args.items(multi=True)
            if not takes_query or "\0" in name + value
        } | {name: ["Must be given once."] for name, values in request.args.lists() if len(values) > 1}
        if problems:
            raise invalid(problems)


class Parser(FlaskParser):
    """Parses requests. Refuses unknown fields, invalid JSON, and NUL, which PostgreSQL cannot store."""

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
            storable = b"\\u0000" not in body or not has_nul(value)
            is_deep = body.count(b"[") + body.count(b"{") > _DEEPEST and _is_deeper(value, _DEEPEST)
        except RecursionError:
            is_deep = True
        except (msgspec.DecodeError, UnicodeError) as error:
            raise invalid_json(body, error) from None
        if is_deep:
            raise invalid({"body": [f"Must not be nested more than {_DEEPEST} levels deep."]})
        require_single_names(body)
        if not isinstance(value, dict):
            raise ProblemError(422, "The body must be a JSON object.", errors={"body": ["Must be an object."]})
        if body.count(b",") >= _MAX_ENTRIES and _is_longer(value, _MAX_ENTRIES):
            raise invalid({"body": [f"Must have at most {_MAX_ENTRIES} entries in a list or object."]})
        if not storable:
            raise ProblemError(422, "Strings must not contain NUL.", errors={"body": ["Must not contain NUL."]})
        return value


def invalid_json(body: bytes, error: Exception) -> ProblemError:
    """Return the problem of a body that cannot be decoded."""
    sentence = str(error)
    with suppress(msgspec.DecodeError, UnicodeError, RecursionError):
        msgspec.json.decode(json_text.clean(body))
        sentence = r"a text has half of a surrogate pair, such as \ud800"  # the error would name a truncated text
    return ProblemError(400, f"The body is not valid JSON: {sentence}.")


def require_single_names(body: bytes) -> None:
    """Raise ProblemError (422) if an object of a JSON body gives a name twice: the earlier value would be lost."""
    if repeated := json_text.list_repeated(body, limit=_MAX_REPEATED):
        raise invalid({name: ["Must be given once in an object."] for name in repeated})


def _is_deeper(value: Any, levels: int) -> bool:
    """Return whether lists and objects are nested more than that many levels deep."""
    if not isinstance(value, dict | list):
        return False
    entries = value.values() if isinstance(value, dict) else value
    return not levels or any(_is_deeper(entry, levels - 1) for entry in entries)


def _is_longer(value: Any, entries: int) -> bool:
    """Return whether a list or object in the value has more than that many entries."""
    if not isinstance(value, dict | list):
        return False
    parts = value.values() if isinstance(value, dict) else value
    return len(value) > entries or any(_is_longer(part, entries) for part in parts)


def has_nul(value: Any) -> bool:
    """Return whether a text in the value contains NUL, which PostgreSQL cannot store."""
    if isinstance(value, dict):
        return any(has_nul(part) for pair in value.items() for part in pair)
    if isinstance(value, list):
        return any(has_nul(entry) for entry in value)
    return isinstance(value, str) and "\0" in value


class Resources(Blueprint):  # type: ignore[misc]
    """The blueprint of some resources and their documentation."""

    ARGUMENTS_PARSER = Parser()

    def arguments(self, schema: type[Schema], **options: Any) -> Any:
        """Declare the arguments of a method. The schema is instantiated once, not per request."""
        return super().arguments(schema(), **options)


def query_schema(resource: type[Resource]) -> Schema | None:
    """Return the schema of the query parameters of a resource's GET; None if it has none."""
    parameters = getattr(getattr(resource, "get", None), "_apidoc", {}).get("arguments", {}).get("parameters", [])
    return next((part["schema"] for part in parameters if part["in"] == "query"), None)


_documentation = Resources("documentation", __name__)
takes = _documentation.arguments
answers = _documentation.response
also_answers = _documentation.alt_response
describes = _documentation.doc


def blueprint(
    name: str, description: str, resources: tuple[type[Resource], ...], deps: Deps, authenticator: Authenticator
) -> Resources:
    """Return the blueprint of these resources. Raises AttributeError if one does not set `tenancy`."""
    made = Resources(name, __name__, description=description)
    for resource in resources:
        resource.tenancy  # noqa: B018 - AttributeError
        own = {"deps": deps, "authenticator": authenticator, "__module__": resource.__module__}
        if resource.is_deduplicated("POST") and (post := getattr(resource, "post", None)):
            own["post"] = describes(**{idempotency.MARK: True})(post)
        made.add_url_rule(resource.rule, resource.__name__, type(resource.__name__, (resource,), own))
    return made


class IdentifierConverter(BaseConverter):
    """An id in a path, with or without dashes. Any other text: 404."""

    # So that other texts match other rules: an error of `to_python` would end the search for one.
    regex = r"[0-9a-fA-F]{8}(?:-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}"

    def to_python(self, value: str) -> UUID:
        """Return the id."""
        return UUID(value)


class JsonProvider(JSONProvider):
    """JSON by msgspec, which encodes UUID and datetime; `msgspec.Raw` is inserted unchanged."""

    def dumps(self, obj: Any, **_kwargs: Any) -> str:
        """Return the JSON text of a value."""
        return msgspec.json.encode(obj).decode()

    def loads(self, s: str | bytes, **_kwargs: Any) -> Any:
        """Return the value of a JSON text."""
        return json_text.read(s if isinstance(s, str) else s.decode())

    def response(self, *args: Any, **kwargs: Any) -> Response:
        """Return a response with this value as its body."""
        return Response(msgspec.json.encode(self._prepare_response_obj(args, kwargs)), mimetype="application/json")
