"""The reference implementation of Standard Webhooks accepts our signatures."""

from base64 import b64decode, b64encode
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from shared.errors import InvalidFieldError
from shared.http import standard_webhooks
from shared.http.standard_webhooks import Scheme

BODY = b'{"type":"alert.firing"}'


def test_the_vector_of_the_reference_is_met() -> None:
    headers = standard_webhooks.headers(
        ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
        message_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        attempted_at=datetime.fromtimestamp(1614265330, tz=UTC),
        body=b'{"test": 2432232314}',
    )
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


@given(key=st.binary(min_size=24, max_size=64), body=st.binary(), message_id=st.text("abc_-0", min_size=1))
def test_other_libraries_verify_our_signatures(key: bytes, body: bytes, message_id: str) -> None:
    secret = "whsec_" + b64encode(key).decode()
    headers = standard_webhooks.headers([secret], message_id=message_id, attempted_at=datetime.now(UTC), body=body)
    if _is_text(body):
        Webhook(secret).verify(body, dict(headers), json_parse=False)


def _is_text(body: bytes) -> bool:
    """The reference reads nothing else; ours does not look into it."""
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def test_with_two_secrets_a_holder_of_either_believes_it() -> None:
    old, new = standard_webhooks.new_secret(), standard_webhooks.new_secret()
    headers = standard_webhooks.headers([new, old], message_id="m1", attempted_at=datetime.now(UTC), body=BODY)
    assert headers["webhook-signature"].count("v1,") == 2
    for secret in (old, new):
        Webhook(secret).verify(BODY, dict(headers))
    with pytest.raises(WebhookVerificationError):
        Webhook(standard_webhooks.new_secret()).verify(BODY, dict(headers))


@pytest.mark.parametrize("changed", ["webhook-id", "webhook-timestamp", "body"])
def test_nothing_that_is_signed_can_be_changed(changed: str) -> None:
    secret, now = standard_webhooks.new_secret(), datetime.now(UTC)
    headers = dict(standard_webhooks.headers([secret], message_id="m1", attempted_at=now, body=BODY))
    body = BODY
    if changed == "body":
        body += b" "
    else:
        headers[changed] = {"webhook-id": "m2", "webhook-timestamp": str(int(now.timestamp()) + 1)}[changed]
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(body, headers)


def test_each_attempt_bears_its_own_time_and_the_same_id() -> None:
    secret, now = standard_webhooks.new_secret(), datetime.now(UTC)
    first = standard_webhooks.headers([secret], message_id="m1", attempted_at=now, body=BODY)
    later = standard_webhooks.headers([secret], message_id="m1", attempted_at=now + timedelta(hours=1), body=BODY)
    assert first["webhook-id"] == later["webhook-id"]
    assert first["webhook-signature"] != later["webhook-signature"]


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "whsec_",
        "whsec_short",
        b64encode(bytes(32)).decode(),
        "whsec_" + b64encode(bytes(23)).decode(),
        "whsec_" + b64encode(bytes(65)).decode(),
        "whsec_" + b64encode(bytes(32)).decode().rstrip("="),
        "whsec_" + b64encode(bytes(32)).decode() + "\n",
        "whsec_ä" + b64encode(bytes(32)).decode(),
    ],
)
def test_what_is_no_secret_is_said_so(secret: str) -> None:
    with pytest.raises(InvalidFieldError, match="24 to 64 bytes"):
        standard_webhooks.check_secret(secret)


def test_a_new_secret_is_one_and_never_the_same() -> None:
    made = {standard_webhooks.new_secret() for _ in range(10)}
    assert len(made) == 10
    for secret in made:
        standard_webhooks.check_secret(secret)


def test_an_id_with_a_dot_is_not_signed() -> None:
    with pytest.raises(ValueError, match="dot"):
        standard_webhooks.headers(
            [standard_webhooks.new_secret()], message_id="a.1", attempted_at=datetime.now(UTC), body=BODY
        )


class TestAPrivateKey:
    def test_signs_what_its_public_key_verifies(self) -> None:
        secret = standard_webhooks.new_secret(Scheme.V1A)
        headers = standard_webhooks.headers([secret], message_id="m1", attempted_at=datetime.now(UTC), body=BODY)
        scheme, _, signature = headers["webhook-signature"].partition(",")
        signed = f"m1.{headers['webhook-timestamp']}.".encode() + BODY
        public = standard_webhooks.public_key(secret)
        assert public is not None
        key = Ed25519PublicKey.from_public_bytes(b64decode(public.removeprefix("whpk_")))
        key.verify(b64decode(signature), signed)
        assert scheme == "v1a"
        with pytest.raises(InvalidSignature):
            key.verify(b64decode(signature), signed + b" ")

    def test_signs_beside_a_shared_secret(self) -> None:
        shared, private = standard_webhooks.new_secret(), standard_webhooks.new_secret(Scheme.V1A)
        headers = standard_webhooks.headers(
            [private, shared], message_id="m1", attempted_at=datetime.now(UTC), body=BODY
        )
        assert [entry.partition(",")[0] for entry in headers["webhook-signature"].split()] == ["v1a", "v1"]
        Webhook(shared).verify(BODY, dict(headers))

    def test_is_known_by_its_seed_alone(self) -> None:
        secret = standard_webhooks.new_secret(Scheme.V1A)
        seed = b64decode(secret.removeprefix("whsk_"))[:32]
        alone = "whsk_" + b64encode(seed).decode()
        assert standard_webhooks.public_key(alone) == standard_webhooks.public_key(secret)

    @pytest.mark.parametrize("key", [b"", b"x" * 31, b"x" * 33, b"x" * 64, b"x" * 65])
    def test_is_a_seed_with_or_without_the_public_key_that_belongs_to_it(self, key: bytes) -> None:
        with pytest.raises(InvalidFieldError):
            standard_webhooks.check_secret("whsk_" + b64encode(key).decode())

    def test_is_none_that_others_hold(self) -> None:
        assert standard_webhooks.public_key(standard_webhooks.new_secret()) is None
