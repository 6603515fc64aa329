"""POSTs that can be repeated: with an Idempotency-Key the same answer comes again, and nothing is done twice.

As draft-ietf-httpapi-idempotency-key-header-07 has it. Answers are kept in the database, so it does not matter which
process is asked. What failed is not kept: it can be tried again under the same key.
"""

import re
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import blake2b, sha256
from typing import Any
from uuid import UUID

import structlog
from flask import Response, make_response, request
from flask.typing import ResponseReturnValue
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from api.core.errors import ProblemError
from shared.auth import idempotency as idempotent_answers
from shared.auth.idempotency import Answer
from shared.auth.keys import Caller
from shared.encryption import Vault

HEADER = "Idempotency-Key"
REPLAYED = "Idempotent-Replayed"
_LONGEST = 255
_QUOTED = r'"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\]){1,255}"'
_BARE = r"[\x21\x23-\x7e]{1,255}"
_KEY = re.compile(f"(?:{_QUOTED}|{_BARE})")

MARK = "x-idempotent"
"""Operations in the OpenAPI document that bear this take the header."""

_PARAMETER: dict[str, Any] = {
    "in": "header",
    "name": HEADER,
    "schema": {"type": "string", "pattern": f"^{_KEY.pattern}$"},
    "description": "Made up by you, such as a UUID: a repetition with the same key within a day gets the same answer,"
    " and nothing is done twice.",
}

log = structlog.get_logger()


def once(engine: Engine, vault: Vault, caller: Caller, view: Callable[[], ResponseReturnValue]) -> ResponseReturnValue:
    """What the view answers, or answered before under the key that the request names. Raises ProblemError."""
    given = request.headers.get(HEADER)
    if given is None:
        return view()
    key, asked, now = _place(caller, _read(given)), _hash_of_request(), datetime.now(UTC)
    with engine.begin() as connection:
        kept = idempotent_answers.begin(connection, key, asked, now)
    if kept is not None:
        return _again(vault, kept, asked)
    with _released(engine, key, now):
        answer = make_response(view())
    _keep(engine, vault, key, now, answer)
    return answer


def describe(document: dict[str, Any]) -> None:
    """Add the header to the operations of an OpenAPI document that take it."""
    for methods in document["paths"].values():
        for operation in methods.values():
            if MARK in operation:
                operation.setdefault("parameters", []).append(_PARAMETER)


def _read(given: str) -> str:
    """The key: a string of structured fields (RFC 8941), or, as many send it, without its quotation marks."""
    if not _KEY.fullmatch(given):
        raise ProblemError(400, f"{HEADER} must have 1 to {_LONGEST} printable characters.")
    return given[1:-1] if given.startswith('"') else given


def _place(caller: Caller, key: str) -> UUID:
    """Where the answer is kept: keys of different callers, or at different paths, are different ones."""
    parts = (str(caller.key_id), caller.tenant or "", request.path, key)
    return UUID(bytes=blake2b("\0".join(parts).encode(), digest_size=16).digest())


def _hash_of_request() -> bytes:
    asked = sha256(f"{request.query_string.decode(errors='replace')}\0{request.mimetype}\0".encode())
    asked.update(request.get_data())
    return asked.digest()


def _again(vault: Vault, kept: Answer, asked: bytes) -> Response:
    if kept.request_hash != asked:
        raise ProblemError(422, f"This {HEADER} was used for another request; make up another.")
    if kept.status_code is None or kept.body is None:
        raise ProblemError(
            409, f"The first request with this {HEADER} is still being answered.", headers={"Retry-After": "1"}
        )
    answer = Response(b64decode(vault.open(kept.body)["body"]), status=kept.status_code)
    answer.headers.clear()
    answer.headers.extend((name, value) for name, value in kept.headers or ())
    answer.headers[REPLAYED] = "true"
    return answer


@contextmanager
def _released(engine: Engine, key: UUID, since: datetime) -> Iterator[None]:
    """Give the key back where the request fails."""
    try:
        yield
    except Exception:
        with engine.begin() as connection:
            idempotent_answers.release(connection, key, since)
        raise


def _keep(engine: Engine, vault: Vault, key: UUID, since: datetime, answer: Response) -> None:
    sealed = vault.seal({"body": answer.get_data()})
    try:
        with engine.begin() as connection:
            idempotent_answers.finish(connection, key, since, answer.status_code, list(answer.headers), sealed)
    except SQLAlchemyError as error:  # it is done, and must be said; a repetition is refused for two minutes
        log.warning("an answer could not be kept", path=request.path, error=str(error).partition("\n")[0])
