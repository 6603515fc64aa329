"""What the tests of all providers share: vectors, payloads, keys of their own and requests signed with them."""

import hmac
import json
from base64 import b64decode, b64encode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from hypothesis import HealthCheck, settings

from shared.providers.registry import PROVIDERS
from shared.providers.webhooks.base import SourceSettings, WebhookRequest
from simulator.providers.base import Dialect
from simulator.providers.base import make_request as make_signed
from simulator.providers.described import DescribedDialect
from simulator.providers.generic.webhooks import read_mapping
from simulator.providers.registry import DIALECTS
from simulator.scenarios import SCENARIOS
from simulator.staging import Play, stage

fuzzed = settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow])
"""For tests of arbitrary input: a busy machine makes none of them fail."""

DIRECTORY = Path(__file__).parents[1] / "shared" / "providers"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECONDS = int(NOW.timestamp())


@dataclass(frozen=True, kw_only=True)
class Case:
    """One case of a vector file: `expect` is "valid" or the reason of the refusal."""

    name: str
    credentials: Mapping[str, Any]
    request: WebhookRequest
    now: datetime
    expect: str


def read_cases(provider: str) -> list[Case]:
    """The cases of a provider, each with every form of credentials."""
    document = json.loads((DIRECTORY / "vectors" / f"{provider}.json").read_text())
    return [
        Case(
            name=f"{case['name']}-{number}",
            credentials=credentials,
            request=make_request(b64decode(case["body_base64"]), case["headers"]),
            now=datetime.fromtimestamp(case["now"], UTC),
            expect=case["expect"],
        )
        for number, credentials in enumerate(document["credentials"])
        for case in document["cases"]
    ]


def has_cases(provider: str) -> bool:
    """Whether there are vectors of the provider's."""
    return (DIRECTORY / "vectors" / f"{provider}.json").exists()


def read_payloads(provider: str) -> dict[str, bytes]:
    """The payload files of a provider by their names."""
    files = sorted((DIRECTORY / "payloads" / provider).iterdir())
    return {file.stem: file.read_bytes() for file in files}


def make_request(body: bytes, headers: Mapping[str, str]) -> WebhookRequest:
    """A request as the receiver hands it on."""
    return WebhookRequest(headers={name.lower(): value for name, value in headers.items()}, body=body)


def to_base64(data: bytes) -> str:
    """Standard base64."""
    return b64encode(data).decode()


@cache
def ed25519_key(name: str = "mckey") -> Ed25519PrivateKey:
    """A key of that name, the same for the whole run."""
    return Ed25519PrivateKey.from_private_bytes(sha256(name.encode()).digest())


def ed25519_public(name: str = "mckey") -> str:
    """Its public half: base64 of its 32 bytes."""
    return to_base64(ed25519_key(name).public_key().public_bytes_raw())


@cache
def rsa_key(name: str = "rsa-key") -> RSAPrivateKey:
    """A key of that name, the same for the whole run. Short, because it is quicker to make."""
    return generate_private_key(65537, 1024)  # noqa: S505


def jwk(name: str = "rsa-key") -> dict[str, Any]:
    """Its public half as a JSON Web Key."""
    numbers = rsa_key(name).public_key().public_numbers()
    modulus = numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8, "big")
    n = urlsafe_b64encode(modulus).decode().rstrip("=")
    return {"kty": "RSA", "n": n, "e": "AQAB", "kid": name, "use": "sig", "alg": "RS256"}


def jwks(*names: str) -> dict[str, Any]:
    """A key set."""
    return {"keys": [jwk(name) for name in names or ("rsa-key",)]}


def digest(body: bytes) -> str:
    """The Content-Digest of a body."""
    return f"sha-256=:{to_base64(sha256(body).digest())}:"


def sign_mailchannels(
    body: bytes, *, created: int = SECONDS, key: str = "mckey", keyid: str | None = None
) -> WebhookRequest:
    """A request as MailChannels signs it."""
    parameters = f'("content-digest");created={created};alg="ed25519";keyid="{keyid or key}"'
    return sign_message(body, parameters, key=key)


def sign_message(
    body: bytes,
    parameters: str,
    *,
    key: str = "mckey",
    label: str = "sig_1",
    lines: tuple[str, ...] = (),
    headers: Mapping[str, str] | None = None,
) -> WebhookRequest:
    """A request whose Signature-Input is that text, signed whatever it says; `lines` come after the digest's."""
    base = "\n".join([f'"content-digest": {digest(body)}', *lines, f'"@signature-params": {parameters}']).encode(
        "latin-1"
    )
    signature = to_base64(ed25519_key(key).sign(base))
    return make_request(
        body,
        {
            "Content-Digest": digest(body),
            "Signature-Input": f"{label}={parameters}",
            "Signature": f"{label}=:{signature}:",
            **(headers or {}),
        },
    )


def sign_ark(body: bytes, *, key: str = "rsa-key", kid: str | None = None) -> WebhookRequest:
    """A request as Ark signs it."""
    signature = rsa_key(key).sign(body, PKCS1v15(), SHA256())
    return make_request(body, {"X-Ark-Signature": to_base64(signature), "X-Ark-Signature-KID": kid or key})


def sign_postal(body: bytes, *, key: str = "rsa-key", kid: str | None = None) -> WebhookRequest:
    """A request as Postal signs it, with both of its signatures."""
    return make_request(
        body,
        {
            "X-Postal-Signature": to_base64(rsa_key(key).sign(body, PKCS1v15(), SHA1())),  # noqa: S303
            "X-Postal-Signature-256": to_base64(rsa_key(key).sign(body, PKCS1v15(), SHA256())),
            "X-Postal-Signature-KID": kid or key,
        },
    )


