"""Keyed hashes of recipients, by which the suppression list knows them: an address can be erased and stay suppressed.

The key of the hash (the pepper) is made once and stored encrypted. Without it no entry can be looked up: back up the
database together with TIDINGS_SECRET_KEYS.
"""

import re
import secrets
from hashlib import blake2b

from sqlalchemy import Connection, select
from sqlalchemy.dialects.postgresql import insert

from shared.addresses import Target, normalize
from shared.encryption import Vault
from shared.suppression.tables import peppers

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


class RecipientHasher:
    """Hashes addresses and domains to 32 hex digits, the same for every way of writing one."""

    def __init__(self, pepper: bytes) -> None:
        self._pepper = pepper

    def hash_address(self, address: str) -> str:
        """Return the hash of a mailbox. The pseudonym of an erased address gives the hash of the address."""
        return self.hash_normalized(normalize(address))

    def hash_normalized(self, address: str) -> str:
        """Return the hash of an address that is normalized already."""
        return key_of(address) or self._hash(address)

    def hash_domain(self, domain: str) -> str:
        """Return the hash that stands for all mailboxes of a domain, without its subdomains."""
        return self._hash(normalize(f"@{domain}"))

    def hash_target(self, target: Target) -> str:
        """Return the hash of an address or a domain."""
        return self.hash_address(target.address or "") if target.domain is None else self.hash_domain(target.domain)

    def _hash(self, text: str) -> str:
        # A provider's recipient may contain half of a surrogate pair.
        return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16, key=self._pepper).hexdigest()


def require_key(connection: Connection, vault: Vault) -> None:
    """Raise SecretsError if something is stored in this database, and no key of the vault opens it."""
    sealed = connection.execute(select(peppers.c.sealed).where(peppers.c.name == _NAME)).scalar()
    if sealed is not None:
        vault.open(bytes(sealed))


def load(connection: Connection, vault: Vault) -> RecipientHasher:
    """Return this database's hasher. The first call stores a new pepper, so the caller commits. Raises SecretsError."""
    stored = select(peppers.c.sealed).where(peppers.c.name == _NAME)
    sealed = connection.execute(stored).scalar()
    if sealed is None:
        made = vault.seal({"pepper": secrets.token_hex(_PEPPER_BYTES)})
        connection.execute(insert(peppers).values(name=_NAME, sealed=made).on_conflict_do_nothing())
        sealed = connection.execute(stored).scalar() or made  # another process may have been the first
    return RecipientHasher(bytes.fromhex(vault.open(bytes(sealed))["pepper"]))
