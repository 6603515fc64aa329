"""What every resource stands on: who may call it, how its requests are read, how it is documented."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar
from uuid import UUID

import msgspec
from flask import Request, request
from flask.typing import ResponseReturnValue
from flask.views import MethodView
from flask_smorest import Blueprint
from marshmallow import RAISE
from sqlalchemy import Engine
from webargs import core
from webargs.flaskparser import FlaskParser
from werkzeug.routing import BaseConverter, ValidationError

from api.problems import ProblemError, invalid, not_found
from shared import access
from shared.access import Caller, Scope
from shared.doorbell import Doorbell
from shared.secrets import Vault
from shared.settings import Settings

_NEEDED = {"GET": Scope.READ, "HEAD": Scope.READ}
"""What a method needs; the others change something."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deps:
    """Everything the API works with."""

    settings: Settings
    engine: Engine
    vault: Vault
    doorbell: Doorbell


class Resource(MethodView):
    """One path. Its methods open a transaction, call a function, and return what is to be shown.

    `deps` is set when the application is made. `scopes` are for methods that need more than reading or writing.
    """

    rule: ClassVar[str]
    deps: ClassVar[Deps]
    scopes: ClassVar[Mapping[str, Scope]] = {}
    caller: Caller

    def dispatch_request(self, **path: Any) -> ResponseReturnValue:
        """Let the caller in, if it may; then do what it asks."""
        self.caller = self._admit()
        self._refuse_what_cannot_be_stored()
        return super().dispatch_request(**path)

    @classmethod
    def scope_of(cls, method: str) -> Scope:
        """What a method needs."""
        return cls.scopes.get(method) or _NEEDED.get(method, Scope.WRITE)

    def _admit(self) -> Caller:
        needed = self.scope_of(request.method)
        caller = self._caller()
        if caller is None:
            raise _unauthorized()
        if not caller.scope.includes(needed):
            raise ProblemError(
                403,
                f"This needs a key with scope `{needed}`; yours has `{caller.scope}`.",
                headers={"WWW-Authenticate": f'Bearer realm="tidings", error="insufficient_scope", scope="{needed}"'},
            )
        return caller

    def _caller(self) -> Caller | None:
        scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
        secret = secret.strip()
        if scheme.lower() != "bearer" or not secret:
            return None
        administrator = access.administrator(secret, self.deps.settings.admin_key)
        if administrator is not None:
            return administrator
        with self.deps.engine.begin() as connection:
            return access.caller(connection, secret)

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


def _unauthorized() -> ProblemError:
    given = bool(request.headers.get("Authorization"))
    sentence = "This key is not known, or was revoked." if given else "Send `Authorization: Bearer <key>`."
    challenge = 'Bearer realm="tidings"' + (', error="invalid_token"' if given else "")
    return ProblemError(401, sentence, headers={"WWW-Authenticate": challenge})


class Parser(FlaskParser):
    """Reads requests: what is not known is refused, and so is what is no JSON or could not be stored."""

    DEFAULT_UNKNOWN_BY_LOCATION: dict[str, str | None] = {  # noqa: RUF012 - as its parent declares it
        "query": RAISE,
        "json": RAISE,
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


_documentation = Resources("documentation", __name__)
takes = _documentation.arguments
answers = _documentation.response
also_answers = _documentation.alt_response


def blueprint(name: str, description: str, resources: tuple[type[Resource], ...], deps: Deps) -> Resources:
    """These resources with everything they need."""
    made = Resources(name, __name__, description=description)
    for resource in resources:
        bound = type(resource.__name__, (resource,), {"deps": deps, "__module__": resource.__module__})
        made.add_url_rule(resource.rule, resource.__name__, bound)
    return made


class IdentifierConverter(BaseConverter):
    """An id in a path, with or without its dashes. What is none leads nowhere: 404."""

    def to_python(self, value: str) -> UUID:
        """The id."""
        try:
            return UUID(value)
        except ValueError:
            raise ValidationError from None
