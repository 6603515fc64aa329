"""Authentication of API keys, authorization by scope and tenant, and rate limits."""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from ipaddress import IPv6Address, ip_address

from flask import Response, after_this_request, request
from sqlalchemy import Engine

from api.core.errors import ProblemError, too_many
from api.core.rate_limit import RateLimitResult, Shares, TokenBuckets
from api.streaming import deferred
from api.streaming.wsgi import BODY_LIMITS
from shared.auth import keys
from shared.auth.keys import Caller, Scope
from shared.http.wsgi import client_ip
from shared.settings import Settings

_FAILURES_PER_SECOND = 0.5
_FAILURES_AT_ONCE = 30
_PASSWORDS_PER_SECOND = 0.1
_PASSWORDS_AT_ONCE = 10
_MAX_KNOWN = 10_000
_NETWORK_BITS = 64


class TenantAccess(StrEnum):
    """What a key that belongs to a tenant may do with a resource."""

    OWN = "own"
    """The key reads and changes data of its tenant: the resource passes `self.caller.tenant` to every query."""

    CLOSED = "closed"
    """The resource belongs to no tenant, so the key is refused."""


class Authenticator:
    """Authenticates and counts callers. There is one in each process, because limits are per process."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine = engine
        self._settings = settings
        self._requests = TokenBuckets(settings.api_rate, settings.api_burst)
        self._failures = TokenBuckets(_FAILURES_PER_SECOND, _FAILURES_AT_ONCE)
        self._passwords = TokenBuckets(_PASSWORDS_PER_SECOND, _PASSWORDS_AT_ONCE)
        self._known: OrderedDict[bytes, None] = OrderedDict()
        self._uploads = Shares(BODY_LIMITS.max_streams or 1, "large uploads")

    @contextmanager
    def share_uploads(self, caller: Caller) -> Iterator[None]:
        """Hold a place for a body that is read while it arrives. Raises ProblemError (429)."""
        length = request.content_length
        if length is not None and length <= BODY_LIMITS.small_bytes:
            yield
            return
        if (sentence := self._uploads.exceeded(caller)) is not None and self._uploads.free:
            raise too_many(sentence)
        with self._uploads.hold(caller):
            yield

    def admit(self, needed: Scope, tenancy: TenantAccess) -> Caller:
        """Return the caller of the current request. Raises ProblemError (401, 403, 429)."""
        secret = _secret()
        if not secret:
            raise _unauthorized()
        caller = self.authenticate_key(secret)
        self.count(caller)
        authorize(caller, needed, tenancy)
        return caller

    def authenticate_user(self, authenticate: Callable[[], Caller | None]) -> Caller:
        """Return the user that `authenticate` finds by a password. Raises ProblemError (401, 429).

        Every attempt counts, because each costs as much as a guess.
        """
        verdict = self._passwords.take(self._network(), time.monotonic())
        if not verdict.allowed:
            raise too_many("Too many attempts to sign in came from your address.", max(1, verdict.seconds))
        caller = authenticate()
        if caller is None:
            raise ProblemError(401, "No user has this email address and password.")
        return caller

    def authenticate_link(self, use: Callable[[], Caller | None]) -> Caller | None:
        """Return the user whose one-time link `use` accepts; None if it is not valid. Raises ProblemError (429)."""
        address, now = self._network(), time.monotonic()
        self._require_few_failures(address, now)
        caller = use()
        if caller is None:
            self._failures.take(address, now)
        return caller

    def authorization_check(self, caller: Caller) -> Callable[[], bool]:
        """Return a function, for any thread, that returns whether the current request's key still has this caller."""
        secret = _secret()
        return lambda: self._caller(secret) == caller

    def authenticate_key(self, secret: str) -> Caller:
        """Return the holder of a key. Raises ProblemError (401, 429)."""
        digest, address, now = keys.digest(secret), self._network(), time.monotonic()
        if digest not in self._known:
            self._require_few_failures(address, now)
        caller = self._caller(secret)
        if caller is None:
            self._known.pop(digest, None)
            self._failures.take(address, now)
            raise _unauthorized()
        # The holder of a key that was valid is not refused because others behind the same address guess keys.
        self._known[digest] = None
        if len(self._known) > _MAX_KNOWN:
            self._known.popitem(last=False)
        return caller

    def _require_few_failures(self, address: str, now: float) -> None:
        if self._failures.is_empty(address, now):
            sentence = "Too many keys or links that are not known were sent from your address."
            raise too_many(sentence, round(1 / _FAILURES_PER_SECOND))

    def _caller(self, secret: str) -> Caller | None:
        admin = keys.authenticate_admin(secret, self._settings.admin_key)
        if admin is not None:
            return admin
        with self._engine.connect() as connection:
            return keys.authenticate(connection, secret)

    def count(self, caller: Caller) -> None:
        """Count a request of a caller. Raises ProblemError (429) if it asks too often."""
        if not self._requests.rate:
            return
        is_new = deferred.of(request).again_after is None  # a view that is asked again answers the same request
        verdict = self._requests.take(caller.actor, time.monotonic(), cost=1 if is_new else 0)
        headers = self._limits(verdict)

        @after_this_request
        def add_limits(response: Response) -> Response:
            response.headers.update(headers)
            return response

        if not verdict.allowed:
            sentence = f"This key may ask {self._requests.rate:g} times a second, and {self._requests.burst} at once."
            raise too_many(sentence, max(1, verdict.seconds))

    def _limits(self, verdict: RateLimitResult) -> dict[str, str]:
        """Return the header fields of draft-ietf-httpapi-ratelimit-headers-10."""
        return {
            "RateLimit-Policy": f'"key";q={self._requests.burst};w={self._requests.window_seconds}',
            "RateLimit": f'"key";r={verdict.remaining};t={verdict.seconds}',
        }

    def _network(self) -> str:
        """Return the address of the client; for IPv6 its network, in which a host may use any number of addresses."""
        text = client_ip(request, self._settings.proxies)
        try:
            address = ip_address(text)
        except ValueError:
            return text[:45]
        if isinstance(address, IPv6Address) and address.ipv4_mapped is None:
            return f"{int(address) >> _NETWORK_BITS:x}"
        return str(address)


def authorize(caller: Caller, needed: Scope, tenancy: TenantAccess) -> None:
    """Raise ProblemError (403) if the caller's scope or tenant does not allow this."""
    if not caller.scope.includes(needed):
        raise ProblemError(
            403,
            f"This needs a key with scope `{needed}`; yours has `{caller.scope}`.",
            headers={"WWW-Authenticate": f'Bearer realm="tidings", error="insufficient_scope", scope="{needed}"'},
        )
    if tenancy is TenantAccess.CLOSED and caller.tenant is not None:
        raise ProblemError(
            403, f"This resource is not available to keys of a tenant; yours is a key of {caller.tenant!r}."
        )


def _secret() -> str:
    scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else ""


def _unauthorized() -> ProblemError:
    given = bool(request.headers.get("Authorization"))
    sentence = "This key is not known, or was revoked." if given else "Send `Authorization: Bearer <key>`."
    challenge = 'Bearer realm="tidings"' + (', error="invalid_token"' if given else "")
    return ProblemError(401, sentence, headers={"WWW-Authenticate": challenge})
