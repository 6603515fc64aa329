"""What the suppression list knows recipients by: a keyed hash, so that an address can be erased and stay suppressed.

The key of the hash (the pepper) is made once and kept encrypted. Without it the list cannot be looked up any more:
it must be backed up together with TIDINGS_SECRET_KEYS.
"""

import re
import secrets
from hashlib import blake2b

from sqlalchemy import Connection

from shared.addresses import normalize
from shared.encryption import Vault
from shared.targets import Target

_NAME = "recipients"
_PEPPER_BYTES = 32
PSEUDONYM_DOMAIN = "erased.invalid"
_PSEUDONYM = re.compile(rf"([0-9a-f]{{32}})@{re.escape(PSEUDONYM_DOMAIN)}")


def pseudonym(key: str) -> str:
    """Return what stands for the erased address with this key (32 hex digits): its domain cannot exist (RFC 2606)."""
    return f"{key}@{PSEUDONYM_DOMAIN}"


def key_of(address: str) -> str | None:
    """Return the key in a pseudonym; None for any other address."""
    match = _PSEUDONYM.fullmatch(address)
    return match[1] if match else None


class RecipientKeys:
    """Makes the keys of addresses and domains: 32 hex digits, the same for every way of writing one."""

    def __init__(self, pepper: bytes) -> None:
        self._pepper = pepper

    def of_address(self, address: str) -> str:
        """The key of one mailbox; of what stands in place of an erased address it is still that of the address."""
        return self.of_normalized(normalize(address))

    def of_normalized(self, address: str) -> str:
        """The same of an address that is normalized already."""
        return key_of(address) or self._of(address)

    def of_domain(self, domain: str) -> str:
        """The key of all mailboxes of a domain; its subdomains have keys of their own."""
        return self._of(normalize(f"@{domain}"))

    def of(self, target: Target) -> str:
        """The key of whoever can be suppressed."""
        return self.of_domain(target.domain) if target.domain is not None else self.of_address(target.address or "")

    def _of(self, text: str) -> str:
        # Half of a surrogate pair may stand in what a provider calls a recipient.
        return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16, key=self._pepper).hexdigest()


def load(connection: Connection, vault: Vault) -> RecipientKeys:
    """The keys of this database. The first call makes the pepper, so the caller commits. Raises SecretsError."""
    sealed = _find(connection)
    if sealed is None:
        made = vault.seal({"pepper": secrets.token_hex(_PEPPER_BYTES)})
        connection.exec_driver_sql(
            "INSERT INTO peppers (name, sealed) VALUES (%(name)s, %(sealed)s) ON CONFLICT DO NOTHING",
            {"name": _NAME, "sealed": made},
        )
        sealed = _find(connection) or made  # another process may have been the first
    return RecipientKeys(bytes.fromhex(vault.open(sealed)["pepper"]))


def _find(connection: Connection) -> bytes | None:
    found = connection.exec_driver_sql("SELECT sealed FROM peppers WHERE name = %(name)s", {"name": _NAME}).scalar()
    return None if found is None else bytes(found)
