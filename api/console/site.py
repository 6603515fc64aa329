"""What a page works with: the signed-in caller, the operations of the API, and the templates."""

import inspect
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast
from urllib.parse import quote, urlencode
from uuid import UUID

import structlog
from flask import Response, g, redirect, render_template, request
from marshmallow import Schema, ValidationError
from sqlalchemy.exc import SQLAlchemyError

from api.core.auth import Authenticator, authorize
from api.core.errors import ProblemError, invalid
from api.core.resource import Deps, Resource, has_nul
from shared.auth import sessions
from shared.auth.keys import Caller, Scope
from shared.errors import TidingsError, first_line

log = structlog.get_logger()

PERIODS: Final[Mapping[str, timedelta]] = {
    "15m": timedelta(minutes=15),
    "1h": timedelta(hours=1),
    "24h": timedelta(days=1),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
}
"""Times of a filter that are relative to now; an instant (RFC 3339) is allowed too."""

NOTICE_COOKIE: Final = "tidings_notice"
"""The cookie with the sentence that the next page shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """The current request: its caller, the token of the session, and what the console works with."""

    deps: Deps
    authenticator: Authenticator
    caller: Caller
    token: str

    @property
    def is_masked(self) -> bool:
        """Whether this caller sees personal data masked."""
        return self.deps.settings.console_mask and not self.caller.scope.includes(Scope.WRITE)

    def authorization_check(self, caller: Caller) -> Callable[[], bool]:
        """Return a function, for any thread, that returns whether the session still belongs to this caller."""
        deps, token = self.deps, self.token

        def is_authorized() -> bool:
            with deps.reading.connect() as connection:
                return read_session(deps, connection, token) == caller

        return is_authorized


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """One page of a list. `problem` says why it could not be read, `is_filtered` whether filters were given.

    `address` is the request of the API that returns the same page.
    """

    items: Sequence[Any] = ()
    older: str | None = None
    problem: str | None = None
    is_filtered: bool = False
    is_first: bool = True
    address: str = ""


def read_session(deps: Deps, connection: Any, token: str) -> Caller | None:
    """Return whose session a token is."""
    return sessions.find_caller(connection, token, datetime.now(UTC), admin_key=deps.settings.admin_key)


def visit() -> Visit:
    """Return the visit of the current request."""
    return cast("Visit", g.visit)


def may(resource: type[Resource], method: str = "GET") -> bool:
    """Return whether the caller may do this, by the rules of the API."""
    try:
        authorize(visit().caller, resource.scope_of(method), resource.tenant_access_of(method))
    except ProblemError:
        return False
    return True


def call(
    resource: type[Resource],
    method: str = "GET",
    *,
    query: Mapping[str, Any] | None = None,
    body: Mapping[str, Any] | None = None,
    **path: Any,
) -> Any:
    """Perform an operation of the API for the caller, in this process, and return its answer.

    Only HTTP is left out. Scope, tenant, the schema of the arguments and the audit log are those of the API. Raises
    what the operation raises, such as ProblemError.
    """
    current = visit()
    authorize(current.caller, resource.scope_of(method), resource.tenant_access_of(method))
    operation = type(resource.__name__, (resource,), {"deps": current.deps, "authenticator": current})()
    operation.caller = current.caller
    if wrong := [name for name, value in ({**path, **(query or {}), **(body or {})}).items() if has_nul([name, value])]:
        raise invalid({name: ["Must not contain NUL."] for name in wrong})
    declared = getattr(resource, method.lower())
    given: Mapping[str, Any] = {"query": query or {}, "json": body or {}, "headers": {}}
    # The innermost declaration comes first here, and last in the signature.
    parts = reversed(getattr(declared, "_apidoc", {}).get("arguments", {}).get("parameters", []))
    arguments = [_load(part["schema"], given[part["in"]]) for part in parts]
    answer = inspect.unwrap(declared)(operation, *arguments, **path)
    return answer[0] if isinstance(answer, tuple) else answer


def fetch(resource: type[Resource], query: Mapping[str, Any] | None = None, **path: Any) -> Listing:
    """Return the page of a list that the request asks for; a list that cannot be read says why.

    `query` replaces the filters of the request. Raises ProblemError (403) if the caller may not read the list.
    """
    authorize(visit().caller, resource.scope_of("GET"), resource.tenant_access_of("GET"))
    wanted = filters() if query is None else query
    path_of_api = re.sub(r"<(?:\w+:)?(\w+)>", lambda name: quote(str(path[name[1]])), resource.rule)
    empty = Listing(
        is_filtered=bool(set(wanted) - {"cursor", "limit"}),
        is_first="cursor" not in wanted,
        address=f"{request.host_url.rstrip('/')}{path_of_api}" + (f"?{urlencode(wanted)}" if wanted else ""),
    )
    try:
        page = call(resource, query=wanted, **path)
    except TidingsError as error:
        return replace(empty, problem=str(error))
    except SQLAlchemyError as error:
        log.warning("storage unavailable", path=request.path, error=first_line(error))
        return replace(empty, problem="The database cannot be reached, or took too long.")
    return replace(empty, items=page["items"], older=page["next_cursor"])


def filters() -> dict[str, str]:
    """Return the filters in the URL that have a value; times that are relative to now become instants."""
    return resolve_times(_read_filters())


def resolve_times(given: Mapping[str, str]) -> dict[str, str]:
    """Return filters with times that are relative to now as instants."""
    now = datetime.now(UTC)
    relative = {name: PERIODS[given[name]] for name in ("since", "until") if given.get(name) in PERIODS}
    return {**given, **{name: (now - period).isoformat() for name, period in relative.items()}}


def read_bulk_filters(known: Collection[str]) -> dict[str, str] | None:
    """Return the filters in the URL as an operation on all that match takes them; None if it does not know them all."""
    given = {name: value for name, value in _read_filters().items() if name not in ("cursor", "limit")}
    return given if set(given) <= set(known) else None


def _read_filters() -> dict[str, str]:
    return {name: text for name, value in request.args.items() if (text := value.strip())}


def call_for_selected(operation: type[Resource], argument: str) -> tuple[int, list[str]]:
    """Perform an operation of the API for each row that was ticked, whose id is this argument.

    Returns for how many it succeeded, and why it did not for the others.
    """
    succeeded, refused = 0, list[str]()
    for text in request.form.getlist("id"):
        try:
            identifier: dict[str, Any] = {argument: UUID(text)}
            call(operation, "POST", **identifier)
            succeeded += 1
        except (TidingsError, ValueError) as error:
            refused.append(f"{text}: {error}")
    return succeeded, refused


def back_to(path: str) -> str:
    """Return the address of a list with the filters that it had: an action on its rows has them in its own address."""
    query = request.query_string.decode()
    return f"{path}?{query}" if query else path


def render(template: str, code: int = 200, /, **values: Any) -> Response:
    """Return a page with this HTTP status."""
    return Response(render_template(template, **values), status=code, content_type="text/html; charset=utf-8")


def go(target: str, notice: str = "") -> Response:
    """Redirect to a page of the console, which shows the notice once."""
    response = cast("Response", redirect(target, 303))
    if notice:
        value = notice.encode().hex()
        response.set_cookie(NOTICE_COOKIE, value, max_age=20, path="/console/", httponly=True, samesite="Strict")
    return response


def _load(schema: Schema, given: Mapping[str, Any]) -> Any:
    try:
        return schema.load(given)
    except ValidationError as error:
        messages = error.messages if isinstance(error.messages, dict) else {"body": error.messages}
        raise invalid({str(name): _sentences(value) for name, value in messages.items()}) from None


def _sentences(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [sentence for part in value.values() for sentence in _sentences(part)]
    return [str(one) for one in value] if isinstance(value, list) else [str(value)]
