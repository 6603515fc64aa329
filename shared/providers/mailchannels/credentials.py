"""Credentials of a MailChannels Email API source."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nacl.signing import VerifyKey

from shared.errors import CredentialsError
from shared.providers.webhooks import payload
from shared.providers.webhooks.authentication import read_optional, read_texts
from shared.providers.webhooks.base import CredentialField, SourceSettings
from shared.providers.webhooks.elliptic import read_ed25519

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
    sub_accounts: tuple[str, ...]

    def accepts(self, handle: str) -> bool:
        """Return whether events of this account are accepted."""
        return handle in self.customer_handles or any(
            handle == name or (name.endswith("*") and handle.startswith(name[:-1])) for name in self.sub_accounts
        )


def read_credentials(
    raw: Mapping[str, Any], fetched_keys: Mapping[str, str], settings: SourceSettings, /
) -> Credentials:
    """Parse `{public_keys?: {keyid: key}, customer_handles: [..], api_key?}`.

    A configured key takes precedence over a fetched one. Raises CredentialsError.
    """
    handles = raw.get("customer_handles")
    if not isinstance(handles, list | tuple) or not handles or not all(isinstance(h, str) and h for h in handles):
        raise CredentialsError("`customer_handles` must be a non-empty list of account handles")
    keys = {key_id: key for key_id, text in fetched_keys.items() if (key := read_ed25519(text))}
    for key_id, text in read_texts(raw, "public_keys", required=False).items():
        given = read_ed25519(text)
        if given is None:
            raise CredentialsError(f"`public_keys` has no Ed25519 key at {payload.quote(key_id)}")
        keys[key_id] = given
    return Credentials(
        public_keys=keys,
        customer_handles=frozenset(handles),
        api_key=read_optional(raw, "api_key"),
        sub_accounts=settings.sub_accounts,
    )
