"""From an event loop to a WSGI application, and back: the environment of a request, and what is answered."""

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes
from wsgiref.types import WSGIApplication, WSGIEnvironment

from shared.asgi.protocol import Scope, Send

_OWN_NAMES = {"CONTENT_TYPE", "CONTENT_LENGTH"}


@dataclass(slots=True, kw_only=True)
class Answer:
    """What is answered. `rest` is what has not been made yet of a body whose length is not known."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes = b""
    rest: Iterator[bytes] | None = None
    close: Callable[[], None] | None = None


def whole(status: int, body: bytes, content_type: str = "application/json") -> Answer:
    """An answer of which everything is known."""
    headers = [(b"content-type", content_type.encode("latin-1")), (b"content-length", b"%d" % len(body))]
    return Answer(status=status, headers=headers, body=body)


def environ(scope: Scope) -> WSGIEnvironment:
    """The environment of PEP 3333, but for the body."""
    host, port = scope.get("server") or ("localhost", 80)
    made: WSGIEnvironment = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(scope["raw_path"]).decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "SERVER_NAME": host,
        "SERVER_PORT": str(port),
        "REMOTE_ADDR": (scope.get("client") or ("",))[0],
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,  # it ends where the body does, also where no length was told
    }
    for raw_name, raw_value in scope["headers"]:
        name = raw_name.decode("latin-1").upper()
        if "_" in name:  # it would look like another with a dash
            continue
        key = name.replace("-", "_")
        key = key if key in _OWN_NAMES else f"HTTP_{key}"
        value = raw_value.decode("latin-1")
        made[key] = f"{made[key]},{value}" if key in made else value
    return made


def collect(app: WSGIApplication, environ: WSGIEnvironment) -> Answer:
    """Have a request answered, and take the answer as far as its length is known."""
    answer = Answer(status=500, headers=[])

    def start(status: str, headers: list[tuple[str, str]], _error: Any = None) -> Callable[[bytes], object]:
        answer.status = int(status[:3])
        answer.headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        return _refuse_write

    made: Iterable[bytes] = app(environ, start)
    close: Callable[[], None] | None = getattr(made, "close", None)
    if not any(name == b"content-length" for name, _ in answer.headers):
        answer.rest, answer.close = iter(made), close
        return answer
    try:
        answer.body = b"".join(made)
    finally:
        if close is not None:
            close()
    return answer


async def send_whole(answer: Answer, send: Send) -> None:
    """Send an answer that has no rest."""
    await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
    await send({"type": "http.response.body", "body": answer.body})


def _refuse_write(_data: bytes) -> None:
    """In the place of PEP 3333's `write`, which is for applications older than itself; Flask never calls it."""
    raise RuntimeError("an application behind this gateway answers with an iterable, not by write()")
