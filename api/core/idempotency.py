"""Idempotent POSTs (draft-ietf-httpapi-idempotency-key-header-07).

A request that is repeated with its Idempotency-Key gets the first answer again, from any process: answers are stored in
the database. Failures are not stored, so a failed request can be tried again with the same key.
"""

import re
from base64 import b64decode
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import blake2b, sha256
from typing import Any
from uuid import UUID

import structlog
from flask import Response, make_response, request
from flask.typing import ResponseReturnValue
from sqlalchemy import Engine, Row
from sqlalchemy.exc import SQLAlchemyError

from api.core.errors import ProblemError
from shared.auth import idempotency
from shared.auth.keys import Caller
from shared.encryption import Vault
from shared.errors import first_line

HEADER = "Idempotency-Key"
REPLAYED = "Idempotent-Replayed"
_MAX_CHARACTERS = 255
_QUOTED = r'"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\]){1,255}"'
_BARE = r"[\x21\x23-\x7e]{1,255}"
_KEY = re.compile(f"(?:{_QUOTED}|{_BARE})")

MARK = "x-idempotent"
"""Marks the operations of the OpenAPI document that accept the header."""

_PARAMETER: dict[str, Any] = {
    "in": "header",
    "name": HEADER,
    "schema": {"type": "string", "pattern": f"^{_KEY.pattern}$"},
    "description": "A key of your choice, such as a UUID. Repeating a request with the same key within a day returns"
    " the first answer and does nothing twice.",
}

log = structlog.get_logger()


def once(engine: Engine, vault: Vault, caller: Caller, view: Callable[[], ResponseReturnValue]) -> ResponseReturnValue:
    """Run the view, or return the answer that is stored under the request's key. Raises ProblemError."""
    header = request.headers.get(HEADER)
    if header is None:
        return view()
    if not _KEY.fullmatch(header):
        raise ProblemError(400, f"{HEADER} must have 1 to {_MAX_CHARACTERS} printable characters.")
    # A string of structured fields (RFC 9651) or, as many clients send it, the bare text.
    text = header[1:-1] if header.startswith('"') else header
    parts = (str(caller.key_id), caller.tenant or "", request.path, text)
    key, now = UUID(bytes=blake2b("\0".join(parts).encode(), digest_size=16).digest()), datetime.now(UTC)
    digest = sha256(f"{request.query_string.decode(errors='replace')}\0{request.mimetype}\0".encode())
    digest.update(request.get_data())
    request_hash = digest.digest()
    with engine.begin() as connection:
        stored = idempotency.begin(connection, key, request_hash, now)
    if stored is not None:
        return _replay(vault, stored, request_hash)
    try:
        answer = make_response(view())
    except Exception:
        with engine.begin() as connection:
            idempotency.release(connection, key, now)
        raise
    encrypted = vault.seal({"body": answer.get_data()})
    try:
        with engine.begin() as connection:
            idempotency.finish(connection, key, now, answer.status_code, list(answer.headers), encrypted)
    except SQLAlchemyError as error:  # the work is done, so answer; a repetition is refused for two minutes
        log.warning("cannot store an idempotent answer", path=request.path, error=first_line(error))
    return answer


def describe(document: dict[str, Any]) -> None:
    """Add the header to the operations of an OpenAPI document that accept it."""
    for methods in document["paths"].values():
        for operation in methods.values():
            if MARK in operation:
                operation.setdefault("parameters", []).append(_PARAMETER)


def _replay(vault: Vault, stored: Row[Any], request_hash: bytes) -> Response:
    if stored.request_hash != request_hash:
        raise ProblemError(422, f"This {HEADER} was used with a different request. Use a new key.")
    if stored.status_code is None or stored.body is None:
        raise ProblemError(
            409, f"The first request with this {HEADER} is still in progress.", headers={"Retry-After": "1"}
        )
    answer = Response(b64decode(vault.open(stored.body)["body"]), status=stored.status_code)
    answer.headers.clear()
    answer.headers.extend((name, value) for name, value in stored.headers or ())
    answer.headers[REPLAYED] = "true"
    return answer
