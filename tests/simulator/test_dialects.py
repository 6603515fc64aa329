"""Every dialect signs what an independent check accepts, and forges what it refuses."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

import http_sf
import lettermint
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key, load_pem_public_key
from cryptography.x509 import load_pem_x509_certificate
from sendgrid.helpers.eventwebhook import EventWebhook  # type: ignore[import-untyped]
from standardwebhooks import Webhook

from simulator.keys import PublicKeyForm
from simulator.providers.ark.webhooks import Ark, Form
from simulator.providers.base import QUERY, Dialect, Forgery, Headers, make_request
from simulator.providers.cloudmailin.webhooks import CloudMailin
from simulator.providers.mailchannels.webhooks import MailChannels
from simulator.providers.mailwebhook.webhooks import MailWebhook
from simulator.providers.postal.webhooks import Postal
from simulator.providers.registry import DIALECTS
from simulator.providers.ses.webhooks import Ses
from simulator.scenarios import SCENARIOS
from simulator.staging import stage

NOW = datetime(2026, 3, 2, 8, 15, 4, tzinfo=UTC)


def a_body(dialect: Dialect) -> bytes:
    return stage(SCENARIOS["happy"], dialect, count=3, seed=1, now=NOW).postings[0].body


def parse_dictionary(text: str) -> Any:
    """A dictionary of RFC 8941, by a library that neither side of Tidings uses."""
    return http_sf.parse(text.encode("latin-1"), tltype="dictionary")


def check_mailchannels(dialect: Any, headers: Headers, body: bytes, key_id: str) -> None:
    document = json.loads(dialect.key_document({"id": key_id}))
    public = load_der_public_key(base64.b64decode(document["key"]))
    assert isinstance(public, ed25519.Ed25519PublicKey)
    digest = parse_dictionary(headers["Content-Digest"])
    assert digest["sha-256"][0] == hashlib.sha256(body).digest()
    inputs = parse_dictionary(headers["Signature-Input"])
    [(label, (components, parameters))] = inputs.items()
    assert [name for name, _ in components] == ["content-digest"]
    assert list(parameters) == ["created", "alg", "keyid"]
    assert parameters["keyid"] == key_id
    assert parameters["alg"] == "ed25519"
    signature = parse_dictionary(headers["Signature"])[label][0]
    signed_parameters = headers["Signature-Input"].removeprefix(f"{label}=")
    base = f'"content-digest": {headers["Content-Digest"]}\n"@signature-params": {signed_parameters}'
    public.verify(signature, base.encode())


def rsa_key(dialect: Any, key_id: str) -> rsa.RSAPublicKey:
    keys = {key["kid"]: key for key in json.loads(dialect.key_document({}))["keys"]}
    e, n = (int.from_bytes(base64.urlsafe_b64decode(keys[key_id][name] + "==="), "big") for name in ("e", "n"))
    return rsa.RSAPublicNumbers(e, n).public_key()


def check_ark(dialect: Any, headers: Headers, body: bytes, key_id: str) -> None:
    assert headers["X-Ark-Signature-KID"] == key_id
    signature = base64.b64decode(headers["X-Ark-Signature"], validate=True)
    rsa_key(dialect, key_id).verify(signature, body, padding.PKCS1v15(), hashes.SHA256())


def check_postal(dialect: Any, headers: Headers, body: bytes, key_id: str) -> None:
    assert headers["X-Postal-Signature-KID"] == key_id
    public = rsa_key(dialect, key_id)
    digests: dict[str, hashes.HashAlgorithm] = {
        "X-Postal-Signature": hashes.SHA1(),  # noqa: S303 - what old receivers of Postal's check
        "X-Postal-Signature-256": hashes.SHA256(),
    }
    for name, digest in digests.items():
        signature = base64.b64decode(headers[name], validate=True)
        public.verify(signature, body, padding.PKCS1v15(), digest)


def check_cloudmailin(dialect: Any, headers: Headers, body: bytes, key_id: str) -> None:
    credentials = dialect.credentials()
    scheme, _, word = headers["Authorization"].partition(" ")
    assert scheme == "Basic"
    assert base64.b64decode(word).decode() == f"{credentials['username']}:{credentials['password']}"


def check_mailwebhook(dialect: Any, headers: Headers, body: bytes, key_id: str) -> None:
    parts = dict(part.strip().split("=", 1) for part in headers["X-MailWebhook-Signature"].split(","))
    assert list(parts) == ["t", "kid", "v1"]
    assert parts["kid"] == key_id
    secret = dialect.credentials()["signing_secrets"][key_id]
    expected = hmac.new(secret.encode(), f"{parts['t']}.".encode() + body, "sha256").digest()
    assert base64.b64decode(parts["v1"], validate=True) == expected


def check_standard_webhooks(dialect: Any, headers: Headers, body: bytes, key_id: str) -> None:
    """By the verifier of the specification, which does not take Svix' names, and which has no clock of ours."""
    given = {name.lower().replace("svix-", "webhook-"): value for name, value in headers.items()}
    message_id, at = given["webhook-id"], int(given["webhook-timestamp"])
    assert abs(at - NOW.timestamp()) <= 300
    secret = dialect.credentials()["secrets"][int(key_id) - 1]
    expected = Webhook(secret).sign(message_id, datetime.fromtimestamp(at, UTC), body.decode())
    assert given["webhook-signature"] == expected


