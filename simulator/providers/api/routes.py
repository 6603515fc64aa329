"""Which function of an account answers which call, and how a call is refused."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from simulator.serving import Call, Response


class RefusedError(Exception):
    """The API does not do what it is asked. Each provider has its own form to say so."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}


class Route(NamedTuple):
    """One endpoint. `do` is given the call, and the parts of the path that are named in braces."""

    method: str
    path: str
    do: Callable[..., Response]

    def match(self, path: str) -> dict[str, str] | None:
        """Return the named parts of the path, percent-decoded; None if it is another endpoint's."""
        pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", self.path)
        found = re.fullmatch(pattern, path)
        return {name: unquote(part) for name, part in found.groupdict().items()} if found else None


def choose(routes: Sequence[Route], method: str, path: str) -> tuple[Callable[..., Response], dict[str, str]]:
    """Return the function for this call, and the parts of its path. Raises RefusedError with 404 or 405."""
    matches = [(route, parts) for route in routes if (parts := route.match(path)) is not None]
    if not matches:
        raise RefusedError(HTTPStatus.NOT_FOUND, "not found")
    for route, parts in matches:
        if route.method == method:
            return route.do, parts
    allowed = ", ".join(sorted({route.method for route, _ in matches}))
    raise RefusedError(HTTPStatus.METHOD_NOT_ALLOWED, "method not allowed", {"Allow": allowed})


def json_response(status: int, document: Any, headers: Mapping[str, str] | None = None) -> Response:
    """Return a document as an answer."""
    content = json.dumps(document, ensure_ascii=False).encode()
    return Response(status=status, content=content, headers={"Content-Type": "application/json", **(headers or {})})


def read_object(call: Call, refusal: int) -> dict[str, Any]:
    """Return the JSON object in the body; an empty body counts too. Raises RefusedError with the status `refusal`."""
    try:
        document = json.loads(call.body or b"{}")
    except ValueError as error:
        raise RefusedError(refusal, "the body is not JSON") from error
    if not isinstance(document, dict):
        raise RefusedError(refusal, "the body must be an object")
    return document


def read_number(query: Mapping[str, str], name: str, default: int, bounds: range, refusal: int) -> int:
    """Return an integer of the query. Raises RefusedError with the status `refusal` if it is none, or out of bounds."""
    text = query.get(name, str(default))
    if not re.fullmatch(r"-?[0-9]{1,18}", text) or int(text) not in bounds:
        raise RefusedError(refusal, f"{name} must be an integer from {bounds.start} to {bounds.stop - 1}")
    return int(text)


def is_endpoint(url: object) -> bool:
    """Return whether a webhook can be sent there. Plain HTTP, which no provider takes, is for loopback only."""
    if not isinstance(url, str):
        return False
    try:
        address = urlsplit(url)
        host = address.hostname
    except ValueError:
        return False
    return bool(host) and (address.scheme == "https" or (address.scheme == "http" and host in _LOOPBACK))


_LOOPBACK = ("127.0.0.1", "localhost", "::1")
