"""The headers that are stored with a receipt: enough to verify it again, but no credentials in clear text."""

from collections.abc import Mapping

from shared.encryption import Vault

_SECRET = frozenset({"authorization", "cookie", "proxy-authorization", "x-api-key"})
_MAX_BYTES = 8 * 1024
_SEALED = "sealed:"


def redact(headers: Mapping[str, str], vault: Vault | None = None) -> dict[str, str]:
    """Return the headers to store, by lower-case name, up to 8 KiB in all.

    Headers with credentials are left out. With a `vault` they are encrypted instead, for a request that has to be
    verified again.
    """
    result: dict[str, str] = {}
    bytes_left = _MAX_BYTES
    for name, value in headers.items():
        if name in _SECRET:
            if vault is None:
                continue
            value = _SEALED + vault.seal({"value": value}).decode("ascii")  # noqa: PLW2901
        bytes_left -= len(name) + len(value)
        if bytes_left < 0:
            break
        result[name] = value
    return result


def unseal(headers: Mapping[str, str], vault: Vault) -> dict[str, str]:
    """Return stored headers as they arrived. Raises SecretsError.

    Only headers that `redact` encrypts are decrypted, because a sender could make any other header look encrypted.
    """
    return {
        name: vault.open(value.removeprefix(_SEALED).encode("ascii"))["value"] if name in _SECRET else value
        for name, value in headers.items()
    }