def check_sendgrid(dialect: Any, headers: Headers, body: bytes, key_id: str) -> None:
    """By the helper of SendGrid's own library."""
    keys = dialect.credentials()["public_key"]
    verifier = EventWebhook()
    public = verifier.convert_public_key_to_ecdsa(keys if isinstance(keys, str) else keys[int(key_id) - 1])
    signature = headers["X-Twilio-Email-Event-Webhook-Signature"]
    timestamp = headers["X-Twilio-Email-Event-Webhook-Timestamp"]
    assert verifier.verify_signature(body.decode(), signature, timestamp, public)


def check_postmark(dialect: Any, headers: Headers, body: bytes, key_id: str) -> None:
    check_cloudmailin(dialect, headers, body, key_id)


def check_mailgun(dialect: Any, headers: Headers, body: bytes, key_id: str) -> None:
    given = json.loads(body)["signature"]
    key = dialect.credentials()["signing_key"].encode()
    expected = hmac.new(key, (given["timestamp"] + given["token"]).encode(), "sha256").hexdigest()
    assert given["signature"] == expected


def check_ses(dialect: Any, headers: Headers, body: bytes, key_id: str) -> None:
    """By the steps of Amazon's guide, with a certificate that is read anew."""
    document = json.loads(body)
    certificate = load_pem_x509_certificate(dialect.key_document({"id": document["SigningCertURL"]}))
    public = certificate.public_key()
    assert isinstance(public, rsa.RSAPublicKey)
    names = ["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"]
    text = "".join(f"{name}\n{document[name]}\n" for name in names if name in document)
    digest = {"1": hashes.SHA1(), "2": hashes.SHA256()}[document["SignatureVersion"]]  # noqa: S303 - the version's
    signature = base64.b64decode(document["Signature"], validate=True)
    public.verify(signature, text.encode(), padding.PKCS1v15(), digest)


def check_password(dialect: Any, headers: Headers, body: bytes, key_id: str) -> None:
    credentials = dialect.credentials()
    scheme, _, word = headers["Authorization"].partition(" ")
    if "secret" in credentials:
        assert (scheme, word) == ("Bearer", credentials["secret"])
        return
    assert scheme == "Basic"
    assert base64.b64decode(word, validate=True).decode() == f"{credentials['username']}:{credentials['password']}"


def secrets_of(dialect: Any, field: str, key_id: str) -> list[bytes]:
    """The secret of that name."""
    number = key_id.rpartition("-")[2]
    return [dialect.credentials()[field][int(number) - 1].encode()]


def check_hex(header: str, field: str, timestamp: str | None = None) -> "Check":
    def check(dialect: Any, headers: Headers, body: bytes, key_id: str) -> None:
        (secret,) = secrets_of(dialect, field, key_id)
        signed = body if timestamp is None else headers[timestamp].encode() + b"." + body
        assert headers[header] == hmac.new(secret, signed, "sha256").hexdigest()

    return check


def check_lettermint(dialect: Any, headers: Headers, body: bytes, key_id: str) -> None:
    """By Lettermint's own library, whose clock cannot be set."""
    (secret,) = secrets_of(dialect, "secrets", key_id)
    webhook = lettermint.Webhook(secret.decode(), tolerance=10**10)
    assert webhook.verify(body, headers) == json.loads(body)
    assert abs(int(headers["X-Lettermint-Delivery"]) - NOW.timestamp()) <= 300


