"""Credentials of a MailChannels Email API source."""

from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key
from nacl.signing import VerifyKey

from shared.errors import CredentialsError
from shared.providers.webhooks import payload
from shared.providers.webhooks.authentication import read_optional, read_texts
from shared.providers.webhooks.base import CredentialField

CREDENTIAL_FIELDS: Sequence[CredentialField] = (
    CredentialField(
        name="customer_handles",
        type="list",
        required=True,
        help="The accounts whose events this source accepts. `settings.sub_accounts` adds those of sub-accounts.",
    ),
    CredentialField(
        name="public_keys",
        type="object",
        help="Ed25519 public keys by key id. Optional: a worker fetches a key that a signature names.",
    ),
    CredentialField(
        name="api_key", type="text", secret=True, help="Enables `reconcile`, `sources enrol` and suppression sync."
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """The public keys by their ids, and the handles of the accounts whose events are accepted.

    `sub_accounts` are further handles, from the source's settings; `*` at the end stands for any text.
    """

    public_keys: Mapping[str, VerifyKey]
    customer_handles: frozenset[str]
    api_key: str | None
    sub_accounts: tuple[str, ...] = ()

    def accepts(self, handle: str) -> bool:
        """Return whether events of this account are accepted."""
        return handle in self.customer_handles or any(
            handle == name or (name.endswith("*") and handle.startswith(name[:-1])) for name in self.sub_accounts
        )


def read_credentials(raw: Mapping[str, Any], fetched_keys: Mapping[str, str], /) -> Credentials:
    """Parse `{public_keys?: {keyid: key}, customer_handles: [..], api_key?}`.

    A configured key takes precedence over a fetched one. Raises CredentialsError.
    """
    handles = raw.get("customer_handles")
    if not isinstance(handles, list | tuple) or not handles or not all(isinstance(h, str) and h for h in handles):
        raise CredentialsError("`customer_handles` must be a non-empty list of account handles")
    keys = {key_id: key for key_id, text in fetched_keys.items() if (key := read_key(text))}
    for key_id, text in read_texts(raw, "public_keys", required=False).items():
        given = read_key(text)
        if given is None:
            raise CredentialsError(f"`public_keys` has no Ed25519 key at {payload.quote(key_id)}")
        keys[key_id] = given
    return Credentials(public_keys=keys, customer_handles=frozenset(handles), api_key=read_optional(raw, "api_key"))


def read_key(text: str) -> VerifyKey | None:
    """Parse an Ed25519 public key: PEM or base64 of its SPKI (RFC 8410), or base64 of its 32 bytes.

    Return None if the text is none of these. The official SDKs disagree on which one the key endpoint returns.
    """
    for armour in _ARMOUR:
        text = text.replace(armour, "")
    try:
        data = b64decode("".join(text.split()), validate=True)
        if len(data) == 32:  # RFC 8032 5.1.5
            return VerifyKey(data)
        key = load_der_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        return None
    return VerifyKey(key.public_bytes_raw()) if isinstance(key, Ed25519PublicKey) else None


_ARMOUR = ("-----BEGIN PUBLIC KEY-----", "-----END PUBLIC KEY-----")
