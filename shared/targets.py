"""The target of a suppression: one address, or all addresses of a domain."""

import re
from dataclasses import dataclass

from shared.addresses import normalize
from shared.errors import TidingsError

_MAX_ADDRESS_LENGTH = 320
_MAX_DOMAIN_LENGTH = 255
_DOMAIN = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")
_NOT_IN_LOCAL_PART = re.compile(r"[\s\x00-\x1f\x7f()<>\[\]:;@\\,\"\ud800-\udfff]")

_UNUSUAL = re.compile(
    r"""(?:"(?:[^"\\\x00-\x1f\x7f\ud800-\udfff]|\\[\x20-\x7e])+"|[^\s\x00-\x1f\x7f()<>\[\]:;@\\,"\ud800-\udfff]+)
    @(?:\[(?:\d{1,3}(?:\.\d{1,3}){3}|ipv6:[0-9a-f:.]+)\]|[^\[\]]+)""",
    re.VERBOSE,
)
"""A quoted local part, or an address literal instead of a domain (RFC 5321 4.1.2 and 4.1.3)."""


class TargetError(TidingsError):
    """Text that is neither an address nor a domain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """An address or a domain, normalized. Exactly one of the two is set."""

    address: str | None = None
    domain: str | None = None

    @property
    def name(self) -> str:
        """The address, or the domain as `@example.com`."""
        return self.address or f"@{self.domain}"


def read(text: str) -> Target:
    """Return the target in what a person wrote: an address in any form, or a domain as `@example.com`.

    Raises TargetError.
    """
    normalized = normalize(text)
    local, at, domain = normalized.rpartition("@")
    if not at:
        raise TargetError(f"{_quoted(text)} has no @; a domain is written @example.com")
    if len(normalized) > _MAX_ADDRESS_LENGTH:
        raise TargetError(f"{_quoted(text)} is longer than {_MAX_ADDRESS_LENGTH} characters")
    if len(domain) > _MAX_DOMAIN_LENGTH or not _DOMAIN.fullmatch(domain):
        raise TargetError(f"{_quoted(text)} has no valid domain after the @")
    # The parser repairs broken text to an address that nobody has written.
    written = f"{local}@" in text.lower() and (domain in text.lower() or not text.isascii())
    several = text.count("<") > 1 or ("<" not in text and text.count("@") > 1)
    if _NOT_IN_LOCAL_PART.search(local) or several or not written:
        raise TargetError(f"{_quoted(text)} is not one address")
    if not local:
        return Target(domain=domain)
    return Target(address=normalized)


def read_listed(text: str) -> Target:
    """Return the target in an entry of a suppression list.

    Events may have added the entry, so quoted local parts and address literals are accepted too. Raises TargetError.
    """
    try:
        return read(text)
    except TargetError:
        address = text.strip().lower()
        match = _UNUSUAL.fullmatch(address)
        if not match or len(address) > _MAX_ADDRESS_LENGTH or normalize(address) != address:
            raise
        domain = address.rpartition("@")[2]
        if not domain.startswith("[") and not _DOMAIN.fullmatch(domain):
            raise
        return Target(address=address)


def named(text: str) -> Target:
    """Return the target of a look-up: any text, because the list may contain what is not a valid address."""
    normalized = normalize(text)
    return Target(domain=normalized[1:]) if normalized.startswith("@") else Target(address=normalized)


def read_domain(text: str) -> Target:
    """Return a domain, with or without the @ in front. Raises TargetError."""
    found = read(f"@{text.strip().removeprefix('@')}")
    if found.domain is None:
        raise TargetError(f"{_quoted(text)} is not a domain")
    return found


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "…")