def check_signed_by_library(*, raw_secret: bool) -> "Check":
    def check(dialect: Any, headers: Headers, body: bytes, key_id: str) -> None:
        (secret,) = secrets_of(dialect, "secrets", key_id)
        key = base64.b64encode(secret).decode() if raw_secret else secret.decode()
        signature = Webhook(key).sign(headers["webhook-id"], NOW, body.decode())
        assert headers["webhook-signature"] == signature
        assert headers["webhook-timestamp"] == str(int(NOW.timestamp()))

    return check


def check_mandrill(dialect: Any, headers: Headers, body: bytes, key_id: str) -> None:
    (secret,) = secrets_of(dialect, "webhook_key", key_id)
    fields = parse_qs(body.decode(), keep_blank_values=True, strict_parsing=True)
    signed = dialect.credentials()["webhook_url"] + "".join(name + fields[name][0] for name in sorted(fields))
    expected = base64.b64encode(hmac.new(secret, signed.encode(), "sha1").digest()).decode()
    assert headers["X-Mandrill-Signature"] == expected


def check_mailpace(dialect: Any, headers: Headers, body: bytes, key_id: str) -> None:
    public = ed25519.Ed25519PublicKey.from_public_bytes(base64.b64decode(dialect.credentials()["public_key"]))
    public.verify(base64.b64decode(headers["X-MailPace-Signature"], validate=True), body)


def check_unisender(dialect: Any, headers: Headers, body: bytes, key_id: str) -> None:
    given = json.loads(body)["auth"]
    sealed = body.replace(given.encode(), dialect.credentials()["api_key"].encode())
    assert given == hashlib.md5(sealed, usedforsecurity=False).hexdigest()


def check_acme(dialect: Any, headers: Headers, body: bytes, key_id: str) -> None:
    """By the example in docs/generic.md."""
    secret = dialect.credentials()["secrets"][int(key_id.removeprefix("secret-")) - 1]
    signed = f"{headers['X-Acme-Timestamp']}.".encode() + body
    assert headers["X-Acme-Signature"] == "v1=" + hmac.new(secret.encode(), signed, "sha256").hexdigest()


def check_query(dialect: Any, headers: Headers, body: bytes, key_id: str) -> None:
    assert parse_qs(headers[QUERY], strict_parsing=True) == {"secret": [dialect.credentials()["secret"]]}


Check = Callable[[Any, Headers, bytes, str], None]

CHECKS: dict[str, Check] = {
    "mailchannels": check_mailchannels,
    "ark": check_ark,
    "postal": check_postal,
    "cloudmailin": check_cloudmailin,
    "mailwebhook": check_mailwebhook,
    "ses": check_ses,
    "scaleway": check_ses,
    "sendgrid": check_sendgrid,
    "postmark": check_postmark,
    "resend": check_standard_webhooks,
    "standardwebhooks": check_standard_webhooks,
    "mailgun": check_mailgun,
    **dict.fromkeys(("brevo", "mailjet", "sparkpost", "smtp2go", "azure", "kumomta"), check_password),
    "mailersend": check_hex("Signature", "signing_secret"),
    "mandrill": check_mandrill,
    "mailtrap": check_hex("Mailtrap-Signature", "signing_secret"),
    "unisender": check_unisender,
    "elasticemail": check_query,
    "generic": check_acme,
    "lettermint": check_lettermint,
    "emailit": check_hex("X-Emailit-Signature", "secrets", "X-Emailit-Timestamp"),
    "ahasend": check_signed_by_library(raw_secret=True),
    "mailpace": check_mailpace,
    "cloudflare": check_signed_by_library(raw_secret=False),
}


@pytest.mark.parametrize("name", DIALECTS)
def test_what_a_dialect_signs_verifies_by_its_documents(name: str) -> None:
    dialect = DIALECTS[name]()
    body = a_body(dialect)
    CHECKS[name](dialect, *make_request(dialect, body, NOW), dialect.key_id)


@pytest.mark.parametrize("name", [name for name, make in DIALECTS.items() if make.TRAITS.rotates])
def test_after_a_rotation_both_keys_sign(name: str) -> None:
    dialect = DIALECTS[name]()
    body = a_body(dialect)
    old = dialect.key_id
    new = dialect.rotate()
    assert old != new == dialect.key_id
    CHECKS[name](dialect, dialect.sign(body, NOW), body, new)
    CHECKS[name](dialect, dialect.sign(body, NOW, old), body, old)


