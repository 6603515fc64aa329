"""Credentials of a CloudMailin source."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from shared.errors import CredentialsError
from shared.providers.webhooks.authentication import read_secret
from shared.providers.webhooks.base import CredentialField

CREDENTIAL_FIELDS: Sequence[CredentialField] = (
    CredentialField(
        name="username", type="text", required=True, help="The user of the webhook's URL; must not contain a colon."
    ),
    CredentialField(
        name="password", type="text", required=True, secret=True, help="The password of the webhook's URL."
    ),
    CredentialField(
        name="previous",
        type="list",
        secret=True,
        help="`{username, password}` objects that are still accepted during a rotation.",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """SHA-256 digests of the accepted `username:password` pairs."""

    accepted: tuple[bytes, ...]


def read_credentials(raw: Mapping[str, Any], fetched_keys: Mapping[str, str], /) -> Credentials:  # noqa: ARG001
    """Parse `{username, password, previous?: [{username, password}]}`; `previous` is for a rotation.

    Raises CredentialsError.
    """
    previous = raw.get("previous") or []
    if not isinstance(previous, list | tuple) or not all(isinstance(entry, Mapping) for entry in previous):
        raise CredentialsError("`previous` must be a list of objects with `username` and `password`")
    accepted = []
    for entry in (raw, *previous):
        username, password = read_secret(entry, "username"), read_secret(entry, "password")
        if ":" in username:
            raise CredentialsError("`username` must not contain a colon: RFC 7617 ends it there")
        accepted.append(sha256(f"{username}:{password}".encode("utf-8", "surrogatepass")).digest())
    return Credentials(accepted=tuple(accepted))