def sign_cloudmailin(body: bytes, *, username: str = "events", password: str = "s3cret:ü") -> WebhookRequest:  # noqa: S107
    """A request as CloudMailin sends it."""
    return make_request(body, {"Authorization": f"Basic {to_base64(f'{username}:{password}'.encode())}"})


def sign_mailwebhook(
    body: bytes, *, signed_at: int | str = SECONDS, kid: str = "route-a", secret: bytes = b"secret-a"
) -> WebhookRequest:
    """A request as MailWebhook signs it."""
    signature = to_base64(hmac.digest(secret, f"{signed_at}.".encode() + body, "sha256"))
    return make_request(body, {"X-MailWebhook-Signature": f"t={signed_at}, kid={kid}, v1={signature}"})


DESCRIBED = [name for name, made in DIALECTS.items() if issubclass(made, DescribedDialect) and name != "generic"]
"""Providers that are described by tables."""

GENERIC_MAPPING: Mapping[str, Any] = read_mapping()
"""The mapping of a generic source that is simulated, and explained in docs/generic.md."""
SETTINGS: Mapping[str, SourceSettings] = {"generic": SourceSettings(generic=GENERIC_MAPPING)}
"""The settings of the sources in these tests, for providers that need any."""


def settings_of(provider: str, *, events_without_tenant: str = "set_aside") -> SourceSettings:
    """Return the settings of a provider's source in these tests."""
    return replace(SETTINGS.get(provider, SourceSettings()), events_without_tenant=events_without_tenant)


def sign_generic(body: bytes, *, signed_at: int = SECONDS, secret: bytes = b"secret-a") -> WebhookRequest:
    """A request as `GENERIC_MAPPING` describes it."""
    signature = hmac.new(secret, f"{signed_at}.".encode() + body, "sha256").hexdigest()
    return make_request(body, {"X-Acme-Signature": f"v1={signature}", "X-Acme-Timestamp": str(signed_at)})


GIVEN: Mapping[str, Mapping[str, Any]] = {
    "mailchannels": {"public_keys": {"mckey": ed25519_public()}, "customer_handles": ["acmeco", "acmeco_sub"]},
    "ark": {"jwks": jwks()},
    "postal": {"jwks": jwks()},
    "cloudmailin": {"username": "events", "password": "s3cret:ü"},
    "mailwebhook": {"signing_secrets": {"route-a": "secret-a"}},
    "generic": {"secrets": ["secret-a"]},
}
"""Credentials under which the `sign_` functions of the same providers make genuine requests."""

SIGN: Mapping[str, Callable[..., WebhookRequest]] = {
    "mailchannels": sign_mailchannels,
    "ark": sign_ark,
    "postal": sign_postal,
    "cloudmailin": sign_cloudmailin,
    "mailwebhook": sign_mailwebhook,
    "generic": sign_generic,
}
BODIES: Mapping[str, bytes] = {
    "mailchannels": b'[{"event":"delivered","customer_handle":"acmeco","timestamp":1767225600}]',
    "ark": b'{"message":{"id":1,"to":"a@b.example"},"status":"Sent","timestamp":1767225600}',
    "postal": b'{"event":"MessageSent","uuid":"u","payload":{"message":{"id":1,"to":"a@b.example"}}}',
    "cloudmailin": b'{"events":[{"kind":"delivery","recipient":"a@b.example","message_id":"m"}]}',
    "mailwebhook": b'{"channel":"#mail","text":"hello"}',
    "generic": b'{"events":[{"event":"delivery","email":"a@b.example","message":{"id":"m"}}]}',
}


@cache
def dialect(name: str) -> Dialect:
    """The simulated provider, the same for the whole run."""
    return DIALECTS[name]()


def given(name: str) -> Mapping[str, Any]:
    """Credentials under which `signed` makes genuine requests."""
    return GIVEN[name] if name in GIVEN else dialect(name).credentials()


def keys(name: str) -> Mapping[str, str]:
    """The keys that workers have fetched, where the credentials do not hold them."""
    if name in GIVEN:
        return {}
    document = dialect(name).key_document({"id": dialect(name).key_id})
    return PROVIDERS[name].read_keys(document, dialect(name).key_id) if document else {}


def credentials(name: str) -> Any:
    """The same, as the adapter reads them."""
    return PROVIDERS[name].read_credentials(given(name), keys(name), settings_of(name))


def body(name: str) -> bytes:
    """A body of the provider's."""
    return BODIES[name] if name in BODIES else play(name).postings[0].body


@cache
def play(name: str) -> Play:
    """The webhooks of a few messages that fared well."""
    return stage(SCENARIOS["happy"], dialect(name), count=3, seed=1, now=NOW)


def signed(name: str, text: bytes | None = None) -> WebhookRequest:
    """A genuine request."""
    text = body(name) if text is None else text
    if name in SIGN:
        return SIGN[name](text)
    made = make_signed(dialect(name), text, NOW)
    return make_request(made.body, made.headers)


def samples(name: str) -> list[bytes]:
    """Bodies of the provider's, as the adapter parses them: the payload files, and what the dialect says."""
    bodies = [] if name in BODIES else [posting.body for posting in play(name).postings]
    return [*read_payloads(name).values(), *([BODIES[name]] if name in BODIES else bodies)]