@pytest.mark.parametrize("name", ["mailchannels", "ark", "postal"])
def test_the_operator_knows_the_first_public_key_only(name: str) -> None:
    dialect = DIALECTS[name]()
    before = dialect.credentials()
    new = dialect.rotate()
    assert dialect.credentials() == before
    assert new not in json.dumps(before)


@pytest.mark.parametrize(
    ("name", "forgery"),
    [
        (name, forgery)
        for name, make in DIALECTS.items()
        for forgery in sorted(make.TRAITS.forgeries - {Forgery.STALE, Forgery.FUTURE, Forgery.FOREIGN})
    ],
)
def test_no_forgery_verifies(name: str, forgery: Forgery) -> None:
    dialect = DIALECTS[name]()
    for count in range(1, 8):  # malformed headers differ from body to body
        body = stage(SCENARIOS["happy"], dialect, count=count, seed=1, now=NOW).postings[-1].body
        forged = dialect.forge(body, NOW, forgery)
        with pytest.raises(
            (
                *(InvalidSignature, AssertionError, ValueError, KeyError, TypeError, AttributeError),
                *(http_sf.StructuredFieldError, lettermint.WebhookVerificationError),
            )
        ):
            CHECKS[name](dialect, forged.headers, forged.body, dialect.key_id)


@pytest.mark.parametrize("name", DIALECTS)
def test_a_forgery_that_a_dialect_does_not_have_is_an_error(name: str) -> None:
    dialect = DIALECTS[name]()
    body = a_body(dialect)
    for forgery in set(Forgery) - dialect.TRAITS.forgeries:
        with pytest.raises(ValueError, match="does not support"):
            dialect.forge(body, NOW, forgery)


def test_mailchannels_publishes_its_key_in_three_encodings() -> None:
    keys = {form: MailChannels(seed=1, form=form) for form in PublicKeyForm}
    text = {form: json.loads(d.key_document({"id": d.key_id}) or b"")["key"] for form, d in keys.items()}
    raw = base64.b64decode(text[PublicKeyForm.RAW])
    assert len(raw) == 32
    assert base64.b64decode(text[PublicKeyForm.SPKI])[-32:] == raw
    pem = load_pem_public_key(text[PublicKeyForm.PEM].encode())
    assert isinstance(pem, ed25519.Ed25519PublicKey)
    assert pem.public_bytes_raw() == raw


def test_mailchannels_does_not_serve_a_key_that_it_has_not() -> None:
    assert MailChannels().key_document({"id": "nobody"}) is None
    assert MailChannels().key_document({}) is None


@pytest.mark.parametrize("make", [MailChannels, MailWebhook, CloudMailin])
def test_the_same_seed_makes_the_same_secrets(make: Callable[..., Dialect]) -> None:
    assert make(seed=1).credentials() == make(seed=1).credentials() != make(seed=2).credentials()


def test_a_legacy_postal_signs_by_sha1_only() -> None:
    assert "X-Postal-Signature-256" not in Postal(legacy=True).sign(b"{}", NOW)


def test_mailwebhook_keeps_its_idempotency_key_over_attempts() -> None:
    dialect = MailWebhook()
    body = a_body(dialect)
    first, second = dialect.sign(body, NOW), dialect.sign(body, NOW.replace(minute=30))
    assert first["X-Idempotency-Key"] == second["X-Idempotency-Key"] == first["Idempotency-Key"]
    assert first["X-MailWebhook-Signature"] != second["X-MailWebhook-Signature"]


@pytest.mark.parametrize("form", Form)
def test_ark_has_three_forms_of_one_payload(form: Form) -> None:
    body = json.loads(a_body(Ark(form=form)))
    assert (
        set(body)
        >= {
            Form.BARE: {"message", "status"},
            Form.ENVELOPED: {"event", "timestamp", "uuid", "payload"},
            Form.PLATFORM: {"event", "tenant_id", "timestamp", "payload"},
        }[form]
    )


def test_a_certificate_of_ses_has_a_url_of_its_own_in_each_run() -> None:
    """A source keeps the certificates that it fetched by their URLs."""
    assert Ses().key_id != Ses().key_id
