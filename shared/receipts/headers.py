"""Which headers of a request are kept with it: enough to verify it again, and nothing that opens a door."""

from collections.abc import Mapping

from shared.encryption import Vault

_SECRET = frozenset({"authorization", "cookie", "proxy-authorization", "x-api-key"})
_MOST_BYTES = 8 * 1024
_SEALED = "sealed:"


def kept(headers: Mapping[str, str], vault: Vault | None = None) -> dict[str, str]:
    """The headers to store, by lower-case name, up to 8 KiB in all.

    Those that carry credentials are left out; with a `vault` they are kept sealed, for a request that has to be
    verified again.
    """
    result: dict[str, str] = {}
    room = _MOST_BYTES
    for name, value in headers.items():
        if name in _SECRET:
            if vault is None:
                continue
            value = _SEALED + vault.seal({"value": value}).decode("ascii")  # noqa: PLW2901
        room -= len(name) + len(value)
        if room < 0:
            break
        result[name] = value
    return result


def unsealed(headers: Mapping[str, str], vault: Vault) -> dict[str, str]:
    """Stored headers as they arrived. Raises SecretsError.

    Only those that we seal are opened: anybody can send another one that looks as if it were sealed.
    """
    return {
        name: vault.open(value.removeprefix(_SEALED).encode("ascii"))["value"] if name in _SECRET else value
        for name, value in headers.items()
    }
