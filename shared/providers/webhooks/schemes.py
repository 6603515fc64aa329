"""The ways in which providers authenticate a webhook, each as a value that a provider or a `generic` source configures.

A scheme reads its credentials once (`read`, which raises CredentialsError and names the field) and checks requests with
them (`verify`, which raises VerificationError and nothing else). Every comparison takes constant time.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol

from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from shared.errors import CredentialsError, VerificationError
from shared.providers.webhooks import authentication, forms, standard_webhooks
from shared.providers.webhooks.authentication import decode_base64, decode_hex, malformed, require_body, require_headers
from shared.providers.webhooks.base import CredentialField, SourceSettings, WebhookRequest
from shared.providers.webhooks.elliptic import read_ed25519
from shared.vocabulary import RefusalReason

TOLERANCE_SECONDS = 300
DIGESTS = ("sha256", "sha1", "sha512")
ENCODINGS = ("hex", "base64")

PLACEHOLDER = re.compile(r"\{(body|timestamp|header:[A-Za-z0-9-]+)\}")
"""What a template of the signed text may contain."""
_MAX_SIGNATURES = 8
"""Signatures of one request, such as one for each secret of a rotation."""

SECRETS = CredentialField(
    name="secrets",
    several=True,
    type="list",
    required=True,
    secret=True,
    help="The webhook's signing secrets; both the old and the new one during a rotation.",
)
PASSWORD_OR_TOKEN = (
    *(replace(field, required=False) for field in authentication.BASIC_FIELDS),
    CredentialField(
        name="token",
        several=True,
        type="text",
        secret=True,
        help="A bearer token, instead of user name and password; a list during a rotation.",
    ),
)
"""The credentials of `Password` where it accepts a token."""
QUERY_SECRET = CredentialField(
    name="secret",
    several=True,
    type="text",
    required=True,
    secret=True,
    help="A secret of your choice: the value of `secret` in the URL's query, or the token of a header "
    "`Authorization: Bearer …` where the provider can send one. A list during a rotation.",
)
"""The credential of `QuerySecret`."""


class Scheme(Protocol):
    """A way to authenticate requests."""

    def read(self, raw: Mapping[str, Any], /) -> Any:
        """Return the credentials, ready for `verify`. Raises CredentialsError."""

    def verify(self, request: WebhookRequest, credentials: Any, now: datetime, /) -> None:
        """Return if the request is authentic. Raises VerificationError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Password:
    """Basic authentication (RFC 7617), or a bearer token (RFC 6750) where the provider can send one."""

    accepts_token: bool = False

    def read(self, raw: Mapping[str, Any], /) -> tuple[Sequence[bytes], Sequence[bytes]]:
        """Return the digests of the accepted `username:password` pairs, and those of the tokens; one is empty."""
        if not self.accepts_token or raw.get("token") is None:
            return authentication.read_basic(raw), ()
        if raw.get("username") is not None or raw.get("password") is not None:
            raise CredentialsError("`token` replaces `username` and `password`: give one or the other")
        return (), [authentication.digest(text) for text in authentication.read_secrets(raw, "token")]

    def verify(
        self,
        request: WebhookRequest,
        credentials: tuple[Sequence[bytes], Sequence[bytes]],
        now: datetime,  # noqa: ARG002
        /,
    ) -> None:
        """Check the Authorization header."""
        pairs, tokens = credentials
        (header,) = require_headers(request, "authorization")
        scheme, _, token = header.partition(" ")
        if self.accepts_token and scheme.lower() == "bearer":
            authentication.verify_token(token.strip(), tokens, "Authorization")
        else:
            authentication.verify_basic(request, pairs)
        require_body(request)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuerySecret:
    """A secret in the query of the webhook's URL, or a bearer token (RFC 6750) where the provider can send one."""

    def read(self, raw: Mapping[str, Any], /) -> Sequence[bytes]:
        """Return the digests of the accepted secrets."""
        return [authentication.digest(text) for text in authentication.read_secrets(raw, "secret")]

    def verify(self, request: WebhookRequest, credentials: Sequence[bytes], now: datetime, /) -> None:  # noqa: ARG002
        """Check the query or the Authorization header."""
        self.check(request, credentials)

    def check(self, request: WebhookRequest, credentials: Sequence[bytes]) -> None:
        """Check the same at any time: a secret has no age. Raises VerificationError."""
        scheme, _, token = request.headers.get("authorization", "").strip().partition(" ")
        given = forms.query_value(request, "secret") or (token.strip() if scheme.lower() == "bearer" else "")
        authentication.verify_token(given, credentials, "`secret` of the query, or bearer token")
        require_body(request)


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedHeader:
    """A header that carries a secret."""

    header: str

    def read(self, raw: Mapping[str, Any], /) -> Sequence[bytes]:
        """Return the digests of the accepted values."""
        return [authentication.digest(text) for text in authentication.read_secrets(raw, "value")]

    def verify(self, request: WebhookRequest, credentials: Sequence[bytes], now: datetime, /) -> None:  # noqa: ARG002
        """Compare the header."""
        (given,) = require_headers(request, self.header)
        authentication.verify_token(given, credentials, self.header)
        require_body(request)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """Where a request's signature is, and what it signs.

    `template` is the signed text: `{body}`, once, `{timestamp}`, and `{header:NAME}` stand for these. The header may
    hold several signatures, separated by commas or spaces; those that begin with `prefix` count.
    """

    header: str
    encoding: str = "hex"
    prefix: str = ""
    template: str = "{body}"
    timestamp_header: str | None = None
    timestamp_prefix: str = ""
    """What the time begins with, where it is one of several parts of its header."""
    tolerance_seconds: int = TOLERANCE_SECONDS

    def signatures(self, request: WebhookRequest) -> list[bytes]:
        """Return the decoded signatures. Raises VerificationError if there is none."""
        (header,) = require_headers(request, self.header)
        require_body(request)
        parts = [part for part in re.split(r"[,\s]+", header) if part]
        texts = [part.removeprefix(self.prefix) for part in parts if part.startswith(self.prefix)]
        if not 0 < len(texts) <= _MAX_SIGNATURES:
            raise malformed(f"{self.header} must have 1 to {_MAX_SIGNATURES} signatures of the form {self.prefix}…")
        return [self._decode(text) for text in texts]

    def _decode(self, text: str) -> bytes:
        return (decode_base64 if self.encoding == "base64" else decode_hex)(text, self.header)

    def signed(self, request: WebhookRequest, now: datetime) -> bytes:
        """Return the bytes that are signed. Raises VerificationError if a header is missing, or the time is stale."""
        if self.template == "{body}":
            return request.body
        pieces = []
        for index, piece in enumerate(PLACEHOLDER.split(self.template)):
            if not index % 2:
                pieces.append(piece.encode())
            elif piece == "body":
                pieces.append(request.body)
            elif piece == "timestamp":
                pieces.append(
                    read_timestamp(
                        request, self.timestamp_header or "", now, self.tolerance_seconds, self.timestamp_prefix
                    )
                )
            else:
                (value,) = require_headers(request, piece.removeprefix("header:").lower())
                pieces.append(value.encode("utf-8", "surrogatepass"))
        return b"".join(pieces)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hmac:
    """HMAC (RFC 2104) with a shared secret, whose text itself is the key."""

    signature: Signature
    digest: str = "sha256"
    field: str = "secrets"

    def read(self, raw: Mapping[str, Any], /) -> tuple[bytes, ...]:
        """Return the secrets."""
        return read_secrets(raw, self.field)

    def verify(self, request: WebhookRequest, credentials: tuple[bytes, ...], now: datetime, /) -> None:
        """Check that one of the secrets made one of the signatures."""
        given = self.signature.signatures(request)
        signed = self.signature.signed(request, now)
        authentication.verify_hmac(credentials, signed, given, self.digest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ed25519:
    """Ed25519 (RFC 8032) with the provider's public key."""

    signature: Signature

    def read(self, raw: Mapping[str, Any], /) -> tuple[VerifyKey, ...]:
        """Return the public key, or several during a rotation."""
        keys = []
        for text in read_secrets(raw, "public_key"):
            key = read_ed25519(text.decode("utf-8", "replace"))
            if key is None:
                raise CredentialsError("`public_key` must be an Ed25519 key: PEM, or base64 of its SPKI or 32 bytes")
            keys.append(key)
        return tuple(keys)

    def verify(self, request: WebhookRequest, credentials: tuple[VerifyKey, ...], now: datetime, /) -> None:
        """Check that one of the keys made one of the signatures."""
        given = self.signature.signatures(request)
        signed = self.signature.signed(request, now)
        for key in credentials:
            for one in given:
                try:
                    key.verify(signed, one)
                except (BadSignatureError, ValueError):  # ValueError: not 64 bytes
                    continue
                return
        raise VerificationError(RefusalReason.BAD_SIGNATURE, "Signature verification failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class StandardWebhooks:
    """Standard Webhooks (`shared.providers.webhooks.standard_webhooks`).

    `raw_secret`: the text of the secret is the key, and not what it decodes to.
    """

    raw_secret: bool = False

    def read(self, raw: Mapping[str, Any], /) -> standard_webhooks.Credentials:
        """Return the keys."""
        if self.raw_secret:
            return standard_webhooks.Credentials(secrets=read_secrets(raw, "secrets"))
        return standard_webhooks.read_credentials(raw, {}, SourceSettings())

    def verify(self, request: WebhookRequest, credentials: standard_webhooks.Credentials, now: datetime, /) -> None:
        """Check that one of the secrets made one of the signatures."""
        standard_webhooks.verify(request, credentials, now)


def read_secrets(raw: Mapping[str, Any], name: str) -> tuple[bytes, ...]:
    """Return the bytes of the secrets in a field. Raises CredentialsError."""
    return tuple(text.encode("utf-8", "surrogatepass") for text in authentication.read_secrets(raw, name))


def read_timestamp(
    request: WebhookRequest, name: str, now: datetime, tolerance_seconds: int, prefix: str = ""
) -> bytes:
    """Return the signed time of a header, in Unix seconds. Raises VerificationError."""
    (text,) = require_headers(request, name)
    if prefix:
        times = [part.strip() for part in text.split(",") if part.strip().startswith(prefix)]
        if len(times) != 1:
            raise malformed(f"{name} must have one part of the form {prefix}…")
        text = times[0].removeprefix(prefix)
    authentication.check_age(now, text, name, tolerance_seconds)
    return text.encode()


def reader(scheme: Scheme) -> Callable[[Mapping[str, Any], Mapping[str, str], SourceSettings], Any]:
    """Return the `read_credentials` of a provider that has no other credentials than its scheme's."""

    def read_credentials(raw: Mapping[str, Any], _keys: Mapping[str, str], _settings: SourceSettings, /) -> Any:
        return scheme.read(raw)

    return read_credentials
