"""Credentials of an Ark source."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from shared.providers.webhooks import jwks
from shared.providers.webhooks.authentication import read_optional
from shared.providers.webhooks.base import CredentialField, SourceSettings

CREDENTIAL_FIELDS: Sequence[CredentialField] = (
    CredentialField(
        name="jwks",
        type="object",
        help="A JSON Web Key Set with Ark's RSA keys. Optional: a worker fetches a key that a signature names.",
    ),
    CredentialField(
        name="api_key", type="text", secret=True, help="Enables `reconcile`, `sources enrol` and suppression sync."
    ),
    CredentialField(
        name="tenant_id",
        type="text",
        help="Accept the events of this tenant only. Those that name no tenant are set aside, unless "
        "`settings.events_without_tenant` is `accept`: a tenant's own webhook never names it.",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """The public keys by their ids; `tenant_id` is the only accepted tenant, None to accept all.

    With `accepts_without_tenant`, from the source's settings, an event that names no tenant is of that one.
    """

    keys: Mapping[str, RSAPublicKey]
    api_key: str | None
    tenant_id: str | None
    accepts_without_tenant: bool


def read_credentials(
    raw: Mapping[str, Any], fetched_keys: Mapping[str, str], settings: SourceSettings, /
) -> Credentials:
    """Parse `{jwks?: {...}, api_key?, tenant_id?}`. Raises CredentialsError."""
    return Credentials(
        keys=jwks.read_credentials(raw, fetched_keys, required=False),
        api_key=read_optional(raw, "api_key"),
        tenant_id=read_optional(raw, "tenant_id"),
        accepts_without_tenant=settings.events_without_tenant == "accept",
    )
